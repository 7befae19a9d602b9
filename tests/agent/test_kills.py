"""kill -9 at any moment of record, seal, queue and send: afterwards every call is accounted for.

What must hold at the end: the server has each call once, its parts in order and the last one marked, all of
them authentic pieces of what was played; the PC has a receipt for each, and nothing else.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from tests.agent.fake_server import FakeServer
from tests.agent.fakes import frames, noise_call
from tests.agent.processes import AgentProcess
from whisperagent import sealed, wire
from whisperagent.keys import Keys
from whisperagent.spool import Entry, Spool
from whisperagent.wire import CallMetadata, SpoolState


@pytest.mark.slow
def test_a_call_survives_an_agent_that_is_killed_again_and_again(
    environment: dict[str, str], home: Path, server: FakeServer, tmp_path: Path
) -> None:
    call = noise_call(tmp_path / "call.wav", 40)
    server.start()
    environment |= {"WA_DETECTION__RESUME_S": "5"}
    kill_at_random(environment, call, 4.0, Random(1), 8)
    finish(environment, call, 4.0)

    items = Spool(home / "spool").items()
    assert [item.state for item in items] == [SpoolState.DONE] * len(items)
    assert {(item.call_id, item.part) for item in items} == set(server.stored)
    assert len({item.call_id for item in items}) == 1
    parts = [server.stored[key][1] for key in sorted(server.stored)]
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    # Every part is one unbroken piece of the call, and they follow each other.
    heard = [server.pcm(call_id, part).strip(b"\0") for call_id, part in sorted(server.stored)]
    places = [frames(call).find(piece) for piece in heard if piece]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.slow
def test_a_queue_survives_an_agent_that_is_killed_while_it_sends(
    environment: dict[str, str], home: Path, server: FakeServer, tmp_path: Path
) -> None:
    call = noise_call(tmp_path / "call.wav", 1)
    calls = {waiting(Spool(home / "spool"), Keys(home)) for _number in range(40)}
    server.fail = lambda _metadata: time.sleep(0.1)
    server.start()
    kill_at_random(environment, call, 0.1, Random(2), 5)  # so slow that it only rings
    assert len(server.stored) < len(calls), "the agent was never killed in the middle"
    finish(environment, call, 50.0)

    items = Spool(home / "spool").items()
    assert [item.state for item in items] == [SpoolState.DONE] * len(calls)
    assert {call_id for call_id, _part in server.stored} == calls
    assert all(server.pcm(call_id) == bytes(64_000) for call_id in calls)


def kill_at_random(environment: dict[str, str], call: Path, speed: float, chance: Random, kills: int) -> None:
    """Start the agent so many times, and kill it within a second of its first word."""
    for _kill in range(kills):
        with AgentProcess(environment, call, speed) as agent:
            agent.wait_for(lambda agent=agent: bool(agent.status()))  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.8))
            agent.kill()


def finish(environment: dict[str, str], call: Path, speed: float) -> None:
    """Let it do what is left to do."""
    with AgentProcess(environment, call, speed, "--once") as agent:
        assert agent.process.wait(60) == 0, agent.errors()


def waiting(spool: Spool, keys: Keys) -> str:
    """A second of silence that waits for the server; gives its call."""
    metadata = CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=datetime.now(UTC))
    file = spool.create(metadata)
    writer = sealed.Writer(file, keys.recipients(), bytes(16))
    writer.write(bytes(64_000))
    writer.finish()
    file.close()
    return spool.queue(Entry(metadata=metadata)).call_id
