"""The agent starts when its user logs in: what each system is told, and that telling it twice is once."""

import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest

from tests.agent.programs import Programs
from whisperagent import settings
from whisperagent.errors import HostUnavailable, WhisperError
from whisperagent.hosts import autostart
from whisperagent.hosts.autostart import LaunchAgent, RunKey, Task, Unit

AGENT = ["/opt/whisper agent/python", "-m", "whisperagent", "agent", "run", "--headless"]
TASKS = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path / "bin", monkeypatch)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of somebody else's."""
    where = tmp_path / "person"
    where.mkdir()
    monkeypatch.setenv("HOME", str(where))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return where


def unit_of(person: Path) -> Path:
    return person / ".config" / "systemd" / "user" / "whisperagent.service"


def test_systemd_is_given_a_unit_that_starts_this_very_agent(person: Path, programs: Programs) -> None:
    programs.add("systemctl")
    Unit(AGENT).install(now=False)
    text = unit_of(person).read_text("utf-8")
    assert 'ExecStart="/opt/whisper agent/python" "-m" "whisperagent" "agent" "run" "--headless"' in text
    assert "WantedBy=default.target" in text
    assert programs.asked() == [
        ["systemctl", "--user", "daemon-reload"],
        ["systemctl", "--user", "enable", "whisperagent.service"],
    ]


def test_now_starts_it_as_well(person: Path, programs: Programs) -> None:
    programs.add("systemctl")
    Unit(AGENT).install(now=True)
    assert programs.asked()[-1] == ["systemctl", "--user", "enable", "--now", "whisperagent.service"]


def test_installing_twice_is_installing_once(person: Path, programs: Programs) -> None:
    programs.add("systemctl")
    Unit(AGENT).install(now=False)
    before = unit_of(person).read_text("utf-8")
    Unit(AGENT).install(now=False)
    assert unit_of(person).read_text("utf-8") == before
    assert list(unit_of(person).parent.iterdir()) == [unit_of(person)]


def test_uninstalling_leaves_nothing_and_says_when_there_was_nothing(
    person: Path, programs: Programs
) -> None:
    programs.add("systemctl")
    Unit(AGENT).install(now=True)
    assert Unit(AGENT).uninstall() is True
    assert not unit_of(person).exists()
    assert ["systemctl", "--user", "disable", "--now", "whisperagent.service"] in programs.asked()
    assert Unit(AGENT).uninstall() is False


