"""What is not to be recorded although a call is up: pauses and private calls.

control.py brings the orders, watch.py obeys them, this remembers: `discretion.json` in the home tells an
agent that is started again in mid-call that the sound is still not for it.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from whisperagent import files

PAUSE_S = 300.0
"""A pause without a length is over by then: who forgets it must not lose the calls of a day."""
TOUCH_S = 5.0
"""How often it is noted that a private call still goes on."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pause:
    """since, until: the host's clock. until_utc: the same for people. this_call: over when the call is."""

    since: float
    until: float
    until_utc: datetime
    this_call: bool

    def is_over(self, now: float) -> bool:
        """By the host's clock, or by people's: a PC that slept is not paused for longer than it said."""
        return now >= self.until or datetime.now(UTC) >= self.until_utc


class _Kept(msgspec.Struct, frozen=True):
    """`discretion.json`. private_at: when a private call was seen last. private_call: its id, if any."""

    paused_until: datetime | None = None
    this_call: bool = False
    private_at: datetime | None = None
    private_call: str = ""


class Discretion:
    """pause: the one going on. private: the call that is up is not recorded.

    path: `discretion.json`; there only while there is something to remember.
    """

    def __init__(self, path: Path) -> None:
        self.pause: Pause | None = None
        self.private = False
        self._path = path
        self._call_id = ""
        self._touched = 0.0

    def recall(self, now: float, private_for_s: float, destroy: Callable[[str], object]) -> None:
        """What an earlier run was told, besides what this one has been.

        now: the host's clock. private_for_s: after so long without an agent a call is another one. destroy:
        called with the id of a private call, for that run may have died before it had destroyed everything.
        """
        kept, utc = _Kept(), datetime.now(UTC)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        if kept.paused_until is not None and utc < kept.paused_until:
            left_s = (kept.paused_until - utc).total_seconds()
            self.pause = Pause(float("-inf"), now + left_s, kept.paused_until, kept.this_call)
        if kept.private_call:
            destroy(kept.private_call)
            self._call_id = kept.private_call
        if kept.private_at is not None and utc - kept.private_at < timedelta(seconds=private_for_s):
            self.private = True
        self._keep()

    def begin_pause(self, now: float, seconds: float | None) -> Pause:
        """seconds: None for one that ends with the call."""
        since = self.pause.since if self.pause is not None else now
        length_s = PAUSE_S if seconds is None else seconds
        until_utc = datetime.now(UTC) + timedelta(seconds=length_s)
        self.pause = Pause(since, now + length_s, until_utc, seconds is None)
        self._keep()
        return self.pause

    def end_pause(self) -> None:
        self.pause = None
        self._keep()

    def begin_private(self, now: float, call_id: str) -> None:
        """call_id: of what was recorded, to be destroyed next; empty when nothing was."""
        self.private, self._touched, self._call_id = True, now, call_id
        self._keep()

    def still_private(self, now: float) -> None:
        """The private call goes on."""
        if now - self._touched >= TOUCH_S:
            self._touched = now
            self._keep()

    def end_private(self) -> None:
        self.private = False
        self._keep()

    def _keep(self) -> None:
        kept = _Kept(
            self.pause.until_utc if self.pause is not None else None,
            self.pause is not None and self.pause.this_call,
            datetime.now(UTC) if self.private else None,
            self._call_id if self.private else "",
        )
        try:
            if kept == _Kept():
                self._path.unlink(missing_ok=True)
            else:
                files.write(self._path, msgspec.json.encode(kept))
        except OSError as problem:
            # What was asked holds in this run all the same; a full disk must not make us record it.
            log.warning("cannot keep %s: %s", self._path, problem)
