"""What the tests of the screens have: UTC, no blinking, a fake server with calls, an app that talks to it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tui import samples
from tests.tui.fake_server import FakeServer, running
from tests.tui.pc import Pc
from whisperagent import settings
from whisperagent.tui.app import WaApp

MakeApp = Callable[..., WaApp]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on the screen moves by itself."""
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none", raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    for call in samples.all_calls():
        fake.calls[call.summary.call_id] = call
    with running(fake):
        yield fake


@pytest.fixture
def loaded(server: FakeServer) -> settings.Loaded:
    return settings.load({"server.url": server.url, "agent.extension": samples.US})


@pytest.fixture
def app(loaded: settings.Loaded) -> MakeApp:
    """`app(open_call=…, start=…)`: an application on the fake server, at a fixed time."""

    def make(**options: object) -> WaApp:
        return WaApp(loaded, now=lambda: samples.NOW, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def pc(home: Path) -> Pc:
    return Pc(home)
