"""The agent starts when its user logs in: a systemd user unit, a task at logon, a launch agent.

Each system keeps one text of ours; `install` writes it anew, so that doing it twice changes nothing. The
agent's own lock sees to it that a second one ends at once, whoever starts it.
"""

import contextlib
import getpass
import os
import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Literal, Protocol
from xml.sax.saxutils import escape

from whisperagent.errors import HostUnavailable, WhisperError
from whisperagent.i18n import _
from whisperagent.settings import Paths

NAME = "whisperagent"
LABEL = "whisperagent.agent"
TASK = "WhisperAgent"
RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"
CARRIED = ("WA_HOME", "WA_CONFIG")
"""Where everything lies, when the person's environment says so; a secret is never written into a unit."""
TIMEOUT_S = 30.0


class Autostart(Protocol):
    """text: what the system is told. where: the place of it, for a person."""

    text: str
    where: str

    def install(self, *, now: bool) -> None:
        """Tell the system; `now` starts the agent as well. raises WhisperError: the system refuses."""

    def installed(self) -> bool:
        """Will the agent start at the next login?"""

    def uninstall(self) -> bool:
        """Take it back, and stop the agent that was started so where the system can.

        returns: was there anything?
        raises WhisperError: the system refuses, or it is not this person's to take back.
        """


def this_pc(paths: Paths) -> Autostart:
    """That of this system. raises HostUnavailable: we know none for it."""
    if sys.platform == "win32":
        return Task(command(), paths.home)
    if sys.platform == "darwin":
        return LaunchAgent(command(), paths.logs)
    if sys.platform == "linux":
        return Unit(command())
    raise HostUnavailable(
        _("the agent cannot start by itself on {system}").format(system=sys.platform),
        why=_("we know Windows, Linux and macOS"),
        fix=_("have `wa agent run --headless` started when you log in"),
    )


def command() -> list[str]:
    """The agent of this very installation, without a window."""
    python = Path(sys.executable)
    # The Windows installer puts a launcher of its own there, which starts an agent again that has failed.
    launcher = python.parents[2] / "bin" / "waw.exe" if len(python.parents) > 2 else python
    if launcher.name == "waw.exe" and launcher.exists():
        return [str(launcher), "agent", "run", "--headless"]
    windowless = python.with_name("pythonw.exe")
    program = windowless if windowless.exists() else python
    return [str(program), "-m", "whisperagent", "agent", "run", "--headless"]


class Unit:
    """systemd of the user (Linux)."""

    def __init__(self, program: list[str]) -> None:
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self._path = configuration / "systemd" / "user" / f"{NAME}.service"
        self.where = str(self._path)
        carried = [f"Environment={_quoted(f'{name}={os.environ[name]}')}" for name in _carried()]
        self.text = "\n".join(
            [
                "[Unit]",
                "Description=WhisperAgent records the calls of this PC",
                "After=pipewire-pulse.service pulseaudio.service",
                "",
                "[Service]",
                f"ExecStart={' '.join(_quoted(part, in_command=True) for part in program)}",
                *carried,
                "Restart=on-failure",
                "RestartSec=30",
                "# 2: wrong settings, which starting again does not mend. 143: it was told to stop.",
                "RestartPreventExitStatus=2",
                "SuccessExitStatus=143",
                "",
                "[Install]",
                "WantedBy=default.target",
                "",
            ]
        )

    def install(self, *, now: bool) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self.text, "utf-8")
        self._systemctl("daemon-reload")
        self._systemctl("enable", *(["--now"] if now else []), self._path.name)

    def installed(self) -> bool:
        return self._path.exists()

    def uninstall(self) -> bool:
        if not self.installed():
            return False
        self._systemctl("disable", "--now", self._path.name)
        self._path.unlink()
        self._systemctl("daemon-reload")
        return True

    def _systemctl(self, *arguments: str) -> None:
        _run(
            ["systemctl", "--user", *arguments],
            fix=_("run it in your own session, not as root; or have `wa agent run --headless` started there"),
        )


class RunKey:
    """What WhisperAgent-Setup.exe tells Windows: start it at logon, of this person or of everybody."""

    def found(self) -> set[Literal["person", "everybody"]]:
        if sys.platform != "win32":
            return set()
        import winreg

        hives: dict[Literal["person", "everybody"], int] = {
            "person": winreg.HKEY_CURRENT_USER,
            "everybody": winreg.HKEY_LOCAL_MACHINE,
        }
        found: set[Literal["person", "everybody"]] = set()
        for whose, hive in hives.items():
            with contextlib.suppress(OSError), winreg.OpenKey(hive, RUN_KEY) as key:
                winreg.QueryValueEx(key, TASK)
                found.add(whose)
        return found

    def remove(self) -> None:
        """This person's."""
        if sys.platform == "win32":
            import winreg

            access = winreg.KEY_SET_VALUE
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, RUN_KEY, access=access) as key:
                winreg.DeleteValue(key, TASK)


