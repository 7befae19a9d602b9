"""What the Windows installer asks of Python: steps.py prepare | finish | remove

    prepare  checks the options and writes them to config.toml and `token`, or changes nothing
    finish   PATH, and the start at logon
    remove   takes both away; with /PURGE also what the agent wrote, but never a recording that was not sent

installer.nsi runs it with the Python that it has just unpacked. It gives by the environment: SETUP_OPTIONS,
the installer's command line; SETUP_SERVER, SETUP_EXTENSION, SETUP_NAME, SETUP_TOKEN, what was typed on its
page, if there was one; SETUP_FOLDER, where it installs.

Exit codes: 0, 2 (an option is wrong), 5 (recordings are not sent yet), 1 (anything else).
"""

import contextlib
import ctypes
import os
import re
import shutil
import sys
import tempfile
import winreg
from collections.abc import Iterator
from pathlib import Path

from whisperagent import files, settings
from whisperagent.errors import UsageError, WhisperError
from whisperagent.hosts import autostart
from whisperagent.i18n import _, ngettext, use
from whisperagent.wire import SpoolState

SETTINGS = {"SERVER": "server.url", "EXTENSION": "agent.extension", "NAME": "agent.name"}
OTHERS = ("S", "NCRC", "D", "TOKEN", "CODE", "ALLUSERS", "NOSTART", "PURGE", "LOG")
RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"
MACHINE = r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
PROFILES = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList"
UNSENT = [state for state in SpoolState if state is not SpoolState.DONE]


class RecordingsNotSent(WhisperError):
    exit_code = 5


def main() -> int:
    use("auto")
    sys.stdout.reconfigure(errors="replace")  # the installer reads the PC's code page
    given = options(os.environ.get("SETUP_OPTIONS", ""))
    folder = Path(os.environ["SETUP_FOLDER"])
    step = {"prepare": prepare, "finish": finish, "remove": remove}[sys.argv[1]]
    try:
        check(given)
        step(given, folder)
    except WhisperError as problem:
        say("\r\n".join(filter(None, [problem.what, problem.why, problem.fix])))
        return problem.exit_code
    except OSError as problem:
        say(_("the system refused to go on") + f": {problem}")
        return 1
    return 0


def say(text: str) -> None:
    sys.stdout.write(text)


def options(line: str) -> dict[str, str]:
    """`/S /NAME="Jeanne D"` as `{"S": "", "NAME": "Jeanne D"}`; without a slash: `{"word": ""}`."""
    found: dict[str, str] = {}
    for word in re.findall(r'(?:"[^"]*"|[^\s"])+', line):
        name, _equals, value = word.replace('"', "").partition("=")
        found[name[1:].upper() if name.startswith("/") else name] = value
    for name in (*SETTINGS, "TOKEN"):
        if typed := os.environ.get(f"SETUP_{name}", "").strip():
            found[name] = typed
    return found


def check(given: dict[str, str]) -> None:
    """raises UsageError: an option that nobody knows, or that cannot be had yet."""
    for name in given:
        if name not in SETTINGS and name not in OTHERS and not name.startswith(("?", "_?")):
            raise UsageError(
                _("there is no option `{name}`").format(name=name),
                fix="/SERVER= /EXTENSION= /NAME= /TOKEN= /ALLUSERS /NOSTART /LOG= /PURGE /S /D=",
            )
    if "CODE" in given:
        raise UsageError(
            _("this version does not enrol a PC by a code yet"), fix=_("give the PC's token by /TOKEN=")
        )
    if re.search(r"[^\x21-\x7e]", given.get("TOKEN", "")):
        raise UsageError(_("a token has no spaces or accents"))


def prepare(given: dict[str, str], _folder: Path) -> None:
    """Write config.toml as `wa config set` does, for this person or for everybody on this PC."""
    where = settings.paths()
    everybody = "ALLUSERS" in given
    config = shared() / "config.toml" if everybody else where.config
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary) / "config.toml"
        if config.exists():
            shutil.copyfile(config, draft)
        for option, key in SETTINGS.items():
            if given.get(option):
                settings.write(draft, key, given[option])
        if draft.exists():
            config.parent.mkdir(parents=True, exist_ok=True)
            files.write(config, draft.read_bytes())
    if given.get("TOKEN"):
        token = (shared() if everybody else where.home) / "token"
        token.parent.mkdir(parents=True, exist_ok=True)
        files.write(token, given["TOKEN"].encode("ascii"))


