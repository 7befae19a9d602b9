"""Listening: one side of a call in a thread of its own, whatever happens to its device.

windows.py and macos.py say where to listen. A device that is lost is tried again after 0.5, 1 and 2 seconds,
then every 2; when the softphone moves to another one, so do we.
"""

import logging
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Block, Happening
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE, SIDES

RETRY_S = (0.5, 1.0, 2.0)
LISTEN_S = 0.05
DEAF_S = 3.0
"""A microphone delivers all the time; one that has not for so long is opened anew."""
CLOSE_S = 2.0

log = logging.getLogger(__name__)


class Heard(Protocol):
    """Where samples come from, e.g. `wasapi.Stream`, `Sox`."""

    def read(self) -> list[tuple[bytes, float]]:
        """What has come since the last look: (16 kHz int16 mono, `clock()` at its first sample)."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Ear:
    """Where a side is heard. way: e.g. `endpoint-loopback`. target: the endpoint's id, or a pid in digits.

    name: of the device or program, for people. steady: it delivers samples in silence too.
    """

    way: str
    target: str
    name: str
    stream: Heard
    steady: bool = False


class Listener:
    """Hears one side from now until `close`.

    ear: opens the best ear there is. moved: is there a better one than this? entered: what the thread that
    listens works within. explain: what an error of a device means.
    opened: the last ear that could be opened. problem: why none can be opened now.
    """

    def __init__(
        self,
        side: int,
        ear: Callable[[], Ear],
        moved: Callable[[Ear], bool] = lambda _ear: False,
        *,
        entered: Callable[[], AbstractContextManager[None]] = nullcontext,
        explain: Callable[[Exception], HostUnavailable] = lambda problem: HostUnavailable(str(problem)),
    ) -> None:
        self.blocks: deque[Block] = deque()
        self.happened: deque[Happening] = deque()
        self.opened: Ear | None = None
        self.problem: HostUnavailable | None = None
        self._side = side
        self._ear = ear
        self._moved = moved
        self._entered = entered
        self._explain = explain
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"listen {SIDES[side]}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """It ends by itself soon."""
        self._closing.set()

    def close(self) -> None:
        self.stop()
        self._thread.join(CLOSE_S)

    def _listen(self) -> None:
        with self._entered():
            failures = 0
            while not self._closing.is_set():
                ear = None
                try:
                    ear = self._ear()
                    self._begin(ear)
                    failures = 0
                    self._hear(ear)
                except Exception as problem:
                    # Whatever a driver comes up with: the call goes on, and so does its other side.
                    self._lose(problem)
                    self._closing.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
                    failures += 1
                finally:
                    if ear is not None:
                        self._end(ear)
            self.problem = None

    def _begin(self, ear: Ear) -> None:
        before, self.opened = self.opened, ear
        if self.problem is not None:
            self._happen("device back", ear.name)
        elif before is not None:
            self._happen("device changed", f"{before.name} -> {ear.name} ({ear.way})")
        self.problem = None
        log.info("%s: %s, %s", SIDES[self._side], ear.way, ear.name)

    def _hear(self, ear: Ear) -> None:
        heard_at = clock()
        while not self._closing.wait(LISTEN_S):
            for pcm, at in ear.stream.read():
                self.blocks.append(Block(self._side, pcm, at))
                heard_at = clock()
            if ear.steady and clock() - heard_at > DEAF_S:
                raise TimeoutError(_("the device delivers nothing"))
            if self._moved(ear):
                return

    def _lose(self, problem: Exception) -> None:
        lost = problem if isinstance(problem, HostUnavailable) else self._explain(problem)
        words = lost.why or lost.what
        if self.problem is None:
            name = f"{self.opened.name}: " if self.opened is not None else ""
            self._happen("device lost", f"{name}{words}")
            log.warning("%s: %s%s", SIDES[self._side], name, words)
        self.problem = lost

    def _end(self, ear: Ear) -> None:
        try:
            ear.stream.close()
        except Exception as problem:
            log.debug("%s: %s", ear.name, problem)  # it went before us

    def _happen(self, kind: Literal["device lost", "device back", "device changed"], note: str) -> None:
        self.happened.append(Happening(clock(), kind, f"{SIDES[self._side]}: {note}"))


def clock() -> float:
    """Seconds on the clock that Windows stamps sound with; time.monotonic() goes in steps of 16 ms there."""
    return time.perf_counter()


class Sox:
    """What `sox` records of a device, for PCs on which Windows itself gives us no loopback.

    device: as WinMM names it, which cuts names at 31 letters. raises OSError: it does not start.
    """

    def __init__(self, program: str, device: str) -> None:
        raw = ["-t", "raw", "-e", "signed-integer", "-b", "16", "-r", str(SAMPLE_RATE), "-c", "1", "-"]
        self._process = subprocess.Popen(
            [program, "-q", "-t", "waveaudio", device[:31], *raw],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._waiting: deque[tuple[bytes, float]] = deque()
        threading.Thread(target=self._read, name="sox", daemon=True).start()

    def read(self) -> list[tuple[bytes, float]]:
        """raises OSError: sox has ended."""
        heard = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not heard and self._process.poll() is not None:
            raise OSError(_("sox ended with code {code}").format(code=self._process.returncode))
        return heard

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        sound = self._process.stdout
        while sound is not None and (pcm := sound.read(SAMPLE_RATE // 10 * 2)):
            self._waiting.append((pcm, clock() - len(pcm) / 2 / SAMPLE_RATE))
