"""A device whose clock is wrong, and where what it sent has come to lie."""

from array import array
from random import Random

from whisperagent.hosts import Block
from whisperagent.wire import SAMPLE_RATE

MARK, LOUD = 30_000, 20_000


class RunawayDevice:
    """Samples `ppm` too fast; a loud mark in the middle of every true second, noise or silence around it.

    loudness: of the noise. late_s: a block may be said to begin up to so much later than it did.
    """

    def __init__(self, ppm: float, loudness: int, late_s: float) -> None:
        self._rate = SAMPLE_RATE * (1 + ppm * 1e-6)
        self._chance = Random(7)
        self._late_s = late_s
        self._noise = array("h", (self._chance.randint(-loudness, loudness) for _place in range(SAMPLE_RATE)))
        self._sent = 0

    def block(self, side: int, now: float) -> Block:
        """All that it has sampled until `now` and not sent yet: less than a second."""
        first, self._sent = self._sent, int(now * self._rate)
        start = first % SAMPLE_RATE
        samples = (self._noise + self._noise)[start : start + self._sent - first]
        for second in range(int(first / self._rate) - 1, int(now) + 1):
            place = round((second + 0.5) * self._rate) - first
            if 0 <= place < len(samples):
                samples[place] = MARK
        late_s = self._chance.uniform(0, self._late_s)
        return Block(side, samples.tobytes(), first / self._rate + late_s)


def marked(samples: "array[int]") -> list[float]:
    """When each mark was heard, in seconds."""
    found = []
    for start in range(0, len(samples) - SAMPLE_RATE + 1, SAMPLE_RATE):
        second = samples[start : start + SAMPLE_RATE]
        loudest = max(second)
        if loudest > LOUD:
            found.append((start + second.index(loudest)) / SAMPLE_RATE)
    return found
