"""3CX's own word on a call: it is followed, survives every break, and its absence disturbs nobody."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.agent.callcontrol_standin import StandIn
from tests.agent.fakes import READY, TALKING, ScriptedHost, until
from whisperagent.agent import Agent
from whisperagent.errors import NotAuthenticated, ServerRefused, ServerUnreachable, WhisperError
from whisperagent.hosts.callcontrol import CallControl, Hook
from whisperagent.hosts.hooks import Hooks
from whisperagent.settings import Agent as Person
from whisperagent.settings import CallControl as Asked
from whisperagent.settings import Loaded, Settings
from whisperagent.wire import AgentStatus

Story = Callable[[StandIn, CallControl], Awaitable[None]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperagent.hosts.callcontrol.DELAYS_S", (0.01,))


def follow(story: Story, pbx: StandIn, *, secret: str = StandIn.client_secret, up: bool = True) -> None:
    """Run the story beside an agent's hook; the PBX is there from the start unless not `up`."""

    async def run() -> None:
        control = CallControl(pbx.url + "/", pbx.client_id, secret, "201")
        async with pbx.running() if up else contextlib.nullcontext():
            running = asyncio.create_task(control.run())
            try:
                await story(pbx, control)
            finally:
                running.cancel()

    asyncio.run(run())


def test_a_call_rings_is_answered_and_ends() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        await until(lambda: pbx.listeners == 1)
        pbx.put(8106, "Ringing")
        await until(lambda: control.look() == Hook("ringing"))
        pbx.put(8106, "Connected")
        await until(lambda: control.look() == Hook("connected", "8106", "+33612345678", "inbound"))
        pbx.remove(8106)
        await until(lambda: control.look() == Hook("ended"))
        assert control.problem is None

    follow(story, StandIn())


def test_the_end_is_said_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperagent.hosts.callcontrol.ENDED_S", 0.0)

    async def story(pbx: StandIn, control: CallControl) -> None:
        pbx.put(1, "Connected")
        await until(lambda: control.look().hook == "connected")
        pbx.remove(1)
        await until(lambda: control.look() == Hook())

    follow(story, StandIn())


def test_a_call_that_is_up_already_is_seen_at_once() -> None:
    async def story(_pbx: StandIn, control: CallControl) -> None:
        await until(lambda: control.look().hook_call == "7")

    pbx = StandIn()
    pbx.put(7, "Connected")
    follow(story, pbx)


def test_a_call_that_was_dialled_is_outbound() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        pbx.put(1, "Dialing")
        await until(lambda: control.look() == Hook("ringing"))
        pbx.put(1, "Connected")
        await until(lambda: control.look() == Hook("connected", "1", "+33612345678", "outbound"))

    follow(story, StandIn())


def test_an_unanswered_call_never_ends() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        await until(lambda: pbx.listeners == 1)
        pbx.put(1, "Dialing")
        await until(lambda: control.look() == Hook("ringing"))
        pbx.remove(1)
        await until(lambda: control.look() == Hook())

    follow(story, StandIn())


def test_with_a_second_call_the_first_one_stays_the_call_until_it_is_over() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        pbx.put(5, "Connected", party="+33612345678")
        await until(lambda: control.look().hook_call == "5")
        pbx.put(4, "Connected", party="+33698765432")
        pbx.put(6, "Ringing", party="202")
        await until(lambda: pbx.asked.count("/callcontrol/201/participants") >= 3)
        assert control.look() == Hook("connected", "5", "+33612345678")
        pbx.remove(5)
        await until(lambda: control.look() == Hook("connected", "4", "+33698765432"))

    follow(story, StandIn())


def test_calls_of_other_extensions_are_none_of_ours() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        await until(lambda: pbx.listeners == 1 and control.problem is None and len(pbx.asked) == 2)
        pbx.put(1, "Connected", dn="202")
        pbx.say("no JSON")
        pbx.put(2, "Ringing")
        await until(lambda: control.look() == Hook("ringing"))
        assert pbx.asked == ["/connect/token", *["/callcontrol/201/participants"] * 2]

    follow(story, StandIn())


def test_a_broken_connection_says_nothing_and_comes_back() -> None:
    """Not that the call has ended: nobody knows."""

    async def story(pbx: StandIn, control: CallControl) -> None:
        pbx.put(1, "Connected")
        await until(lambda: control.look().hook == "connected")
        pbx.hang_up()
        await until(lambda: control.look().hook != "connected")
        assert control.look() == Hook()
        await until(lambda: control.look().hook == "connected")

    follow(story, StandIn())


