"""What the tests of the agent stand on: a PC that follows a script, and calls made of noise."""

import asyncio
import contextlib
import io
import wave
from array import array
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import av
import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import sealed, wire
from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Block, Happening
from whisperagent.wire import SAMPLE_RATE

OFF = Signals()
READY = Signals(process=True)
RINGING = Signals(process=True, render=True)
TALKING = Signals(process=True, capture=True, render=True, titles=("Call with +33 6 12 34 56 78",))
MIC_ONLY = Signals(process=True, capture=True)

FORMATS = {"flac": "flac", "opus": "ogg"}
"""Codec: what FFmpeg calls the file around it."""

NOISE = [*range(1, 30_001)]
Random(5).shuffle(NOISE)

Script = list[tuple[float, Signals]]
"""(seconds, what is seen during them), one after the other."""


class ScriptedHost:
    """A PC on a clock of its own, which runs as fast as it is asked to.

    Each side sounds as the clock's own noise (agent above zero, caller below), so that any piece of it tells
    when it was heard. side_missing: a side whose device delivers nothing. happened: to the devices.
    problem: what is wrong with the PC.
    """

    name = "scripted"
    capture = wire.Capture(agent="scripted", caller="scripted")
    finished = False

    def __init__(self, script: Script, *, side_missing: int | None = None) -> None:
        self.now = 0.0
        self.over = asyncio.Event()
        self.sides = [side for side in (0, 1) if side != side_missing]
        self.happened: deque[Happening] = deque()
        self.problem: HostUnavailable | None = None
        self._script = script
        self._began = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

    def clock(self) -> float:
        return self.now

    def utc(self, at: float) -> datetime:
        return self._began + timedelta(seconds=at)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)
        if self.now > sum(length for length, _signals in self._script):
            self.over.set()
            await asyncio.Event().wait()

    def signals(self) -> Signals:
        at = 0.0
        for length, signals in self._script:
            at += length
            if self.now < at:
                return signals
        return self._script[-1][1]

    def open(self) -> "ScriptedSource":
        return ScriptedSource(self)

    def close(self) -> None:
        """Nothing to let go of."""


class ScriptedSource:
    def __init__(self, host: ScriptedHost) -> None:
        self.began = host.now
        self._host = host
        self._next = round(host.now * SAMPLE_RATE)
        self._ready: deque[Block] = deque()

    def read(self) -> Block | None:
        end = round(self._host.now * SAMPLE_RATE)
        if end > self._next:
            at = self._next / SAMPLE_RATE
            self._ready.extend(Block(side, sound(side, self._next, end), at) for side in self._host.sides)
            self._next = end
        return self._ready.popleft() if self._ready else None

    def marks(self) -> list[Happening]:
        return [self._host.happened.popleft() for _count in range(len(self._host.happened))]

    def close(self) -> None:
        """Nothing to let go of."""


def sound(side: int, first: int, end: int) -> bytes:
    """What `ScriptedHost` sounds like from frame `first` to `end`; never silent, nor like its past."""
    sign = (1, -1)[side]
    return array(
        "h", [sign * NOISE[(frame + 7_000 * side) % len(NOISE)] for frame in range(first, end)]
    ).tobytes()


async def play(work: Callable[[], Awaitable[None]], host: ScriptedHost) -> None:
    """Run `work` until the script is over, then cancel it, as an agent that stops does."""
    running = asyncio.ensure_future(work())
    over = asyncio.ensure_future(host.over.wait())
    await asyncio.wait({running, over}, return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        return


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task, thread or process does."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - files and other processes set no asyncio.Event
            await asyncio.sleep(0.01)


def noise_call(path: Path, seconds: float, seed: int = 7) -> Path:
    """A WAV call, both sides different noise: any piece of it is found only where it belongs."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(Random(seed).randbytes(4 * round(seconds * SAMPLE_RATE)))
    return path


def frames(path: Path) -> bytes:
    """The PCM of a WAV file."""
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes())


def pcm(recording: Path | bytes, key: sealed.PrivateKey) -> bytes:
    """What can be heard of a sealed recording, of a cut one as well."""
    data = recording if isinstance(recording, bytes) else recording.read_bytes()
    reader = sealed.Reader(io.BytesIO(data), key)
    codec = "pcm"
    with contextlib.suppress(msgspec.DecodeError):
        codec = msgspec.json.decode(reader.metadata, type=wire.CallMetadata).codec
    return heard(b"".join(reader.salvage()), codec)


def heard(sound: bytes, codec: str) -> bytes:
    """The samples of a stream that may end anywhere, by a decoder that is not the recorder's."""
    if codec == "pcm" or not sound:
        return sound
    samples = bytearray()
    source = io.BytesIO(sound)
    with contextlib.suppress(av.error.FFmpegError), av.open(source, "r", FORMATS[codec]) as file:
        to_16_khz = av.AudioResampler("s16", file.streams.audio[0].layout, SAMPLE_RATE)
        for frame in file.decode(audio=0):
            for piece in to_16_khz.resample(frame):
                samples += piece.to_ndarray().tobytes()
    return bytes(samples)


def local_key(home: Path) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes((home / "local.key").read_bytes())


def side(data: bytes, number: int) -> "array[int]":
    """One side of two-channel PCM."""
    return array("h", data)[number::2]
