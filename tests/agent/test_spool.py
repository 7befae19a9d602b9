"""The folder is the state; nothing that is not acknowledged ever goes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import sealed, wire
from whisperagent.errors import UsageError, WhisperError
from whisperagent.spool import Entry, Item, Spool
from whisperagent.wire import CallMetadata, CallState, SpoolState, UploadAnswer

NOW = datetime.now(UTC)


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


def queued(spool: Spool, *, call_id: str = "", part: int = 1) -> Item:
    """A recording that waits."""
    metadata = CallMetadata(
        call_id=call_id or wire.new_call_id(), extension="201", started_at=NOW, part=part, remote_party="Ada"
    )
    file = spool.create(metadata)
    sealed.Writer(file, [X25519PrivateKey.generate().public_key()], bytes(16)).finish()
    file.close()
    return spool.queue(Entry(metadata=metadata))


def receipt(item: Item) -> UploadAnswer:
    return UploadAnswer(
        call_id=item.call_id,
        part=item.part,
        state=CallState.RECEIVED,
        sha256="a" * 64,
        size=item.size,
        status_url="",
    )


def test_what_waits_is_given_oldest_first(spool: Spool) -> None:
    first, second = "00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"
    queued(spool, call_id=second)
    queued(spool, call_id=first, part=2)
    queued(spool, call_id=first)
    assert [(item.call_id, item.part) for item in spool.waiting()] == [(first, 1), (first, 2), (second, 1)]


def test_a_recording_lies_in_one_folder_only(spool: Spool) -> None:
    item = queued(spool)
    spool.reject(item, "no")
    assert [path.parent.name for path in spool.root.rglob("*.srec")] == ["rejected"]
    assert [path.parent.name for path in spool.root.rglob("*.json")] == ["rejected"]


def test_a_failure_is_written_down_with_the_next_try(spool: Spool) -> None:
    later = NOW + timedelta(minutes=5)
    spool.failed(queued(spool), "no answer", later)
    item = spool.waiting()[0]
    assert (item.attempts, item.error, item.next_attempt_at) == (1, "no answer", later)


def test_a_description_that_was_altered_is_not_believed(spool: Spool) -> None:
    item = queued(spool)
    description = item.path.with_suffix(".json")
    description.write_bytes(description.read_bytes().replace(b'"201"', b'"666"'))
    assert spool.items() == []


def test_retry_sends_rejected_and_overdue_recordings_again_at_once(spool: Spool) -> None:
    spool.reject(queued(spool), "no")
    late = queued(spool)
    spool.overdue(late)
    spool.failed(spool.find(late.call_id)[0], "no answer", NOW + timedelta(hours=1))
    assert spool.retry(spool.items()) == 2
    assert [(item.state, item.next_attempt_at) for item in spool.items()] == [(SpoolState.QUEUED, None)] * 2


def test_retry_leaves_what_the_server_has(spool: Spool) -> None:
    item = queued(spool)
    spool.done(item, receipt(item))
    assert spool.retry(spool.items()) == 0


def test_a_call_is_found_by_the_beginning_of_its_id(spool: Spool) -> None:
    item = queued(spool)
    queued(spool, call_id="00000000-0000-7000-8000-000000000001")
    assert spool.find(item.call_id[:8])[0].call_id == item.call_id


def test_a_beginning_that_two_calls_share_is_an_error(spool: Spool) -> None:
    for number in (1, 2):
        queued(spool, call_id=f"00000000-0000-7000-8000-00000000000{number}")
    with pytest.raises(UsageError, match="2 calls"):
        spool.find("0000")
    with pytest.raises(UsageError, match="no call"):
        spool.find("ffff")


def test_counts_follow_every_move_of_another_process_too(spool: Spool) -> None:
    item = queued(spool)
    other = Spool(spool.root)
    assert other.counts()["queued"] == 1
    spool.reject(item, "no")
    assert (other.counts()["queued"], other.counts()["rejected"]) == (0, 1)


def test_what_is_counted_is_what_is_listed(spool: Spool) -> None:
    queued(spool).path.unlink()
    assert (spool.items(), spool.counts()["queued"]) == ([], 0)


def test_a_recording_that_somebody_deleted_is_told_and_not_forgotten_silently(spool: Spool) -> None:
    item = queued(spool)
    item.path.unlink()
    with pytest.raises(WhisperError, match="disappeared"):
        spool.failed(item, "no answer", NOW)


# Descriptions


def test_the_description_before_is_used_where_the_newest_is_damaged(spool: Spool) -> None:
    item = queued(spool)
    spool.failed(item, "no answer", NOW)
    spool.failed(spool.waiting()[0], "no answer again", NOW)
    description = item.path.with_suffix(".json")
    description.write_bytes(bytes(description.stat().st_size))
    [left] = spool.waiting()
    assert (left.attempts, left.error, left.remote_party) == (1, "no answer", "Ada")


def test_a_damaged_description_never_takes_the_place_of_the_one_before(spool: Spool) -> None:
    item = queued(spool)
    spool.failed(item, "no answer", NOW)
    description = item.path.with_suffix(".json")
    description.write_bytes(b"")
    spool.failed(spool.waiting()[0], "later", NOW)
    description.write_bytes(b"")
    assert spool.waiting()[0].call_id == item.call_id


def test_what_was_said_before_moves_with_the_recording(spool: Spool) -> None:
    item = queued(spool)
    spool.reject(item, "no")
    spool.path(SpoolState.REJECTED, item.call_id, 1).with_suffix(".json").write_bytes(b"")
    [left] = spool.items()
    assert (left.state, left.remote_party) == (SpoolState.REJECTED, "Ada")


def test_a_description_on_a_full_disk_takes_the_room_of_the_reserve(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    item = queued(spool)
    assert spool.ballast.lay(1, 0)
    real, reserve = os.fsync, spool.root / "ballast"

    def full(handle: int) -> None:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    spool.failed(item, "no answer", NOW)
    assert spool.waiting()[0].error == "no answer"
    assert spool.ballast.thrown


# Deleting


def test_what_is_deleted_unsent_leaves_word_without_the_other_partys_name(spool: Spool) -> None:
    item = queued(spool)
    spool.failed(item, "no answer", NOW)
    spool.bury(spool.waiting()[0], "ada", "no room")
    [left] = spool.items()
    assert (left.state, left.size, left.remote_party) == (SpoolState.DROPPED, 0, "")
    assert (left.entry.metadata.size, left.error) == (item.size, "no answer")
    assert left.entry.deleted is not None
    assert (left.entry.deleted.by, left.entry.deleted.why) == ("ada", "no room")
    everything = [path for path in spool.root.rglob("*") if path.is_file()]
    assert [path.parent.name for path in everything] == ["dropped"]
    assert b"Ada" not in everything[0].read_bytes()


def test_a_call_that_is_being_recorded_is_not_deleted(spool: Spool) -> None:
    metadata = CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=NOW)
    file = spool.create(metadata)
    spool.describe(SpoolState.RECORDING, Entry(metadata=metadata))
    with pytest.raises(UsageError, match="being recorded"):
        spool.bury(spool.items()[0], "ada")
    assert file.path.exists()
    file.close()


def test_what_has_moved_on_meanwhile_is_not_deleted(spool: Spool) -> None:
    item = queued(spool)
    spool.done(item, receipt(item))
    with pytest.raises(UsageError, match="moved on"):
        spool.bury(item, "ada")
    assert [left.size for left in spool.items()] == [item.size]


def test_what_was_deleted_while_it_was_sent_stays_deleted_or_is_known_to_be_there(spool: Spool) -> None:
    lost, arrived = queued(spool), queued(spool)
    for item in (lost, arrived):
        spool.bury(item, "ada")
    spool.failed(lost, "no answer", NOW)
    spool.done(arrived, receipt(arrived))
    states = {item.call_id: item.state for item in spool.items()}
    assert states == {lost.call_id: SpoolState.DROPPED, arrived.call_id: SpoolState.DONE}


def test_a_recording_that_somebody_holds_is_still_there_when_it_cannot_be_deleted(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where the uploader has it open."""
    item = queued(spool)
    real = Path.unlink

    def held(path: Path, missing_ok: bool = False) -> None:
        if path == item.path:
            raise PermissionError(13, "in use")
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", held)
    with pytest.raises(PermissionError):
        spool.bury(item, "ada")
    assert [(left.state, left.size) for left in spool.items()] == [(SpoolState.QUEUED, item.size)]
