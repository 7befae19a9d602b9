"""What the sound server shows: every program's streams, and the devices.

PulseAudio, or PipeWire through pipewire-pulse, by libpulse. One thread listens for the server's events and
lists anew after each, so that whoever asks gets the newest snapshot at once. A server that goes away, or is
not there yet, is looked for again and again.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whisperagent.errors import HostUnavailable
from whisperagent.hosts.libpulse import (
    ACCESS_DENIED,
    ANSWER_S,
    CLIENT,
    CONNECTION_REFUSED,
    NO_KEY,
    TIMEOUT,
    Connection,
    ServerLost,
    closed_socket,
)
from whisperagent.i18n import _

if TYPE_CHECKING:
    import pulsectl

log = logging.getLogger(__name__)

RETRY_S = (0.5, 1.0, 2.0)
"""Waits before the server is tried again; the last one from then on."""
LOOK_S = 5.0
"""Listed anew without any event as well: an event may be lost."""
SETTLE_S = 0.02
"""One change comes as several events."""
LOOK_AGAIN_S = 0.5
"""PipeWire tells of a stream that is moved before it has arrived, and of its arrival not always."""
NAMES = ("application.process.binary", "application.name", "application.id", "node.name")
"""What a stream may call its program: ALSA's plug-in and wine each say the right name in another place."""


@dataclass(frozen=True)
class Stream:
    """A program that records (capture), or plays.

    source: what to record to hear the same: its source, or the monitor of its sink. active: not paused.
    """

    index: int
    capture: bool
    source: str
    active: bool
    names: tuple[str, ...]


@dataclass(frozen=True)
class SoundDevice:
    """id: the server's name of it. source: what to record to hear it."""

    id: str
    source: str
    name: str
    capture: bool
    default: bool


@dataclass(frozen=True)
class Snapshot:
    """streams: of every program but ourselves, oldest first."""

    connected: bool = False
    streams: tuple[Stream, ...] = ()
    devices: tuple[SoundDevice, ...] = ()

    def device(self, source: str) -> SoundDevice | None:
        """The device that is heard by recording `source`, while it is there."""
        return next((device for device in self.devices if device.source == source), None)


class SoundServer:
    """Follows the sound server. now: the newest snapshot.

    changed: called in our thread with every new snapshot.
    raises HostUnavailable: libpulse is not installed; there is no server, it refuses us, or does not answer.
    """

    def __init__(self, changed: Callable[[Snapshot], None]) -> None:
        self.now = Snapshot()
        self._lost = _silent()
        self._changed = changed
        self._answered = threading.Event()
        self._closing = threading.Event()
        self._dirty = True
        self._lock = threading.Lock()
        self._listening: pulsectl.Pulse | None = None
        self._pulsectl = _library()
        self._thread = threading.Thread(target=self._follow, name="sound server", daemon=True)
        self._thread.start()
        self._answered.wait(ANSWER_S)
        if (problem := self.problem) is not None:
            self.close()
            raise problem

    @property
    def problem(self) -> HostUnavailable | None:
        """Why nothing is seen of the server now; nothing, once we do not look any more."""
        return None if self.now.connected or self._closing.is_set() else self._lost

    def close(self) -> None:
        self._closing.set()
        end = time.monotonic() + ANSWER_S
        while self._thread.is_alive() and time.monotonic() < end:
            # It may not have begun to listen yet: asked until it has heard.
            with self._lock:
                if self._listening is not None:
                    self._listening.event_listen_stop()
            self._thread.join(0.01)

    def _follow(self) -> None:
        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                # Never the one to start a server: that is the session's business.
                with self._pulsectl.Pulse(CLIENT, connect=False) as server:
                    server.connect(autospawn=False)
                    self._dirty = True
                    with self._lock:
                        self._listening = server
                    try:
                        self._listen(server)
                    finally:
                        with self._lock:
                            self._listening = None
            except Exception as problem:
                # This is a loop of the agent: whatever pulsectl raises, its private errors too, it goes on.
                words = str(problem) or type(problem).__name__
                log.debug("the sound server: %s", words)
                self._lost, self.now = _none(words), Snapshot()
                self._lost = _why_not() or self._lost
            self.now = Snapshot()
            self._tell()
            failures = failures + 1 if time.monotonic() - began < RETRY_S[-1] else 0
            self._closing.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _listen(self, server: "pulsectl.Pulse") -> None:
        def noticed(_event: object) -> None:
            self._dirty = True
            raise self._pulsectl.PulseLoopStop

        server.event_mask_set("sink", "source", "sink_input", "source_output", "server")
        server.event_callback_set(noticed)
        look_at = 0.0
        while not self._closing.is_set():
            now = time.monotonic()
            if self._dirty or now >= look_at:
                look_at = now + (LOOK_AGAIN_S if self._dirty else LOOK_S)
                # An event that comes while we list makes us list again.
                self._dirty = False
                self.now = _snapshot(server)
                self._tell()
            else:
                server.event_listen(look_at - now)
                if self._dirty:
                    self._closing.wait(SETTLE_S)

    def _tell(self) -> None:
        self._answered.set()
        self._changed(self.now)


