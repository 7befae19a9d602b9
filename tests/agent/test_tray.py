"""The icon beside the clock: what it shows of an agent, and what its menu does."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.agent.processes import AgentProcess
from whisperagent import settings, tray
from whisperagent.settings import Paths
from whisperagent.tray import Tray, seen
from whisperagent.wire import AgentStatus, CurrentCall

NOW = datetime.now(UTC)
CALL = CurrentCall(call_id="c", started_at=NOW, state="call", recorded_s=3.0, remote_party="Ada")


def agent(**more: Any) -> AgentStatus:
    first = AgentStatus(
        pid=os.getpid(),
        version="0.1.0",
        state="idle",
        started_at=NOW,
        updated_at=datetime.now(UTC),
        extension="201",
        host="simulated",
        server_url="http://127.0.0.1:3002",
    )
    return msgspec.structs.replace(first, **more)


@pytest.fixture
def paths(home: Path) -> Paths:
    return settings.paths()


@pytest.fixture
def pystray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real library, without a desktop."""
    monkeypatch.setenv("PYSTRAY_BACKEND", "dummy")
    import pystray

    return pystray


@pytest.mark.parametrize(
    ("status", "look", "words"),
    [
        (None, "off", "no agent runs"),
        (agent(updated_at=NOW - timedelta(minutes=1)), "off", "no agent runs"),
        (agent(), "idle", "waits for a call"),
        (agent(call=CALL), "recording", "records: Ada"),
        (agent(call=msgspec.structs.replace(CALL, alarms=("caller",))), "recording", "not heard"),
        (agent(call=CALL, paused_until=NOW), "paused", "paused until"),
        (agent(private=True), "paused", "private call"),
    ],
    ids=["none", "dead", "idle", "call", "silent", "paused", "private"],
)
def test_it_shows_what_the_agent_does(status: AgentStatus | None, look: str, words: str) -> None:
    shown = seen(status, NOW)  # the table was made then; a test that runs later must not find them all dead
    assert shown.look == look
    assert words in shown.words


def test_every_look_is_a_picture_of_its_own() -> None:
    pictures = {look: tray.picture(look).tobytes() for look in tray.COLORS}
    assert len(set(pictures.values())) == len(tray.COLORS)
    without_color = {tray.picture(look).getchannel("A").tobytes() for look in tray.COLORS}
    assert len(without_color) == len(tray.COLORS)


def menu_of(pystray: Any, shown: Tray) -> dict[str, Any]:
    return {item.text: item for item in tray.menu(pystray, shown) if item is not pystray.Menu.SEPARATOR}


def test_its_menu_offers_what_makes_sense_now(pystray: Any, paths: Paths) -> None:
    shown = Tray(paths)
    shown.look()
    menu = menu_of(pystray, shown)
    assert not menu["no agent runs: calls are not recorded"].enabled
    assert not menu["Pause (card numbers)"].enabled
    paths.status.write_bytes(msgspec.json.encode(agent(call=CALL)))
    assert shown.look()
    menu = menu_of(pystray, shown)
    assert menu["Pause (card numbers)"].enabled
    assert menu["This call is private"].enabled
    assert menu["Review calls"].default
    paths.status.write_bytes(msgspec.json.encode(agent(call=CALL, paused_until=NOW)))
    assert shown.look()
    assert menu_of(pystray, shown)["Record again"].enabled


def test_it_opens_the_screens(pystray: Any, paths: Paths) -> None:
    opened: list[tuple[str, ...]] = []
    menu = menu_of(pystray, Tray(paths, open_screen=lambda *arguments: opened.append(arguments)))
    menu["Review calls"](None)
    menu["Overview"](None)
    assert opened == [("review",), ()]


def test_an_order_without_an_agent_is_said_on_the_desktop(pystray: Any, paths: Paths) -> None:
    told: list[str] = []
    shown = Tray(paths, tell=lambda title, _body: told.append(title))
    menu_of(pystray, shown)["Pause (card numbers)"](None)
    assert told == ["no agent runs on this PC"]


@pytest.mark.slow
def test_its_menu_pauses_a_running_agent_and_goes_on(
    pystray: Any, paths: Paths, environment: dict[str, str], call: Path
) -> None:
    shown = Tray(paths)
    with AgentProcess(environment, call, 1.0) as running:
        running.wait_for(lambda: running.recorded_s() > 1)
        shown.look()
        menu_of(pystray, shown)["Pause (card numbers)"](None)
        assert shown.seen.paused
        menu_of(pystray, shown)["Record again"](None)
        assert not shown.seen.paused
        destroy = next(iter(menu_of(pystray, shown)["This call is private"].submenu))
        destroy(None)
        assert running.status()["private"]
        assert not list((paths.home / "spool").rglob("*.srec"))


def run_without(*modules: str, **more: str) -> subprocess.CompletedProcess[str]:
    hidden = "".join(f"sys.modules[{module!r}] = None\n" for module in modules)
    program = (
        f"import sys\n{hidden}sys.argv = ['wa', 'agent', 'tray']\nfrom whisperagent.cli import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], env=os.environ | more, capture_output=True, text=True, check=False
    )


def test_without_the_extra_it_says_what_to_install() -> None:
    done = run_without("pystray")
    assert done.returncode == 2
    assert 'pip install "whisperagent[tray]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_desktop_it_says_so() -> None:
    done = run_without(DISPLAY=":987", PYSTRAY_BACKEND="xorg")
    assert done.returncode == 1
    assert "desktop session" in done.stderr
    assert "Traceback" not in done.stderr
