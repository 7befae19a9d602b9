"""Linux: the softphone's streams on PulseAudio or PipeWire, its windows on X11, both sides' sound.

The streams are the proof of a call; they are seen by the name of the program that they belong to. Nothing is
opened between calls. The microphone is the one that the softphone records from, unless the settings name
another; the caller is what the softphone plays, wherever it plays.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Device, Meter, Source, Way, find_named, missing_microphone
from whisperagent.hosts.programs import Names, Programs
from whisperagent.hosts.pulse import Snapshot, SoundServer, Stream
from whisperagent.hosts.pulserecord import PulseMeter, PulseSource, Target
from whisperagent.i18n import _
from whisperagent.settings import Settings
from whisperagent.wire import Capture

CLOSING_S = 0.3
"""A softphone that hangs up closes one stream after the other within this; a hold lasts longer."""


class LinuxHost:
    """This PC. raises HostUnavailable: no sound server, one that refuses us, or not its library."""

    name = "linux"
    finished = False

    def __init__(self, settings: Settings) -> None:
        self._wanted_name = settings.recording.microphone
        self._caller = settings.recording.caller
        self.capture = Capture(agent="pulse-microphone", caller=self.caller_ways()[0].name)
        self._phones = Names(settings.detection.processes)
        self._browsers = Names(settings.detection.browsers if settings.detection.pbx else ())
        self._microphone = ""
        self._source: PulseSource | None = None
        self._shown = (False, False)
        self._captured_at = -CLOSING_S
        self._wake: Callable[[], object] = lambda: None
        self._programs = Programs(self._phones, self._browsers)
        try:
            self._server = SoundServer(self._streams_changed)
        except HostUnavailable:
            self._programs.close()
            raise

    def clock(self) -> float:
        return time.monotonic()

    def utc(self, at: float) -> datetime:
        return datetime.fromtimestamp(time.time() - time.monotonic() + at, UTC)

    async def sleep(self, seconds: float) -> None:
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(changed.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()

    def signals(self) -> Signals:
        streams, browser = self._streams(self._server.now)
        capture, render = _active(streams)
        now = self.clock()
        if capture:
            self._captured_at = now
        capture = capture or (render and now - self._captured_at < CLOSING_S)
        running = self._programs.now[browser]
        return Signals(
            process=bool(streams or running.pids),
            capture=capture,
            render=render,
            titles=running.titles,
            browser=browser,
        )

    @property
    def problem(self) -> HostUnavailable | None:
        if not (seen := self._server.now).connected:
            return self._server.problem
        if self._source is not None and (unheard := self._source.problem) is not None:
            return unheard
        microphones = [device for device in seen.devices if device.capture]
        return missing_microphone(self._wanted_name, microphones)

    def open(self) -> Source:
        self._check_server()
        self._microphone = ""
        self._source = PulseSource(self._wanted, lambda: self._server.now, self._heard)
        return self._source

    def devices(self) -> list[Device]:
        self._check_server()
        seen = self._server.now
        used = {stream.source for stream in self._streams(seen)[0] if stream.active}
        return [
            Device(
                device.id,
                device.name,
                "microphone" if device.capture else "output",
                device.default,
                device.source in used,
            )
            for device in seen.devices
        ]

    def caller_ways(self) -> list[Way]:
        if self._caller == "endpoint":
            return [Way("pulse-monitor", True, _("all that this output plays is recorded"))]
        stream = Way("pulse-stream", True)
        if self._caller == "process":
            return [stream]
        return [stream, Way("pulse-monitor", True, _("for a softphone that plays several streams at once"))]

    def signal_ways(self) -> list[Way]:
        wayland = bool(os.environ.get("WAYLAND_DISPLAY"))
        if self._programs.display:
            titles = Way("titles", True, _("of programs that use X11 only") if wayland else "")
        elif wayland:
            titles = Way("titles", False, _("Wayland shows no program the windows of another"))
        else:
            titles = Way("titles", False, _("there is no X11 display"))
        problem = self._server.problem
        return [
            Way("streams", problem is None, problem.what if problem else "", problem.fix if problem else ""),
            Way("processes", True),
            titles,
        ]

    def meter(self) -> Meter:
        self._check_server()
        return PulseMeter(lambda: self._server.now)

    def close(self) -> None:
        self._server.close()
        self._programs.close()

    def _check_server(self) -> None:
        if (lost := self._server.problem) is not None:
            raise lost

    def _streams_changed(self, seen: Snapshot) -> None:
        """Called in the thread of the sound server."""
        streams, _browser = self._streams(seen)
        shown = _active(streams)
        if shown != self._shown:
            self._shown = shown
            self._programs.look_again()
            # The agent's loop may have ended.
            with contextlib.suppress(RuntimeError):
                self._wake()

    def _streams(self, seen: Snapshot) -> tuple[list[Stream], bool]:
        """The softphone's; or else, where there is only the web client, the browser's and True."""
        phone = [stream for stream in seen.streams if self._phones.fit(stream.names)]
        if phone:
            return phone, False
        web = [stream for stream in seen.streams if self._browsers.fit(stream.names)]
        phones, browsers = self._programs.now
        return web, bool(web or (browsers.pids and not phones.pids))

    def _wanted(self) -> tuple[Target | None, Target | None]:
        """What each side should record now."""
        seen = self._server.now
        streams, _browser = self._streams(seen)
        return self._wanted_microphone(seen, streams), self._wanted_caller(streams)

    def _wanted_microphone(self, seen: Snapshot, streams: list[Stream]) -> Target | None:
        used = [stream.source for stream in streams if stream.capture]
        if named := find_named((one for one in seen.devices if one.capture), self._wanted_name):
            self._microphone = named.source
        elif used:
            self._microphone = used[-1]
        elif seen.device(self._microphone) is None:
            # While it is on hold the softphone lets go of the microphone: the same one is kept.
            self._microphone = next(
                (device.source for device in seen.devices if device.capture and device.default), ""
            )
        return Target(self._microphone) if self._microphone else None

    def _wanted_caller(self, streams: list[Stream]) -> Target | None:
        """Nothing while the softphone plays nothing: what else sounds is not the call."""
        playing = [stream for stream in streams if not stream.capture and stream.active]
        if not playing:
            return None
        newest = playing[-1]
        if self._caller == "process":
            return Target(newest.source, newest.index)
        # Of several streams, as in a conference, only their output has the sum.
        alone = self._caller != "endpoint" and len(playing) == 1
        return Target(newest.source, newest.index if alone else None, or_all=True)

    def _heard(self, caller: Target) -> None:
        self.capture = Capture(
            agent=self.capture.agent,
            caller="pulse-monitor" if caller.stream is None else "pulse-stream",
        )


def _active(streams: list[Stream]) -> tuple[bool, bool]:
    """Does any record, does any play?"""
    active = [stream.capture for stream in streams if stream.active]
    return True in active, False in active
