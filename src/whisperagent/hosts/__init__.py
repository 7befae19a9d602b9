"""What the agent needs of a PC: the softphone's signals, and the sound of both sides.

detect.py reads the signals, record.py the sound; neither knows which system it runs on. Platform code
lives in this package alone.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.i18n import _
from whisperagent.wire import Capture

__all__ = ["Block", "Host", "Signals", "Source", "choose", "process_exists"]


class Block(NamedTuple):
    """Sound of one side. side: 0 agent, 1 caller. pcm: int16 mono 16 kHz, little-endian.

    at: the host's clock at the first sample.
    """

    side: int
    pcm: bytes
    at: float


class Source(Protocol):
    """Both sides of what is heard on this PC. began: the host's clock at the first sample it can give."""

    began: float

    def read(self) -> Block | None:
        """The next block, oldest first, or None when there is nothing yet."""

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
        """Wait for `seconds` of this host's clock."""

    def signals(self) -> Signals:
        """What the softphone shows now."""

    def open(self) -> Source:
        """Begin to listen to both sides. raises HostUnavailable: the PC gives no sound."""

    def close(self) -> None: ...


def choose(simulate: Path | None, speed: float, home: Path) -> Host:
    """The host to record on.

    simulate: a call to play from a file instead of a softphone. speed: times real time. home: WA_HOME.
    raises HostUnavailable: this version records only simulated calls.
    """
    if simulate is None:
        raise HostUnavailable(
            _("this version does not record a real softphone yet"),
            why=_("so far it only records simulated calls, played from a file"),
            fix=_("`wa agent run --simulate CALL.wav`"),
        )
    from whisperagent.hosts.simulated import SimulatedHost

    return SimulatedHost(simulate, speed, home)


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
