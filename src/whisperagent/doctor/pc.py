"""This PC: its settings, its disk, and the agent on it."""

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import filelock

from whisperagent import __version__, detect, drafting, status
from whisperagent.doctor.findings import Finding, failed
from whisperagent.errors import ConfigError, WhisperError
from whisperagent.hosts.autostart import Autostart
from whisperagent.i18n import _
from whisperagent.localkey import LocalKey
from whisperagent.settings import Offline, Paths, Settings
from whisperagent.wire import SpoolState

MIB = 1 << 20


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


def local_key(where: Paths) -> Finding:
    """Can what is recorded here be opened here, as `recording.local_key` and offline mode want?"""
    own = LocalKey(where.home)
    if own.public() is None:
        return Finding("local_key", "ok", _("the agent makes a key of this PC when it next starts"))
    if own.private() is None:
        return Finding(
            "local_key",
            "warning",
            _("calls cannot be opened on this PC; the server opens them all the same"),
            _("the system's keyring is locked, or has lost the key of this PC"),
            _("unlock it; if the key is lost, delete {path} and restart the agent").format(path=own.pub),
        )
    return Finding("local_key", "ok", _("a key of this PC opens its calls as well"))


def offline(rules: Offline) -> Finding:
    """Can this PC draft its calls?"""
    if (problem := drafting.missing() or drafting.no_model(rules.model)) is not None:
        return failed("offline", problem)
    away = (
        _("at once") if not rules.after_s else _("after {minutes:g} min").format(minutes=rules.after_s / 60)
    )
    return Finding(
        "offline",
        "ok",
        _("calls are drafted on this PC by {model} when the server is away, {away}").format(
            model=rules.model, away=away
        ),
    )


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


def at_login(start: Autostart) -> Finding:
    if start.installed():
        return Finding("autostart", "ok", _("the agent starts at login"))
    return Finding(
        "autostart",
        "warning",
        _("the agent does not start at login"),
        fix=_("`wa agent install` sees to it"),
    )


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