class Task:
    """Task Scheduler (Windows); nothing where WhisperAgent-Setup.exe has seen to it: one way is enough."""

    def __init__(self, program: list[str], folder: Path, run_key: RunKey | None = None) -> None:
        self._program = program
        self._run_key = run_key or RunKey()
        self.where = _("task {name} of the Task Scheduler").format(name=TASK)
        self._file = folder / "task.xml"
        user = "\\".join(filter(None, [os.environ.get("USERDOMAIN", ""), getpass.getuser()]))
        self.text = f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>WhisperAgent records the calls of this PC</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <UserId>{escape(user)}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{escape(user)}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>10</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(program[0])}</Command>
      <Arguments>{escape(subprocess.list2cmdline(program[1:]))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""

    def install(self, *, now: bool) -> None:
        if self._run_key.found():
            self._remove_task()
            self.where = _("by WhisperAgent-Setup.exe")
            if now:
                subprocess.Popen(self._program)
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(self.text, "utf-16")
        try:
            self._schtasks("/Create", "/TN", TASK, "/XML", str(self._file), "/F")
        finally:
            self._file.unlink()
        if now:
            self._schtasks("/Run", "/TN", TASK)

    def installed(self) -> bool:
        return self._is_a_task() or bool(self._run_key.found())

    def uninstall(self) -> bool:
        removed = self._remove_task()
        found = self._run_key.found()
        if "person" in found:
            self._run_key.remove()
            removed = True
        if "everybody" in found:
            raise WhisperError(
                _("the agent starts for everybody on this PC"),
                why=_("WhisperAgent-Setup.exe was run with /ALLUSERS"),
                fix=_("switch it off under the startup apps of the Task Manager, or ask an administrator"),
            )
        return removed

    def _remove_task(self) -> bool:
        if not self._is_a_task():
            return False
        self._schtasks("/End", "/TN", TASK)
        self._schtasks("/Delete", "/TN", TASK, "/F")
        return True

    def _is_a_task(self) -> bool:
        try:
            self._schtasks("/Query", "/TN", TASK)
        except WhisperError:
            return False
        return True

    def _schtasks(self, *arguments: str) -> None:
        _run(
            ["schtasks", *arguments],
            fix=_("some PCs let only administrators make tasks; WhisperAgent-Setup.exe needs none"),
        )


class LaunchAgent:
    """launchd (macOS)."""

    def __init__(self, program: list[str], logs: Path) -> None:
        self._path = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.where = str(self._path)
        self.text = plistlib.dumps(
            {
                "Label": LABEL,
                "ProgramArguments": program,
                "EnvironmentVariables": {name: os.environ[name] for name in _carried()},
                "RunAtLoad": True,
                "KeepAlive": {"SuccessfulExit": False},
                "ThrottleInterval": 30,
                "ProcessType": "Interactive",
                "StandardErrorPath": str(logs / "autostart.log"),
            }
        ).decode()

    def install(self, *, now: bool) -> None:
        # launchd starts what it is given at once; without `now` it finds the file at the next login.
        if now:
            self._unload()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self.text, "utf-8")
        if now:
            _run(["launchctl", "bootstrap", self._domain(), str(self._path)], fix=_("run it in your session"))

    def installed(self) -> bool:
        return self._path.exists()

    def uninstall(self) -> bool:
        if not self.installed():
            return False
        self._unload()
        self._path.unlink()
        return True

    def _unload(self) -> None:
        subprocess.run(
            ["launchctl", "bootout", f"{self._domain()}/{LABEL}"],
            check=False,  # it may not be loaded
            capture_output=True,
            timeout=TIMEOUT_S,
        )

    def _domain(self) -> str:
        return f"gui/{os.getuid() if hasattr(os, 'getuid') else 0}"


def _carried() -> list[str]:
    return [name for name in CARRIED if os.environ.get(name)]


def _quoted(text: str, *, in_command: bool = False) -> str:
    """One word of a unit, as systemd.syntax(7) and systemd.service(5) want it."""
    for special, written in (
        ("\\", "\\\\"),
        ('"', '\\"'),
        ("%", "%%"),
        *([("$", "$$")] if in_command else []),
    ):
        text = text.replace(special, written)
    return f'"{text}"'


def _run(program: list[str], *, fix: str) -> None:
    what = _("`{program}` failed").format(program=" ".join(program[:3]))
    try:
        done = subprocess.run(program, check=False, capture_output=True, timeout=TIMEOUT_S)
    except FileNotFoundError:
        raise HostUnavailable(
            what, why=_("there is no {program} on this PC").format(program=program[0]), fix=fix
        ) from None
    except subprocess.TimeoutExpired:
        raise WhisperError(what, why=_("it did not end"), fix=fix) from None
    if done.returncode:
        # Windows' own programs speak the console's code page, not UTF-8.
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise WhisperError(what, why=said.splitlines()[0] if said else str(done.returncode), fix=fix)
