"""Pause, resume, private, note: from another process to the agent that runs, and what becomes of the call."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.agent.fake_server import FakeServer
from tests.agent.fakes import (
    READY,
    RINGING,
    TALKING,
    Script,
    ScriptedHost,
    local_key,
    noise_call,
    pcm,
    play,
    side,
    sound,
    until,
)
from tests.agent.processes import AgentProcess
from whisperagent import control, settings
from whisperagent.agent import Agent
from whisperagent.client import Client
from whisperagent.control import Answer, Order, Orders
from whisperagent.discretion import Discretion
from whisperagent.erasing import Eraser
from whisperagent.errors import NoAgent, UsageError, WhisperError
from whisperagent.hosts import Happening
from whisperagent.hosts.simulated import SimulatedHost
from whisperagent.keys import Keys
from whisperagent.settings import Agent as Person
from whisperagent.settings import Loaded, Paths, Recording, Settings
from whisperagent.spool import Item, Spool
from whisperagent.watch import CallWatch
from whisperagent.wire import SAMPLE_RATE, Capture

Load = Callable[..., Loaded]
SETTINGS = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0))
CALL: Script = [(1, READY), (20, TALKING), (20, READY)]


class DirectedHost(ScriptedHost):
    """acts: what a person does at which time."""

    def __init__(self, script: Script, acts: list[tuple[float, Callable[[], Any]]], **more: Any) -> None:
        super().__init__(script, **more)
        self._acts = sorted(acts, key=lambda act: act[0])

    async def sleep(self, seconds: float) -> None:
        while self._acts and self._acts[0][0] <= self.now:
            self._acts.pop(0)[1]()
        await super().sleep(seconds)


class Followed:
    """A watch that follows `script` while a person acts. told: (event, details)."""

    def __init__(
        self,
        home: Path,
        script: Script,
        acts: list[tuple[float, Callable[["Followed"], Any]]],
        rules: Settings = SETTINGS,
        destroy: Callable[[str], bool] | None = None,
        **more: Any,
    ) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.host = DirectedHost(script, [(at, partial(act, self)) for at, act in acts], **more)
        self.spool = Spool(home / "spool")
        self.watch = CallWatch(self.host, self.spool, Keys(home), rules, self._tell, destroy)
        asyncio.run(play(self.watch.run, self.host))

    def _tell(self, event: str, _call_id: str, **details: Any) -> None:
        self.told.append((event, details))

    @property
    def events(self) -> list[str]:
        return [event for event, _details in self.told]


def heard(item: Item, home: Path, number: int = 0) -> Any:
    return side(pcm(item.path, local_key(home)), number)


def silent_s(samples: Any) -> float:
    return sum(not sample for sample in samples) / SAMPLE_RATE


# What becomes of a call


def test_what_is_said_in_a_pause_is_on_neither_side_of_the_recording(home: Path) -> None:
    followed = Followed(
        home,
        CALL,
        [(8.0, lambda it: it.watch.begin_pause(None)), (12.0, lambda it: it.watch.end_pause())],
    )
    [item] = followed.spool.items()
    for number in (0, 1):
        samples = heard(item, home, number)
        assert silent_s(samples) == pytest.approx(4.0, abs=0.2)
        assert not any(samples[int(7.2 * SAMPLE_RATE) : int(10.8 * SAMPLE_RATE)])
        assert samples[int(11.2 * SAMPLE_RATE) :].tobytes() in sound(number, 0, 23 * SAMPLE_RATE)
    marks = item.entry.metadata.marks
    assert [mark.kind for mark in marks] == ["paused", "pause over"]
    assert marks[1].at_s - marks[0].at_s == pytest.approx(4.0, abs=0.2)
    assert followed.events == ["detected", "recording", "paused", "unpaused", "sealed", "queued"]


def test_a_pause_expires_by_itself(home: Path) -> None:
    followed = Followed(home, CALL, [(8.0, lambda it: it.watch.begin_pause(5.0))])
    [item] = followed.spool.items()
    assert silent_s(heard(item, home)) == pytest.approx(5.0, abs=0.6)
    assert followed.watch.pause is None


def test_a_pause_without_a_length_is_over_with_its_call(home: Path) -> None:
    twice: Script = [*CALL, *CALL]
    followed = Followed(home, twice, [(8.0, lambda it: it.watch.begin_pause(None))])
    first, second = followed.spool.items()
    assert silent_s(heard(first, home)) > 10
    assert silent_s(heard(second, home)) == 0.0


def test_a_pause_of_some_length_lasts_so_long_whatever_the_calls_do(home: Path) -> None:
    twice: Script = [*CALL, *CALL]
    followed = Followed(home, twice, [(8.0, lambda it: it.watch.begin_pause(600.0))])
    for item in followed.spool.items():
        assert item.entry.metadata.marks[0].kind == "paused"
    assert silent_s(heard(followed.spool.items()[1], home)) == pytest.approx(20.5, abs=0.6)


def test_a_second_pause_only_lengthens_the_first(home: Path) -> None:
    followed = Followed(
        home,
        CALL,
        [(8.0, lambda it: it.watch.begin_pause(2.0)), (9.0, lambda it: it.watch.begin_pause(4.0))],
    )
    [item] = followed.spool.items()
    assert silent_s(heard(item, home)) == pytest.approx(5.0, abs=0.6)
    assert [mark.kind for mark in item.entry.metadata.marks] == ["paused", "pause over"]


def test_an_agent_started_again_in_a_pause_is_still_paused(home: Path) -> None:
    Followed(home, [(10, TALKING)], [(5.0, lambda it: it.watch.begin_pause(3600.0))])
    followed = Followed(home, CALL, [])
    assert followed.watch.pause is not None
    assert silent_s(heard(followed.spool.items()[-1], home)) == pytest.approx(20.5, abs=0.6)


def test_a_pause_is_over_when_its_time_has_passed_without_an_agent(home: Path) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    (home / "discretion.json").write_bytes(msgspec.json.encode({"paused_until": past}))
    followed = Followed(home, CALL, [])
    [item] = followed.spool.items()
    assert silent_s(heard(item, home)) == 0.0
    assert not (home / "discretion.json").exists()


def test_a_private_call_leaves_nothing_behind(home: Path) -> None:
    followed = Followed(home, CALL, [(8.0, lambda it: it.watch.make_private())])
    assert followed.events == ["detected", "recording", "private"]
    assert not [path for path in (home / "spool").rglob("*") if path.is_file()]
    assert not (home / "discretion.json").exists()


def test_a_private_call_stays_private_over_a_hold_and_the_next_call_is_recorded(home: Path) -> None:
    private: Script = [(1, READY), (8, TALKING), (5, READY), (8, TALKING), (20, READY)]
    script: Script = [*private, (12, TALKING), (20, READY)]
    followed = Followed(home, script, [(5.0, lambda it: it.watch.make_private())])
    [item] = followed.spool.items()
    assert followed.events[:3] == ["detected", "recording", "private"]
    assert followed.events[3:] == ["detected", "recording", "sealed", "queued"]
    assert item.duration_s == pytest.approx(12.5, abs=0.6)


def test_an_agent_started_again_in_a_private_call_does_not_record_it(home: Path) -> None:
    Followed(home, [(10, TALKING)], [(5.0, lambda it: it.watch.make_private())])
    followed = Followed(home, [(10, TALKING), (20, READY), (10, TALKING), (20, READY)], [])
    assert followed.events == ["detected", "recording", "sealed", "queued"]
    [item] = followed.spool.items()
    assert item.started_at >= followed.host.utc(29.0)


def test_parts_of_a_private_call_that_wait_to_be_sent_are_destroyed_too(home: Path) -> None:
    rules = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0, part_mib=1))
    sent: list[bool] = []
    script: Script = [(40, TALKING), (20, READY)]
    followed = Followed(home, script, [(35.0, lambda it: sent.append(it.watch.make_private()[1]))], rules)
    assert "queued" in followed.events
    assert sent == [True]
    assert not [path for path in (home / "spool").rglob("*") if path.is_file()]


def test_a_private_call_is_destroyed_though_the_agent_died_before_it_had(home: Path) -> None:
    """Killed when it had noted that the call is private, and deleted nothing yet."""
    rules = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0, part_mib=1))

    def die(it: Followed) -> None:
        it.watch.make_private()
        raise SystemExit

    def keep(_call_id: str) -> bool:
        return True

    with pytest.raises(SystemExit):
        Followed(home, [(40, TALKING)], [(35.0, die)], rules, destroy=keep)
    spool = Spool(home / "spool")
    assert {str(item.state) for item in spool.items()} == {"queued", "recording"}
    followed = Followed(home, [(10, TALKING), (20, READY)], [], rules)
    assert followed.events == []
    assert not [path for path in (home / "spool").rglob("*") if path.is_file()]


def test_a_call_that_could_not_be_recorded_yet_can_be_made_private(home: Path) -> None:
    rules = Settings(agent=Person(extension="201"), recording=Recording(free_mib=1 << 40))
    followed = Followed(home, CALL, [(8.0, lambda it: it.watch.make_private())], rules)
    assert followed.events == ["unrecorded", "private"]
    assert not followed.watch.private


def test_what_is_said_in_a_pause_is_not_kept_for_the_call_that_rings(home: Path) -> None:
    """The pause is over before the answer, and the pre-roll goes back into it."""
    rules = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0, pre_roll_s=5))
    script: Script = [(1, READY), (10, RINGING), (10, TALKING), (20, READY)]
    acts: list[tuple[float, Callable[[Followed], Any]]] = [(3.0, lambda it: it.watch.begin_pause(6.0))]
    followed = Followed(home, script, acts, rules)
    [item] = followed.spool.items()
    assert item.duration_s == pytest.approx(2 + 10.5, abs=0.4)


def test_a_pc_that_slept_is_not_paused_for_longer_than_it_said(home: Path) -> None:
    discretion = Discretion(home / "discretion.json")
    pause = discretion.begin_pause(100.0, 1800.0)
    assert not pause.is_over(101.0)
    asleep = replace(pause, until_utc=datetime.now(UTC) - timedelta(seconds=1))
    assert asleep.is_over(101.0)


def test_a_note_is_a_mark_where_it_was_given(home: Path) -> None:
    followed = Followed(home, CALL, [(8.0, lambda it: it.watch.note("the printer again"))])
    [item] = followed.spool.items()
    [mark] = item.entry.metadata.marks
    assert (mark.kind, mark.note) == ("note", "the printer again")
    assert mark.at_s == pytest.approx(7.0, abs=0.2)


@pytest.mark.parametrize("order", ["note", "make_private", "end_pause"])
def test_an_order_that_makes_no_sense_now_is_an_error_with_words(home: Path, order: str) -> None:
    refused: list[UsageError] = []

    def give(it: Followed) -> None:
        with pytest.raises(UsageError) as error:
            getattr(it.watch, order)(*(["text"] if order == "note" else []))
        refused.append(error.value)

    Followed(home, [(3, READY)], [(1.0, give)])
    assert refused[0].what
    assert refused[0].fix


# A side that is silent


def test_a_caller_who_is_not_heard_is_told_of_once_and_only_during_the_call(home: Path) -> None:
    script: Script = [(1, READY), (40, TALKING), (40, READY)]
    shown: list[tuple[str, ...]] = []

    def look(it: Followed) -> None:
        call = it.watch.current()
        shown.append(call.alarms if call is not None else ())

    followed = Followed(home, script, [(15.0, look), (30.0, look), (60.0, look)], side_missing=1)
    assert shown == [(), ("caller",), ()]
    assert [details for event, details in followed.told if event == "silent"] == [
        {"side": "caller", "seconds": 20}
    ]


def test_a_pause_is_no_silence_to_be_told_of(home: Path) -> None:
    script: Script = [(1, READY), (40, TALKING), (20, READY)]
    acts: list[tuple[float, Callable[[Followed], Any]]] = [(5.0, lambda it: it.watch.begin_pause(30.0))]
    assert "silent" not in Followed(home, script, acts, side_missing=1).events


def test_the_alarm_can_be_switched_off(home: Path) -> None:
    rules = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0, silent_alarm_s=0))
    script: Script = [(1, READY), (60, TALKING), (20, READY)]
    assert "silent" not in Followed(home, script, [], rules, side_missing=1).events


# What the devices tell


def test_what_happens_to_a_device_is_a_mark(home: Path) -> None:
    lost = Happening(9.0, "device lost", "caller: Headset")
    followed = Followed(home, CALL, [(9.0, lambda it: it.host.happened.append(lost))])
    [item] = followed.spool.items()
    [mark] = item.entry.metadata.marks
    assert (mark.kind, mark.note) == ("device lost", "caller: Headset")
    assert mark.at_s == pytest.approx(8.0, abs=0.2)


def test_the_metadata_tells_how_each_side_was_heard_in_the_end(home: Path) -> None:
    def change(it: Followed) -> None:
        it.host.capture = Capture(agent="wasapi-microphone", caller="endpoint-loopback")

    followed = Followed(home, CALL, [(9.0, change)])
    [item] = followed.spool.items()
    assert item.entry.metadata.capture == Capture(agent="wasapi-microphone", caller="endpoint-loopback")


# From another process


@pytest.fixture(scope="session")
def long_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of a call."""
    return noise_call(tmp_path_factory.mktemp("calls") / "long.wav", 60)


