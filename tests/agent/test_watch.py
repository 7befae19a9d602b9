"""What the softphone shows becomes recordings, from the first word to the last."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.agent.fakes import (
    MIC_ONLY,
    READY,
    RINGING,
    TALKING,
    Script,
    ScriptedHost,
    ScriptedSource,
    local_key,
    pcm,
    play,
    side,
    sound,
)
from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Block
from whisperagent.keys import Keys
from whisperagent.settings import Account, Detection, Recording, Settings
from whisperagent.settings import Agent as Person
from whisperagent.spool import Item, Spool
from whisperagent.watch import CallWatch
from whisperagent.wire import SAMPLE_RATE

SETTINGS = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0))
CALL: Script = [(2, READY), (1, RINGING), (10, TALKING), (20, READY)]


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


class Microphones(ScriptedHost):
    """open_at: when the devices were open, as (from, to); quiet: neither side delivers anything."""

    def __init__(self, script: Script, *, quiet: bool = False) -> None:
        super().__init__(script)
        self.open_at: list[tuple[float, float]] = []
        if quiet:
            self.sides = []

    def open(self) -> ScriptedSource:
        source, opened_at = super().open(), self.now
        close = source.close

        def closed() -> None:
            close()
            self.open_at.append((round(opened_at, 1), round(self.now, 1)))

        source.close = closed  # type: ignore[method-assign]  # the host keeps a watch on its devices
        return source


def watch(
    home: Path, script: Script, settings: Settings = SETTINGS, *, host: ScriptedHost | None = None
) -> tuple[list[Item], list[str]]:
    """Follow the script on a new agent's watch; gives what is in the spool and what was told."""
    told: list[str] = []

    def tell(event: str, _call_id: str, **_details: Any) -> None:
        told.append(event)

    async def run() -> None:
        pc = host or ScriptedHost(script)
        spool = Spool(home / "spool")
        await play(CallWatch(pc, spool, Keys(home), settings, tell).run, pc)

    asyncio.run(run())
    return Spool(home / "spool").items(), told


def test_a_call_goes_from_detected_to_queued(home: Path) -> None:
    [item], told = watch(home, CALL)
    assert told == ["detected", "recording", "sealed", "queued"]
    assert (item.state, item.remote_party) == ("queued", "+33 6 12 34 56 78")


def test_the_recording_begins_with_the_first_stream_and_ends_with_the_last(home: Path) -> None:
    [item], _told = watch(home, CALL)
    agent = side(pcm(item.path, local_key(home)), 0)
    assert agent.tobytes() in sound(0, 3 * SAMPLE_RATE - 800, 15 * SAMPLE_RATE)
    assert agent[:2000].tobytes() in sound(0, 0, 4 * SAMPLE_RATE)
    assert item.duration_s == pytest.approx(10.5, abs=0.2)


def test_a_microphone_test_leaves_nothing(home: Path) -> None:
    items, told = watch(home, [(1, READY), (8, MIC_ONLY), (5, READY)])
    assert (items, told) == ([], ["detected", "dropped"])
    assert not list((home / "spool").rglob("*.srec"))


def test_a_call_that_comes_back_is_one_recording_with_a_mark(home: Path) -> None:
    [item], told = watch(home, [(6, TALKING), (6, READY), (6, TALKING), (20, READY)])
    assert told == ["detected", "recording", "resumed", "sealed", "queued"]
    assert [mark.kind for mark in item.entry.metadata.marks] == ["resumed"]
    assert item.duration_s == pytest.approx(18.5, abs=0.3)


def with_recording(**rules: Any) -> Settings:
    return Settings(agent=Person(extension="201"), recording=Recording(free_mib=0, **rules))


def test_between_calls_and_while_it_rings_the_microphone_is_closed(home: Path) -> None:
    script: Script = [(2, READY), (20, RINGING), (10, TALKING), (30, READY), (5, RINGING)]
    pc = Microphones(script)
    watch(home, script, host=pc)
    [(opened_at, closed_at)] = pc.open_at
    assert opened_at == pytest.approx(22, abs=0.1)
    assert closed_at == pytest.approx(32 + 3 + 10, abs=1)


def test_a_pre_roll_keeps_what_was_heard_just_before_the_answer(home: Path) -> None:
    [item], _told = watch(
        home, [(2, READY), (5, RINGING), (10, TALKING), (20, READY)], with_recording(pre_roll_s=2)
    )
    heard = pcm(item.path, local_key(home))
    assert item.duration_s == pytest.approx(2 + 10.5, abs=0.3)
    for number in (0, 1):
        whole = side(heard, number).tobytes()
        assert whole in sound(number, 0, 20 * SAMPLE_RATE)
        assert sound(number, round(5.2 * SAMPLE_RATE), 17 * SAMPLE_RATE) in whole


