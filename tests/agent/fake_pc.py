"""A PC with devices: what `wa doctor`, `wa agent devices` and `wa agent test` look at."""

from tests.agent.fakes import READY, Script, ScriptedHost
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Device, Way

HEADSET_MICROPHONE = Device("in-1", "Headset microphone", "microphone", default=True, in_use=False)
WEBCAM = Device("in-2", "Webcam", "microphone", default=False, in_use=False)
HEADSET = Device("out-1", "Headset", "output", default=True, in_use=False)
LOUDSPEAKER = Device("out-2", "Loudspeaker", "output", default=False, in_use=False)


class FakePc(ScriptedHost):
    """levels: what its meter says. broken: why nothing can be seen of its sound."""

    def __init__(self, script: Script | None = None, *, side_missing: int | None = None) -> None:
        super().__init__(script or [(60.0, READY)], side_missing=side_missing)
        self.has = [HEADSET_MICROPHONE, WEBCAM, HEADSET, LOUDSPEAKER]
        self.hears = [Way("process-loopback", False, "it needs Windows 11"), Way("endpoint-loopback", True)]
        self.sees = [Way("streams", True), Way("titles", True)]
        self.levels = {"in-1": -30.0, "out-1": -96.0}
        self.broken: HostUnavailable | None = None
        self.closed = False

    def devices(self) -> list[Device]:
        if self.broken is not None:
            raise self.broken
        return self.has

    def caller_ways(self) -> list[Way]:
        return self.hears

    def signal_ways(self) -> list[Way]:
        return self.sees

    def meter(self) -> "FakeMeter":
        return FakeMeter(self.levels)

    def close(self) -> None:
        self.closed = True


class FakeAutostart:
    text = where = ""

    def __init__(self, *, installed: bool = True) -> None:
        self._installed = installed

    def install(self, *, now: bool) -> None:
        self._installed = True

    def installed(self) -> bool:
        return self._installed

    def uninstall(self) -> bool:
        self._installed = False
        return True


class FakeMeter:
    def __init__(self, levels: dict[str, float]) -> None:
        self._levels = levels

    def read(self) -> dict[str, float]:
        return self._levels

    def close(self) -> None:
        """Nothing to let go of."""
