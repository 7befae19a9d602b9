"""Two sides of a call on one clock, ours.

record.py feeds blocks and takes what both sides have. Devices promise nothing: a block may come late, twice
or never. So the clock decides where a block lies: a gap longer than 60 ms becomes silence, an overlap longer
than that is dropped, and a side that delivers nothing is silence after half a second and holds nobody up.

A device's own clock runs a little fast or slow. That shows as a lag that grows, far below 60 ms; it is made
good by a sample more or less where nobody hears it, or all at once where the side is silent.
"""

from array import array
from typing import Literal

from whisperagent.hosts import Block
from whisperagent.wire import SAMPLE_RATE

GAP_FRAMES = SAMPLE_RATE * 60 // 1000
LATE_S = 0.5
"""How long a side may be behind before its silence is written; a block that comes even later is lost."""
WATCHED_FRAMES = 4 * SAMPLE_RATE
"""A lag is believed when every block has had at least it for so long: one block alone may just be late."""
LAG_FRAMES = SAMPLE_RATE * 2 // 1000
"""A smaller lag is left as it is."""
SLIP_FRAMES = SAMPLE_RATE // 20
"""One sample in so many may go or be added: 1,250 ppm, more than any device is wrong, and not heard."""
QUIET = 64
"""A block with no sample above this, -54 dBFS, holds no speech."""
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
        self._drifts = (_Drift(), _Drift())
        self._muted: list[tuple[int, int | None]] = []

    def feed(self, block: Block) -> float:
        """Lay `block` where its time says; gives the seconds of silence before it that no device sent."""
        samples = array("h", block.pcm)
        behind = self._frame(block.at) - self._position(block.side)
        behind += self._take_back(block.side, -behind)
        drift = self._drifts[block.side]
        if behind < -GAP_FRAMES:
            samples = samples[-behind:]
            drift.forget()
        elif behind > GAP_FRAMES:
            self._fill(block.side, behind)
            drift.forget()
        else:
            drift.correct(samples, behind)
        gap_s = self._filled[block.side] / SAMPLE_RATE
        self._filled[block.side] = 0
        self._waiting[block.side].extend(samples)
        return gap_s

    def advance(self, now: float) -> None:
        """A side that has sent nothing until half a second ago was silent."""
        for side in (0, 1):
            self._fill(side, self._frame(now - LATE_S) - self._position(side))

    def mute(self, at: float) -> None:
        """From `at` on both sides are silence, whatever is heard."""
        if not self._muted or self._muted[-1][1] is not None:
            self._muted.append((max(self.frames, self._frame(at)), None))

    def unmute(self, at: float) -> None:
        """From `at` on it is recorded again."""
        if self._muted and self._muted[-1][1] is None:
            self._muted[-1] = (self._muted[-1][0], self._frame(at))

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
        self._silence(agent, caller)
        self.frames = end
        return _interleaved(agent, caller) if self._layout == "split" else _mixed(agent, caller)

    def _silence(self, *given_out: "array[int]") -> None:
        """What of the frames given out now lies in a pause."""
        count = len(given_out[0])
        for first, end in self._muted:
            begins = max(0, first - self.frames)
            ends = count if end is None else min(count, end - self.frames)
            if begins < ends:
                for samples in given_out:
                    samples[begins:ends] = array("h", bytes(2 * (ends - begins)))
        self._muted = [(first, end) for first, end in self._muted if end is None or end > self.frames + count]

    def _frame(self, at: float) -> int:
        return round((at - self.began) * SAMPLE_RATE)

    def _position(self, side: int) -> int:
        return self.frames + len(self._waiting[side])

    def _take_back(self, side: int, count: int) -> int:
        """Silence that was written too soon and still waits makes room for the sound; gives how much."""
        count = max(0, min(count, self._filled[side], len(self._waiting[side])))
        if count:
            del self._waiting[side][-count:]
            self._filled[side] -= count
        return count

    def _fill(self, side: int, count: int) -> None:
        if count > 0:
            self._waiting[side].frombytes(bytes(2 * count))
            self._filled[side] += count


class _Drift:
    """How far one device's clock has run away from ours, and bringing it back unheard.

    A block is never early, but it may be late for many reasons: so the least lag of some seconds counts.
    """

    def __init__(self) -> None:
        self._due = 0
        self._since_slip = 0
        self.forget()

    def forget(self) -> None:
        """The side was laid by the clock just now: it has no lag."""
        self._due = 0
        self._watched = 0
        self._least = GAP_FRAMES

    def correct(self, samples: "array[int]", behind: int) -> None:
        """Lengthen or shorten `samples`, which lie `behind` frames too early (below 0: too late)."""
        if not samples:
            return
        if self._due == 0:
            self._watch(len(samples), behind)
        if self._due == 0:
            return
        self._since_slip += len(samples)
        if max(samples) <= QUIET and min(samples) >= -QUIET:
            self._due -= _stretch(samples, self._due)
        while self._due and self._since_slip >= SLIP_FRAMES:
            self._since_slip -= SLIP_FRAMES
            self._due -= _slip(samples, 1 if self._due > 0 else -1)
        if self._due == 0:
            self.forget()

    def _watch(self, frames: int, behind: int) -> None:
        self._least = min(self._least, behind)
        self._watched += frames
        if self._watched >= WATCHED_FRAMES:
            least = self._least
            self.forget()
            self._due = least if abs(least) >= LAG_FRAMES else 0


def _stretch(samples: "array[int]", count: int) -> int:
    """Add `count` frames of silence to a quiet block, or take up to half of it; gives how many."""
    if count > 0:
        samples.frombytes(bytes(2 * count))
        return count
    taken = min(-count, len(samples) // 2)
    del samples[len(samples) - taken :]
    return -taken


def _slip(samples: "array[int]", count: int) -> int:
    """Add one sample (1) or take one (-1), where the sound is calmest; gives how many."""
    if len(samples) < 3:
        return 0
    calm = min(
        range(1, len(samples) - 1),
        key=lambda place: abs(samples[place - 1]) + abs(samples[place]) + abs(samples[place + 1]),
    )
    if count > 0:
        samples.insert(calm, (samples[calm - 1] + samples[calm]) // 2)
    else:
        del samples[calm]
    return count


def _interleaved(agent: "array[int]", caller: "array[int]") -> bytes:
    both = array("h", bytes(4 * len(agent)))
    both[0::2] = agent
    both[1::2] = caller
    return both.tobytes()


def _mixed(agent: "array[int]", caller: "array[int]") -> bytes:
    """The sum, and not the mean: people rarely speak at once, and a mean would halve whoever does."""
    pairs = zip(agent, caller, strict=True)
    return array("h", [max(LOWEST, min(HIGHEST, one + other)) for one, other in pairs]).tobytes()
