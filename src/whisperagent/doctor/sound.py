"""The softphone, and the sound of both sides."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal

from whisperagent.detect import Signals
from whisperagent.doctor.findings import UNSEEN, Finding, failed, looked, unseen
from whisperagent.errors import WhisperError
from whisperagent.hosts import Device, Host, Listening, Way, find_named, missing_microphone
from whisperagent.i18n import _
from whisperagent.settings import Detection, Settings

LOOK_S = 1.5
"""How long a host may take until its first look at the softphone is done."""
LOOK_EVERY_S = 0.1
HELPERS = ("titles", "processes")
"""Signals that help, and by themselves never make a call."""


async def examine(settings: Settings, host_of: Callable[[Settings], Listening]) -> AsyncIterator[Finding]:
    try:
        host = host_of(settings)
    except UNSEEN as problem:
        yield unseen("signals", problem)
        return
    try:
        try:
            finding = softphone(await look(host), settings.detection)
        except UNSEEN as problem:
            finding = unseen("softphone", problem)
        yield finding
        yield looked("signals", lambda: signals(host.signal_ways()))
        yield looked("titles", lambda: titles(host.signal_ways()))
        yield looked(
            "microphone", lambda: microphone(host.devices(), settings.recording.microphone, host.problem)
        )
        yield looked("caller", lambda: caller(host.caller_ways()))
    finally:
        host.close()


async def look(host: Host) -> Signals:
    """What the softphone shows, once the host has had the time to look at it."""
    until = host.clock() + LOOK_S
    while not (seen := host.signals()).process and host.clock() < until:
        await host.sleep(LOOK_EVERY_S)
    return seen


def softphone(seen: Signals, rules: Detection) -> Finding:
    if not seen.process:
        return Finding(
            "softphone",
            "warning",
            _("no softphone runs on this PC"),
            _("looked for: {names}").format(names=", ".join(rules.processes)),
            _("start the softphone, or name its program under [detection] `processes`"),
        )
    if seen.capture:
        return Finding("softphone", "ok", _("the softphone runs, and is in a call"))
    return Finding("softphone", "ok", _("the softphone runs, and is not in a call"))


def signals(ways: list[Way]) -> Finding:
    """How a call is noticed."""
    proofs = [way for way in ways if way.name not in HELPERS]
    there = [way_words(way.name) for way in proofs if way.available]
    why = "; ".join(_because(way) for way in proofs if not way.available)
    if there:
        return Finding("signals", "ok", _("calls are noticed by {ways}").format(ways=", ".join(there)), why)
    return Finding("signals", "failed", _("calls cannot be noticed"), why, _cure(proofs))


def titles(ways: list[Way]) -> Finding:
    unseen = _("window titles cannot be read, so the other party has no name")
    for way in ways:
        if way.name == "titles" and way.available:
            return Finding("titles", "ok", _("window titles can be read, so the other party has a name"))
        if way.name == "titles":
            return Finding("titles", "not here", unseen, way.why, way.fix)
    return Finding("titles", "not here", unseen)


def microphone(devices: list[Device], wanted: str, problem: WhisperError | None = None) -> Finding:
    """wanted: `recording.microphone`. problem: the host's own, e.g. that it may not use any."""
    microphones = [device for device in devices if device.kind == "microphone"]
    names = ", ".join(device.name for device in microphones)
    if not microphones:
        return Finding(
            "microphone",
            "failed",
            _("this PC has no microphone"),
            fix=_("plug in the headset, and allow this PC's programs to use the microphone"),
        )
    if problem := problem or missing_microphone(wanted, microphones):
        return failed("microphone", problem)
    chosen = used(devices, "microphone", wanted)
    if chosen is None:
        return Finding(
            "microphone",
            "warning",
            _("no microphone is the default one"),
            _("there are: {names}").format(names=names),
            _("choose one in the system's settings, or with `wa config set recording.microphone`"),
        )
    return Finding("microphone", "ok", _("the microphone is {name}").format(name=chosen.name))


def used(devices: Iterable[Device], kind: Literal["microphone", "output"], wanted: str = "") -> Device | None:
    """The device that is recorded: the wanted one, else the softphone's, else the default one."""
    alike = [device for device in devices if device.kind == kind]
    busy = (device for device in alike if device.in_use)
    default = (device for device in alike if device.default)
    return find_named(alike, wanted) or next(busy, None) or next(default, None)


def caller(ways: list[Way]) -> Finding:
    """How the caller's side is heard, and why not in a better way."""
    for place, way in enumerate(ways):
        if way.available:
            what = _("the caller is heard by {way}").format(way=way_words(way.name))
            better = (_because(other) for other in ways[:place])
            return Finding("caller", "ok", what, "; ".join(filter(None, [way.why, *better])))
    why = "; ".join(_because(way) for way in ways)
    return Finding("caller", "failed", _("the caller's side cannot be heard"), why, _cure(ways))


def way_words(name: str) -> str:
    """A way to hear or to see, as a person reads it."""
    return {
        "streams": _("the softphone's sound streams"),
        "sessions": _("the softphone's sound sessions"),
        "microphone-in-use": _("the system's list of programs that use the microphone"),
        "hook": _("the telephone system itself"),
        "log": _("the softphone's log"),
        "process-loopback": _("the softphone's own sound"),
        "endpoint-loopback": _("all sound of the output it plays on"),
        "process-tap": _("the softphone's own sound"),
        "simulated": _("a simulated call"),
        "pulse-microphone": _("the microphone"),
        "wasapi-microphone": _("the microphone"),
        "coreaudio-microphone": _("the microphone"),
        "pulse-stream": _("the softphone's own sound"),
        "pulse-monitor": _("the monitor of the output it plays on"),
    }.get(name, name)


def _cure(ways: list[Way]) -> str:
    return next((way.fix for way in ways if way.fix and not way.available), "")


def _because(way: Way) -> str:
    if not way.why:
        return _("not by {way}").format(way=way_words(way.name))
    return _("not by {way}: {why}").format(way=way_words(way.name), why=way.why)