@pytest.fixture
def paths(home: Path) -> Paths:
    return settings.paths()


def test_without_an_agent_an_order_is_one_clear_error(paths: Paths) -> None:
    with pytest.raises(NoAgent) as error:
        control.give(paths, "pause")
    assert "wa agent run" in error.value.fix
    assert not paths.control.exists()


def test_an_agent_obeys_and_answers(loaded: Load, long_call: Path) -> None:
    given = loaded()
    answers: dict[str, Any] = {}

    async def run() -> None:
        agent = Agent(given, SimulatedHost(long_call, 1.0, given.paths.home))
        running = asyncio.create_task(agent.run())
        await until(lambda: given.paths.status.exists() and agent.status().call is not None)
        orders: list[tuple[control.Action, dict[str, Any]]] = [
            ("pause", {"seconds": 60.0}),
            ("note", {"text": "x" * 5000}),
            ("resume", {}),
        ]
        for action, details in orders:
            answers[action] = await asyncio.to_thread(control.give, given.paths, action, **details)
            answers[f"{action}, then"] = agent.status()
        answers["private"] = await asyncio.to_thread(control.give, given.paths, "private")
        answers["private, then"] = agent.status()
        with pytest.raises(WhisperError) as error:
            await asyncio.to_thread(control.give, given.paths, "note", text="gone")
        answers["note, too late"] = error.value
        agent.stop()
        await running

    asyncio.run(run())
    left_s = (answers["pause"].paused_until - datetime.now(UTC)).total_seconds()
    assert 30 < left_s <= 60
    assert answers["pause, then"].paused_until == answers["pause"].paused_until
    assert answers["resume, then"].paused_until is None
    assert answers["private"] == Answer(call_id=answers["note"].call_id)
    assert (answers["private, then"].private, answers["private, then"].call) == (True, None)
    assert "private already" in answers["note, too late"].what
    assert not list(given.paths.control.iterdir())


