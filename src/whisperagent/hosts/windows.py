"""Windows 10 and 11.

A thread looks at the softphone (win_watch.py) and keeps what it saw for `signals`; while a call is recorded
each side has a thread too (listening.py). The sound comes from wasapi.py.

The caller is heard, in this order, by what the softphone's own processes play (process loopback), by all that
the softphone's output plays (endpoint loopback), or by sox from a card's own "stereo mix". Which one it was
is in the recording's metadata; why another one was not is what `caller_ways` says.
"""

import asyncio
import math
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import chain

from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import (
    Block,
    Device,
    Happening,
    Meter,
    Way,
    find_named,
    missing_microphone,
    unheard,
)
from whisperagent.hosts.listening import Ear, Listener, Sox, clock
from whisperagent.hosts.wasapi import (
    CAPTURE,
    PROCESS_LOOPBACK_BUILD,
    RENDER,
    Com,
    Endpoint,
    Sound,
    Stream,
    allow_microphone,
    explain,
    in_words,
)
from whisperagent.hosts.win_desktop import Desktop
from whisperagent.hosts.win_watch import Snapshot, Watch
from whisperagent.i18n import _
from whisperagent.settings import Settings
from whisperagent.wire import Capture

MICROPHONE = "wasapi-microphone"
PROCESS, ENDPOINT, SOX = "process-loopback", "endpoint-loopback", "sox"
AGENT, CALLER = 0, 1
STEREO_MIX = ("stereo mix", "mixage stéréo", "what u hear", "wave out mix", "cable output")
"""What cards and virtual cables call the input that records their output."""
HEARD_S = 1.0
DEAF_LOOKS = 4
"""A process loopback that heard nothing at so many looks at a softphone that played something is deaf."""
LOWEST_DBFS = -96.0


class Deafness:
    """Notices a process loopback that hears nothing while the softphone plays.

    Windows 10 has the loopback without documenting it, so it is not taken at its word. sure: it was deaf at
    DEAF_LOOKS looks in a row at which something could be heard; from then on, until the agent starts again.
    """

    def __init__(self) -> None:
        self.sure = False
        self._seen: Snapshot | None = None
        self._looks = 0

    def look(self, now: Snapshot, sounded_at: float) -> None:
        """sounded_at: `clock()` when the loopback last heard something, at first when it was opened."""
        if now is self._seen or not now.loud:
            return
        self._seen = now
        self._looks = self._looks + 1 if clock() - sounded_at > HEARD_S else 0
        self.sure = self.sure or self._looks >= DEAF_LOOKS


