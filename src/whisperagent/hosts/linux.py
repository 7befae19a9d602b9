"""Linux: PulseAudio, or PipeWire through pipewire-pulse."""

from datetime import datetime

from whisperagent.detect import Signals
from whisperagent.hosts import Device, Source
from whisperagent.settings import Settings
from whisperagent.wire import Capture


class LinuxHost:
    name = "linux"
    capture = Capture(agent="pulse-microphone", caller="pulse-monitor")
    finished = False

    def __init__(self, settings: Settings) -> None: ...

    def clock(self) -> float:
        raise NotImplementedError

    def utc(self, at: float) -> datetime:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def signals(self) -> Signals:
        raise NotImplementedError

    def open(self) -> Source:
        raise NotImplementedError

    def devices(self) -> list[Device]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
