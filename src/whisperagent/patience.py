"""How long a recording is to be left alone before it is sent again, whatever happens to the PC's clock.

upload.py asks. What is on the disk says when the next try is due, in UTC; here that becomes, when it is first
seen, a wait by a clock that nobody sets, and never a longer one than the rule allows: a clock that was set
back by a year must not make a recording wait for a year.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from whisperagent.spool import Item


class Patience:
    """longest_s: of all waits. clock: seconds that only grow."""

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s = longest_s
        self._clock = clock
        self._due: dict[tuple[str, int], tuple[datetime, float]] = {}

    def left_s(self, item: Item, now: datetime | None = None) -> float:
        """Seconds until it is due; 0: it is. now: what the PC's clock says."""
        due_at, key = item.next_attempt_at, (item.call_id, item.part)
        if due_at is None:
            self._due.pop(key, None)
            return 0.0
        if key not in self._due or self._due[key][0] != due_at:
            wait_s = (due_at - (now or datetime.now(UTC))).total_seconds()
            self._due[key] = (due_at, self._clock() + min(max(0.0, wait_s), self._longest_s))
        return max(0.0, self._due[key][1] - self._clock())