def test_an_order_to_an_earlier_run_is_void(paths: Paths) -> None:
    paths.control.mkdir()
    old = Order("private", datetime.now(UTC))
    (paths.control / "0.order").write_bytes(msgspec.json.encode(old))
    assert list(Orders(paths.control).take()) == []


def test_an_order_nobody_waits_for_any_more_is_not_obeyed(paths: Paths) -> None:
    orders = Orders(paths.control)
    late = Order("private", datetime.now(UTC) - timedelta(seconds=control.PATIENCE_S + 1))
    (paths.control / "0.order").write_bytes(msgspec.json.encode(late))
    (paths.control / "1.order").write_bytes(b"{")
    assert list(orders.take()) == []
    assert not list(paths.control.iterdir())


@pytest.mark.parametrize("seconds", ["-1", "0", "1e999", "999999"])
def test_a_pause_that_would_never_begin_or_end_is_not_obeyed(paths: Paths, seconds: str) -> None:
    orders = Orders(paths.control)
    at = datetime.now(UTC).isoformat()
    (paths.control / "0.order").write_text(f'{{"action":"pause","at":"{at}","seconds":{seconds}}}')
    assert list(orders.take()) == []


def test_an_order_is_obeyed_once(paths: Paths) -> None:
    orders = Orders(paths.control)
    (paths.control / "0.order").write_bytes(msgspec.json.encode(Order("resume", datetime.now(UTC))))
    assert [(name, order.action) for name, order in orders.take()] == [("0", "resume")]
    assert list(orders.take()) == []