class WindowsHost:
    """This PC. refused: why a way to the caller was not taken, by the way's name."""

    name = "windows"
    finished = False

    def __init__(self, settings: Settings, desktop: Desktop | None = None, com: Com | None = None) -> None:
        self.refused: dict[str, str] = {}
        self._recording = settings.recording
        self._desktop = desktop or Desktop()
        self._com = com or Com()
        self._listeners: list[Listener] = []
        self._named = ""
        self._fault: HostUnavailable | None = None
        self._watch = Watch(self._desktop, self._com, settings.detection, self._look_around)
        self._way = "unknown"
        self._alone: Stream | None = None
        self._deafness = Deafness()

    @property
    def capture(self) -> Capture:
        """Of the last call when there is none now. caller: `none` when no way to it was open."""
        return Capture(agent=MICROPHONE, caller=self._way)

    def clock(self) -> float:
        return clock()

    def utc(self, at: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=at - clock())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def signals(self) -> Signals:
        return self._watch.now.signals

    @property
    def problem(self) -> HostUnavailable | None:
        lost = (unheard(side, listener.problem) for side, listener in enumerate(self._listeners))
        return self._fault or next(filter(None, lost), None)

    def open(self) -> "WindowsSource":
        """raises HostUnavailable: no microphone is plugged in, or Windows' sound cannot be reached."""
        try:
            with self._com.entered():
                found = self._find_microphone(Sound(self._com))
        except (self._com.Error, OSError) as problem:
            raise _no_sound(problem) from None
        if not found:
            raise self._no_microphone()
        self._reap()
        self._way = "unknown"
        microphone = _listener(self._com, AGENT, self._microphone, self._microphone_moved)
        caller = _listener(self._com, CALLER, self._caller, self._caller_moved)
        self._listeners = [microphone, caller]
        return WindowsSource(microphone, caller)

    def close(self) -> None:
        self._watch.close()
        self._reap()

    # For `wa doctor`, `wa agent devices` and `wa agent test`

    def devices(self) -> list[Device]:
        now = self._watch.now
        in_use = {now.microphone, now.output}
        try:
            with self._com.entered():
                sound = Sound(self._com)
                defaults = {sound.default(CAPTURE), sound.default(RENDER)}
                return [
                    Device(
                        id=endpoint.id,
                        name=endpoint.name,
                        kind="microphone" if endpoint.flow == CAPTURE else "output",
                        default=endpoint.id in defaults,
                        in_use=endpoint.id in in_use,
                    )
                    for endpoint in sound.endpoints()
                ]
        except (self._com.Error, OSError) as problem:
            raise _no_sound(problem) from None

    def caller_ways(self) -> list[Way]:
        """Each is tried; a process loopback on ourselves, who play nothing."""
        with self._com.entered():
            sound = Sound(self._com)
            return [self._process_way(sound), self._endpoint_way(sound), self._sox_way(sound)]

    def signal_ways(self) -> list[Way]:
        problem = ""
        try:
            with self._com.entered():
                Sound(self._com).sessions()
        except (self._com.Error, OSError) as refused:
            problem = in_words(refused)
        users = self._desktop.microphone_users()
        return [
            Way("streams", not problem, problem, _("start the service `Windows Audio`") if problem else ""),
            Way("titles", True),
            Way(
                "microphone-in-use",
                users is not None,
                "" if users is not None else _("Windows keeps no list"),
            ),
        ]

    def meter(self) -> Meter:
        return WindowsMeter(self._com, self.devices())

    # Where to listen

    def _find_microphone(self, sound: Sound) -> str:
        """The endpoint that the settings name, else the softphone's, else the default one."""
        if wanted := self._recording.microphone:
            named = find_named(_microphones(sound), wanted)
            self._named = named.id if named is not None else ""
        return self._named or self._watch.now.microphone or sound.default(CAPTURE)

    def _look_around(self) -> None:
        """May a microphone be used, and is the one that the settings name there? In the watch's thread."""
        if switch := self._desktop.microphone_denied():
            self._fault = HostUnavailable(
                _("Windows does not let this program use the microphone"),
                why=_("its privacy setting `{switch}` is off").format(switch=switch),
                fix=allow_microphone(),
            )
            return
        wanted = self._recording.microphone
        try:
            there = _microphones(Sound(self._com)) if wanted else []
        except (self._com.Error, OSError) as problem:
            self._fault = _no_sound(problem)
            return
        named = find_named(there, wanted)
        self._named = named.id if named is not None else ""
        self._fault = missing_microphone(wanted, there)

    def _no_microphone(self) -> HostUnavailable:
        return HostUnavailable(
            _("there is no microphone"),
            why=_("Windows has no recording device that is plugged in and enabled"),
            fix=_("plug in the headset, or enable it in Windows' sound settings"),
        )

    def _microphone(self, sound: Sound) -> Ear:
        if not (found := self._find_microphone(sound)):
            raise self._no_microphone()
        return Ear(MICROPHONE, found, _named(sound, found), sound.microphone(found), steady=True)

    def _microphone_moved(self, ear: Ear) -> bool:
        wanted = self._named or self._watch.now.microphone
        return bool(wanted) and wanted != ear.target

    def _caller(self, sound: Sound) -> Ear:
        """The first way that works, of those that the settings allow."""
        ways: dict[str, Callable[[Sound], Ear]] = {
            PROCESS: self._by_process,
            ENDPOINT: self._by_endpoint,
            SOX: self._by_sox,
        }
        only = {"process": PROCESS, "endpoint": ENDPOINT, "sox": SOX}.get(self._recording.caller)
        for name, open_ear in ways.items():
            if only and name != only:
                continue
            try:
                ear = open_ear(sound)
            except HostUnavailable as problem:
                self.refused[name] = problem.why or problem.what
            except (self._com.Error, OSError) as problem:
                self.refused[name] = in_words(problem)
            else:
                self.refused.pop(name, None)
                self._way = name
                return ear
        self._way = self._way if self._way != "unknown" else "none"
        raise HostUnavailable(
            _("the caller cannot be heard"),
            why="; ".join(f"{name}: {why}" for name, why in self.refused.items()),
            fix=_("`wa doctor` says what to do"),
        )

    def _caller_moved(self, ear: Ear) -> bool:
        now = self._watch.now
        if ear.way == PROCESS:
            if self._recording.caller == "auto" and self._alone is not None:
                self._deafness.look(now, self._alone.sounded_at)
            return self._deafness.sure or (bool(now.root) and str(now.root) != ear.target)
        return ear.way == ENDPOINT and bool(now.output) and now.output != ear.target

    def _by_process(self, sound: Sound) -> Ear:
        self._check_build()
        root = self._watch.now.root
        if not root:
            raise HostUnavailable(_("the softphone does not run"))
        if self._deafness.sure:
            raise HostUnavailable(_("it heard nothing of what the softphone played"))
        self._alone = sound.process(root)
        return Ear(PROCESS, str(root), _("process {pid}").format(pid=root), self._alone)

    def _by_endpoint(self, sound: Sound) -> Ear:
        found = self._watch.now.output or sound.default(RENDER)
        if not found:
            raise HostUnavailable(
                _("there is no output"), fix=_("plug in a headset, or enable it in Windows' sound settings")
            )
        return Ear(ENDPOINT, found, _named(sound, found), sound.output(found))

    def _by_sox(self, sound: Sound) -> Ear:
        program, mix = self._sox(sound)
        return Ear(SOX, mix, mix, Sox(program, mix), steady=True)

    def _sox(self, sound: Sound) -> tuple[str, str]:
        """The program, and the input that records what the PC plays."""
        if (program := shutil.which("sox")) is None:
            raise HostUnavailable(_("sox is not installed"), fix=_("only needed where nothing else works"))
        inputs = [endpoint.name for endpoint in sound.endpoints() if endpoint.flow == CAPTURE]
        for name in inputs:
            if name.casefold().startswith(STEREO_MIX):
                return program, name
        raise HostUnavailable(
            _("no input records what the PC plays"),
            fix=_("enable `Stereo Mix` in Windows' recording devices, if the card has it"),
        )

    def _check_build(self) -> None:
        if (build := self._desktop.build()) < PROCESS_LOOPBACK_BUILD:
            raise HostUnavailable(
                _("this Windows cannot record one program alone"),
                why=_("its build is {build}, and {needed} is needed").format(
                    build=build, needed=PROCESS_LOOPBACK_BUILD
                ),
                fix=_("Windows 10 2004 or newer can"),
            )

    def _process_way(self, sound: Sound) -> Way:
        try:
            self._check_build()
            sound.process(os.getpid()).close()
        except HostUnavailable as problem:
            return Way(PROCESS, False, problem.why, problem.fix)
        except (self._com.Error, OSError) as problem:
            return Way(PROCESS, False, in_words(problem), _("Windows 11 can"))
        return Way(PROCESS, True, self.refused.get(PROCESS, ""))

    def _endpoint_way(self, sound: Sound) -> Way:
        try:
            ear = self._by_endpoint(sound)
            ear.stream.close()
        except HostUnavailable as problem:
            return Way(ENDPOINT, False, problem.what, problem.fix)
        except (self._com.Error, OSError) as problem:
            return Way(ENDPOINT, False, in_words(problem), _("plug the headset in again, or restart the PC"))
        return Way(
            ENDPOINT,
            True,
            _("all that plays on {device} is heard, not the softphone alone").format(device=ear.name),
        )

    def _sox_way(self, sound: Sound) -> Way:
        try:
            _program, mix = self._sox(sound)
        except HostUnavailable as problem:
            return Way(SOX, False, problem.what, problem.fix)
        except (self._com.Error, OSError) as problem:
            return Way(SOX, False, in_words(problem))
        return Way(SOX, True, _("all that {device} records is heard").format(device=mix))

    def _reap(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []


class WindowsSource:
    """Both sides, each from its own thread."""

    def __init__(self, *listeners: Listener) -> None:
        self.began = clock()
        self._listeners = listeners

    def read(self) -> Block | None:
        for listener in self._listeners:
            if listener.blocks:
                return listener.blocks.popleft()
        return None

    def marks(self) -> list[Happening]:
        queues = [listener.happened for listener in self._listeners]
        return sorted(chain.from_iterable([queue.popleft() for _ in range(len(queue))] for queue in queues))

    def close(self) -> None:
        for listener in self._listeners:
            listener.stop()


class WindowsMeter:
    """Every device at once: microphones by their sound, outputs by what they play."""

    def __init__(self, com: Com, devices: list[Device]) -> None:
        self._listeners = {
            device.id: _listener(com, AGENT, _at(device), lambda _ear: False) for device in devices
        }

    def read(self) -> dict[str, float]:
        levels = {}
        for device, listener in self._listeners.items():
            blocks = [listener.blocks.popleft() for _ in range(len(listener.blocks))]
            if listener.opened is not None and listener.problem is None:
                levels[device] = max((_dbfs(block.pcm) for block in blocks), default=LOWEST_DBFS)
        return levels

    def close(self) -> None:
        for listener in self._listeners.values():
            listener.stop()
        for listener in self._listeners.values():
            listener.close()


def _no_sound(problem: Exception) -> HostUnavailable:
    return HostUnavailable(
        _("Windows' sound cannot be reached"),
        why=in_words(problem),
        fix=_("start the service `Windows Audio`"),
    )


def _listener(com: Com, side: int, ear: Callable[[Sound], Ear], moved: Callable[[Ear], bool]) -> Listener:
    return Listener(side, lambda: ear(Sound(com)), moved, entered=com.entered, explain=explain)


def _at(device: Device) -> Callable[[Sound], Ear]:
    def ear(sound: Sound) -> Ear:
        listen = sound.microphone if device.kind == "microphone" else sound.output
        return Ear(MICROPHONE, device.id, device.name, listen(device.id))

    return ear


def _microphones(sound: Sound) -> list[Endpoint]:
    return [endpoint for endpoint in sound.endpoints() if endpoint.flow == CAPTURE]


def _named(sound: Sound, wanted: str) -> str:
    return next((endpoint.name for endpoint in sound.endpoints() if endpoint.id == wanted), wanted)


def _dbfs(pcm: bytes) -> float:
    samples = memoryview(pcm).cast("h").tolist()
    power = sum(sample * sample for sample in samples) / max(1, len(samples))
    return round(max(LOWEST_DBFS, 10 * math.log10(power / 32768**2)), 1) if power else LOWEST_DBFS
