"""A PC for the fault suite: a telephone whose every sample tells which call it is of, and when it was heard.

Time on this PC goes on only while the agent waits, `speed` times as fast as ours, so a busy machine loses
no sound; while no agent lives it stands still, and the next agent finds the call `GAP_S` further on.
"""

import asyncio
from array import array
from collections import deque
from datetime import UTC, datetime, timedelta
from random import Random

from tests.faults.disk import Control
from whisperagent.detect import Signals
from whisperagent.hosts import Block, Happening
from whisperagent.wire import SAMPLE_RATE, Capture

ANSWER_S = 3.0
"""Longer than `detection.resume_s`: an agent has decided about the call before, and this one is another."""
GAP_S = 0.2
READY = Signals(process=True)
ROUND = 30_000
"""Frames that one side tells apart; the other counts these."""
NOISE = array("h", Random(1).sample(range(1, ROUND + 1), ROUND))
"""The agent's side in a round: no value twice, and nothing that an encoder could foretell."""
ROUNDS = 8
CALLS = 32_768 // ROUNDS - 1
"""How many calls can be told from each other."""


def sound(call: int, side: int, first: int, end: int) -> bytes:
    """One side of a call from frame `first` to `end`; never silent. The agent's tells the frame, the caller's
    which call and which round this is."""
    if side == 0:
        return array("h", [NOISE[frame % ROUND] for frame in range(first, end)]).tobytes()
    return array("h", [-(1 + ROUNDS * call + frame // ROUND) for frame in range(first, end)]).tobytes()


class Telephone:
    """A softphone on which call number `call` comes in and lasts `seconds`; 0: it stays silent.

    control: the page where it leaves its clock, for the test and for the agent that comes after this one.
    """

    name = "telephone"
    capture = Capture(agent="telephone", caller="telephone")
    problem = None

    def __init__(self, call: int, seconds: float, speed: float, control: Control) -> None:
        self.call = call
        self.ends_s = ANSWER_S + seconds if seconds else 0.0
        self.now = control["clock"] / SAMPLE_RATE
        self._began = datetime.now(UTC) - timedelta(seconds=self.ends_s)
        self._speed = speed
        self._control = control
        self._listened = 0.0

    @property
    def finished(self) -> bool:
        return self.now >= self.ends_s

    def clock(self) -> float:
        return self.now

    def utc(self, at: float) -> datetime:
        return self._began + timedelta(seconds=at)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)
        self.now += seconds
        self._control["clock"] = round(self.now * SAMPLE_RATE)

    def signals(self) -> Signals:
        if not ANSWER_S <= self.now < self.ends_s:
            return READY
        return Signals(process=True, capture=True, render=True, titles=(f"Call with {number(self.call)}",))

    def open(self) -> "Line":
        return Line(self, self._listened or self.now)

    def opened(self, began: float) -> None:
        if not self._listened:
            self._control["opened"] = round(began * SAMPLE_RATE)

    def listened(self) -> None:
        self._listened = self.now

    def close(self) -> None:
        """Nothing to let go of."""


class Line:
    """Both sides, from `began` to where the clock is, in the frames of the call."""

    def __init__(self, telephone: Telephone, began: float) -> None:
        self.began = began
        self._telephone = telephone
        self._next = round((began - ANSWER_S) * SAMPLE_RATE)
        self._end = round((telephone.ends_s - ANSWER_S) * SAMPLE_RATE)
        self._ready: deque[Block] = deque()
        telephone.opened(began)

    def read(self) -> Block | None:
        now = min(round((self._telephone.now - ANSWER_S) * SAMPLE_RATE), self._end)
        if not self._ready and now > self._next:
            at = ANSWER_S + self._next / SAMPLE_RATE
            for side in (0, 1):
                self._ready.append(Block(side, sound(self._telephone.call, side, self._next, now), at))
            self._next = now
        return self._ready.popleft() if self._ready else None

    def marks(self) -> list[Happening]:
        return []

    def close(self) -> None:
        self._telephone.listened()


def number(call: int) -> str:
    """Who calls: no two calls in a row are with the same."""
    return f"+33 6 12 34 {call // 100 % 100:02} {call % 100:02}"
