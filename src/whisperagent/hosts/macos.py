"""macOS: the softphone's calls and the technician. The caller cannot be heard there yet.

Since macOS 14.2 Core Audio says of each process whether it records or plays; before that only whether the
softphone runs is known, and that is no call. macOS gives a program the sound of another one only by a process
tap, which needs a signed application with an entitlement of its own, so a recording made here has one silent
side. It says so in its metadata and its marks, and `wa doctor` does too.

A microphone that this program may not use gives zeros and no error there, as a muted one does: only the alarm
of a silent side and `wa agent test` can tell, and they name both.
"""

import asyncio
import ctypes
import logging
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Block, Device, Happening, Meter, Way, missing_microphone, unheard
from whisperagent.hosts.family import Process, family
from whisperagent.hosts.listening import Ear, Listener, clock
from whisperagent.i18n import _
from whisperagent.settings import Settings
from whisperagent.wire import SAMPLE_RATE, Capture

log = logging.getLogger(__name__)

CORE_AUDIO = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
ABSENT_S = 2.0
CLOSE_S = 2.0
AGENT = 0

_SYSTEM = 1  # kAudioObjectSystemObject
_GLOBAL = "glob"


@dataclass(frozen=True)
class Stream:
    """What Core Audio says of one process."""

    pid: int
    records: bool
    plays: bool


