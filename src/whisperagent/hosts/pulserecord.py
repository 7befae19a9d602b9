"""Both sides' sound from the sound server, by libpulse itself.

Every stream is opened with "don't move": a server would else move a recording whose device is gone onto
the default microphone, without a word. Ours ends instead, and is opened again where the softphone went.
Where the softphone plays in one stream, that stream alone is recorded and no other program is heard.

One thread for a recording; each block carries the time of its first sample, the server's latency deducted.
"""

import ctypes
import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple

from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Block, Happening, unheard
from whisperagent.hosts.libpulse import (
    ACCESS_DENIED,
    ANSWER_S,
    S16LE,
    Buffer,
    Connection,
    ServerLost,
    Spec,
)
from whisperagent.hosts.pulse import RETRY_S, Snapshot
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE, SIDES

FRAGMENT_BYTES = SAMPLE_RATE * 2 // 20
WAIT_S = 0.05
"""Between two looks at what has come and where the softphone is."""
JUMP_S = 0.06
"""Times that differ less than this from the samples' own count are jitter, not a gap."""
SMOOTHING = 0.02
"""Of each block's difference: slow enough for jitter, fast enough for a device's clock that drifts."""
GONE_S = 0.3
"""After a stream has ended, until it is known whether its device has gone."""
STREAM_TRIES = 3
"""Until a server is taken for one that cannot follow a stream."""
LOWEST_DBFS = -96.0
UNKNOWN = 0xFFFFFFFF

# pulse/def.h
STREAM_READY, STREAM_FAILED = 2, 3
INTERPOLATE_TIMING, AUTO_TIMING_UPDATE, DONT_MOVE, ADJUST_LATENCY = 0x2, 0x8, 0x200, 0x2000


class Target(NamedTuple):
    """What to record.

    stream: of the source, only what this sink-input plays; None is all of it. or_all: all of it as well, from
    a server that cannot follow a stream.
    """

    source: str
    stream: int | None = None
    or_all: bool = False


