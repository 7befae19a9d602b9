"""What is wrong on this PC, and how to mend it: one finding a check, in the order a call goes.

`wa doctor` prints them, bundle.py packs them. A check looks and changes nothing: no key is pinned, no folder
made, nothing recorded. What cannot be looked at (no server, no sound system) is one finding, and the checks
that hang on it are left out.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import filelock
import msgspec

from whisperagent import __version__, detect, status
from whisperagent.client import Client
from whisperagent.detect import Signals
from whisperagent.errors import ConfigError, NotAuthenticated, ServerUnreachable, WhisperError
from whisperagent.hosts import Device, Host, Listening, Way, autostart, this_pc
from whisperagent.hosts.autostart import Autostart
from whisperagent.i18n import _, ngettext
from whisperagent.keys import Keys
from whisperagent.settings import Detection, Loaded, Paths, Settings, paths, token
from whisperagent.spool import Item, Spool
from whisperagent.upload import in_words
from whisperagent.wire import ServerKey, SpoolState

Result = Literal["ok", "warning", "failed", "not here"]

ANSWER_S = 10.0
"""How long the server may take here; a person waits."""
LOOK_S = 1.5
"""How long a host may take until its first look at the softphone is done."""
LOOK_EVERY_S = 0.1
SKEW_S = 30.0
FAR_SKEW_S = 300.0
MIB = 1 << 20
HELPERS = ("titles", "processes")
"""Signals that help, and by themselves never make a call."""
UNSEEN = (WhisperError, ImportError, OSError)
"""What a look at the PC may end with."""


class Finding(msgspec.Struct, frozen=True):
    """What one check found. check: its name, for programs. why, fix: may be empty."""

    check: str
    result: Result
    what: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Answers:
    """What the server said. problem: why it gave no key. skew_s: how far its clock is ahead of ours."""

    key: ServerKey | None
    problem: WhisperError | None
    skew_s: float | None
    channel: WhisperError | None


async def examine(
    loaded: Loaded | ConfigError,
    host_of: Callable[[Settings], Listening] = this_pc,
    autostart_of: Callable[[Paths], Autostart] = autostart.this_pc,
) -> AsyncIterator[Finding]:
    """Every finding, as soon as there is one. loaded: the settings, or why they cannot be read."""
    if isinstance(loaded, ConfigError):
        yield failed("config", loaded)
        # The PC is looked at all the same; only nobody knows which server is meant.
        settings, where = Settings(), paths()
    else:
        settings, where = loaded.settings, loaded.paths
        yield config(settings, where)
        yield extension(settings)
    yield _looked("home", lambda: home(where))
    yield _looked("space", lambda: space(settings, where))
    yield _looked("agent", lambda: agent(where, datetime.now(UTC)))
    async for finding in _host(settings, host_of):
        yield finding
    yield _looked("spool", lambda: spool(where))
    if isinstance(loaded, ConfigError):
        yield Finding("server", "not here", _("the server is not asked while the settings are broken"))
    else:
        async for finding in _server(settings, where):
            yield finding
    yield _looked("autostart", lambda: at_login(autostart_of(where)))
    yield _looked("last_call", lambda: last_call(where))


def failed(check: str, problem: WhisperError) -> Finding:
    return Finding(check, "failed", problem.what, problem.why, problem.fix)


# This PC


def config(settings: Settings, where: Paths) -> Finding:
    try:
        detect.check(settings.detection, settings.accounts)
    except ConfigError as problem:
        return failed("config", problem)
    shared = where.shared / "config.toml" if where.shared is not None else None
    read = [str(path) for path in (shared, where.config) if path is not None and path.exists()]
    if not read:
        return Finding("config", "ok", _("there is no {path} yet").format(path=where.config))
    return Finding("config", "ok", _("the settings are in order: {paths}").format(paths=", ".join(read)))


def extension(settings: Settings) -> Finding:
    if own := settings.agent.extension:
        return Finding("extension", "ok", _("this is the PC of extension {extension}").format(extension=own))
    return Finding(
        "extension",
        "failed",
        _("this PC has no extension yet"),
        _("every call belongs to an extension"),
        _("`wa config set agent.extension 201`, with your own number"),
    )


def home(where: Paths) -> Finding:
    """Can the agent write where its files belong?"""
    for folder in (where.home, where.spool, *(where.spool / state for state in SpoolState), where.logs):
        there = _nearest(folder)
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as problem:
            return Finding(
                "home",
                "failed",
                _("{folder} cannot be written").format(folder=folder),
                problem.strerror or str(problem),
                _("make that place writable, or set WA_HOME to another one"),
            )
    return Finding("home", "ok", _("recordings are kept in {folder}").format(folder=where.home))


def space(settings: Settings, where: Paths) -> Finding:
    free = shutil.disk_usage(_nearest(where.home)).free // MIB
    floor = settings.recording.free_mib
    amounts = _("{free} MiB are free, {floor} are wanted").format(free=free, floor=floor)
    cure = _("free some space, or lower `free_mib` under [recording]")
    if free < floor:
        return Finding("space", "failed", _("the disk is too full to record"), amounts, cure)
    if free < 2 * floor:
        return Finding("space", "warning", _("the disk is nearly too full to record"), amounts, cure)
    return Finding("space", "ok", amounts)


def agent(where: Paths, now: datetime) -> Finding:
    """Does the agent run, and is it content?"""
    try:
        last = status.read(where.status)
    except WhisperError as problem:
        return failed("agent", problem)
    if last is not None and status.runs(last, now):
        if last.version != __version__:
            return Finding(
                "agent",
                "warning",
                _("the agent that runs is version {old}, installed is {new}").format(
                    old=last.version, new=__version__
                ),
                fix=_("end it and start it again"),
            )
        if last.paused_until is not None:
            return Finding(
                "agent",
                "warning",
                _("the agent is paused until {at:%H:%M}: calls are recorded as silence").format(
                    at=last.paused_until.astimezone()
                ),
                fix=_("`wa agent resume` records again"),
            )
        if last.error:
            return Finding("agent", "warning", _("the agent runs, with a trouble"), last.error)
        return Finding("agent", "ok", _("the agent runs, process {pid}").format(pid=last.pid))
    if _is_locked(where.lock):
        return Finding(
            "agent",
            "failed",
            _("an agent holds {path}, but it has not reported for a while").format(path=where.lock),
            fix=_("if it stays so, end that process and start the agent again"),
        )
    start = _("`wa agent run` starts it")
    if last is None:
        return Finding("agent", "warning", _("the agent has not run on this PC yet"), fix=start)
    if last.state == "stopped":
        return Finding("agent", "warning", _("the agent is stopped, so calls are not recorded"), fix=start)
    return Finding(
        "agent",
        "failed",
        _("the agent ended without saying so"),
        _("it was last seen at {at:%Y-%m-%d %H:%M:%S}").format(at=last.updated_at.astimezone()),
        _("{path} tells why; `wa agent run` starts it").format(path=where.logs),
    )


# The softphone and the sound of both sides


async def _host(settings: Settings, host_of: Callable[[Settings], Listening]) -> AsyncIterator[Finding]:
    try:
        host = host_of(settings)
    except UNSEEN as problem:
        yield _unseen("signals", problem)
        return
    try:
        try:
            finding = softphone(await look(host), settings.detection)
        except UNSEEN as problem:
            finding = _unseen("softphone", problem)
        yield finding
        yield _looked("signals", lambda: signals(host.signal_ways()))
        yield _looked("titles", lambda: titles(host.signal_ways()))
        yield _looked("microphone", lambda: microphone(host.devices(), settings.recording.microphone))
        yield _looked("caller", lambda: caller(host.caller_ways()))
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


def microphone(devices: list[Device], wanted: str) -> Finding:
    """wanted: `recording.microphone`."""
    microphones = [device for device in devices if device.kind == "microphone"]
    names = ", ".join(device.name for device in microphones)
    if not microphones:
        return Finding(
            "microphone",
            "failed",
            _("this PC has no microphone"),
            fix=_("plug in the headset, and allow this PC's programs to use the microphone"),
        )
    if wanted and not any(_is_called(device, wanted) for device in microphones):
        return Finding(
            "microphone",
            "failed",
            _("there is no microphone {name}").format(name=wanted),
            _("there are: {names}").format(names=names),
            _("`wa agent devices` lists them; choose one with `wa config set recording.microphone`"),
        )
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
    wished = (device for device in alike if _is_called(device, wanted))
    busy = (device for device in alike if device.in_use)
    default = (device for device in alike if device.default)
    return next(wished, None) or next(busy, None) or next(default, None)


def _is_called(device: Device, wanted: str) -> bool:
    return bool(wanted) and wanted.casefold() in (device.id.casefold(), device.name.casefold())


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


# What waits


def spool(where: Paths) -> Finding:
    """What the server does not have yet."""
    if not where.spool.exists():
        return Finding("spool", "ok", _("nothing waits for the server"))
    box = Spool(where.spool)
    counts = box.counts()
    waiting, overdue = counts[SpoolState.QUEUED], counts[SpoolState.OVERDUE]
    said = [
        ngettext(
            "{count} recording waits for the server", "{count} recordings wait for the server", waiting
        ).format(count=waiting)
        if waiting
        else "",
        ngettext(
            "{count} recording has waited for days", "{count} recordings have waited for days", overdue
        ).format(count=overdue)
        if overdue
        else "",
    ]
    if refused := counts[SpoolState.REJECTED]:
        said.append(
            ngettext(
                "{count} recording was refused by the server",
                "{count} recordings were refused by the server",
                refused,
            ).format(count=refused)
        )
        why = next((item.error for item in reversed(box.items([SpoolState.REJECTED])) if item.error), "")
        cure = _("`wa queue list` shows them, `wa queue retry` sends them again")
        return Finding("spool", "failed", "; ".join(filter(None, said)), why, cure)
    if overdue:
        why = next((item.error for item in box.items([SpoolState.OVERDUE]) if item.error), "")
        cure = _("they are kept and tried again; mend what is wrong with the server")
        return Finding("spool", "warning", "; ".join(filter(None, said)), why, cure)
    return Finding("spool", "ok", said[0] or _("nothing waits for the server"))


def at_login(start: Autostart) -> Finding:
    if start.installed():
        return Finding("autostart", "ok", _("the agent starts at login"))
    return Finding(
        "autostart",
        "warning",
        _("the agent does not start at login"),
        fix=_("`wa agent install` sees to it"),
    )


def last_call(where: Paths) -> Finding:
    items = Spool(where.spool).items() if where.spool.exists() else []
    if not items:
        return Finding("last_call", "not here", _("no call was recorded on this PC yet"))
    item = items[-1]
    what = _("the last call was on {at:%Y-%m-%d} at {at:%H:%M}, {seconds} s long: {state}").format(
        at=item.started_at.astimezone(), seconds=round(item.duration_s), state=_state(item)
    )
    return Finding("last_call", "ok", what)


def _state(item: Item) -> str:
    return {
        SpoolState.RECORDING: _("being recorded"),
        SpoolState.QUEUED: _("waiting"),
        SpoolState.OVERDUE: _("overdue"),
        SpoolState.REJECTED: _("refused"),
        SpoolState.DONE: _("sent"),
    }[item.state]


# The server


async def _server(settings: Settings, where: Paths) -> AsyncIterator[Finding]:
    proof = ""
    bad_token: ConfigError | None = None
    try:
        proof = token()
    except ConfigError as problem:
        bad_token = problem
    answers = await ask(settings, proof)
    yield server(settings.server.url, answers)
    if answers.key is None and not isinstance(answers.problem, NotAuthenticated):
        return
    yield clock(answers.skew_s)
    yield failed("token", bad_token) if bad_token else credential(answers, proof)
    yield key(where, settings.server.key, answers.key)
    if answers.key is not None:
        yield channel(answers.channel)


async def ask(settings: Settings, proof: str) -> Answers:
    """Ask the server for its key, then for its review channel. proof: a token, may be empty."""
    async with Client(
        settings.server.url,
        settings.agent.extension,
        proof,
        min(ANSWER_S, settings.server.timeout_s),
    ) as client:
        shown: ServerKey | None = None
        problem: WhisperError | None = None
        try:
            shown = await client.server_key()
        except WhisperError as error:
            problem = error
        ahead = client.server_clock - datetime.now(UTC) if client.server_clock else None
        unheard: WhisperError | None = None
        if shown is not None:
            try:
                await client.channel().greet(ANSWER_S)
            except WhisperError as error:
                unheard = error
    return Answers(shown, problem, None if ahead is None else ahead.total_seconds(), unheard)


def server(url: str, answers: Answers) -> Finding:
    if answers.problem is None or isinstance(answers.problem, NotAuthenticated):
        return Finding("server", "ok", _("{url} answers").format(url=url))
    return failed("server", answers.problem)


def clock(skew_s: float | None) -> Finding:
    if skew_s is None:
        return Finding("clock", "not here", _("the server does not tell what time it is"))
    if abs(skew_s) <= SKEW_S:
        return Finding("clock", "ok", _("the clocks of this PC and of the server agree"))
    apart = _duration(abs(skew_s))
    what = (
        _("this PC's clock is {time} behind the server's")
        if skew_s > 0
        else _("this PC's clock is {time} ahead of the server's")
    ).format(time=apart)
    result: Result = "failed" if abs(skew_s) > FAR_SKEW_S else "warning"
    return Finding(
        "clock",
        result,
        what,
        _("calls are listed at the wrong time"),
        _("let both set their clocks by the network (NTP)"),
    )


def credential(answers: Answers, proof: str) -> Finding:
    if answers.problem is not None:
        return failed("token", answers.problem)
    if proof:
        return Finding("token", "ok", _("the server accepts this PC's token"))
    return Finding("token", "ok", _("the server asks for no token"))


def key(where: Paths, configured: str, shown: ServerKey | None) -> Finding:
    """Is the server the one that recordings are sealed to? configured: `server.key`."""
    try:
        keys = Keys(where.home, configured)
    except ConfigError as problem:
        return failed("key", problem)
    if shown is None:
        return Finding("key", "not here", _("the server shows its key only to those it knows"))
    if not keys.pinned:
        return Finding("key", "ok", _("no key is pinned yet: the agent pins the first one it is shown"))
    try:
        keys.meet(shown)
    except WhisperError as problem:
        return failed("key", problem)
    return Finding("key", "ok", _("the server shows the pinned key, {kid}").format(kid=shown.kid))


def channel(problem: WhisperError | None) -> Finding:
    if problem is None:
        return Finding("channel", "ok", _("the server tells when a transcript is ready"))
    result: Result = "failed" if isinstance(problem, NotAuthenticated | ServerUnreachable) else "warning"
    return Finding(
        "channel",
        result,
        _("nobody is told when a transcript is ready; calls are sent all the same"),
        in_words(problem),
        problem.fix or _("a proxy before the server must let websockets through"),
    )


# What several checks need


def _looked(check: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except UNSEEN as problem:
        return _unseen(check, problem)


def _unseen(check: str, problem: WhisperError | ImportError | OSError) -> Finding:
    """A look that cannot be taken is a finding of its own."""
    if isinstance(problem, WhisperError):
        return failed(check, problem)
    if isinstance(problem, ImportError):
        what = _("a part that this PC needs is not installed: {module}").format(module=problem.name)
        return Finding(check, "failed", what, str(problem), _("install WhisperAgent again"))
    what = (
        _("cannot use {path}").format(path=problem.filename)
        if problem.filename
        else _("the system refused to go on")
    )
    return Finding(check, "failed", what, problem.strerror or str(problem))


def _nearest(folder: Path) -> Path:
    """`folder`, or the first one above it that exists: where it would be made."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_locked(lock: Path) -> bool:
    """Does an agent hold it? Asked only where there is one, and given back at once."""
    if not lock.exists():
        return False
    probe = filelock.FileLock(lock)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    probe.release()
    return False


def _duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h`."""
    if seconds < 120:
        return _("{count} s").format(count=round(seconds))
    if seconds < 7200:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count} h").format(count=round(seconds / 3600))