def test_a_pre_roll_of_a_call_that_nobody_answers_leaves_nothing(home: Path) -> None:
    script: Script = [(2, READY), (10, RINGING), (20, READY)]
    pc = Microphones(script)
    assert watch(home, script, with_recording(pre_roll_s=2), host=pc) == ([], [])
    assert [round(closed - opened) for opened, closed in pc.open_at] == [10]
    assert not list((home / "spool").rglob("*.srec"))


def test_what_plays_for_ever_does_not_keep_the_microphone_open(home: Path) -> None:
    script: Script = [(2, READY), (600, RINGING)]
    pc = Microphones(script)
    watch(home, script, with_recording(pre_roll_s=2), host=pc)
    assert [round(closed - opened) for opened, closed in pc.open_at] == [120]


def test_two_calls_without_a_pause_are_two_recordings_and_no_word_is_lost(home: Path) -> None:
    """The telephone system says that it is another call; the softphone's streams never closed."""
    one, other = (replace(TALKING, titles=(), hook="connected", hook_call=name) for name in ("7", "8"))
    script: Script = [(2, READY), (10, one), (10, other), (20, READY)]
    pc = Microphones(script)
    items, told = watch(home, script, host=pc)
    assert told == [
        *("detected", "recording", "sealed", "queued", "detected", "recording", "sealed", "queued")
    ]
    key = local_key(home)
    first, second = sorted(items, key=lambda item: item.entry.metadata.started_at)
    assert first.call_id != second.call_id
    assert len(pc.open_at) == 1
    for number in (0, 1):
        heard = [side(pcm(item.path, key), number).tobytes() for item in (first, second)]
        assert sound(number, 3 * SAMPLE_RATE, 22 * SAMPLE_RATE) in b"".join(heard)


def test_a_call_that_carries_nothing_for_half_an_hour_is_over(home: Path) -> None:
    script: Script = [(2, READY), (200, TALKING), (5, READY)]
    settings = Settings(
        agent=Person(extension="201"),
        detection=Detection(silence_limit_s=60),
        recording=Recording(free_mib=0, silent_alarm_s=0),
    )
    [item], told = watch(home, script, settings, host=Microphones(script, quiet=True))
    assert told == ["detected", "recording", "sealed", "queued"]
    assert item.duration_s == pytest.approx(60, abs=1)


def test_a_call_says_which_account_it_belongs_to(home: Path) -> None:
    settings = Settings(
        agent=Person(extension="201"),
        accounts=(Account(extension="305", name="Contoso", patterns=("contoso",)),),
        recording=Recording(free_mib=0),
    )
    contoso = replace(TALKING, titles=(*TALKING.titles, "3CX - Contoso"))
    script: Script = [(1, READY), (8, contoso), (15, READY), (8, TALKING), (15, READY)]
    items, _told = watch(home, script, settings)
    first, second = sorted(items, key=lambda item: item.entry.metadata.started_at)
    assert first.entry.metadata.account == "305 Contoso"
    assert second.entry.metadata.account == ""
    assert {item.entry.metadata.extension for item in items} == {"201"}


def test_a_call_says_who_called_whom_when_the_telephone_system_does(home: Path) -> None:
    told = replace(TALKING, hook="connected", hook_call="7", direction="outbound")
    [item], _told = watch(home, [(1, READY), (8, told), (20, READY)])
    assert item.entry.metadata.direction == "outbound"


def test_an_agent_that_stops_in_mid_call_queues_what_it_has(home: Path) -> None:
    [item], told = watch(home, [(2, READY), (8, TALKING)])
    known = item.entry.metadata
    assert told == ["detected", "recording", "sealed", "queued"]
    assert (known.last, known.complete) == (True, False)
    assert [mark.kind for mark in known.marks] == ["agent stopped"]


def test_a_call_of_the_longest_allowed_length_goes_on_as_another(home: Path) -> None:
    settings = Settings(agent=Person(extension="201"), recording=Recording(free_mib=0, max_s=60))
    items, _told = watch(home, [(100, TALKING), (20, READY)], settings)
    first, second = items
    assert first.call_id != second.call_id
    assert first.entry.metadata.marks[-1].kind == "limit"
    key = local_key(home)
    heard = pcm(first.path, key) + pcm(second.path, key)
    assert side(heard, 0).tobytes() in sound(0, 0, 101 * SAMPLE_RATE)
    assert first.duration_s + second.duration_s == pytest.approx(100.5, abs=0.3)