def shared() -> Path:
    """Where settings for everybody are, whatever WA_HOME says."""
    return Path(os.environ["PROGRAMDATA"]) / "WhisperAgent"


def finish(given: dict[str, str], folder: Path) -> None:
    hive, _environment = places("ALLUSERS" in given)
    change_path(given, [str(folder / "bin")], [])
    with winreg.CreateKeyEx(hive, RUN) as key:
        command = f'"{folder / "bin" / "waw.exe"}" agent run --headless'
        winreg.SetValueEx(key, "WhisperAgent", 0, winreg.REG_SZ, command)


def remove(given: dict[str, str], folder: Path) -> None:
    """raises RecordingsNotSent: /PURGE was asked for, and nothing was changed."""
    hive, _environment = places("ALLUSERS" in given)
    kept = {home: count for home in homes("ALLUSERS" in given) if (count := unsent(home))}
    where = ", ".join(str(home / "spool") for home in kept)
    total = sum(kept.values())
    if "PURGE" in given and kept:
        raise RecordingsNotSent(
            ngettext(
                "{count} recording is not sent yet", "{count} recordings are not sent yet", total
            ).format(count=total),
            why=_("they are in {folder}").format(folder=where),
            fix=_("let the agent send them, or see `wa queue list`"),
        )
    change_path(given, [], [str(folder / "bin")])
    # Somebody may have switched it off.
    with winreg.CreateKeyEx(hive, RUN) as key, contextlib.suppress(FileNotFoundError):
        winreg.DeleteValue(key, "WhisperAgent")
    with contextlib.suppress(WhisperError):  # `wa agent install` makes a task, where a person asked for one
        autostart.this_pc(settings.paths()).uninstall()
    if "PURGE" in given:
        for home in [*homes("ALLUSERS" in given), *([shared()] if "ALLUSERS" in given else [])]:
            shutil.rmtree(home, ignore_errors=True)
    elif kept:
        say(
            ngettext(
                "{count} recording that is not sent yet stays in {folder}",
                "{count} recordings that are not sent yet stay in {folder}",
                total,
            ).format(count=total, folder=where)
        )


def homes(everybody: bool) -> Iterator[Path]:
    """Where agents of this installation keep their files."""
    yield settings.paths().home
    if everybody:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, PROFILES) as profiles:
            for index in range(winreg.QueryInfoKey(profiles)[0]):
                with winreg.OpenKey(profiles, winreg.EnumKey(profiles, index)) as profile:
                    root = winreg.ExpandEnvironmentStrings(
                        winreg.QueryValueEx(profile, "ProfileImagePath")[0]
                    )
                home = Path(root) / "AppData" / "Local" / "WhisperAgent"
                if home.is_dir() and home != settings.paths().home:
                    yield home


def unsent(home: Path) -> int:
    return sum(1 for state in UNSENT for _file in (home / "spool" / state).glob("*.srec"))


def places(everybody: bool) -> tuple[int, str]:
    """The registry's hive, and the key of the environment in it."""
    if everybody:
        return winreg.HKEY_LOCAL_MACHINE, MACHINE
    return winreg.HKEY_CURRENT_USER, "Environment"


def change_path(given: dict[str, str], add: list[str], drop: list[str]) -> None:
    hive, environment = places("ALLUSERS" in given)
    with winreg.CreateKeyEx(hive, environment, 0, winreg.KEY_READ | winreg.KEY_WRITE) as key:
        try:
            old, kind = winreg.QueryValueEx(key, "Path")
        except FileNotFoundError:
            old, kind = "", winreg.REG_EXPAND_SZ
        ours = {entry.lower() for entry in (*add, *drop)}
        kept = [entry for entry in old.split(";") if entry and entry.lower() not in ours]
        new = ";".join([*kept, *add])
        if new != old:
            winreg.SetValueEx(key, "Path", 0, kind, new)
    # Consoles that are opened from now on know it: HWND_BROADCAST, WM_SETTINGCHANGE, SMTO_ABORTIFHUNG.
    ctypes.windll.user32.SendMessageTimeoutW(0xFFFF, 0x1A, 0, "Environment", 2, 1000, None)


if __name__ == "__main__":
    sys.exit(main())
