"""A home with settings, a call to play, a server to send to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.fake_server import FakeServer
from tests.agent.fakes import noise_call
from whisperagent import settings


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Not started yet: a test that needs it up says `server.start()`."""
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of a call."""
    return noise_call(tmp_path_factory.mktemp("calls") / "call.wav", 8)


@pytest.fixture
def loaded(home: Path, server: FakeServer) -> Callable[..., settings.Loaded]:
    """The settings of a PC of extension 201, quick to retry; more as `loaded({"upload.keep_days": 1})`."""

    def load(more: dict[str, Any] | None = None) -> settings.Loaded:
        return settings.load(
            {
                "agent.extension": "201",
                "server.url": server.url,
                "recording.free_mib": 0,
                "upload.retry_s": 0.2,
                "upload.retry_max_s": 0.5,
                "detection.resume_s": 2.0,
                "detection.end_s": 1.0,
                **(more or {}),
            }
        )

    return load


@pytest.fixture
def environment(home: Path, server: FakeServer) -> dict[str, str]:
    """The same for an agent in a process of its own."""
    import os

    return os.environ | {
        "WA_HOME": str(home),
        "WA_AGENT__EXTENSION": "201",
        "WA_SERVER__URL": server.url,
        "WA_RECORDING__FREE_MIB": "0",
        "WA_UPLOAD__RETRY_S": "0.2",
        "WA_UPLOAD__RETRY_MAX_S": "0.5",
        "WA_DETECTION__RESUME_S": "2",
        "WA_DETECTION__END_S": "1",
    }


def read_status(home: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((home / "agent.json").read_bytes())
    return status