def test_a_token_that_has_expired_is_made_anew() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        await until(lambda: pbx.listeners == 1)
        pbx.expire()
        pbx.put(1, "Connected")
        await until(lambda: control.look().hook == "connected")
        assert (pbx.tokens, pbx.listeners, control.problem) == (2, 1, None)

    follow(story, StandIn())


def test_wrong_credentials_are_one_clear_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    problem = problem_of(StandIn(), secret="canary-wrong")
    assert isinstance(problem, NotAuthenticated)
    assert "[callcontrol]" in problem.fix
    assert "canary" not in caplog.text + str(vars(problem))


def test_an_extension_that_was_not_granted_is_named() -> None:
    pbx = StandIn()
    pbx.granted = set()
    problem = problem_of(pbx)
    assert isinstance(problem, ServerRefused)
    assert "201" in problem.what
    assert "administrator" in problem.fix


def test_another_server_is_not_taken_for_3cx() -> None:
    pbx = StandIn()
    pbx.rude = True
    assert "Call Control" in problem_of(pbx).what


def test_a_server_that_is_not_there_is_tried_again_until_it_is() -> None:
    async def story(pbx: StandIn, control: CallControl) -> None:
        await until(lambda: isinstance(control.problem, ServerUnreachable))
        pbx.put(1, "Connected")
        async with pbx.running():
            await until(lambda: control.look().hook == "connected")
            assert control.problem is None

    follow(story, StandIn(), up=False)


def test_the_same_trouble_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story(_pbx: StandIn, control: CallControl) -> None:
        troubles: list[WhisperError] = []
        while len(troubles) < 3:
            await until(lambda: control.problem is not None and control.problem not in troubles)
            assert control.problem is not None
            troubles.append(control.problem)

    follow(story, StandIn(), up=False)
    assert caplog.text.count("cannot reach") == 1


def test_recording_goes_on_without_it_and_the_status_says_what_is_wrong(
    loaded: Callable[..., Loaded], home: Path
) -> None:
    pbx = StandIn()
    settings = loaded(
        {
            "callcontrol.url": pbx.url,
            "callcontrol.client_id": pbx.client_id,
            "callcontrol.client_secret": "canary-wrong",
        }
    )

    async def run() -> None:
        agent = Agent(settings, ScriptedHost([(2, READY), (10, TALKING), (10, READY)]))
        async with pbx.running():
            running = asyncio.create_task(agent.run())
            await until(lambda: "does not accept this API client" in agent.status().error)
            await until(lambda: agent.status().queue["queued"] == 1)
            agent.stop()
            await running

    asyncio.run(run())
    status = msgspec.json.decode((home / "agent.json").read_bytes(), type=AgentStatus)
    assert status.error.count("does not accept this API client") == 1
    assert pbx.asked == ["/connect/token"]
    assert "canary" not in (home / "agent.json").read_text() + (home / "logs" / "agent.log").read_text()


def test_what_it_says_stands_beside_what_the_pc_shows() -> None:
    """Only of a call that is connected is it known which account it belongs to."""

    async def run() -> None:
        pbx = StandIn()
        settings = Settings(
            agent=Person(extension="201"),
            callcontrol=Asked(url=pbx.url, client_id=pbx.client_id, client_secret=pbx.client_secret),
        )
        hooks = Hooks(settings)
        assert hooks.add(TALKING) == TALKING
        async with pbx.running():
            running = asyncio.create_task(hooks.run())
            pbx.put(3, "Ringing")
            await until(lambda: hooks.add(READY) == replace(READY, hook="ringing"))
            pbx.put(3, "Connected")
            talking = replace(
                TALKING,
                hook="connected",
                hook_call="3",
                remote_party="+33612345678",
                direction="inbound",
                account="201",
            )
            await until(lambda: hooks.add(TALKING) == talking)
            running.cancel()

    asyncio.run(run())


def problem_of(pbx: StandIn, secret: str = StandIn.client_secret) -> WhisperError:
    found: list[WhisperError] = []

    async def story(_pbx: StandIn, control: CallControl) -> None:
        await until(lambda: control.problem is not None)
        assert control.problem is not None
        assert control.look() == Hook()
        found.append(control.problem)

    follow(story, pbx, secret=secret)
    return found[0]