@pytest.mark.parametrize(
    ("text", "length_s"),
    [("30m", 1800), ("90s", 90), ("1h", 3600), ("5", 300), ("1.5h", 5400), ("1,5 h", 5400), ("2 min", 120)],
)
def test_a_length_is_read_as_people_write_it(text: str, length_s: float) -> None:
    assert control.seconds(text) == length_s


@pytest.mark.parametrize("text", ["", "0", "-5", "soon", "13h", "1d", "5m5s", "1e3"])
def test_what_is_no_length_is_an_error(text: str) -> None:
    with pytest.raises(UsageError) as error:
        control.seconds(text)
    assert "30m" in error.value.fix


# What the server has of a private call


def test_the_server_is_asked_to_erase_what_it_has_of_a_private_call(
    loaded: Load, server: FakeServer, long_call: Path
) -> None:
    server.start()
    given = loaded({"recording.part_mib": 1})
    sent: list[bool] = []

    async def run() -> None:
        agent = Agent(given, SimulatedHost(long_call, 20.0, given.paths.home))
        running = asyncio.create_task(agent.run())
        await until(lambda: bool(server.stored))
        answer = await asyncio.to_thread(control.give, given.paths, "private")
        sent.append(answer.sent)
        await until(lambda: answer.call_id in server.erased)
        await until(lambda: not (given.paths.home / "erase.json").exists())
        agent.stop()
        await running

    asyncio.run(run())
    assert sent == [True]