def test_a_home_of_its_own_goes_with_it_and_a_token_does_not(
    person: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WA_HOME", '/srv/100% "mine"/wa\\x')
    monkeypatch.setenv("WA_TOKEN", "secret")
    text = Unit(["/usr/bin/python", "$HOME"]).text
    assert 'Environment="WA_HOME=/srv/100%% \\"mine\\"/wa\\\\x"' in text
    assert 'ExecStart="/usr/bin/python" "$$HOME"' in text
    assert "secret" not in text


def test_systemd_itself_finds_nothing_wrong_with_the_unit(person: Path, tmp_path: Path) -> None:
    verify = Path("/usr/bin/systemd-analyze")
    if not verify.exists():
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / "whisperagent.service"
    unit.write_text(Unit(autostart.command()).text, "utf-8")
    done = subprocess.run(
        [verify, "--user", "verify", unit],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(person)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "whisperagent.service" not in done.stderr


def test_a_system_that_refuses_is_one_clear_error(person: Path, programs: Programs) -> None:
    programs.add("systemctl", code=1, words="Failed to connect to bus: No medium found")
    with pytest.raises(WhisperError) as error:
        Unit(AGENT).install(now=True)
    assert "systemctl --user" in error.value.what
    assert "No medium found" in error.value.why
    assert "wa agent run --headless" in error.value.fix


def test_a_system_without_systemd_is_one_clear_error(person: Path, programs: Programs) -> None:
    with pytest.raises(HostUnavailable) as error:
        Unit(AGENT).install(now=True)
    assert "systemctl" in error.value.why


def test_the_task_scheduler_is_given_a_task_at_this_persons_logon(
    programs: Programs, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERDOMAIN", "CABINET & CIE")
    monkeypatch.setenv("LOGNAME", "claire")
    program = ["C:\\Program Files\\Wa\\pythonw.exe", "-m", "whisperagent", "a b"]
    programs.add("schtasks")
    task = Task(program, home)
    task.install(now=True)
    tree = ElementTree.fromstring(task.text.partition("?>")[2])  # noqa: S314 - our own text
    found = {name: tree.findtext(f".//{TASKS}{name}") for name in ("Command", "Arguments", "UserId")}
    assert found == {
        "Command": "C:\\Program Files\\Wa\\pythonw.exe",
        "Arguments": '-m whisperagent "a b"',
        "UserId": "CABINET & CIE\\claire",
    }
    assert tree.findtext(f".//{TASKS}ExecutionTimeLimit") == "PT0S"
    file = str(home / "task.xml")
    assert programs.asked() == [
        ["schtasks", "/Create", "/TN", "WhisperAgent", "/XML", file, "/F"],
        ["schtasks", "/Run", "/TN", "WhisperAgent"],
    ]
    assert not (home / "task.xml").exists()


def test_a_task_is_taken_back_once(programs: Programs, home: Path) -> None:
    programs.add("schtasks")
    assert Task(AGENT, home).uninstall() is True
    assert [line[1] for line in programs.asked()] == ["/Query", "/End", "/Delete"]
    programs.add("schtasks", code=1)
    assert Task(AGENT, home).uninstall() is False


class Installed(RunKey):
    """A PC on which WhisperAgent-Setup.exe has been run."""

    def __init__(self, whose: Literal["person", "everybody"]) -> None:
        self._whose: set[Literal["person", "everybody"]] = {whose}

    def found(self) -> set[Literal["person", "everybody"]]:
        return self._whose

    def remove(self) -> None:
        self._whose = set()


def test_where_the_installer_starts_the_agent_no_task_starts_a_second_one(
    programs: Programs, home: Path
) -> None:
    programs.add("schtasks")
    task = Task(AGENT, home, Installed("person"))
    task.install(now=False)
    assert [line[1] for line in programs.asked()] == ["/Query", "/End", "/Delete"]
    assert task.installed()
    assert "Setup" in task.where
    programs.add("schtasks", code=1)
    assert task.uninstall() is True
    assert not task.installed()


def test_what_was_installed_for_everybody_is_not_one_persons_to_take_back(
    programs: Programs, home: Path
) -> None:
    programs.add("schtasks", code=1)
    with pytest.raises(WhisperError) as error:
        Task(AGENT, home, Installed("everybody")).uninstall()
    assert "everybody" in error.value.what
    assert "Task Manager" in error.value.fix


def test_a_pc_where_only_administrators_make_tasks_says_what_to_do(programs: Programs, home: Path) -> None:
    programs.add("schtasks", code=1, words="ERROR: Access is denied.")
    with pytest.raises(WhisperError) as error:
        Task(AGENT, home).install(now=False)
    assert "Access is denied" in error.value.why
    assert "WhisperAgent-Setup.exe" in error.value.fix
    assert not (home / "task.xml").exists()


def test_launchd_is_given_an_agent_that_is_started_again_when_it_fails(
    person: Path, programs: Programs, home: Path
) -> None:
    programs.add("launchctl", bootout=3)
    LaunchAgent(AGENT, home / "logs").install(now=True)
    path = person / "Library" / "LaunchAgents" / "whisperagent.agent.plist"
    given = plistlib.loads(path.read_bytes())
    assert given["ProgramArguments"] == AGENT
    assert given["KeepAlive"] == {"SuccessfulExit": False}
    assert given["EnvironmentVariables"] == {"WA_HOME": str(home)}
    assert [line[1] for line in programs.asked()] == ["bootout", "bootstrap"]
    assert LaunchAgent(AGENT, home / "logs").uninstall() is True
    assert not path.exists()


def test_the_installers_launcher_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "app" / "python" / "python.exe"
    launcher = tmp_path / "bin" / "waw.exe"
    for path in (python, launcher):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(sys, "executable", str(python))
    assert autostart.command() == [str(launcher), "agent", "run", "--headless"]
    launcher.unlink()
    assert autostart.command()[0] == str(python)
    python.with_name("pythonw.exe").touch()
    assert autostart.command()[:3] == [str(python.with_name("pythonw.exe")), "-m", "whisperagent"]


def test_wa_agent_install_and_uninstall_as_a_person_uses_them(
    person: Path, programs: Programs, home: Path
) -> None:
    programs.add("systemctl")

    def wa(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisperagent", "agent", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    shown = wa("install", "--print")
    assert shown.stdout.startswith("[Unit]\n")
    assert programs.asked() == []
    done = wa("install", "--now")
    assert done.returncode == 0, done.stderr
    assert str(unit_of(person)) in done.stderr
    assert unit_of(person).read_text("utf-8") + "\n" == shown.stdout
    assert wa("uninstall").returncode == 0
    assert "did not start by itself" in wa("uninstall").stderr
    assert autostart.this_pc(settings.paths()).uninstall() is False
