"""Whatever a crash left in the spool, the next start brings it into order and loses nothing."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.agent.fakes import pcm
from whisperagent import sealed, wire
from whisperagent.recovery import conclude, recover
from whisperagent.spool import Entry, Spool
from whisperagent.wire import CallMetadata, SpoolState

KEY = X25519PrivateKey.generate()
OURS = CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=datetime.now(UTC))
SECOND = bytes(4 * 16_000)


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


def cut_off(
    spool: Spool, *, call_id: str = "", part: int = 1, seconds: int = 3, confirmed: bool = True
) -> CallMetadata:
    """A recording whose agent was killed: the last segment is missing."""
    metadata = CallMetadata(
        call_id=call_id or wire.new_call_id(), extension="201", started_at=datetime.now(UTC), part=part
    )
    file = spool.create(metadata)
    writer = sealed.Writer(file, [KEY.public_key()], bytes(16), segment_log2=14)
    spool.describe(SpoolState.RECORDING, Entry(metadata=metadata, confirmed=confirmed))
    for _second in range(seconds):
        writer.write(SECOND)
    file.close()
    return metadata


def test_a_recording_that_was_cut_off_is_given_back_with_its_length(spool: Spool) -> None:
    metadata = cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    assert (item.call_id, item.entry.metadata.complete) == (metadata.call_id, False)
    assert 2.5 < item.duration_s <= 3.0


def test_once_concluded_it_waits_as_the_incomplete_end_of_its_call(spool: Spool) -> None:
    cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    conclude(spool, item, last=True)
    known = spool.waiting()[0].entry.metadata
    assert (known.last, known.complete) == (True, False)


def test_an_earlier_part_that_was_cut_off_is_not_the_end_of_its_call(spool: Spool) -> None:
    first = cut_off(spool)
    cut_off(spool, call_id=first.call_id, part=2)
    [item] = recover(spool, OURS).interrupted
    assert item.part == 2
    assert [(waiting.part, waiting.entry.metadata.last) for waiting in spool.waiting()] == [(1, False)]


def test_a_next_part_without_a_sound_gives_its_place_back(spool: Spool) -> None:
    first = cut_off(spool)
    cut_off(spool, call_id=first.call_id, part=2, seconds=0)
    [item] = recover(spool, OURS).interrupted
    assert item.part == 1


def test_what_was_never_sure_to_be_a_call_is_deleted(spool: Spool) -> None:
    cut_off(spool, confirmed=False)
    [item] = recover(spool, OURS).interrupted
    assert conclude(spool, item, last=True) is None
    assert not list(spool.root.rglob("*.*"))


def test_a_recording_without_a_description_gets_one_from_its_name(spool: Spool) -> None:
    metadata = cut_off(spool)
    spool.path(SpoolState.RECORDING, metadata.call_id, 1).with_suffix(".json").unlink()
    [item] = recover(spool, OURS).interrupted
    assert (item.call_id, item.part, item.entry.metadata.extension) == (metadata.call_id, 1, "201")
    assert abs((item.started_at - metadata.started_at).total_seconds()) < 1


def test_a_damaged_description_is_set_aside_and_made_anew(spool: Spool) -> None:
    metadata = cut_off(spool)
    description = spool.path(SpoolState.RECORDING, metadata.call_id, 1).with_suffix(".json")
    description.write_bytes(bytes(100))
    found = recover(spool, OURS)
    assert len(found.interrupted) == 1
    assert len(found.notes) == 1
    assert description.with_name(description.name + ".damaged").exists()


@pytest.mark.parametrize("target", [SpoolState.QUEUED, SpoolState.DONE, SpoolState.REJECTED])
def test_half_a_move_leaves_the_recording_where_its_bytes_are(spool: Spool, target: SpoolState) -> None:
    """A move writes the description first: a crash then leaves two descriptions and one recording."""
    cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    spool.describe(target, item.entry)
    [again] = recover(spool, OURS).interrupted
    assert again.path == item.path
    assert len(list(spool.root.rglob("*.json"))) == 1


def test_the_other_half_of_a_move_is_finished(spool: Spool) -> None:
    """A crash after the rename leaves the old description behind."""
    cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    spool.describe(SpoolState.QUEUED, item.entry)
    item.path.rename(spool.path(SpoolState.QUEUED, item.call_id, 1))
    assert recover(spool, OURS).interrupted == []
    assert [path.parent.name for path in spool.root.rglob("*.json")] == ["queued"]
    assert len(spool.waiting()) == 1


def test_stale_temporary_files_go_and_young_ones_stay(spool: Spool) -> None:
    old, young = spool.root / "queued" / "a.1.tmp", spool.root / "queued" / "b.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    recover(spool, OURS)
    assert (old.exists(), young.exists()) == (False, True)


def test_what_is_not_ours_is_told_and_left_alone(spool: Spool) -> None:
    for name in ("holiday.jpg", "00000000-0000-0000-0000-000000000000.1.txt"):
        (spool.root / "queued" / name).write_bytes(b"?")
    (spool.root / "done" / "folder.json").mkdir()
    found = recover(spool, OURS)
    assert len(found.notes) == 3
    assert len(list(spool.root.rglob("*.jpg"))) == 1


def test_a_file_that_is_no_recording_is_rejected_and_kept(spool: Spool) -> None:
    path = spool.path(SpoolState.RECORDING, wire.new_call_id(), 1)
    path.write_bytes(b"\0" * 5000)
    found = recover(spool, OURS)
    assert len(found.notes) == 1
    assert [item.state for item in spool.items()] == [SpoolState.REJECTED]
    assert (spool.root / "rejected" / path.name).read_bytes() == b"\0" * 5000


def test_a_file_that_was_cut_within_its_header_holds_nothing_and_goes(spool: Spool) -> None:
    metadata = cut_off(spool)
    path = spool.path(SpoolState.RECORDING, metadata.call_id, 1)
    path.write_bytes(path.read_bytes()[:100])
    found = recover(spool, OURS)
    assert (found.interrupted, len(found.notes)) == ([], 1)
    assert not list(spool.root.rglob("*.*"))


def test_a_description_whose_recording_has_disappeared_is_told_at_every_start(spool: Spool) -> None:
    cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    waiting = conclude(spool, item, last=True)
    assert waiting is not None
    waiting.path.unlink()
    for _start in range(2):
        assert "disappeared" in recover(spool, OURS).notes[0]


def test_a_damaged_description_is_made_anew_from_the_one_before(spool: Spool) -> None:
    metadata = cut_off(spool)
    description = spool.path(SpoolState.RECORDING, metadata.call_id, 1).with_suffix(".json")
    spool.describe(
        SpoolState.RECORDING, Entry(metadata=msgspec.structs.replace(metadata, remote_party="Ada"))
    )
    spool.describe(SpoolState.RECORDING, Entry(metadata=metadata))
    description.write_bytes(bytes(100))
    [item] = recover(spool, OURS).interrupted
    assert item.remote_party == "Ada"


def test_what_is_done_without_a_receipt_is_sent_again(spool: Spool) -> None:
    """The word of it was lost; the server stores nothing twice."""
    cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    sent = conclude(spool, item, last=True)
    assert sent is not None
    spool._move(SpoolState.DONE, sent.entry)
    recover(spool, OURS)
    assert [left.state for left in spool.items()] == [SpoolState.QUEUED]


@pytest.mark.parametrize("gone", [False, True], ids=["before its file", "after its file"])
def test_a_deletion_that_was_cut_off_is_undone_or_finished(spool: Spool, gone: bool) -> None:
    cut_off(spool)
    [item] = recover(spool, OURS).interrupted
    waiting = conclude(spool, item, last=True)
    assert waiting is not None
    spool.describe(SpoolState.DROPPED, waiting.entry)
    if gone:
        waiting.path.unlink()
    for _start in range(2):
        found = recover(spool, OURS)
        assert found.notes == []
    assert [(left.state, left.size > 0) for left in spool.items()] == [
        (SpoolState.DROPPED, False) if gone else (SpoolState.QUEUED, True)
    ]
    assert len(list(spool.root.rglob("*.json"))) == 1


def test_that_the_server_has_it_weighs_more_than_that_it_was_deleted(spool: Spool) -> None:
    metadata = cut_off(spool)
    for state in (SpoolState.DONE, SpoolState.DROPPED):
        spool.describe(state, Entry(metadata=metadata))
    spool.path(SpoolState.RECORDING, metadata.call_id, 1).unlink()
    recover(spool, OURS)
    assert [path.parent.name for path in spool.root.rglob("*.json")] == ["done"]


name = st.sampled_from(
    ["01a20ca2-7433-7253-8348-27a582396115.1", "01a20ca2-7433-7253-8348-27a582396115.2", "x", "../y", "é"]
).map(lambda text: text.replace("/", "_"))
suffix = st.sampled_from([".srec", ".json", ".json.1", ".json.damaged", ".json.99.tmp", ""])
content = st.one_of(st.binary(max_size=200), st.just(b"{}"), st.just(sealed.MAGIC + bytes(300)))
litter = st.lists(st.tuples(st.sampled_from(list(SpoolState)), name, suffix, content), max_size=8)


@given(litter=litter, seconds=st.integers(0, 2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_litter_stops_recovery_nor_costs_a_recording(
    tmp_path: Path, litter: list[tuple[SpoolState, str, str, bytes]], seconds: int
) -> None:
    shutil.rmtree(tmp_path / "spool", ignore_errors=True)
    spool = Spool(tmp_path / "spool")
    metadata = cut_off(spool, seconds=seconds + 1)
    before = pcm(spool.path(SpoolState.RECORDING, metadata.call_id, 1), KEY)
    for state, stem, ending, data in litter:
        (spool.root / state / (stem + ending)).write_bytes(data)
    for _start in range(2):
        recover(spool, OURS)
    [kept] = spool.root.rglob(f"{metadata.call_id}.1.srec")
    assert pcm(kept, KEY) == before
    written = {(state, stem): data for state, stem, ending, data in litter if ending == ".srec"}
    on_disk = {path.read_bytes() for path in spool.root.rglob("*") if path.is_file()}
    assert {data for data in written.values() if data} <= on_disk
