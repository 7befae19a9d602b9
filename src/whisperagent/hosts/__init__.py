"""What the agent needs of a PC: the softphone's signals, and the sound of both sides.

detect.py reads the signals, record.py the sound; neither knows which system it runs on. Platform code
lives in this package alone.
"""

import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.i18n import _
from whisperagent.settings import Settings
from whisperagent.wire import Capture

__all__ = [
    "Block",
    "Device",
    "Happening",
    "Host",
    "Listening",
    "Meter",
    "Signals",
    "Source",
    "Way",
    "choose",
    "find_named",
    "missing_microphone",
    "process_exists",
    "this_pc",
    "unheard",
]


class Block(NamedTuple):
    """Sound of one side. side: 0 agent, 1 caller. pcm: int16 mono 16 kHz, little-endian.

    at: the host's clock at the first sample.
    """

    side: int
    pcm: bytes
    at: float


class Happening(NamedTuple):
    """Something that happened to a device while it was recorded; becomes a `wire.Mark`.

    at: the host's clock. note: the side and the device, e.g. `caller: Headset`.
    """

    at: float
    kind: Literal["device lost", "device back", "device changed"]
    note: str = ""


@dataclass(frozen=True)
class Device:
    """A microphone, or an output whose sound can be recorded.

    id: what `recording.microphone` may name. in_use: the softphone records from it or plays on it now.
    """

    id: str
    name: str
    kind: Literal["microphone", "output"]
    default: bool
    in_use: bool


@dataclass(frozen=True)
class Way:
    """One way to hear or to see something on this PC.

    name: for programs, e.g. `process-loopback`. why: why it is not there, or what to know of it.
    fix: the cure.
    """

    name: str
    available: bool
    why: str = ""
    fix: str = ""


class Meter(Protocol):
    """How loud every device is; what it hears is kept nowhere."""

    def read(self) -> dict[str, float]:
        """dBFS by `Device.id`, the loudest since the last reading; one that gives no sound is left out."""

    def close(self) -> None: ...


class Source(Protocol):
    """Both sides of what is heard on this PC. began: the host's clock at the first sample it can give.

    A device that is lost is no error: the source goes on by itself, and the other side with it.
    """

    began: float

    def read(self) -> Block | None:
        """The next block of either side, each side's oldest first, or None when there is nothing yet."""

    def marks(self) -> list[Happening]:
        """What happened to the devices since the last call of this."""

    def close(self) -> None: ...


class Host(Protocol):
    """One PC. capture: how each side is heard. finished: no call will ever come again (simulated only)."""

    name: str
    capture: Capture

    @property
    def finished(self) -> bool: ...

    def clock(self) -> float:
        """Seconds that only go forward; every time in detection and recording is on this clock."""

    def utc(self, at: float) -> datetime:
        """What a time on this host's clock is in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this host's clock, or less when the signals change meanwhile."""

    @property
    def problem(self) -> HostUnavailable | None:
        """What a person has to mend here: a call would not be recorded, or not as it should be."""

    def signals(self) -> Signals:
        """What the softphone shows now."""

    def open(self) -> Source:
        """Begin to listen to both sides. raises HostUnavailable: the PC gives no sound."""

    def close(self) -> None: ...


class Listening(Host, Protocol):
    """A host with devices of its own: every one but the simulated."""

    def devices(self) -> list[Device]:
        """Microphones and outputs, as they are now. raises HostUnavailable: the PC has no sound system."""

    def caller_ways(self) -> list[Way]:
        """How the caller can be heard here, best first; the first one that is available is used."""

    def signal_ways(self) -> list[Way]:
        """What can tell of a call here: `streams` (of the softphone), `titles`, `microphone-in-use`…"""

    def meter(self) -> Meter:
        """Listen to every device at once. raises HostUnavailable: the PC has no sound system."""


def choose(settings: Settings, simulate: Path | None, speed: float, home: Path) -> Host:
    """The host to record on: a call played from the file `simulate`, or else this PC.

    speed: times real time, of a simulated call. home: WA_HOME.
    raises UsageError, AudioError: that file cannot be played.
    """
    if simulate is None:
        return this_pc(settings)
    from whisperagent.hosts.simulated import SimulatedHost

    return SimulatedHost(simulate, speed, home)


def this_pc(settings: Settings) -> Listening:
    """The real one. raises HostUnavailable: a system that we do not know."""
    # Each system's libraries exist on that system alone.
    if sys.platform == "win32":
        from whisperagent.hosts.windows import WindowsHost

        return WindowsHost(settings)
    if sys.platform == "darwin":
        from whisperagent.hosts.macos import MacHost

        return MacHost(settings)
    if sys.platform == "linux":
        from whisperagent.hosts.linux import LinuxHost

        return LinuxHost(settings)
    raise HostUnavailable(
        _("calls cannot be recorded on {system}").format(system=sys.platform),
        why=_("we know Windows, Linux and macOS"),
        fix=_("`wa agent run --simulate CALL.wav` plays a call from a file"),
    )


class _Named(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


_Device = TypeVar("_Device", bound=_Named)


def find_named(devices: Iterable[_Device], wanted: str) -> _Device | None:
    """The device that a person means by `recording.microphone`: its id, its name, or a part of its name."""
    called = wanted.casefold()
    there = list(devices) if called else []
    exact = (one for one in there if called in (one.id.casefold(), one.name.casefold()))
    partly = (one for one in there if called in one.name.casefold())
    return next(exact, None) or next(partly, None)


def missing_microphone(wanted: str, there: Collection[_Named]) -> HostUnavailable | None:
    """That none of these is the one that the settings name; None: one is, or they name none."""
    if not wanted or find_named(there, wanted) is not None:
        return None
    return HostUnavailable(
        _("there is no microphone {name}").format(name=wanted),
        why=_("there are: {names}; until it is there, the softphone's own is recorded").format(
            names=", ".join(one.name for one in there)
        )
        if there
        else _("there is none at all"),
        fix=_("plug it in, or choose one of `wa agent devices` with `wa config set recording.microphone`"),
    )


def unheard(side: int, lost: HostUnavailable | None) -> HostUnavailable | None:
    """That a side of this call is not heard, because of that; None: it is."""
    if lost is None:
        return None
    what = (_("the technician is not heard"), _("the caller is not heard"))[side]
    return HostUnavailable(what, why=lost.why or lost.what, fix=lost.fix)


def process_exists(pid: int) -> bool:
    """Does a process of this number live now?"""
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # somebody else's
        return True
    # On Windows such a signal would end the process; and psutil is too slow to import for `wa agent status`.
    import psutil

    return bool(psutil.pid_exists(pid))
