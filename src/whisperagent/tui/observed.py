"""What happens on this PC, read from the files of whichever process the agent runs in.

`agent.json` says what the agent does now, the spool what still waits. Reading them never disturbs the
agent; the dashboard looks once a second.
"""

from dataclasses import dataclass, field
from datetime import datetime

from whisperagent import status as last_words
from whisperagent.errors import WhisperError
from whisperagent.settings import Paths
from whisperagent.spool import Item, Spool
from whisperagent.wire import AgentStatus, SpoolState


@dataclass(frozen=True)
class Pc:
    """status: what the agent said last. alive: it said so just now. problem: why the spool cannot be read."""

    status: AgentStatus | None = None
    alive: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    items: tuple[Item, ...] = ()
    problem: str = ""

    @property
    def recording(self) -> bool:
        return self.alive and self.status is not None and self.status.call is not None


class Observer:
    """Looks at the files of one home."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._stamp: tuple[int, ...] = ()
        self._items: tuple[Item, ...] = ()

    def look(self, now: datetime) -> Pc:
        """What the files say. Blocks for as long as the disk takes."""
        status = self._status()
        alive = status is not None and last_words.runs(status, now)
        try:
            counts = self._look_at_spool()
        except OSError as problem:
            return Pc(status, alive, problem=str(problem))
        return Pc(status, alive, counts, self._items)

    def _status(self) -> AgentStatus | None:
        try:
            return last_words.read(self._paths.status)
        except WhisperError:
            return None  # whatever it says, no agent that lives has said it

    def _look_at_spool(self) -> dict[str, int]:
        if not self._paths.spool.is_dir():
            return {}
        spool = Spool(self._paths.spool)
        # Every change in the spool replaces or renames a file, so an unchanged folder need not be read.
        stamp = tuple((self._paths.spool / state).stat().st_mtime_ns for state in SpoolState)
        if stamp != self._stamp:
            self._items = tuple(spool.items())
            self._stamp = stamp
        return spool.counts()
