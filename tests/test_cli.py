"""`wa` as a person and a script meet it: one clear error each, the right exit code, never a traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import whisperagent

Wa = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def wa(home: Path) -> Wa:
    """Run `wa` with `arguments`; more: variables of its environment, and `stdin`."""

    def run(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "whisperagent", *arguments],
            env=os.environ | {"PYTHONUTF8": "1", "COLUMNS": "100"} | more,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )

    return run


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """It ended with one error that says `words`, and nothing on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("wa: error: ") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_the_version_is_one_line(wa: Wa) -> None:
    done = wa("--version")
    assert (done.returncode, done.stdout) == (0, f"wa {whisperagent.__version__}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_lists_every_command(wa: Wa, flag: str) -> None:
    done = wa(flag)
    assert (done.returncode, done.stderr) == (0, "")
    commands = done.stdout.partition("Commands:")[2].split("\n")
    listed = [line.split()[0] for line in commands if line.startswith("  ") and line[2] != " "]
    assert listed == ["agent", "queue", "review", "doctor", "config", "server", "transcribe", "demo"]


@pytest.mark.parametrize(
    "group",
    ["", "agent", "queue", "config", "server", "server model", "server standin"],
    ids=lambda it: it or "wa",
)
def test_what_a_command_does_is_said_whole_in_the_list_of_80_columns(wa: Wa, group: str) -> None:
    commands = wa(*group.split(), "--help", COLUMNS="80").stdout.partition("Commands:")[2]
    assert commands.strip()
    assert "..." not in commands


@pytest.mark.parametrize("command", ["agent", "queue", "config"])
def test_a_group_without_a_command_shows_its_help_and_fails(wa: Wa, command: str) -> None:
    done = wa(command)
    assert done.returncode == 2
    assert "Usage: wa " + command in done.stderr
    assert "Commands:" in done.stderr


def test_without_a_terminal_wa_alone_shows_the_help_and_fails(wa: Wa) -> None:
    done = wa()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: wa" in done.stderr


# Mistakes on the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["qeue"], ["`wa qeue`", "did you mean `wa queue`?"]),
        (["sever"], ["did you mean `wa server`?"]),
        (["zzzz"], ["`wa zzzz`", "`wa --help`"]),
        (["config", "shwo"], ["shwo", "show"]),
        (["agent", "run", "--headles"], ["`--headles`", "`--headless`"]),
        (["config", "path", "--zzzz"], ["`--zzzz`", "`wa config path --help`"]),
        (["config", "set"], ["KEY", "`wa config set --help`"]),
        (["config", "set", "ui.theme"], ["VALUE"]),
        (["agent", "run", "--speed", "fast"], ["--speed", "fast"]),
        (["--color", "pink", "config", "path"], ["--color", "pink", "never"]),
    ],
)
def test_a_mistyped_command_line_is_one_error_with_a_way_out(
    wa: Wa, arguments: list[str], words: list[str]
) -> None:
    refused(wa(*arguments), *words)


# Mistakes in the settings


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[upload\n", ["config.toml", "line 1"]),
        ("[upload]\nretrys = 1\n", ["upload.retrys", "upload.retry_s"]),
        ("[upload]\nretry_s = 'soon'\n", ["upload.retry_s", "float", "config.toml"]),
        ("[server]\nurl = 'call-server'\n", ["server.url", "http://192.168.1.100:3002"]),
    ],
)
@pytest.mark.parametrize("command", [["config", "show"], ["agent", "status"]])
def test_a_mistake_in_the_file_is_one_error(
    wa: Wa, home: Path, command: list[str], content: str, words: list[str]
) -> None:
    (home / "config.toml").write_text(content)
    refused(wa(*command), *words)


def test_a_mistake_in_the_environment_is_one_error(wa: Wa) -> None:
    refused(wa("config", "show", WA_SERVE__PORT="many"), "serve.port", "WA_SERVE__PORT")
    refused(wa("config", "show", WA_SERV__PORT="1"), "WA_SERV__PORT", "`WA_SERVE__PORT`")
    refused(wa("config", "show", WA_UI__LANGUAGE="de"), "ui.language", "WA_UI__LANGUAGE")


