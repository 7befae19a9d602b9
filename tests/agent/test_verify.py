"""Whatever is wrong in the spool is found and named, with a key and without, and nothing is touched."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.spooled import KEY, queued, receipt, sent
from whisperagent.spool import Item, Spool
from whisperagent.verify import Report, verify
from whisperagent.wire import SpoolState

Damage = Callable[[Item], object]


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


def faults(report: Report) -> list[str]:
    return [fault.what for fault in report.faults]


def contents(spool: Spool) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in spool.root.rglob("*") if path.is_file()}


def flip(item: Item, at: int) -> None:
    data = bytearray(item.path.read_bytes())
    data[at] ^= 1
    item.path.write_bytes(data)


def cut(item: Item, count: int) -> None:
    os.truncate(item.path, item.size - count)


def test_a_spool_in_order_has_no_fault(spool: Spool) -> None:
    queued(spool)
    spool.reject(queued(spool), "no")
    spool.bury(queued(spool), "ada")
    report = verify(spool, KEY)
    assert (report.recordings, report.opened, report.faults) == (2, 2, [])


def test_without_a_key_only_the_structure_is_looked_at(spool: Spool) -> None:
    queued(spool)
    report = verify(spool, None)
    assert (report.recordings, report.opened, report.faults) == (1, 0, [])


DAMAGES: list[tuple[Damage, str]] = [
    (lambda item: cut(item, 1), "cut short"),
    (lambda item: cut(item, 1000), "cut short"),
    (lambda item: item.path.write_bytes(b""), "not a sealed recording"),
    (lambda item: item.path.write_bytes(item.path.read_bytes()[:50]), "cut short"),
    (lambda item: item.path.write_bytes(bytes(1000)), "not a sealed recording"),
    (lambda item: item.path.unlink(), "disappeared"),
    (lambda item: flip(item, 16), "recording of another call"),
    (lambda item: item.path.with_suffix(".json").unlink(), "no description"),
    (lambda item: item.path.with_suffix(".json").write_bytes(b"{}"), "description is damaged"),
    (lambda item: (item.path.parent / "holiday.jpg").write_bytes(b"beach"), "not ours"),
]


@pytest.mark.parametrize(("damage", "what"), DAMAGES)
def test_each_damage_is_found_without_a_key(spool: Spool, damage: Damage, what: str) -> None:
    whole, item = queued(spool), queued(spool)
    damage(item)
    before = contents(spool)
    report = verify(spool, None)
    assert len(report.faults) == 1
    assert what in report.faults[0].what
    assert whole.path != report.faults[0].path
    assert contents(spool) == before


@pytest.mark.parametrize("at", [-1, -40, -20_000])
def test_a_damaged_segment_is_found_with_a_key_only(spool: Spool, at: int) -> None:
    flip(queued(spool), at)
    assert verify(spool, None).faults == []
    assert len(verify(spool, KEY).faults) == 1


def test_an_earlier_description_that_is_used_is_told_of(spool: Spool) -> None:
    item = queued(spool)
    spool.failed(item, "no answer", item.started_at)
    item.path.with_suffix(".json").write_bytes(b"")
    assert faults(verify(spool, KEY)) == ["its newest description is damaged; the one before it is used"]


def test_a_recording_in_two_folders_is_told_of(spool: Spool) -> None:
    item = queued(spool)
    copy = spool.path(SpoolState.REJECTED, item.call_id, 1)
    copy.write_bytes(item.path.read_bytes())
    copy.with_suffix(".json").write_bytes(item.path.with_suffix(".json").read_bytes())
    assert faults(verify(spool, KEY)) == ["it lies in several folders: queued, rejected"]


def test_other_bytes_than_the_server_has_are_told_of(spool: Spool) -> None:
    sent(spool)  # its receipt is of no real bytes
    assert faults(verify(spool, KEY)) == ["it is not what the server says that it has"]


def test_the_bytes_that_the_server_has_are_in_order(spool: Spool) -> None:
    import msgspec

    item = queued(spool)
    digest = hashlib.sha256(item.path.read_bytes()).hexdigest()
    spool.done(item, msgspec.structs.replace(receipt(item), sha256=digest))
    assert verify(spool, KEY).faults == []


def test_what_is_called_cut_short_may_be_cut_short(spool: Spool) -> None:
    import msgspec

    item = queued(spool)
    metadata = msgspec.structs.replace(item.entry.metadata, complete=False)
    spool.describe(SpoolState.QUEUED, msgspec.structs.replace(item.entry, metadata=metadata))
    cut(item, 1000)
    assert verify(spool, KEY).faults == []


def test_one_call_may_be_looked_at_alone(spool: Spool) -> None:
    whole, damaged = queued(spool), queued(spool)
    cut(damaged, 1)
    assert verify(spool, KEY, (whole.call_id,)).faults == []
    assert len(verify(spool, KEY, (damaged.call_id,)).faults) == 1