def test_a_call_that_becomes_private_while_it_is_sent_leaves_no_trace_here(
    loaded: Load, server: FakeServer, long_call: Path
) -> None:
    """The upload that was on its way ends after all; then the server is asked to erase it."""
    given = loaded({"recording.part_mib": 1})
    in_the_middle, destroyed = threading.Event(), threading.Event()

    def hold(_metadata: object) -> None:
        in_the_middle.set()
        destroyed.wait(20)

    server.fail = hold
    server.start()

    async def run() -> None:
        agent = Agent(given, SimulatedHost(long_call, 20.0, given.paths.home))
        running = asyncio.create_task(agent.run())
        await until(in_the_middle.is_set)
        answer = await asyncio.to_thread(control.give, given.paths, "private")
        destroyed.set()
        await until(lambda: answer.call_id in server.erased)
        assert agent.status().error == ""
        agent.stop()
        await running

    asyncio.run(run())
    assert not [path for path in given.paths.spool.rglob("*") if path.is_file()]


def test_what_the_server_may_have_is_noted_before_it_is_deleted_here(home: Path) -> None:
    Followed(home, CALL, [])
    spool, noted = Spool(home / "spool"), home / "erase.json"
    [item] = spool.items()
    assert Eraser(noted, spool, Client("http://127.0.0.1:9", "201")).destroy(item.call_id)
    assert msgspec.json.decode(noted.read_bytes()) == [item.call_id]
    assert not spool.holds(item.call_id)


def test_what_is_to_be_erased_is_known_after_a_restart(loaded: Load, server: FakeServer) -> None:
    given = loaded()
    path, spool = given.paths.home / "erase.json", Spool(given.paths.spool)
    call_id = "0199e000-0001-7000-8000-000000000001"
    Eraser(path, spool, Client(server.url, "201")).add(call_id)
    server.start()
    server.known.add(call_id)

    async def run() -> None:
        async with Client(server.url, "201") as client:
            running = asyncio.create_task(Eraser(path, spool, client).run())
            await until(lambda: not path.exists())
            running.cancel()

    asyncio.run(run())
    assert server.erased == {call_id}


@pytest.mark.slow
def test_a_pause_from_another_process_is_in_the_recording_of_a_real_agent(
    environment: dict[str, str], home: Path, call: Path, server: FakeServer
) -> None:
    """Through `wa agent pause` and `wa agent resume` themselves; the agent dies in between."""

    def wa(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisperagent", "agent", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    with AgentProcess(environment, call, 1.0) as agent:
        agent.wait_for(lambda: agent.recorded_s() > 1)
        paused = wa("pause", "10m")
        assert paused.returncode == 0, paused.stderr
        assert "paused until" in paused.stderr
        told = wa("status")
        assert "paused until" in told.stdout
        agent.kill()
    with AgentProcess(environment, call, 1.0) as again:
        again.wait_for(lambda: bool(again.status()))
        assert again.status()["paused_until"]
        assert wa("resume").returncode == 0
        assert not again.status()["paused_until"]
        again.stop()
    gone = wa("resume")
    assert gone.returncode == 1
    assert "no agent runs" in gone.stderr
