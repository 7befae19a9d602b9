"""scripts/install-agent.sh: the agent in a home of its own, twice the same, and away again without a loss."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import whisperagent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="macOS has launchd, which a test cannot stand in for"),
]

SCRIPT = Path(__file__).parents[1] / "scripts" / "install-agent.sh"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where the agent is installed; `bin/systemctl` notes what it is asked."""
    person = tmp_path_factory.mktemp("person")
    systemctl = person / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$*" >>{person}/systemctl.log\n')
    systemctl.chmod(0o755)
    return person


@pytest.fixture
def run(person: Path) -> Iterator[Run]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WA_", "XDG_", "COV"))}
    environment = kept | {"HOME": str(person), "PATH": f"{person}/bin:{os.defpath}", "LANG": "C.UTF-8"}

    def script(*options: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SCRIPT, *options], env=environment, input=typed, capture_output=True, text=True, check=False
        )

    yield script
    (person / "systemctl.log").unlink(missing_ok=True)


@pytest.fixture
def installed(person: Path, run: Run) -> Path:
    if not (person / ".local/bin/wa").exists():
        done = run(
            "--server", "http://127.0.0.1:3999", "--extension", "201", "--token", "-", typed="secret\n"
        )
        assert done.returncode == 0, done.stderr
    return person


def wa(person: Path, *arguments: str) -> str:
    environment = {"HOME": str(person), "PATH": os.defpath, "WA_UI__LANGUAGE": "en"}
    program = person / ".local/bin/wa"
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_after_it_wa_runs_with_the_settings_and_starts_at_login(installed: Path, run: Run) -> None:
    assert wa(installed, "--version").strip() == f"wa {whisperagent.__version__}"
    settings = wa(installed, "config", "show")
    assert "http://127.0.0.1:3999" in settings
    token = installed / ".local/share/WhisperAgent/token"
    assert token.read_text() == "secret\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    unit = installed / ".config/systemd/user/whisperagent.service"
    assert f"{installed}/.local/share/whisperagent/bin/python" in unit.read_text()


def test_again_it_changes_what_is_asked_and_starts_the_agent_again(installed: Path, run: Run) -> None:
    done = run("--name", "Jeanne Dœuf")
    assert done.returncode == 0, done.stderr
    settings = wa(installed, "config", "show")
    assert "Jeanne Dœuf" in settings
    assert "http://127.0.0.1:3999" in settings
    asked = (installed / "systemctl.log").read_text().splitlines()
    assert asked[-1] == "--user restart whisperagent.service"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--extension", "202", "--server", "nonsense"), "wrong value for `server.url`"),
        (("--servr", "http://127.0.0.1:3002"), "there is no option --servr"),
        (("--code", "1234"), "does not enrol a PC by a code yet"),
        (("--extension",), "--extension needs a value"),
    ],
)
def test_a_wrong_option_is_one_clear_error_and_changes_no_setting(
    installed: Path, run: Run, options: tuple[str, ...], words: str
) -> None:
    config = installed / ".config/WhisperAgent/config.toml"
    before = config.read_bytes()
    done = run(*options)
    assert done.returncode == 2
    assert words in done.stderr
    assert config.read_bytes() == before


def test_uninstalling_keeps_what_is_not_sent(installed: Path, run: Run) -> None:
    recording = installed / ".local/share/WhisperAgent/spool/queued/call.1.srec"
    recording.parent.mkdir(parents=True, exist_ok=True)
    recording.write_bytes(b"sealed")
    refused = run("--uninstall", "--purge")
    assert refused.returncode == 5
    assert "1 of the recordings" in refused.stderr
    assert (installed / ".config/systemd/user/whisperagent.service").exists()
    assert (installed / ".local/bin/wa").exists()

    done = run("--uninstall")
    assert done.returncode == 0, done.stderr
    assert "1 of them are not sent yet" in done.stderr
    assert recording.exists()
    assert not (installed / ".local/bin/wa").is_symlink()
    assert not (installed / ".local/share/whisperagent").exists()
    assert not (installed / ".config/systemd/user/whisperagent.service").exists()
