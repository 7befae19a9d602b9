"""A softphone that is not there: a two-party call played from a file, for tests, demos and first steps.

The script, in seconds of its own clock: 0 the softphone runs; 1 it rings; 2 both streams open and a title
names the caller; 3 the file plays, left the technician, right the caller; at its end the streams vanish.
The clock runs at `speed` times real time.

Like a real softphone it outlives the agent: `simulated.json` keeps when it started, so an agent that was
killed in mid-call finds the call still going on, and what was played meanwhile is lost. Unlike a real one it
waits for an agent that a busy machine lets not run, so that no fast call is over before anybody has looked,
and its devices keep what they played until somebody listens.
"""

import asyncio
import contextlib
import time
import wave
from array import array
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from whisperagent import files
from whisperagent.detect import Signals
from whisperagent.errors import AudioError, UsageError
from whisperagent.hosts import Block, Happening
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE, Capture

RING_S = 1.0
ANSWER_S = 2.0
SPEECH_S = 3.0
"""From the answer to the first word: a telephone opens its streams before anybody speaks."""
FORGET_S = 60.0
"""Real seconds after its end that an interrupted simulation is still the one going on."""
WORK_S = 0.25
"""Of its own clock, that an agent may work between two sleeps before the clock waits for it."""
BLOCK_FRAMES = SAMPLE_RATE // 10
TITLE = "Call with +33 6 12 34 56 78"


class _Kept(msgspec.Struct, frozen=True):
    """`simulated.json`. started_at: Unix time."""

    file: str
    speed: float
    started_at: float


class SimulatedHost:
    """A softphone with one call, from `file`.

    file: WAV, 16 kHz, 16 bits, 2 channels. speed: times real time. home: where it keeps when it started.
    raises UsageError: no such file, or a speed that is not above 0. AudioError: any other kind of sound.
    """

    name = "simulated"
    capture = Capture(agent="simulated", caller="simulated")

    def __init__(self, file: Path, speed: float, home: Path) -> None:
        if not 0 < speed <= 1000:
            raise UsageError(
                _("a speed of {speed} is not possible").format(speed=speed), fix=_("`--speed 8`")
            )
        self.file = file
        self.speed = speed
        with _open_call(file) as call:
            self.end_s = SPEECH_S + call.getnframes() / SAMPLE_RATE
        self._kept = home / "simulated.json"
        self._started_at = self._start()
        self._offset_s = time.time() - self._started_at - time.monotonic()
        self._waits_at = self._running()
        self._listened_until = self.clock()

    @property
    def finished(self) -> bool:
        return self.clock() >= self.end_s

    @property
    def problem(self) -> None:
        return None

    def clock(self) -> float:
        late_s = self._running() - self._waits_at
        if late_s > 0:
            self._offset_s -= late_s / self.speed
        return min(self._running(), self._waits_at)

    def utc(self, at: float) -> datetime:
        # Counted back from when it will be over, so that a call played fast never lies in the future.
        return datetime.fromtimestamp(self._started_at + self.end_s / self.speed - self.end_s + at, UTC)

    async def sleep(self, seconds: float) -> None:
        self._waits_at = self.clock() + seconds
        await asyncio.sleep(seconds / self.speed)
        self._waits_at = self.clock() + WORK_S

    def signals(self) -> Signals:
        now = self.clock()
        up = ANSWER_S <= now < self.end_s
        ringing = RING_S <= now < ANSWER_S
        return Signals(process=True, capture=up, render=up or ringing, titles=(TITLE,) if up else ())

    def open(self) -> "SimulatedSource":
        return SimulatedSource(self, min(self.clock(), max(ANSWER_S, self._listened_until)))

    def listened(self) -> None:
        """Nobody listens from now on."""
        self._listened_until = self.clock()

    def close(self) -> None:
        """Quit the softphone if its call is over; else it goes on without us."""
        if self.finished:
            self._kept.unlink(missing_ok=True)

    def _running(self) -> float:
        return (time.monotonic() + self._offset_s) * self.speed

    def _start(self) -> float:
        now = time.time()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            kept = msgspec.json.decode(self._kept.read_bytes(), type=_Kept)
            goes_on = 0 <= now - kept.started_at < self.end_s / self.speed + FORGET_S
            if goes_on and kept.file == str(self.file.absolute()) and kept.speed == self.speed:
                return kept.started_at
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        kept = _Kept(str(self.file.absolute()), self.speed, now)
        files.write(self._kept, msgspec.json.encode(kept), durable=False)
        return now


class SimulatedSource:
    """Both sides, from `began` as far as the clock has come."""

    def __init__(self, host: SimulatedHost, began: float) -> None:
        self.began = began
        self._host = host
        self._call = _open_call(host.file)
        self._frames = self._call.getnframes()
        self._next = round((began - SPEECH_S) * SAMPLE_RATE)
        self._ready: deque[Block] = deque()

    def read(self) -> Block | None:
        if not self._ready:
            self._play()
        return self._ready.popleft() if self._ready else None

    def marks(self) -> list[Happening]:
        return []

    def close(self) -> None:
        self._call.close()
        self._host.listened()

    def _play(self) -> None:
        """One block of each side, when the clock has passed it. Frame 0 is the file's first."""
        now = min(round((self._host.clock() - SPEECH_S) * SAMPLE_RATE), self._frames)
        count = min(BLOCK_FRAMES, now - self._next)
        if count <= 0 or (count < BLOCK_FRAMES and now < self._frames):
            return
        at = SPEECH_S + self._next / SAMPLE_RATE
        samples = array("h", bytes(4 * count))
        if (end := self._next + count) > 0:
            first = max(0, self._next)
            self._call.setpos(first)
            # A file shorter than its header says ends in silence.
            played = self._call.readframes(end - first)
            place = 2 * (first - self._next)
            samples[place : place + len(played) // 2] = array("h", played[: len(played) // 2 * 2])
        for side in (0, 1):
            self._ready.append(Block(side, samples[side::2].tobytes(), at))
        self._next = end


def _open_call(path: Path) -> wave.Wave_read:
    try:
        call = wave.open(str(path), "rb")  # noqa: SIM115 - the caller closes it
    except OSError as problem:
        raise UsageError(
            _("cannot read {path}").format(path=path),
            why=problem.strerror or str(problem),
            fix=_("give a WAV file of a call: 16 kHz, 16 bits, the technician left, the caller right"),
        ) from None
    except (wave.Error, EOFError) as problem:
        raise AudioError(_("{path} is not a WAV file").format(path=path), why=str(problem)) from None
    found = (call.getframerate(), 8 * call.getsampwidth(), call.getnchannels())
    if found != (SAMPLE_RATE, 16, 2):
        call.close()
        raise AudioError(
            _("{path} is not a call that can be played").format(path=path),
            why=_("it has {rate} Hz, {bits} bits, channels: {channels}").format(
                rate=found[0], bits=found[1], channels=found[2]
            ),
            fix=_("give a WAV file of a call: 16 kHz, 16 bits, the technician left, the caller right"),
        )
    return call