def test_a_full_disk_loses_this_call_and_says_so(home: Path) -> None:
    settings = Settings(agent=Person(extension="201"), recording=Recording(free_mib=1 << 40))

    async def run() -> CallWatch:
        host = ScriptedHost(CALL)
        watch = CallWatch(host, Spool(home / "spool"), Keys(home), settings, lambda *_a, **_k: None)
        await play(watch.run, host)
        return watch

    problem = asyncio.run(run()).problem
    assert problem is not None
    assert "disk" in problem.what


class Troubled(ScriptedHost):
    """deaf_until: no sound system until then. breaks_at: its source raises then, and cannot be closed."""

    def __init__(self, script: Script, *, deaf_until: float = 0.0, breaks_at: float = math.inf) -> None:
        super().__init__(script)
        self._deaf_until = deaf_until
        self.breaks_at = breaks_at

    def open(self) -> ScriptedSource:
        if self.now < self._deaf_until:
            raise HostUnavailable("there is no sound server", why="it does not answer")
        return BrokenSource(self) if self.breaks_at < math.inf else super().open()


class BrokenSource(ScriptedSource):
    def __init__(self, host: Troubled) -> None:
        super().__init__(host)
        self._pc = host

    def read(self) -> Block | None:
        if self._pc.now >= self._pc.breaks_at:
            raise RuntimeError("the device is gone")
        return super().read()

    def close(self) -> None:
        raise RuntimeError("nor can it be closed")


def test_a_sound_system_that_comes_back_saves_the_rest_of_the_call(home: Path) -> None:
    script: Script = [(2, READY), (20, TALKING), (20, READY)]
    [item], told = watch(home, script, host=Troubled(script, deaf_until=10))
    assert told == ["unrecorded", "detected", "recording", "sealed", "queued"]
    assert item.remote_party == "+33 6 12 34 56 78"
    assert item.duration_s == pytest.approx(12.5, abs=2.5)


def test_a_call_that_never_could_be_recorded_is_told_of_once(home: Path) -> None:
    script: Script = [*CALL, *CALL]
    assert watch(home, script, host=Troubled(script, deaf_until=1000)) == ([], ["unrecorded"] * 2)


def test_a_source_that_breaks_off_costs_no_word_before_it_and_none_after(home: Path) -> None:
    """What broke is started again, as agent.py does it; the call goes on as its next part."""
    script: Script = [(2, READY), (20, TALKING), (20, READY)]
    pc = Troubled(script, breaks_at=10)

    async def run() -> None:
        following = CallWatch(pc, Spool(home / "spool"), Keys(home), SETTINGS, lambda *_a, **_k: None)
        with pytest.raises(RuntimeError, match="the device is gone"):
            await following.run()
        pc.breaks_at = math.inf
        await play(following.run, pc)

    asyncio.run(run())
    [first, second] = Spool(home / "spool").items()
    assert first.call_id == second.call_id
    key = local_key(home)
    assert sound(0, round(3 * SAMPLE_RATE), round(9 * SAMPLE_RATE)) in side(pcm(first.path, key), 0).tobytes()
    assert second.duration_s == pytest.approx(12.5, abs=0.5)


def crash(home: Path) -> None:
    """Ten seconds into a call the agent is gone, as after kill -9."""

    async def run() -> None:
        host = ScriptedHost([(10, TALKING)])
        watch = CallWatch(host, Spool(home / "spool"), Keys(home), SETTINGS, lambda *_a, **_k: None)
        watch._leave = watch._abandon  # type: ignore[method-assign]  # the process has no time to close anything
        await play(watch.run, host)

    asyncio.run(run())


def test_a_recording_cut_off_in_mid_call_goes_on_as_its_next_part(home: Path) -> None:
    crash(home)
    [first, second], _told = watch(home, [(10, TALKING), (20, READY)])
    assert first.call_id == second.call_id
    assert [(item.part, item.entry.metadata.last) for item in (first, second)] == [(1, False), (2, True)]
    assert first.entry.metadata.complete is False
    assert second.entry.metadata.marks[0].kind == "restarted"


def test_a_call_with_somebody_else_does_not_go_on_with_a_recording_cut_off(home: Path) -> None:
    crash(home)
    other = Signals(process=True, capture=True, render=True, titles=("Call with Ada",))
    [first, second], _told = watch(home, [(10, other), (20, READY)])
    assert first.call_id != second.call_id
    assert first.entry.metadata.last


def test_a_recording_cut_off_whose_call_is_over_is_closed_as_its_end(home: Path) -> None:
    crash(home)
    [item], _told = watch(home, [(30, READY)])
    assert (item.part, item.entry.metadata.last, item.entry.metadata.complete) == (1, True, False)


def test_nothing_cut_off_is_sent_before_it_is_known_whether_its_call_goes_on(home: Path) -> None:
    crash(home)
    [item], _told = watch(home, [(Detection().resume_s - 1, READY)])
    assert item.state == "recording"