def _why_not() -> HostUnavailable | None:
    """What pulsectl does not say of a connection that it cannot make; None: now it can be made."""
    try:
        Connection().close()
    except ServerLost as lost:
        return _in_words(lost)
    return None


def _in_words(lost: ServerLost) -> HostUnavailable:
    if lost.code == TIMEOUT:
        return _silent()
    closed = closed_socket(lost.server) if lost.code == CONNECTION_REFUSED else ""
    if closed or lost.code in (ACCESS_DENIED, NO_KEY):
        return HostUnavailable(
            _("the sound server refuses this program"),
            why=_("{place} belongs to another user").format(place=closed)
            if closed
            else _("{server} says: {words}; it is another user's, or wants another key").format(
                server=lost.server, words=lost
            ),
            fix=_(
                "run WhisperAgent as the user who is logged in, without sudo; a server on another computer "
                "wants its `~/.config/pulse/cookie` here, or PULSE_COOKIE to name a copy"
            ),
        )
    return _none(_("{server}: {words}").format(server=lost.server, words=lost) if lost.server else str(lost))


def _none(why: str) -> HostUnavailable:
    return HostUnavailable(
        _("there is no sound server"),
        why=why,
        fix=_("start PulseAudio or PipeWire (`systemctl --user start pipewire-pulse`), as this user"),
    )


def _silent() -> HostUnavailable:
    return HostUnavailable(
        _("the sound server does not answer"),
        why=_("it takes connections, and says nothing for {seconds} s").format(seconds=round(ANSWER_S)),
        fix=_("start it again: `systemctl --user restart pipewire-pulse`, or `pulseaudio --kill`"),
    )


def _library() -> Any:
    try:
        import pulsectl
    except OSError as problem:
        raise HostUnavailable(
            _("the library of the sound server is missing"),
            why=str(problem),
            fix=_("install libpulse, e.g. `apt-get install libpulse0`"),
        ) from None
    return pulsectl


def _snapshot(server: "pulsectl.Pulse") -> Snapshot:
    info = server.server_info()
    sinks, sources = server.sink_list(), server.source_list()
    heard = {sink.index: sink.monitor_source_name for sink in sinks}
    recorded = {source.index: source.name for source in sources}
    clients: dict[int, Mapping[str, str]] = {}
    streams = []
    for capture, found, places in (
        (True, server.source_output_list(), recorded),
        (False, server.sink_input_list(), heard),
    ):
        for stream in found:
            properties = stream.proplist
            if "application.process.binary" not in properties:
                # PipeWire keeps some of it with the client.
                clients = clients or {client.index: client.proplist for client in server.client_list()}
                properties = {**clients.get(stream.client, {}), **properties}
            pid = properties.get("application.process.id", "")
            place = places.get(stream.source if capture else stream.sink)
            # A stream that is being moved is nowhere for a moment; one of our own is none of anybody's.
            if place is None or pid == str(os.getpid()):
                continue
            streams.append(
                Stream(
                    index=stream.index,
                    capture=capture,
                    source=place,
                    active=not stream.corked,
                    names=tuple(properties[name] for name in NAMES if properties.get(name)),
                )
            )
    devices = [
        SoundDevice(
            source.name, source.name, source.description, True, source.name == info.default_source_name
        )
        for source in sources
        if source.name not in heard.values()
    ]
    devices += [
        SoundDevice(
            sink.name, sink.monitor_source_name, sink.description, False, sink.name == info.default_sink_name
        )
        for sink in sinks
    ]
    return Snapshot(True, tuple(sorted(streams, key=lambda stream: stream.index)), tuple(devices))
