"""A wait is never longer than the rule, whatever the PC's clock says meanwhile."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from whisperagent import wire
from whisperagent.patience import Patience
from whisperagent.spool import Entry, Item
from whisperagent.wire import CallMetadata, SpoolState

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
CALL = wire.new_call_id()


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def due(at: datetime | None) -> Item:
    metadata = CallMetadata(call_id=CALL, extension="201", started_at=NOW)
    return Item(SpoolState.QUEUED, Entry(metadata=metadata, next_attempt_at=at), Path(), 1)


def test_what_is_due_in_ten_minutes_waits_ten_minutes() -> None:
    clock = Clock()
    patience, item = Patience(3600, clock), due(NOW + timedelta(minutes=10))
    assert patience.left_s(item, NOW) == 600
    clock.seconds = 599
    assert patience.left_s(item, NOW) == 1
    clock.seconds = 601
    assert patience.left_s(item, NOW) == 0


def test_a_clock_that_is_set_back_while_it_waits_changes_nothing() -> None:
    clock = Clock()
    patience, item = Patience(3600, clock), due(NOW + timedelta(minutes=10))
    patience.left_s(item, NOW)
    clock.seconds = 601
    assert patience.left_s(item, NOW - timedelta(days=365)) == 0


def test_a_person_who_asks_for_another_try_is_obeyed_at_once() -> None:
    patience = Patience(3600, Clock())
    assert patience.left_s(due(NOW + timedelta(minutes=10)), NOW) == 600
    assert patience.left_s(due(None), NOW) == 0


@given(
    ahead_s=st.floats(-1e9, 1e9),
    jumps_s=st.lists(st.floats(-1e9, 1e9), max_size=5),
    longest_s=st.floats(1, 3600),
)
def test_after_the_longest_wait_everything_is_due(
    ahead_s: float, jumps_s: list[float], longest_s: float
) -> None:
    clock = Clock()
    patience, item = Patience(longest_s, clock), due(NOW + timedelta(seconds=ahead_s))
    assert 0 <= patience.left_s(item, NOW) <= longest_s
    for jump_s in jumps_s:
        assert patience.left_s(item, NOW + timedelta(seconds=jump_s)) <= longest_s
    clock.seconds = longest_s
    assert patience.left_s(item, NOW) == 0
