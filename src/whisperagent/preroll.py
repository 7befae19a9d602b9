"""Sound from before a recording begins, in memory alone.

While it rings, recording.py may keep the last seconds of what is heard, so that the answer is whole; and when
one call follows another at once, the devices stay open from the first to the next. What no recording takes
is forgotten.
"""

from collections import deque

from whisperagent.hosts import Block, Source


class PreRoll:
    """Keeps the last `seconds` of `source`."""

    def __init__(self, source: Source, seconds: float) -> None:
        self.source = source
        self._seconds = seconds
        self._blocks: deque[Block] = deque()

    def listen(self, now: float) -> None:
        """Take what the devices have; forget what is too old at `now`."""
        while block := self.source.read():
            self._blocks.append(block)
        while self._blocks and self._blocks[0].at < now - self._seconds:
            self._blocks.popleft()

    def take(self, now: float) -> tuple[float, list[Block]]:
        """(where a recording that begins `now` shall begin, what was heard since then)."""
        blocks = list(self._blocks)
        return min((block.at for block in blocks), default=now), blocks

    def forget(self) -> None:
        self._blocks.clear()

    def close(self) -> None:
        self.forget()
        self.source.close()
