"""A PC with sound of its own, and a softphone on it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.sound import PIPEWIRE, PipeWire, PulseAudio, Softphone, Tones


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests need PulseAudio, which `scripts/test` installs."""
    if shutil.which("pulseaudio") and shutil.which("pacat"):
        return
    missing = pytest.mark.skip(reason="PulseAudio is missing: apt-get install pulseaudio pulseaudio-utils")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(missing)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Tones:
    return Tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def pulse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[PulseAudio]:
    """A sound server for this test alone, and for what it starts: PulseAudio, or what ON_BOTH says."""
    kind = getattr(request, "param", PulseAudio)
    if kind is PipeWire and not all(map(shutil.which, PIPEWIRE)):
        pytest.skip("PipeWire is missing: apt-get install pipewire wireplumber pipewire-pulse dbus")
    with tempfile.TemporaryDirectory(prefix="wa") as folder:
        server = kind(Path(folder, "pulse"))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def softphone(pulse: PulseAudio, tones: Tones, tmp_path: Path) -> Softphone:
    return Softphone(pulse, tmp_path, tones)


@pytest.fixture
def environment(pulse: PulseAudio, home: Path) -> dict[str, str]:
    """For an agent in a process of its own: extension 201, no server, quick to end a call."""
    return os.environ | {
        "WA_HOME": str(home),
        "WA_AGENT__EXTENSION": "201",
        "WA_AGENT__NOTIFY": "false",
        "WA_SERVER__URL": "http://127.0.0.1:9",
        "WA_RECORDING__FREE_MIB": "0",
        "WA_RECORDING__MIN_S": "1",
        "WA_DETECTION__END_S": "1",
        "WA_DETECTION__RESUME_S": "2",
    }
