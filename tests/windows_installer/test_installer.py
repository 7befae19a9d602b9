"""WhisperAgent-Setup.exe on a Windows (wine): install, run, upgrade and uninstall, all without a person."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import whisperagent
from whisperagent import wire
from whisperserver.demo import line as lines

from .conftest import ROOT, UNINSTALL, Windows, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALL = ROOT / "src" / "whisperserver" / "demo" / "calls" / "english.wav"
RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"
Install = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def install(windows: Windows, setup_exe: Path) -> Iterator[Install]:
    """Run the installer silently."""

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        return windows.run(setup_exe, "/S", *options)

    yield run
    for folder in (windows.home, windows.drive / "ProgramData" / "WhisperAgent"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def installed(windows: Windows, install: Install) -> Windows:
    """A Windows with the agent on it, perhaps by the test before; new settings."""
    if not windows.programs.exists():
        install("/NOSTART")
    windows.wa("config", "set", "agent.extension", "201")
    return windows


def uninstall(windows: Windows, *options: str, folder: Path | None = None) -> str:
    """Gives what it said. It goes on in a copy of itself, for which nobody can wait but by looking."""
    where = folder or windows.programs
    windows.log.unlink(missing_ok=True)
    windows.run(where / "Uninstall.exe", "/S", *options)
    wait_for(lambda: not where.exists(), "the uninstaller takes away the last file")
    wait_for(lambda: "stay where" in windows.log.read_text("cp1252"), "it says so")
    return windows.log.read_text("cp1252")


def shown(windows: Windows) -> dict[str, Any]:
    return {row["key"]: row["value"] for row in json.loads(windows.wa("config", "show", "--json").stdout)}


def status(windows: Windows) -> dict[str, Any]:
    path = windows.home / "agent.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def recorded_s(windows: Windows) -> float:
    return float((status(windows).get("call") or {}).get("recorded_s", 0.0))


def unsent(windows: Windows) -> list[Path]:
    return sorted((windows.home / "spool").glob("[!d]*/*.srec"))


def test_a_silent_installation_leaves_a_working_agent_with_its_settings(
    windows: Windows, install: Install
) -> None:
    options = ("/SERVER=http://127.0.0.1:3999", "/EXTENSION=201", "/NAME=Jeanne Dœuf", "/TOKEN=secret")
    done = install("/NOSTART", *options)
    assert done.returncode == 0, done.stdout
    assert "secret" not in done.stdout

    assert windows.wa("--version").stdout.strip() == f"wa {whisperagent.__version__}"
    settings = shown(windows)
    assert settings["server.url"] == "http://127.0.0.1:3999"
    assert (settings["agent.extension"], settings["agent.name"]) == ("201", "Jeanne Dœuf")
    assert (windows.home / "token").read_text() == "secret"

    programs = r"C:\users\technician\AppData\Local\Programs\WhisperAgent"
    assert windows.registry(r"HKCU\Environment", "Path") == rf"{programs}\bin"
    assert windows.registry(rf"HKCU\{RUN}", "WhisperAgent") == (
        rf'"{programs}\bin\waw.exe" agent run --headless'
    )
    assert windows.registry(rf"HKCU\{UNINSTALL}", "DisplayVersion") == whisperagent.__version__
    assert windows.registry(rf"HKCU\{UNINSTALL}", "InstallLocation") == programs


def test_doctor_speaks_on_windows(installed: Windows) -> None:
    # The sound library below wine may complain first.
    said = installed.wa("doctor", "--json").stdout
    checks = {check["check"]: check["result"] for check in json.loads(said[said.index("[\r\n") :])}
    assert (checks["config"], checks["extension"], checks["home"]) == ("ok", "ok", "ok")


def test_wa_passes_its_arguments_and_the_exit_code(installed: Windows) -> None:
    name = r'D\'Œuvre "the \"one\"" 100%'
    assert installed.wa("config", "set", "agent.name", name).returncode == 0
    assert shown(installed)["agent.name"] == name
    assert installed.wa("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("/SERVER=nonsense", "wrong value for `server.url`"),
        ("/SERVR=http://127.0.0.1:3002", "there is no option `SERVR`"),
        ("/CODE=1234", "does not enrol a PC by a code yet"),
        ("/TOKEN=two words", "a token has no spaces"),
    ],
)
def test_a_wrong_option_is_one_clear_error_and_changes_nothing(
    installed: Windows, install: Install, option: str, words: str
) -> None:
    before = (installed.home / "config.toml").read_text()
    done = install("/NOSTART", "/NAME=New", option)
    assert done.returncode == 2
    assert done.stdout.count(words) == 1
    assert (installed.home / "config.toml").read_text() == before
    assert sorted(path.name for path in installed.programs.iterdir()) == ["Uninstall.exe", "app", "bin"]


def test_a_call_that_the_installed_agent_plays_is_on_the_server(installed: Windows, tmp_path: Path) -> None:
    with lines.line(tmp_path / "line") as line:
        line.start_server()
        installed.wa("config", "set", "server.url", line.url)
        play = ("--once", "--simulate", installed.path(CALL), "--speed", "8")
        done = installed.wa("agent", "run", "--headless", "--json", *play)
        assert done.returncode == 0, done.stdout
        asked = httpx.get(f"{line.url}{wire.CALLS}", headers={wire.EXTENSION_HEADER: "201"})
        [call] = asked.json()["items"]
    moments = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
    assert [moment["call_id"] for moment in moments if moment["event"] == "uploaded"] == [call["call_id"]]
    assert call["extension"] == "201"


def test_an_upgrade_and_an_uninstall_while_a_call_is_recorded_lose_nothing(
    installed: Windows, install: Install
) -> None:
    windows = installed
    windows.wa("config", "set", "server.url", "http://127.0.0.1:9")
    play = ("agent", "run", "--headless", "--simulate", windows.path(CALL))
    windows.start(windows.programs / "bin" / "waw.exe", *play)
    wait_for(lambda: recorded_s(windows) > 3, "the agent records")
    before = status(windows)

    done = install("/NOSTART")
    assert done.returncode == 0, done.stdout
    # Its own end, not ours: the recording was closed and queued.
    assert [path.parent.name for path in unsent(windows)] == ["queued"]
    wait_for(lambda: status(windows)["started_at"] != before["started_at"], "it starts again")
    assert status(windows)["version"] == whisperagent.__version__
    wait_for(lambda: recorded_s(windows) > 3, "it records on")

    in_place = f"_?={windows.path(windows.programs)}"
    refused = windows.run(windows.programs / "Uninstall.exe", "/S", "/PURGE", in_place)
    assert refused.returncode == 5
    assert "not sent yet" in refused.stdout
    assert windows.wa("config", "path").stdout.strip() == windows.path(windows.home / "config.toml")

    queued = {path for path in unsent(windows) if path.parent.name == "queued"}
    assert len(queued) == 2
    assert "stay in" in uninstall(windows)
    assert queued <= set(unsent(windows))
    assert "201" in (windows.home / "config.toml").read_text()


def test_an_uninstall_takes_away_all_that_was_put_there(windows: Windows, install: Install) -> None:
    windows.quietly("wine", "reg", "add", r"HKCU\Environment", "/v", "Path", "/d", r"C:\other", "/f")
    install("/NOSTART", "/EXTENSION=201")
    uninstall(windows, "/PURGE")
    assert not windows.home.exists()
    assert windows.registry(r"HKCU\Environment", "Path") == r"C:\other"
    assert windows.registry(rf"HKCU\{RUN}", "WhisperAgent") is None
    assert windows.registry(rf"HKCU\{UNINSTALL}", "DisplayVersion") is None


def test_for_everybody_on_a_pc_the_settings_are_where_all_read_them(
    windows: Windows, install: Install
) -> None:
    done = install("/ALLUSERS", "/SERVER=http://127.0.0.1:3999", "/TOKEN=secret")
    assert done.returncode == 0, done.stdout
    programs = windows.drive / "Program Files" / "WhisperAgent"
    rows = json.loads(windows.run(programs / "bin" / "wa.exe", "config", "show", "--json").stdout)
    [url] = [row for row in rows if row["key"] == "server.url"]
    assert (url["value"], url["source"]) == (
        "http://127.0.0.1:3999",
        r"C:\ProgramData\WhisperAgent\config.toml",
    )
    assert (windows.drive / "ProgramData" / "WhisperAgent" / "token").read_text() == "secret"
    assert windows.registry(rf"HKLM\{UNINSTALL}", "InstallLocation") == r"C:\Program Files\WhisperAgent"
    assert windows.registry(rf"HKLM\{RUN}", "WhisperAgent") is not None

    # An upgrade by hand, without the option, is one of that installation.
    assert install("/NOSTART").returncode == 0
    assert not windows.programs.exists()
    uninstall(windows, folder=programs)
    assert windows.registry(rf"HKLM\{RUN}", "WhisperAgent") is None
