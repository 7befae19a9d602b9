"""`wa queue retry`, `export`, `drop`, `verify`: what a person and a script can do without the server."""

import json
import os
import stat
import subprocess
import sys
import uuid
import wave
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_server import FakeServer
from tests.agent.processes import AgentProcess
from tests.agent.spooled import queued, sent
from whisperagent import encode, sealed, wire
from whisperagent.keys import Keys
from whisperagent.spool import Entry, Item, Spool
from whisperagent.wire import CallMetadata, SpoolState

Wa = Callable[..., subprocess.CompletedProcess[str]]
SOUND = bytes(range(256)) * 500
"""A second of a call of two sides."""


@pytest.fixture
def wa(environment: dict[str, str]) -> Wa:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisperagent", "queue", *arguments]
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


def recorded(spool: Spool, keys: list[Any], codec: encode.Codec = "flac", cut: int = 0) -> Item:
    """`SOUND`, as the agent records it."""
    metadata = CallMetadata(
        call_id=wire.new_call_id(),
        extension="201",
        started_at=datetime.now(UTC),
        codec=codec,
        complete=not cut,
    )
    identity = uuid.UUID(metadata.call_id).bytes
    file = spool.create(metadata)
    writer = sealed.Writer(file, keys, identity, msgspec.json.encode(metadata), segment_log2=12)
    encoder = encode.Encoder(writer, codec, 2)
    encoder.write(SOUND)
    encoder.finish()
    writer.finish()
    file.close()
    item = spool.queue(Entry(metadata=metadata))
    os.truncate(item.path, item.size - cut)
    return item


# export


@pytest.mark.parametrize("codec", ["flac", "pcm"])
def test_a_call_that_a_key_of_this_pc_opens_is_exported_to_hear(
    wa: Wa, spool: Spool, home: Path, tmp_path: Path, codec: encode.Codec
) -> None:
    item = recorded(spool, Keys(home).recipients(), codec)
    done = wa("export", item.call_id[:13], "--to", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    copy, wav = map(Path, done.stdout.splitlines())
    assert copy.read_bytes() == item.path.read_bytes()
    with wave.open(str(wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 2, 2)
        assert file.readframes(file.getnframes()) == SOUND
    assert os.name != "posix" or stat.S_IMODE(wav.stat().st_mode) == 0o600
    assert "in clear as WAV" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([copy.name, wav.name])


@pytest.mark.parametrize("ours", [True, False], ids=["a key that opens nothing here", "no key"])
def test_a_call_that_only_the_server_opens_is_exported_sealed_and_that_is_said(
    wa: Wa, spool: Spool, home: Path, tmp_path: Path, ours: bool
) -> None:
    if ours:
        Keys(home).recipients()
    item = recorded(spool, [X25519PrivateKey.generate().public_key()])
    done = wa("export", item.call_id, "--to", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    [part] = json.loads(done.stdout)
    assert part["wav"] is None
    assert "the server" in part["why"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{item.call_id}.1.srec"]


def test_a_call_that_was_cut_short_is_exported_as_far_as_it_goes(
    wa: Wa, spool: Spool, home: Path, tmp_path: Path
) -> None:
    item = recorded(spool, Keys(home).recipients(), "pcm", cut=5000)
    done = wa("export", item.call_id, "--to", str(tmp_path))
    assert "cut short" in done.stderr
    with wave.open(str(tmp_path / f"{item.call_id}.1.wav")) as file:
        heard = file.readframes(file.getnframes())
    assert heard
    assert SOUND.startswith(heard)


def test_a_file_that_is_there_is_never_replaced(wa: Wa, spool: Spool, home: Path, tmp_path: Path) -> None:
    item = recorded(spool, Keys(home).recipients())
    (tmp_path / item.path.name).write_bytes(b"mine")
    done = wa("export", item.call_id, "--to", str(tmp_path))
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert (tmp_path / item.path.name).read_bytes() == b"mine"


def test_a_deleted_recording_cannot_be_exported(wa: Wa, spool: Spool, tmp_path: Path) -> None:
    buried = spool.bury(queued(spool), "ada")
    done = wa("export", buried.call_id, "--to", str(tmp_path))
    assert done.returncode == 2
    assert "not on this PC" in done.stderr


# drop


def test_dropping_leaves_word_of_it(wa: Wa, spool: Spool) -> None:
    item, other = queued(spool), queued(spool)
    done = wa("drop", item.call_id, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"call_id": item.call_id, "part": 1, "state": "dropped"}]
    assert "the server does NOT have it" in done.stderr
    assert "Ada" in done.stderr
    first, second = json.loads(wa("list", "--json").stdout)
    assert (first["state"], second["call_id"], second["state"]) == ("dropped", other.call_id, "queued")
    assert first["deleted"]["by"]
    shown = wa("show", item.call_id).stdout
    assert "deleted on" in shown
    assert "wa queue drop" in shown
    assert wa("retry", item.call_id).returncode == 2


def test_nothing_is_dropped_where_nobody_can_be_asked(wa: Wa, spool: Spool) -> None:
    item = queued(spool)
    done = wa("drop", item.call_id)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert spool.waiting()[0].size == item.size


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own needs pty")
@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 130, 1), ("\n", 130, 1)])
def test_a_person_is_asked_and_no_answer_is_no(
    environment: dict[str, str], spool: Spool, answer: str, code: int, left: int
) -> None:
    import pty  # no Windows has it

    item = queued(spool)
    master, slave = pty.openpty()
    try:
        os.write(master, answer.encode())
        command = [sys.executable, "-m", "whisperagent", "queue", "drop", item.call_id]
        done = subprocess.run(command, env=environment, stdin=slave, stderr=slave, check=False, timeout=60)
    finally:
        os.close(slave)
        os.close(master)
    assert done.returncode == code
    assert len(spool.waiting()) == left


