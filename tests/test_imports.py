"""What each command may load: held by the set of modules, because time depends on the machine."""

import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import whisperagent
from whisperagent.wire import AgentStatus

HEAVY = {
    "aiohttp",
    "anyio",
    "asyncio",
    "cryptography",
    "faster_whisper",
    "httpx",
    "keyring",
    "litestar",
    "numpy",
    "platformdirs",
    "pydantic",
    "rich",
    "sounddevice",
    "sqlalchemy",
    "textual",
    "tomlkit",
    "uvicorn",
    "websockets",
}
"""Beyond 150 ms together, and most of them each by itself a tenth of that or more."""

RUN = """
import sys
sys.argv = ["wa", *{arguments!r}]
from whisperagent.cli import main
try:
    main()
except SystemExit:
    pass
print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""

Loads = Callable[..., set[str]]


@pytest.fixture
def loads(home: Path) -> Loads:
    """The packages that `wa` with these arguments has loaded when it ends."""

    def run(*arguments: str) -> set[str]:
        program = [sys.executable, "-c", RUN.format(arguments=arguments)]
        done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
        return set(done.stderr.splitlines()[-1].split())

    return run


@pytest.fixture
def running(home: Path) -> None:
    """An agent that says it runs."""
    now = datetime.now(UTC)
    status = AgentStatus(
        pid=os.getpid(),
        version=whisperagent.__version__,
        state="idle",
        started_at=now,
        updated_at=now,
        extension="201",
        host="simulated",
        server_url="http://127.0.0.1:3002",
    )
    (home / "agent.json").write_bytes(msgspec.json.encode(status))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("agent", "--help"),
        ("agent", "status"),
        ("agent", "status", "--json"),
        ("config", "path"),
        ("config", "show"),
        ("qeue",),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("running")
def test_a_quick_command_loads_nothing_heavy(loads: Loads, arguments: tuple[str, ...]) -> None:
    loaded = loads(*arguments)
    assert {"whisperagent", "typer"} <= loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("arguments", [("agent", "status"), ("config", "show")], ids=" ".join)
def test_the_agents_commands_do_not_look_at_the_server(loads: Loads, arguments: tuple[str, ...]) -> None:
    assert "whisperserver" not in loads(*arguments)


WITHOUT_SERVER = """
import sys
for package in ("advanced_alchemy", "av", "faster_whisper", "litestar", "numpy", "sqlalchemy", "uvicorn"):
    sys.modules[package] = None
"""
"""Imports of what the server's extra brings fail, as on a PC that has not got it."""


def without_server(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_SERVER + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_agent_works_where_no_server_is_installed() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(whisperagent.__path__, "whisperagent.")
        if not module.name.endswith("__main__")
    ]
    assert "whisperagent.cli.config" in names
    done = without_server(f"""
import importlib, json
sys.modules["whisperserver"] = None
json.dump([importlib.import_module(name).__name__ for name in {names!r}], sys.stdout)
""")
    assert done.stderr == ""
    assert json.loads(done.stdout) == names


def test_the_help_is_whole_where_no_server_is_installed(home: Path) -> None:
    done = without_server(RUN.format(arguments=("--help",)))
    assert "server" in done.stdout.partition("Commands:")[2].split()


def test_a_command_of_the_server_says_what_to_install(home: Path) -> None:
    done = without_server(RUN.format(arguments=("server", "serve")))
    assert "wa: error: " in done.stderr
    assert 'pip install "whisperagent[server]"' in done.stderr
    assert "Traceback" not in done.stderr
