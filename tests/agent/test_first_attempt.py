"""What the first attempt at this product got wrong: each mistake is a test here, under its own name.

These are the agent's nine; the server's are with the server. A whole agent runs in each: the simulated
softphone, the real detector, recorder, spool and uploader, against a server over real HTTP.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.agent.fake_server import FakeServer
from tests.agent.fakes import READY, TALKING, Script, ScriptedHost, frames, local_key, noise_call, pcm, play
from tests.agent.processes import AgentProcess, wait_until
from whisperagent.agent import Agent
from whisperagent.detect import Signals
from whisperagent.hosts.simulated import SimulatedHost
from whisperagent.house import Housekeeper
from whisperagent.settings import Loaded
from whisperagent.spool import Item, Spool
from whisperagent.wire import SAMPLE_RATE, SpoolState

Load = Callable[..., Loaded]


def spool_of(loaded: Loaded) -> Spool:
    return Spool(loaded.paths.spool)


def run_script(loaded: Loaded, script: Script) -> Spool:
    """A whole agent on a PC that shows this; gives its spool afterwards."""

    async def run() -> None:
        host = ScriptedHost(script)
        await play(Agent(loaded, host).run, host)

    asyncio.run(run())
    return spool_of(loaded)


def run_call(loaded: Loaded, call: Path, speed: float = 16.0) -> Spool:
    """A whole agent through a simulated call, until all is sent."""
    host = SimulatedHost(call, speed, loaded.paths.home)
    asyncio.run(Agent(loaded, host, once=True).run())
    return spool_of(loaded)


def test_1_switching_windows_does_not_end_a_call(loaded: Load) -> None:
    elsewhere = Signals(process=True, capture=True, render=True, titles=("Inbox - Outlook", "3CX"))
    script: Script = [(2, READY), (5, TALKING), (15, elsewhere), (5, TALKING), (10, READY)]
    [item] = run_script(loaded(), script).items()
    assert item.duration_s == pytest.approx(25.5, abs=0.3)
    assert item.entry.metadata.marks == ()


def test_2_an_extension_number_in_a_title_starts_nothing(loaded: Load) -> None:
    number = Signals(
        process=True, titles=("201", "201 - 3CX", "Ticket 201: printer", "Excel - extensions 201")
    )
    spool = run_script(loaded(), [(2, READY), (60, number), (2, READY)])
    assert spool.items() == []
    assert not list(spool.root.rglob("*.srec"))


def test_3_both_sides_are_recorded_whole_from_the_first_word(
    loaded: Load, server: FakeServer, call: Path
) -> None:
    server.start()
    [item] = run_call(loaded(), call).items()
    whole, heard = frames(call), server.pcm(item.call_id)
    begins = heard.find(whole[:4000])
    assert begins >= 0
    # Two channels interleaved: equal bytes mean that each side is whole, and in its place beside the other.
    assert heard[begins : begins + len(whole)] == whole


def test_4_a_killed_recorder_leaves_a_readable_recording(
    environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    call = noise_call(tmp_path / "long.wav", 30)
    with AgentProcess(environment, call, 1.0) as agent:
        agent.wait_for(lambda: agent.recorded_s() > 3)
        recorded_s = agent.recorded_s()
        agent.kill()
    [recording] = (home / "spool" / "recording").glob("*.srec")
    heard = pcm(recording, local_key(home))
    begins = heard.find(frames(call)[:4000])
    saved = heard[begins:]
    assert begins >= 0
    assert saved == frames(call)[: len(saved)]
    # What it said it had by then, and not the clock's: a busy machine may let nobody listen for a while.
    assert len(heard) / 4 / SAMPLE_RATE > recorded_s - 1.0


def test_5_a_failed_upload_is_tried_again_by_itself(loaded: Load, server: FakeServer, call: Path) -> None:
    busy = (503, {"type": "about:blank", "title": "try later", "status": 503})
    server.fail = lambda _metadata: busy if len(server.asked) == 1 else None
    server.start()
    [item] = run_call(loaded(), call).items()
    assert item.state is SpoolState.DONE
    assert item.attempts == 2


def test_6_it_is_still_tried_after_many_failures(loaded: Load, server: FakeServer, call: Path) -> None:
    busy = (503, {"type": "about:blank", "title": "try later", "status": 503})
    server.fail = lambda _metadata: busy if len(server.asked) <= 12 else None
    server.start()
    settings = loaded({"upload.retry_s": 0.01, "upload.retry_max_s": 0.05})
    [item] = run_call(settings, call, speed=40.0).items()
    assert item.state is SpoolState.DONE
    assert item.attempts == 13


def test_7_a_call_is_recorded_while_the_server_is_down_and_sent_when_it_comes(
    environment: dict[str, str], home: Path, server: FakeServer, call: Path
) -> None:
    with AgentProcess(environment, call, 8.0) as agent:
        agent.wait_for(lambda: "queued" in agent.events())
        assert server.stored == {}
        assert "cannot reach" in agent.status()["server_error"]
        server.start()
        agent.wait_for(lambda: "uploaded" in agent.events())
    [(call_id, _part)] = server.stored
    assert frames(call) in server.pcm(call_id)


def test_8_nothing_unsent_is_deleted_however_old_it_is(loaded: Load, call: Path) -> None:
    """The server never answers, months go by, and the agent starts and quits again and again."""
    settings = loaded({"upload.keep_days": 7})
    rules, now = settings.settings, datetime.now(UTC)

    def tell(*_what: str, **_details: object) -> None:
        """Nobody hears it."""

    async def warn(_items: Sequence[Item]) -> bool:
        return True

    keeper = Housekeeper(
        settings.paths.home / "house.json", spool_of(settings), rules.recording, rules.upload, tell, warn
    )
    for _start in range(3):
        script: Script = [(2, READY), (8, TALKING), (10, READY)]
        run_script(settings, script)
        for _day in range(60):
            now += timedelta(days=1)
            asyncio.run(keeper.look(now, now.timestamp()))
    items = spool_of(settings).waiting()
    assert [item.state for item in items] == [SpoolState.OVERDUE] * 3
    key = local_key(settings.paths.home)
    assert all(len(pcm(item.path, key)) > 7 * 4 * SAMPLE_RATE for item in items)


def test_9_no_audio_lies_in_clear_on_the_pc(
    environment: dict[str, str], home: Path, server: FakeServer, call: Path
) -> None:
    """While recording, after it, and after sending: no piece of the sound is found in any file."""
    whole = frames(call)
    sides = [b"".join(whole[at : at + 2] for at in range(2 * side, len(whole), 4)) for side in (0, 1)]
    pieces = [
        sound[at : at + 32]
        for sound in (whole, *sides)
        for at in range(0, len(sound) - 32, len(sound) // 50 // 4 * 4)
    ]

    def in_clear() -> list[Path]:
        found = []
        for path in home.rglob("*"):
            if path.is_file() and path.name != "agent.lock":
                data = path.read_bytes()
                found += [path for piece in pieces if piece in data]
        return found

    with AgentProcess(environment, call, 4.0) as agent:
        agent.wait_for(lambda: agent.recorded_s() > 2)
        assert in_clear() == []
        agent.wait_for(lambda: "queued" in agent.events())
        assert in_clear() == []
        server.start()
        agent.wait_for(lambda: "uploaded" in agent.events())
        wait_until(lambda: not list((home / "spool" / "queued").glob("*.srec")))
    assert in_clear() == []
    assert server.stored


def test_a_log_shows_no_telephone_number(loaded: Load, server: FakeServer, call: Path) -> None:
    server.start()
    settings = loaded()
    run_call(settings, call)
    log = (settings.paths.logs / "agent.log").read_text("utf-8")
    assert "+33•••••678" in log
    assert "34 56" not in log
    assert str(time.localtime().tm_year) in log