class Recording:
    """A stream that records `target`."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self.target = target
        self._connection = connection
        self._pa = connection.pa
        self._next_at: float | None = None
        specification = Spec(S16LE, SAMPLE_RATE, 1)
        self._stream = self._pa.pa_stream_new(
            connection.context, b"a call is recorded", byref(specification), None
        )
        if target.stream is not None:
            self._pa.pa_stream_set_monitor_stream(self._stream, target.stream)
        self._pa.pa_stream_connect_record(
            self._stream,
            # A stream is followed wherever it plays.
            None if target.stream is not None else target.source.encode(),
            byref(Buffer(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, FRAGMENT_BYTES)),
            INTERPOLATE_TIMING | AUTO_TIMING_UPDATE | DONT_MOVE | ADJUST_LATENCY,
        )

    @property
    def ready(self) -> bool:
        return self._state() == STREAM_READY

    @property
    def failed(self) -> bool:
        """It could not be opened, or has ended: its device or the stream it follows has gone."""
        return self._state() >= STREAM_FAILED

    def refusal(self) -> HostUnavailable:
        """Why it failed, if asked as soon as it has."""
        code, words = self._connection.error()
        denied = _("allow this program to record, in the system's settings or those of its sandbox")
        cure = denied if code == ACCESS_DENIED else _("`wa agent devices` shows what can be heard")
        return HostUnavailable(
            _("{source}: {words}").format(source=self.target.source, words=words), fix=cure
        )

    def read(self) -> tuple[bytes, float] | None:
        """What has come since: (PCM, clock at its first sample)."""
        if not self.ready:
            return None
        measured = self._heard_at()
        pieces: list[bytes] = []
        data, size = c_void_p(), c_size_t()
        # The server sends in pieces of a few milliseconds.
        while self._pa.pa_stream_peek(self._stream, byref(data), byref(size)) >= 0 and size.value:
            # Without data it is a hole, which lasts as long but gives no sound.
            pieces.append(ctypes.string_at(data.value, size.value) if data.value else bytes(size.value))
            self._pa.pa_stream_drop(self._stream)
        if not pieces:
            return None
        pcm = b"".join(pieces)
        length_s = len(pcm) / 2 / SAMPLE_RATE
        at = self._smooth(time.monotonic() - length_s if measured is None else measured)
        self._next_at = at + length_s
        return pcm, at

    def close(self) -> None:
        self._pa.pa_stream_disconnect(self._stream)
        self._pa.pa_stream_unref(self._stream)

    def _state(self) -> int:
        return int(self._pa.pa_stream_get_state(self._stream))

    def _heard_at(self) -> float | None:
        """The clock when the next sample to be read was heard; None when the server has not said yet."""
        latency, negative = c_uint64(), c_int()
        if self._pa.pa_stream_get_latency(self._stream, byref(latency), byref(negative)) < 0:
            return None
        # A monitor hears what is still on its way to the loudspeaker: its latency is negative.
        return time.monotonic() + latency.value / 1e6 * (1 if negative.value else -1)

    def _smooth(self, measured: float) -> float:
        if self._next_at is None or abs(measured - self._next_at) > JUMP_S:
            return measured
        return self._next_at + SMOOTHING * (measured - self._next_at)


class Ear:
    """One side: what it should record, and what it does. problem: why it cannot record that now."""

    def __init__(self, side: int, marks: "deque[Happening]") -> None:
        self.current: Recording | None = None
        self.problem: HostUnavailable | None = None
        self._side = SIDES[side]
        self._marks = marks
        self._coming: Recording | None = None
        self._last: tuple[Target, str] | None = None
        self._ended_at: float | None = None
        self._follows = True
        self._lost = False
        self._retry_at = 0.0
        self._failures = 0

    def tend(
        self, connection: Connection, wanted: Target | None, seen: Snapshot
    ) -> list[tuple[bytes, float]]:
        """Go on with what is wanted now; gives what was heard."""
        now = time.monotonic()
        self._let_go_of_failed(now)
        self._follows = self._follows and self._failures < STREAM_TRIES
        if wanted is not None and wanted.or_all and not self._follows:
            wanted = Target(wanted.source)
        if wanted is None:
            self.problem = None
            if self.current is not None:
                self.current.close()
                self.current = None
        if self._coming is not None and self._coming.target != wanted:
            self._coming.close()
            self._coming = None
        at_work = self.current.target if self.current is not None else None
        if wanted is not None and wanted != at_work and self._coming is None and now >= self._retry_at:
            self._coming = Recording(connection, wanted)
        if self._ended_at is not None and now - self._ended_at > GONE_S:
            self._judge(now, seen)
        heard = self.current.read() if self.current is not None else None
        found = [heard] if heard is not None else []
        # The old one is let go of when the new one is heard: nothing is missed between them.
        if self._coming is not None and (first := self._coming.read()):
            if self.current is not None:
                self.current.close()
            self.current, self._coming = self._coming, None
            self._found(self.current.target, first[1], seen)
            found.append(first)
        return found

    def lost(self) -> None:
        """The server has gone, and every device with it. Its streams went with the connection."""
        for recording in (self.current, self._coming):
            if recording is not None:
                recording.close()
        if self.current is not None and not self._lost:
            self._mark("device lost", time.monotonic(), self._last[1] if self._last else "")
            self._lost = True
        self.current = self._coming = self._ended_at = None

    def close(self) -> None:
        for recording in (self.current, self._coming):
            if recording is not None:
                recording.close()
        self.current = self._coming = self.problem = None

    def _let_go_of_failed(self, now: float) -> None:
        if self.current is not None and self.current.failed:
            self.current.close()
            self.current, self._ended_at = None, now
        if self._coming is not None and self._coming.failed:
            # One that may have to do without the stream alone is not at its end yet.
            if not (self._coming.target.or_all and self._coming.target.stream is not None):
                self.problem = self._coming.refusal()
            self._coming.close()
            self._coming = None
            self._retry_at = now + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
            self._failures += 1

    def _judge(self, at: float, seen: Snapshot) -> None:
        """Has the device gone by then, or has only a stream ended?"""
        ended_at, self._ended_at = self._ended_at, None
        if self._last is not None and not self._lost and seen.device(self._last[0].source) is None:
            # Where a server moves the stream, what is heard next may have begun before the end was seen.
            self._mark("device lost", at if ended_at is None else min(at, ended_at), self._last[1])
            self._lost = True

    def _found(self, target: Target, at: float, seen: Snapshot) -> None:
        """It is heard again, or elsewhere."""
        self._judge(at, seen)
        device = seen.device(target.source)
        name = device.name if device is not None else target.source
        if self._lost:
            self._mark("device back", at, name)
        elif self._last is not None and self._last[0].source != target.source:
            self._mark("device changed", at, name)
        self._last = (target, name)
        self._lost = False
        self._failures = 0
        self.problem = None

    def _mark(
        self, kind: Literal["device lost", "device back", "device changed"], at: float, name: str
    ) -> None:
        self._marks.append(Happening(at, kind, f"{self._side}: {name}"))


class PulseSource:
    """Both sides, from now on.

    wanted: what each side should record now, None for nothing. seen: the newest snapshot. heard: called in
    our thread with what the caller's side records.
    """

    def __init__(
        self,
        wanted: Callable[[], tuple[Target | None, Target | None]],
        seen: Callable[[], Snapshot],
        heard: Callable[[Target], None],
    ) -> None:
        self.began = time.monotonic()
        self._wanted = wanted
        self._seen = seen
        self._heard = heard
        self._blocks: SimpleQueue[Block] = SimpleQueue()
        self._marks: deque[Happening] = deque()
        self._ears = (Ear(0, self._marks), Ear(1, self._marks))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._record, name="recording", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> HostUnavailable | None:
        """Why one of the sides cannot be heard now."""
        agent, caller = self._ears
        return unheard(0, agent.problem) or unheard(1, caller.problem)

    def read(self) -> Block | None:
        try:
            return self._blocks.get_nowait()
        except Empty:
            return None

    def marks(self) -> list[Happening]:
        return [self._marks.popleft() for _count in range(len(self._marks))]

    def close(self) -> None:
        """The devices are free again when it returns."""
        self._closing.set()
        self._thread.join(ANSWER_S + 1)

    def _record(self) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                connection = Connection()
            except ServerLost:
                self._closing.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
                continue
            failures = 0
            try:
                self._listen(connection)
                for ear in self._ears:
                    ear.close()
            except ServerLost:
                for ear in self._ears:
                    ear.lost()
            finally:
                connection.close()

    def _listen(self, connection: Connection) -> None:
        caller: Recording | None = None
        while not self._closing.is_set():
            self._closing.wait(WAIT_S)
            connection.take()
            for side, (ear, wanted) in enumerate(zip(self._ears, self._wanted(), strict=True)):
                for pcm, at in ear.tend(connection, wanted, self._seen()):
                    self._blocks.put(Block(side, pcm, at))
            if (now := self._ears[1].current) is not None and now is not caller:
                self._heard(now.target)
            caller = now


class PulseMeter:
    """How loud every device is."""

    def __init__(self, seen: Callable[[], Snapshot]) -> None:
        self._seen = seen
        self._loudest: dict[str, float] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="levels", daemon=True)
        self._thread.start()

    def read(self) -> dict[str, float]:
        with self._lock:
            loudest, self._loudest = self._loudest, {}
        return loudest

    def close(self) -> None:
        self._closing.set()
        self._thread.join(ANSWER_S + 1)

    def _measure(self) -> None:
        try:
            connection = Connection()
        except ServerLost:
            return
        recordings: dict[str, Recording] = {}
        try:
            while not self._closing.is_set():
                self._closing.wait(WAIT_S)
                connection.take()
                for device in self._seen().devices:
                    if device.id not in recordings:
                        recordings[device.id] = Recording(connection, Target(device.source))
                    if heard := recordings[device.id].read():
                        with self._lock:
                            before = self._loudest.get(device.id, LOWEST_DBFS)
                            self._loudest[device.id] = max(before, _peak_dbfs(heard[0]))
        except ServerLost:
            return
        finally:
            for recording in recordings.values():
                recording.close()
            connection.close()


def _peak_dbfs(pcm: bytes) -> float:
    samples = array("h", pcm)
    peak = max(max(samples), -min(samples))
    return round(20 * math.log10(peak / 32768), 1) if peak else LOWEST_DBFS