class MacHost:
    """raises HostUnavailable: there is no Core Audio."""

    name = "macos"
    finished = False
    capture = Capture(agent="coreaudio-microphone", caller="none")

    def __init__(self, settings: Settings) -> None:
        self._detection = settings.detection
        self._wanted = settings.recording.microphone
        self._missing: HostUnavailable | None = None
        self._audio = CoreAudio()
        self._now = Signals()
        self._listeners: list[Listener] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="softphone", daemon=True)
        self._thread.start()

    def clock(self) -> float:
        return clock()

    def utc(self, at: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=at - clock())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def signals(self) -> Signals:
        return self._now

    @property
    def problem(self) -> HostUnavailable | None:
        lost = (unheard(AGENT, listener.problem) for listener in self._listeners)
        return self._missing or next(filter(None, lost), None)

    def open(self) -> "MacSource":
        """raises HostUnavailable: there is no microphone."""
        there = [device for device in self.devices() if device.kind == "microphone"]
        self._missing = missing_microphone(self._wanted, there)
        if not there:
            raise HostUnavailable(_("there is no microphone"), fix=_("plug in the headset"))
        self._reap()
        self._listeners = [Listener(AGENT, lambda: _microphone(self._wanted))]
        return MacSource(self._listeners[0])

    def close(self) -> None:
        self._closing.set()
        self._thread.join(CLOSE_S)
        self._reap()

    def devices(self) -> list[Device]:
        """Microphones and outputs; which one the softphone uses is not known."""
        import sounddevice

        default_input, default_output = sounddevice.default.device
        found = []
        for index, device in enumerate(sounddevice.query_devices()):
            name = str(device["name"])
            if device["max_input_channels"]:
                found.append(Device(name, name, "microphone", index == default_input, in_use=False))
            if device["max_output_channels"]:
                found.append(Device(name, name, "output", index == default_output, in_use=False))
        return found

    def caller_ways(self) -> list[Way]:
        return [
            Way(
                "process-tap",
                False,
                _("macOS gives the sound of another program to signed applications only"),
                _("record on Windows or Linux; on macOS the caller's side stays silent"),
            )
        ]

    def signal_ways(self) -> list[Way]:
        seen = streams(self._audio.value) is not None
        return [
            Way(
                "streams",
                seen,
                "" if seen else _("Core Audio does not say which program records"),
                "" if seen else _("macOS 14.2 or newer does"),
            ),
            Way("titles", False, _("macOS shows other programs' titles only to who may record the screen")),
        ]

    def meter(self) -> Meter:
        raise HostUnavailable(
            _("levels cannot be shown on macOS"),
            why=_("its outputs cannot be heard"),
            fix=_("`wa agent devices` lists the devices without levels"),
        )

    def _watch(self) -> None:
        failing = False
        while not self._closing.is_set():
            try:
                self._now = self._look()
                failing = False
            except Exception as problem:
                # A thread that ends would leave the last look standing, and a call without an end.
                if not failing:
                    log.warning("the softphone cannot be seen: %s", problem, exc_info=True)
                failing = True
            wait_s = self._detection.poll_s if self._now.process else ABSENT_S
            self._closing.wait(max(self._detection.poll_s, wait_s))

    def _look(self) -> Signals:
        softphone = family(_processes(), self._detection.processes, _started)
        found = streams(self._audio.value)
        ours = [stream for stream in found or () if stream.pid in softphone]
        return Signals(
            process=bool(softphone),
            capture=any(stream.records for stream in ours),
            render=any(stream.plays for stream in ours),
            streams=found is not None,
        )

    def _reap(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []


class MacSource:
    """The technician alone."""

    def __init__(self, microphone: Listener) -> None:
        self.began = clock()
        self._microphone = microphone
        missing = _("caller: macOS gives the sound of another program to signed applications only")
        microphone.happened.append(Happening(self.began, "device lost", missing))

    def read(self) -> Block | None:
        blocks = self._microphone.blocks
        return blocks.popleft() if blocks else None

    def marks(self) -> list[Happening]:
        happened = self._microphone.happened
        return [happened.popleft() for _ in range(len(happened))]

    def close(self) -> None:
        self._microphone.stop()


class CoreAudio:
    """Apple's library. raises HostUnavailable: it is not there."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(CORE_AUDIO)
        except OSError as problem:
            raise HostUnavailable(_("there is no Core Audio"), why=str(problem)) from None

    def value(self, audio_object: int, name: str) -> bytes | None:
        """The property `name` of an object; None: it has none (AudioObjectGetPropertyData)."""
        address = (ctypes.c_uint32 * 3)(_code(name), _code(_GLOBAL), 0)
        size = ctypes.c_uint32()
        if self._library.AudioObjectGetPropertyDataSize(audio_object, address, 0, None, ctypes.byref(size)):
            return None
        value = ctypes.create_string_buffer(size.value)
        if self._library.AudioObjectGetPropertyData(
            audio_object, address, 0, None, ctypes.byref(size), value
        ):
            return None
        return value.raw[: size.value]


def streams(value: Callable[[int, str], bytes | None]) -> list[Stream] | None:
    """What every process does, as Core Audio keeps it since macOS 14.2; None: this macOS does not.

    value: as `CoreAudio.value`. The names are those of AudioHardware.h.
    """
    if (listed := value(_SYSTEM, "prs#")) is None:
        return None

    def number(process: int, name: str) -> int:
        found = value(process, name)
        return int(struct.unpack("=i", found)[0]) if found is not None and len(found) == 4 else 0

    return [
        Stream(number(process, "ppid"), bool(number(process, "piri")), bool(number(process, "piro")))
        for (process,) in struct.iter_unpack("=I", listed)
    ]


class Microphone:
    """One of PortAudio's devices. raises sounddevice.PortAudioError: it cannot be opened."""

    def __init__(self, device: int | None) -> None:
        import sounddevice

        self._waiting: deque[tuple[bytes, float]] = deque()
        self._stream = sounddevice.RawInputStream(
            device=device, samplerate=SAMPLE_RATE, channels=1, dtype="int16", callback=self._heard
        )
        self._stream.start()

    def read(self) -> list[tuple[bytes, float]]:
        """raises OSError: the device is gone."""
        if not self._stream.active and not self._waiting:
            raise OSError(_("the device was unplugged or switched off"))
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def close(self) -> None:
        self._stream.close()

    def _heard(self, data: Any, frames: int, _time: object, _status: object) -> None:
        self._waiting.append((bytes(data), clock() - frames / SAMPLE_RATE))


def _microphone(wanted: str) -> Ear:
    """The device that the settings name, else the default one."""
    import sounddevice

    # PortAudio lists its devices once; what was plugged in since then it finds only after a new start.
    sounddevice._terminate()
    sounddevice._initialize()
    chosen = None
    for index, device in enumerate(sounddevice.query_devices()):
        if wanted and wanted.casefold() in str(device["name"]).casefold() and device["max_input_channels"]:
            chosen = index
            break
    name = str(sounddevice.query_devices(chosen, "input")["name"])
    return Ear(MacHost.capture.agent, name, name, Microphone(chosen), steady=True)


def _processes() -> list[Process]:
    import psutil

    listed = psutil.process_iter(["pid", "ppid", "name"])
    found = (process.info for process in listed)
    return [Process(one["pid"], one["ppid"] or 0, one["name"] or "") for one in found]


def _started(pid: int) -> int | None:
    import psutil

    try:
        created_at: float = psutil.Process(pid).create_time()
    except psutil.Error:
        return None
    return round(1000 * created_at)


def _code(name: str) -> int:
    """A four-letter code of Core Audio."""
    return int.from_bytes(name.encode("ascii"), "big")
