"""The daemon as a whole: one at a time, its status, its end, and what breaks on the way."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.agent.fake_server import FakeServer
from tests.agent.fakes import READY, TALKING, Script, ScriptedHost, ScriptedSource, play, until
from tests.agent.processes import AgentProcess
from whisperagent import sealed, wire
from whisperagent.agent import Agent, Moment
from whisperagent.errors import (
    AlreadyRunning,
    ConfigError,
    HostUnavailable,
    NotAuthenticated,
    WhisperError,
)
from whisperagent.hosts.simulated import SimulatedHost
from whisperagent.privacy import masked
from whisperagent.settings import Loaded
from whisperagent.spool import Spool

Load = Callable[..., Loaded]
CALL: Script = [(2, READY), (10, TALKING), (10, READY)]


def follow(loaded: Loaded, script: Script, **options: Any) -> tuple[Agent, list[str]]:
    """An agent through a script; gives it and the events it reported."""
    events: list[str] = []

    async def run() -> Agent:
        host = ScriptedHost(script)
        agent = Agent(loaded, host, report=lambda moment: events.append(moment.event), **options)
        await play(agent.run, host)
        return agent

    return asyncio.run(run()), events


def test_a_simulated_call_ends_on_the_server_and_the_agent_ends_by_itself(
    loaded: Load, server: FakeServer, call: Path
) -> None:
    server.start()
    settings = loaded()
    events: list[str] = []
    host = SimulatedHost(call, 20.0, settings.paths.home)
    report = lambda moment: events.append(moment.event)  # noqa: E731 - shorter than a function
    asyncio.run(Agent(settings, host, once=True, report=report).run())
    assert events == ["detected", "recording", "sealed", "queued", "uploaded"]
    [(_recording, metadata)] = server.stored.values()
    assert (metadata.extension, metadata.last, metadata.complete) == ("201", True, True)
    assert metadata.remote_party == "+33 6 12 34 56 78"


def test_without_an_extension_it_says_how_to_set_one(loaded: Load) -> None:
    with pytest.raises(ConfigError) as error:
        Agent(loaded({"agent.extension": ""}), ScriptedHost([]))
    assert "wa config set agent.extension" in error.value.fix


def test_a_second_agent_is_refused_and_named_the_first(
    environment: dict[str, str], loaded: Load, call: Path
) -> None:
    with AgentProcess(environment, call, 1.0) as first:
        first.wait_for(lambda: bool(first.status()))
        with pytest.raises(AlreadyRunning) as error:
            follow(loaded(), CALL)
        assert str(first.process.pid) in error.value.why


def test_its_status_says_what_it_does(loaded: Load) -> None:
    settings = loaded()
    seen: list[wire.AgentStatus] = []

    async def run() -> None:
        host = ScriptedHost(CALL)
        agent = Agent(settings, host, report=lambda _moment: seen.append(agent.status()))
        await play(agent.run, host)

    asyncio.run(run())
    while_recording = seen[1]
    assert while_recording.call is not None
    assert (while_recording.extension, while_recording.call.state) == ("201", "call")
    last = msgspec.json.decode(settings.paths.status.read_bytes(), type=wire.AgentStatus)
    assert (last.state, last.queue["queued"], last.calls_today) == ("stopped", 1, 1)
    assert "cannot reach" in last.server_error


NO_MICROPHONE = HostUnavailable("there is no microphone", why="none is plugged in", fix="plug it in")


def test_what_is_wrong_with_the_sound_is_told_with_its_cure_until_it_is_mended(loaded: Load) -> None:
    settings = loaded()
    told: list[Moment] = []

    async def run() -> None:
        host = ScriptedHost([(1000, READY)])
        host.problem = NO_MICROPHONE

        def report(moment: Moment) -> None:
            if moment.event in ("trouble", "mended"):
                told.append(moment)

        agent = Agent(settings, host, report=report)
        running = asyncio.create_task(agent.run())
        await until(lambda: bool(told))
        assert agent.status().error == NO_MICROPHONE.in_words()
        host.problem = None
        await until(lambda: len(told) == 2)
        assert not agent.status().error
        agent.stop()
        await running

    asyncio.run(run())
    trouble, mended = told
    assert (trouble.event, mended.event) == ("trouble", "mended")
    assert trouble.details == {"reason": "there is no microphone: none is plugged in; plug it in"}


def test_a_disk_that_is_too_full_is_told_before_the_next_call_comes(loaded: Load) -> None:
    settings = loaded({"recording.free_mib": 1 << 40})
    told: list[Moment] = []

    async def run() -> str:
        agent = Agent(settings, ScriptedHost([(1000, READY)]), report=told.append)
        running = asyncio.create_task(agent.run())
        await until(lambda: any(moment.event == "cramped" for moment in told))
        error = agent.status().error
        agent.stop()
        await running
        return error

    error = asyncio.run(run())
    assert "next call will not be recorded" in error
    assert "free_mib" in error


@pytest.mark.parametrize("shown", [True, False], ids=["shown", "not shown"])
def test_what_was_never_sent_is_deleted_only_after_a_notice_was_shown(loaded: Load, shown: bool) -> None:
    settings = loaded({"upload.keep_days": 0, "upload.on_expiry": "delete_with_notice"})
    follow(settings, CALL)
    said: list[str] = []

    def show(title: str, _body: str) -> bool:
        said.append(title)
        return shown

    async def run() -> None:
        agent = Agent(settings, ScriptedHost([(1000, READY)]), notify=show)
        running = asyncio.create_task(agent.run())
        await until(lambda: any("deleted tomorrow" in title for title in said))
        await until(lambda: b"overdue/" in (settings.paths.home / "house.json").read_bytes())
        agent.stop()
        await running

    asyncio.run(run())
    [item] = Spool(settings.paths.spool).items()
    assert (item.state, item.size > 0) == ("overdue", True)
    log = (settings.paths.logs / "agent.log").read_text("utf-8")
    assert f"call {item.call_id}, part 1, was never sent and is to be deleted" in log
    book = json.loads((settings.paths.home / "house.json").read_bytes())
    assert (book["known"][f"overdue/{item.call_id}.1"]["warned"] is not None) is shown


def test_a_call_that_is_not_recorded_for_what_is_known_is_not_a_second_trouble(loaded: Load) -> None:
    class Deaf(ScriptedHost):
        def open(self) -> ScriptedSource:
            self.problem = NO_MICROPHONE
            raise NO_MICROPHONE

    settings = loaded()

    async def run() -> str:
        host = Deaf([(1000, TALKING)])
        agent = Agent(settings, host)
        running = asyncio.create_task(agent.run())
        await until(lambda: bool(agent.status().error))
        error = agent.status().error
        agent.stop()
        await running
        return error

    assert asyncio.run(run()) == NO_MICROPHONE.in_words()


def test_a_signal_closes_and_queues_the_recording(
    environment: dict[str, str], home: Path, call: Path
) -> None:
    with AgentProcess(environment, call, 2.0) as agent:
        agent.wait_for(lambda: agent.recorded_s() > 2)
        assert agent.stop() == 143
        assert agent.events()[-2:] == ["sealed", "queued"]
    [item] = Spool(home / "spool").waiting()
    assert (item.entry.metadata.last, item.entry.metadata.complete) == (True, False)
    assert json.loads((home / "agent.json").read_bytes())["state"] == "stopped"


def test_it_tells_what_becomes_of_its_calls_and_goes_on_where_it_left_the_channel(loaded: Load) -> None:
    """Another PC's call is none of ours, and nothing is told twice after a restart."""
    settings = loaded()
    agent, _events = follow(settings, CALL)
    ours, theirs = agent.spool.items()[0].call_id, wire.new_call_id()
    news = [(1, ours, "transcribing"), (2, theirs, "failed")]
    asked: list[str] = []
    told: list[tuple[str, str]] = []

    async def review_channel(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append(socket.request.path)
        for seq, call_id, state in news:
            event = wire.Event(
                seq=seq, kind="call.state", call_id=call_id, at=datetime.now(UTC), data={"state": state}
            )
            await socket.send(msgspec.json.encode(event).decode())
        await socket.wait_closed()

    async def run() -> None:
        def report(moment: Moment) -> None:
            if moment.call_id:
                told.append((moment.event, moment.call_id))

        async with serve(review_channel, "127.0.0.1", int(settings.settings.server.url.rpartition(":")[2])):
            agent = Agent(settings, ScriptedHost([(1, READY)]), report=report)
            running = asyncio.create_task(agent.run())
            before = len(asked)
            await until(lambda: len(asked) > before and agent.status().server_connected)
            agent.stop()
            await running

    for _start in range(2):
        asyncio.run(run())
    assert told == [("transcribing", ours)]
    assert asked == ["/ws/review?last_seq=0", "/ws/review?last_seq=2"]


def test_it_says_when_nothing_can_be_sent_and_when_that_is_over(loaded: Load, server: FakeServer) -> None:
    told: list[str] = []

    async def run() -> None:
        agent = Agent(loaded(), ScriptedHost([(1, READY)]), report=lambda moment: told.append(moment.event))
        running = asyncio.create_task(agent.run())
        await until(lambda: told == ["unsent"])
        server.start()
        await until(lambda: told == ["unsent", "sendable"])
        agent.stop()
        await running

    asyncio.run(run())


def test_without_any_server_calls_are_recorded_and_stay_and_nobody_is_alarmed(loaded: Load) -> None:
    agent, events = follow(loaded({"server.url": ""}), CALL)
    assert events == ["detected", "recording", "sealed", "queued"]
    said = agent.status()
    assert (said.server_url, said.server_error, said.error) == ("", "", "")
    assert said.queue[wire.SpoolState.QUEUED] == 1


def test_without_any_server_once_ends_with_the_call(loaded: Load, call: Path) -> None:
    settings = loaded({"server.url": ""})
    asyncio.run(Agent(settings, SimulatedHost(call, 20.0, settings.paths.home), once=True).run())
    assert len(Spool(settings.paths.spool).waiting()) == 1


@pytest.mark.parametrize(("setting", "keys"), [("offline.enabled", 2), ("agent.notify", 1)])
def test_in_offline_mode_recordings_are_sealed_to_this_pc_as_well(
    loaded: Load, setting: str, keys: int
) -> None:
    agent, _events = follow(loaded({setting: True}), CALL)
    [item] = agent.spool.items()
    with item.path.open("rb") as source:
        assert len(sealed.recipients(source)) == keys


def test_the_token_in_the_home_proves_who_it_is(loaded: Load, server: FakeServer, home: Path) -> None:
    (home / "token").write_text("signed\n")
    (home / "token").chmod(0o600)
    server.start()

    async def run() -> None:
        agent = Agent(loaded(), ScriptedHost([(1, READY)]))
        running = asyncio.create_task(agent.run())
        await until(lambda: bool(server.tokens))
        agent.stop()
        await running

    asyncio.run(run())
    assert server.tokens == {"Bearer signed"}


def test_much_litter_in_the_spool_is_told_in_a_few_words(loaded: Load) -> None:
    settings = loaded()
    for number in range(50):
        (Spool(settings.paths.spool).root / "queued" / f"holiday-{number:02}.jpg").write_bytes(b"beach")
    agent, _events = follow(settings, [(2, READY)])
    error = agent.status().error
    assert "holiday-00.jpg" in error
    assert "47 more such things" in error
    assert len(error) < 1000


def test_a_part_that_breaks_is_started_again_and_shown(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperagent.agent.RESTART_S", (0.0,))
    real, failures = ScriptedHost.signals, [RuntimeError("the sound system crashed")]

    def signals(host: ScriptedHost) -> Any:
        if host.now > 8 and failures:
            raise failures.pop()
        return real(host)

    monkeypatch.setattr(ScriptedHost, "signals", signals)
    settings = loaded()
    agent, _events = follow(settings, [(2, READY), (20, TALKING), (10, READY)])
    first, second = agent.spool.items()
    assert first.call_id == second.call_id
    assert [(item.part, item.entry.metadata.last) for item in (first, second)] == [(1, False), (2, True)]
    assert "the sound system crashed" in agent.status().error


def test_once_it_ends_with_the_error_of_a_server_that_does_not_let_it_in(
    loaded: Load, server: FakeServer, call: Path
) -> None:
    server.fail = lambda _metadata: (401, {"type": "about:blank", "title": "who are you", "status": 401})
    server.start()
    settings = loaded()
    with pytest.raises(NotAuthenticated):
        asyncio.run(Agent(settings, SimulatedHost(call, 40.0, settings.paths.home), once=True).run())
    assert len(Spool(settings.paths.spool).waiting()) == 1


def test_once_it_ends_with_the_words_of_a_server_that_refuses(
    loaded: Load, server: FakeServer, call: Path
) -> None:
    server.fail = lambda _metadata: (422, {"type": "about:blank", "title": "too loud", "status": 422})
    server.start()
    settings = loaded()
    with pytest.raises(WhisperError) as error:
        asyncio.run(Agent(settings, SimulatedHost(call, 40.0, settings.paths.home), once=True).run())
    assert error.value.why == "too loud"


@pytest.mark.parametrize(
    ("shown", "logged"),
    [
        ("+33 6 12 34 56 78", "+33•••••678"),
        ("01.23.45.67.89", "012•••••789"),
        ("Jean Martin", "Jean Martin"),
        ("201", "201"),
    ],
)
def test_a_number_is_masked_for_the_log(shown: str, logged: str) -> None:
    assert masked(shown) == logged