@pytest.mark.parametrize(
    "command",
    [["config", "set", "ui.theme", "nord"], ["queue", "list"], ["agent", "status"], ["config", "show"]],
)
def test_a_home_that_cannot_be_is_one_error(wa: Wa, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").write_text("")
    refused(wa(*command, WA_HOME=str(tmp_path / "file" / "home")), str(tmp_path / "file"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_error(home: Path, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "whisperagent", "config", "show"],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "Exception" not in done.stderr
    assert done.stderr.count("wa: error: ") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough_is_no_error(home: Path, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "whisperagent", "config", "show"],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_debug_shows_where_an_error_comes_from(wa: Wa) -> None:
    done = wa("--debug", "config", "show", WA_SERVE__PORT="many")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "wa: error: " in done.stderr


# wa config


def test_the_path_is_data(wa: Wa, home: Path) -> None:
    assert wa("config", "path").stdout == f"{home / 'config.toml'}\n"


def test_every_setting_is_shown_with_its_value_and_its_origin(wa: Wa, home: Path) -> None:
    (home / "config.toml").write_text("[upload]\nretry_s = 60\n")
    document = json.loads(wa("config", "show", "--json", WA_UPLOAD__KEEP_DAYS="3").stdout)
    found = {entry["key"]: (entry["value"], entry["source"]) for entry in document}
    assert found["upload.retry_s"] == (60, str(home / "config.toml"))
    assert found["upload.keep_days"] == (3, "WA_UPLOAD__KEEP_DAYS")
    assert found["serve.port"] == (3002, "default")
    table = wa("config", "show").stdout
    assert all(key in table for key in found)


def test_a_setting_is_written_and_said_on_stderr(wa: Wa, home: Path) -> None:
    done = wa("config", "set", "server.url", "http://10.0.0.5:3002")
    assert (done.returncode, done.stdout) == (0, "")
    assert "server.url = http://10.0.0.5:3002" in done.stderr
    assert "http://10.0.0.5:3002" in (home / "config.toml").read_text()


def test_a_refused_setting_is_one_error_and_writes_nothing(wa: Wa, home: Path) -> None:
    refused(wa("config", "set", "upload.rety_s", "1"), "`upload.retry_s`")
    refused(wa("config", "set", "serve.port", "many"), "serve.port")
    assert list(home.iterdir()) == []


def test_a_secret_comes_from_standard_input_and_is_shown_nowhere(wa: Wa, home: Path) -> None:
    done = wa("config", "set", "tickets.client_secret", "-", stdin="canary\n")
    assert done.returncode == 0
    assert 'client_secret = "canary"' in (home / "config.toml").read_text()
    shown = [done, wa("config", "show"), wa("config", "show", "--json")]
    assert not [one for one in shown if "canary" in one.stdout + one.stderr]
    assert "***" in shown[1].stdout


def test_a_secret_on_the_command_line_is_taken_with_a_warning(wa: Wa) -> None:
    done = wa("config", "set", "serve.signing_key", "canary")
    assert done.returncode == 0
    assert "history" in done.stderr
    assert "canary" not in done.stderr


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_is_shown_for_each_shell(wa: Wa, shell: str) -> None:
    done = wa("--show-completion", shell)
    assert done.returncode == 0
    assert "_WA_COMPLETE" in done.stdout


def test_completion_is_installed_for_a_shell(wa: Wa, tmp_path: Path) -> None:
    done = wa("--install-completion", "bash", HOME=str(tmp_path))
    assert done.returncode == 0
    assert "wa.sh" in (tmp_path / ".bashrc").read_text()
    assert "_WA_COMPLETE" in (tmp_path / ".bash_completions" / "wa.sh").read_text()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("wa ", {"agent", "queue", "review", "doctor", "config", "server", "transcribe", "demo"}),
        ("wa conf", {"config"}),
        ("wa config s", {"show", "set"}),
        ("wa zzzz x", set()),
    ],
)
def test_commands_are_completed(wa: Wa, words: str, offered: set[str]) -> None:
    done = wa(_WA_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1))
    assert set(done.stdout.split()) == offered
    assert "Traceback" not in done.stderr


def test_only_wa_itself_offers_completion(wa: Wa) -> None:
    assert "--install-completion" in wa("--help").stdout
    assert "completion" not in wa("config", "--help").stdout
    assert "completion" not in wa("config", "show", "--help").stdout
