"""What every test has: a home of its own, English messages, and asyncio for the async ones."""

import signal
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """A shell's background jobs, and all that they start, ignore Ctrl+C; what tests start must not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty WA_HOME; nothing of the developer's settings, language or keyring leaks into a test."""
    where = tmp_path / "home"
    where.mkdir()
    monkeypatch.setenv("WA_HOME", str(where))
    monkeypatch.setenv("WA_UI__LANGUAGE", "en")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    # A reserve of disk for each home of each test would fill the disk.
    monkeypatch.setenv("WA_RECORDING__BALLAST_MIB", "0")
    for name in ("WA_CONFIG", "WA_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return where