def test_what_the_server_has_keeps_its_receipt(wa: Wa, spool: Spool) -> None:
    item = sent(spool)
    done = wa("drop", item.call_id, "--yes")
    assert "the server has it" in done.stderr
    [left] = spool.items()
    assert (left.state, left.size, left.entry.receipt) == (SpoolState.DONE, 0, item.entry.receipt)


def test_a_call_that_is_being_recorded_is_not_dropped(wa: Wa, spool: Spool) -> None:
    metadata = CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=datetime.now(UTC))
    spool.create(metadata).close()
    spool.describe(SpoolState.RECORDING, Entry(metadata=metadata))
    other = queued(spool)
    done = wa("drop", metadata.call_id, other.call_id, "--yes")
    assert done.returncode == 2
    assert "wa agent private" in done.stderr
    assert len(spool.items()) == 2
    assert spool.waiting()[0].size == other.size


# verify


def test_a_queue_in_order_is_0_and_one_that_is_not_is_1(wa: Wa, spool: Spool, home: Path) -> None:
    item = recorded(spool, Keys(home).recipients())
    done = wa("verify")
    assert (done.returncode, done.stdout) == (0, "")
    assert "all is in order" in done.stderr
    data = bytearray(item.path.read_bytes())
    data[-50] ^= 1
    item.path.write_bytes(data)
    done = wa("verify", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["recordings"], report["opened"]) == (1, 1)
    assert report["faults"][0]["path"] == str(item.path)
    assert wa("verify", "ffff").returncode == 2


# retry


@pytest.fixture
def agent(environment: dict[str, str], call: Path) -> AgentProcess:
    """One that only sends: its call is so slow that it only rings."""
    return AgentProcess(environment, call, 0.1)


def test_retry_stays_until_all_is_sent(
    wa: Wa, spool: Spool, home: Path, server: FakeServer, agent: AgentProcess
) -> None:
    spool.reject(recorded(spool, Keys(home).recipients()), "no")
    server.start()
    with agent:
        agent.wait_for(lambda: bool(agent.status()))
        done = wa("retry", "--all", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert [item["state"] for item in json.loads(done.stdout)] == ["done"]
    assert len(server.stored) == 1


def test_retry_tells_what_the_server_refuses(
    wa: Wa, spool: Spool, home: Path, server: FakeServer, agent: AgentProcess
) -> None:
    recorded(spool, Keys(home).recipients())
    server.fail = lambda _metadata: (422, {"type": "about:blank", "title": "too loud", "status": 422})
    server.start()
    with agent:
        agent.wait_for(lambda: bool(agent.status()))
        done = wa("retry", "--all", "--wait")
    assert done.returncode == 1
    assert "too loud" in done.stderr


def test_retry_without_a_server_ends_after_its_time_with_3(
    wa: Wa, spool: Spool, home: Path, agent: AgentProcess
) -> None:
    item = recorded(spool, Keys(home).recipients())
    with agent:
        agent.wait_for(lambda: bool(agent.status().get("server_error")))
        done = wa("retry", item.call_id, "--timeout", "0.5")
    assert done.returncode == 3
    assert "cannot reach" in done.stderr
    assert len(spool.waiting()) == 1


def test_retry_waits_for_no_agent_that_is_not_there(wa: Wa, spool: Spool) -> None:
    queued(spool)
    done = wa("retry", "--all", "--wait")
    assert done.returncode == 1
    assert "wa agent run" in done.stderr
    assert wa("retry", "--all").returncode == 0
