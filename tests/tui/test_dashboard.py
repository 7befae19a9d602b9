"""The dashboard, fed by a real spool and a real agent.json."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot

from tests.tui import samples
from tests.tui.conftest import MakeApp
from tests.tui.fake_server import FakeServer
from tests.tui.looking import shown, until, until_gone, until_shown
from tests.tui.pc import Pc
from whisperagent.control import Answer, Orders
from whisperagent.tui.app import WaApp
from whisperagent.tui.review import Review
from whisperagent.wire import CallState, CurrentCall

Script = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture
def watching(app: MakeApp) -> Callable[..., WaApp]:
    def run(script: Script, size: tuple[int, int] = (120, 30)) -> WaApp:
        made = app()

        async def go() -> None:
            async with made.run_test(size=size, notifications=True) as pilot:
                await until_shown(pilot, "Current call")
                await script(pilot)

        asyncio.run(go())
        return made

    return run


def test_without_an_agent_it_says_how_to_start_one(
    watching: Callable[..., WaApp], server: FakeServer
) -> None:
    server.calls.clear()

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "`wa agent run` starts it")
        await until_shown(pilot, "No calls yet")

    watching(script)


def test_an_agent_that_has_not_written_for_a_while_is_not_there(
    watching: Callable[..., WaApp], pc: Pc
) -> None:
    pc.agent(updated_at=samples.NOW - timedelta(minutes=1))

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "no agent on this PC")

    watching(script)


def test_a_call_shows_the_word_the_clock_and_both_sides(watching: Callable[..., WaApp], pc: Pc) -> None:
    pc.agent(call=samples.talking())

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "● REC 02:05   Cabinet Moreau")
        assert "-18 dB" in shown(pilot.app)
        assert "silent for" not in shown(pilot.app)

    watching(script)


def test_a_side_that_stays_silent_is_warned_of(watching: Callable[..., WaApp], pc: Pc) -> None:
    call = samples.talking()
    silent = msgspec.structs.replace(call, levels={"agent": -18.0}, silent_s={"caller": 24.0})
    pc.agent(call=msgspec.structs.replace(silent, alarms=("caller",)))

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "⚠ silent for 24 s")
        pc.agent(call=silent)
        await until_gone(pilot, "silent for")

    watching(script)


def test_a_pause_and_a_private_call_cannot_be_overlooked(watching: Callable[..., WaApp], pc: Pc) -> None:
    pc.agent(call=samples.talking(), paused_until=samples.NOW + timedelta(minutes=5))

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "PAUSED until 14:35")
        pc.agent(private=True)
        await until_shown(pilot, "PRIVATE: this call is not recorded")
        pc.agent()
        await until_gone(pilot, "PRIVATE")

    watching(script)


class Obedient:
    """An agent that does whatever it is told; orders: what that was."""

    def __init__(self, home: Path) -> None:
        self.orders: list[tuple[str, str]] = []
        self._orders = Orders(home / "control")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._obey)

    def __enter__(self) -> "Obedient":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _obey(self) -> None:
        while not self._over.wait(0.02):
            for name, order in self._orders.take():
                self.orders.append((order.action, order.text))
                self._orders.answer(name, Answer())


@pytest.mark.parametrize(
    ("keys", "said", "order"),
    [
        (["p"], "Paused: until p", ("pause", "")),
        (["n", "P", "C", "1", "enter"], "Noted.", ("note", "PC1")),
        (["x", "y"], "This call is not recorded.", ("private", "")),
    ],
    ids=["pause", "note", "private"],
)
def test_a_key_has_the_agent_obey(
    watching: Callable[..., WaApp],
    pc: Pc,
    keys: list[str],
    said: str,
    order: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("whisperagent.status.SILENT_FOR", timedelta(days=365 * 100))
    pc.agent(call=samples.talking())

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "p Pause  n Note  x Private")
        await pilot.press(*keys)
        await until_shown(pilot, said)

    with Obedient(pc.home) as agent:
        watching(script)
    assert agent.orders == [order]


def test_a_call_is_not_destroyed_by_one_key(watching: Callable[..., WaApp], pc: Pc) -> None:
    pc.agent(call=samples.talking())

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "x Private")
        await pilot.press("x")
        await until_shown(pilot, "Is this call private?")
        await pilot.press("enter")
        await until_gone(pilot, "Is this call private?")

    with Obedient(pc.home) as agent:
        watching(script)
    assert agent.orders == []


def test_without_a_call_only_a_pause_is_offered_and_without_an_agent_nothing(
    watching: Callable[..., WaApp], pc: Pc
) -> None:
    pc.agent()

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "p Pause")
        assert "x Private" not in shown(pilot.app)
        pc.agent(updated_at=samples.NOW - timedelta(minutes=1))
        await until_gone(pilot, "p Pause")

    watching(script)


def test_the_screen_follows_the_agent(watching: Callable[..., WaApp], pc: Pc) -> None:
    pc.agent()

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "recording begins by itself")
        pc.agent(
            call=CurrentCall(call_id=samples.COMING, started_at=samples.NOW, state="held", recorded_s=3.0)
        )
        await until_shown(pilot, "● REC 00:03   unknown caller · on hold")

    watching(script)


def test_what_waits_is_counted_and_each_call_says_where_it_is(
    watching: Callable[..., WaApp], pc: Pc, server: FakeServer
) -> None:
    pc.agent(calls_today=4)
    pc.queued(samples.COMING, "Mairie de Sceaux", attempts=3)
    pc.done(samples.OUTLOOK, "Cabinet Moreau")
    pc.done(samples.VPN, "Étude Girard")
    del server.calls[samples.COMING]

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "↑ 1 waiting")
        assert "✓ 2 sent" in shown(pilot.app)
        assert "Calls today: 4" in shown(pilot.app)
        await until_shown(pilot, "tried 3 times, again at 14:35")
        await until_shown(pilot, "ticket 4702")
        server.change(samples.OUTLOOK, state=CallState.APPROVED)
        await until_shown(pilot, "✓ approved")

    watching(script)


def test_a_refused_recording_says_why(watching: Callable[..., WaApp], pc: Pc) -> None:
    pc.agent()
    pc.rejected(samples.COMING, "Mairie", "another server's recording")

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "✗ 1 refused")
        await until_shown(pilot, "another server's recording")

    watching(script)


def test_enter_on_a_call_that_the_server_has_opens_its_review(watching: Callable[..., WaApp], pc: Pc) -> None:
    pc.agent()

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("j", "j", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Review), "the review opens")
        await until_shown(pilot, "Infogérance")

    watching(script)
