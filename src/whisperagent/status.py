"""`agent.json`: what the agent says of itself once a second, and how others know whether it lives.

agent.py writes it; `wa agent status` and the screens read it, disturb nobody and import nothing heavy for it.
"""

from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from whisperagent.errors import WhisperError
from whisperagent.hosts import process_exists
from whisperagent.i18n import _
from whisperagent.wire import AgentStatus

SILENT_FOR = timedelta(seconds=10)
"""A living agent writes every second: after this it is gone, however it went."""


def read(path: Path) -> AgentStatus | None:
    """What the agent said last; None when none has run here. raises WhisperError: it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AgentStatus)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as problem:
        raise WhisperError(
            _("cannot read {path}").format(path=path),
            why=str(problem),
            fix=_("a running agent writes it anew within a second; else start it with `wa agent run`"),
        ) from None


def runs(status: AgentStatus, now: datetime) -> bool:
    """Does the process live, and does it still write? A number of a dead process may be another's by now."""
    fresh = now - status.updated_at < SILENT_FOR
    return status.state != "stopped" and fresh and process_exists(status.pid)
