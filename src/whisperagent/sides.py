"""Two sides of a call on one clock, ours.

record.py feeds blocks and takes what both sides have. Devices promise nothing: a block may come late, twice
or never. So the clock decides where a block lies: a gap longer than 60 ms becomes silence, an overlap longer
than that is dropped, and a side that delivers nothing is silence after half a second and holds nobody up.
"""

from array import array
from typing import Literal

from whisperagent.hosts import Block
from whisperagent.wire import SAMPLE_RATE

GAP_FRAMES = SAMPLE_RATE * 60 // 1000
LATE_S = 0.5
"""How long a side may be behind before its silence is written; a block that comes even later is lost."""
LOWEST, HIGHEST = -32768, 32767


class Sides:
    """Sound that waits until both sides of it are known.

    began: the clock at frame 0. layout: `split` gives out agent and caller interleaved, `mono` their sum.
    until: nothing after this time is given out; None is no limit. frames: given out so far.
    """

    def __init__(self, began: float, layout: Literal["split", "mono"]) -> None:
        self.began = began
        self.until: float | None = None
        self.frames = 0
        self._layout = layout
        self._waiting = (array("h"), array("h"))
        self._filled = [0, 0]

    def feed(self, block: Block) -> float:
        """Lay `block` where its time says; gives the seconds of silence before it that no device sent."""
        samples = array("h", block.pcm)
        behind = self._frame(block.at) - self._position(block.side)
        if behind < -GAP_FRAMES:
            samples = samples[-behind:]
        elif behind > GAP_FRAMES:
            self._fill(block.side, behind)
        gap_s = self._filled[block.side] / SAMPLE_RATE
        self._filled[block.side] = 0
        self._waiting[block.side].extend(samples)
        return gap_s

    def advance(self, now: float) -> None:
        """A side that has sent nothing until half a second ago was silent."""
        for side in (0, 1):
            self._fill(side, self._frame(now - LATE_S) - self._position(side))

    def take(self) -> bytes:
        """PCM as far as both sides go."""
        return self._take(min(self._position(0), self._position(1)))

    def finish(self) -> bytes:
        """PCM as far as the longer side goes: no more will come."""
        return self._take(max(self._position(0), self._position(1)))

    def _take(self, end: int) -> bytes:
        if self.until is not None:
            end = min(end, self._frame(self.until))
        count = end - self.frames
        if count <= 0:
            return b""
        for side in (0, 1):
            self._fill(side, end - self._position(side))
        agent, caller = (samples[:count] for samples in self._waiting)
        for samples in self._waiting:
            del samples[:count]
        self.frames = end
        return _interleaved(agent, caller) if self._layout == "split" else _mixed(agent, caller)

    def _frame(self, at: float) -> int:
        return round((at - self.began) * SAMPLE_RATE)

    def _position(self, side: int) -> int:
        return self.frames + len(self._waiting[side])

    def _fill(self, side: int, count: int) -> None:
        if count > 0:
            self._waiting[side].frombytes(bytes(2 * count))
            self._filled[side] += count


def _interleaved(agent: "array[int]", caller: "array[int]") -> bytes:
    both = array("h", bytes(4 * len(agent)))
    both[0::2] = agent
    both[1::2] = caller
    return both.tobytes()


def _mixed(agent: "array[int]", caller: "array[int]") -> bytes:
    """The sum, and not the mean: people rarely speak at once, and a mean would halve whoever does."""
    pairs = zip(agent, caller, strict=True)
    return array("h", [max(LOWEST, min(HIGHEST, one + other)) for one, other in pairs]).tobytes()
