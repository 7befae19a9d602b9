"""What waits is told of and kept, what the server has goes in the end, and no clock can hurry it."""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st

from tests.agent.spooled import queued, receipt, sent
from whisperagent.ballast import MIB
from whisperagent.house import Housekeeper
from whisperagent.settings import Recording, Upload
from whisperagent.spool import Item, Spool
from whisperagent.wire import SpoolState

NO_FLOOR = Recording(free_mib=0, ballast_mib=0)
LATER = timedelta(hours=20)


class House:
    """A housekeeper whose days pass when the test says so, and what it told."""

    def __init__(
        self, home: Path, upload: Upload | None = None, recording: Recording = NO_FLOOR, shown: bool = True
    ) -> None:
        self.spool = Spool(home / "spool")
        self.told: list[tuple[str, str]] = []
        self.warned: list[str] = []
        self.shown = shown
        self.clock = 0.0
        self.now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
        self._home = home
        self._rules = (recording, upload or Upload())
        self.restart()

    def restart(self) -> None:
        self.keeper = Housekeeper(self._home / "house.json", self.spool, *self._rules, self._tell, self._warn)
        self.look()

    def look(self) -> None:
        asyncio.run(self.keeper.look(self.now, self.clock))

    def live(self, days: float) -> None:
        """So much time passes, in which the PC runs every day."""
        for _step in range(round(days * 2)):
            self.now += timedelta(hours=12)
            self.clock += 12 * 3600
            self.look()

    def _tell(self, event: str, call_id: str, **details: Any) -> None:
        self.told.append((event, f"day {details['days']}" if "days" in details else call_id))

    async def _warn(self, items: Sequence[Item]) -> bool:
        self.warned += [item.call_id for item in items]
        return self.shown


@pytest.fixture
def house(home: Path) -> House:
    return House(home)


def test_an_acknowledged_recording_is_deleted_after_its_days_and_leaves_a_receipt(house: House) -> None:
    item = sent(house.spool)
    house.live(7)
    assert house.spool.items()[0].size > 0
    house.live(1)
    [left] = house.spool.items()
    assert (left.size, left.entry.receipt, left.remote_party) == (0, receipt(item), "")
    assert left.entry.deleted is not None
    assert left.entry.deleted.by == "agent"


def test_the_receipt_goes_after_a_quarter_of_a_year(house: House) -> None:
    sent(house.spool)
    house.live(89)
    assert len(house.spool.items()) == 1
    house.live(2)
    assert house.spool.items() == []
    assert not [path for path in house.spool.root.rglob("*") if path.is_file()]


def test_what_is_said_to_be_sent_without_a_receipt_is_not_deleted(house: House) -> None:
    item = queued(house.spool)
    house.spool._move(SpoolState.DONE, item.entry)
    house.live(30)
    assert house.spool.items()[0].size > 0


def test_what_was_never_acknowledged_is_told_of_on_days_3_and_5_and_kept_for_ever(house: House) -> None:
    item = queued(house.spool)
    house.live(400)
    assert house.told == [("late", "day 3"), ("late", "day 5"), ("overdue", item.call_id)]
    assert [(left.state, left.size > 0) for left in house.spool.waiting()] == [(SpoolState.OVERDUE, True)]


def test_it_is_told_once_whatever_starts_again(house: House) -> None:
    queued(house.spool)
    house.live(1)
    for _start in range(8):
        house.live(1)
        house.restart()
    assert [event for event, _what in house.told] == ["late", "late", "overdue"]


def test_what_a_person_sends_again_has_all_its_days_again(house: House) -> None:
    queued(house.spool)
    house.live(8)
    house.spool.retry(house.spool.items())
    house.told.clear()
    house.live(6)
    assert house.told == [("late", "day 3"), ("late", "day 5")]


# Deleting what was never sent, where the settings want it


@pytest.fixture
def deleting(home: Path) -> House:
    return House(home, Upload(on_expiry="delete_with_notice"))


def test_an_overdue_recording_goes_a_day_after_somebody_was_told(deleting: House) -> None:
    item = queued(deleting.spool)
    deleting.live(7.5)
    assert deleting.warned == [item.call_id]
    assert deleting.spool.items()[0].size > 0
    deleting.live(1)
    [left] = deleting.spool.items()
    assert (left.state, left.size, left.remote_party) == (SpoolState.DROPPED, 0, "")
    assert left.entry.metadata.size == item.size
    assert deleting.told[-1] == ("expired", item.call_id)


def test_nothing_goes_while_nobody_could_be_told(home: Path) -> None:
    house = House(home, Upload(on_expiry="delete_with_notice"), shown=False)
    item = queued(house.spool)
    house.live(40)
    assert house.spool.items()[0].size > 0
    house.shown = True
    house.live(0.5)
    assert house.spool.items()[0].size > 0
    house.live(1)
    assert house.told[-1] == ("expired", item.call_id)


def test_a_person_who_sends_it_again_saves_it(deleting: House) -> None:
    queued(deleting.spool)
    deleting.live(7.5)
    deleting.spool.retry(deleting.spool.items())
    deleting.live(6)
    assert deleting.spool.items()[0].size > 0


def test_what_the_server_refused_is_never_deleted_by_itself(deleting: House) -> None:
    deleting.spool.reject(queued(deleting.spool), "no")
    deleting.live(60)
    assert deleting.spool.items()[0].size > 0


# Clocks


@pytest.mark.parametrize("jump", [timedelta(days=-365), timedelta(days=3650), timedelta(days=2)])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_clock_that_jumps_deletes_nothing_and_makes_nothing_overdue(
    home: Path, jump: timedelta, restarted: bool
) -> None:
    house = House(home, Upload(on_expiry="delete_with_notice"))
    queued(house.spool)
    sent(house.spool)
    house.live(1)
    house.now += jump
    if restarted:
        house.restart()
    house.look()
    assert [item.state for item in house.spool.items() if item.size] == [SpoolState.QUEUED, SpoolState.DONE]
    assert house.told == []
    house.live(8)
    assert house.spool.items()[1].size == 0, "time has stopped"


def test_a_damaged_book_only_keeps_everything_for_longer(house: House, home: Path) -> None:
    sent(house.spool)
    house.live(6)
    (home / "house.json").write_bytes(bytes(100))
    house.restart()
    house.live(6)
    assert house.spool.items()[0].size > 0
    house.live(2)
    assert house.spool.items()[0].size == 0


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["queue", "send", "fail", "reject", "retry", "restart", "lose the book", "hide"]),
        st.floats(0, 1).map(lambda days: ("live", days)),
        st.one_of(st.floats(-4000, -1.01), st.floats(1.01, 4000)).map(lambda days: ("jump", days)),
    ),
    max_size=40,
)


@given(steps=STEPS, policy=st.sampled_from(["keep", "delete_with_notice"]))
@rules(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_unsent_is_ever_gone_without_a_notice_and_word_of_it(
    tmp_path: Path, steps: list[Any], policy: Any
) -> None:
    """Whatever happens, in whatever order, with whatever clock."""
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    (tmp_path / "home").mkdir()
    house = House(tmp_path / "home", Upload(keep_days=2, on_expiry=policy))
    made: dict[str, float] = {}
    received: set[str] = set()
    for step in steps:
        waiting = house.spool.waiting()
        match step:
            case "queue":
                made[queued(house.spool).call_id] = house.clock
            case "send" if waiting:
                house.spool.done(waiting[0], receipt(waiting[0]))
                received.add(waiting[0].call_id)
            case "fail" if waiting:
                house.spool.failed(waiting[-1], "no answer", house.now + timedelta(hours=1))
            case "reject" if waiting:
                house.spool.reject(waiting[-1], "no")
            case "retry":
                house.spool.retry(house.spool.items())
            case "restart":
                house.restart()
            case "lose the book":
                (tmp_path / "home" / "house.json").unlink()
                house.restart()
            case "hide":
                house.shown = not house.shown
            case ("live", days):
                house.now += timedelta(days=days)
                house.clock += days * 86_400
                house.look()
            case ("jump", days):
                house.now += timedelta(days=days)
                house.look()
    here = {item.call_id: item for item in house.spool.items()}
    for call_id, born in made.items():
        lived_s = house.clock - born
        if call_id in received:
            assert lived_s >= 2 * 86_400 or here[call_id].size > 0
        elif here[call_id].state is SpoolState.DROPPED:
            assert policy == "delete_with_notice"
            assert call_id in house.warned
            assert lived_s >= 3 * 86_400
        else:
            assert here[call_id].size > 0


# Room


def test_beyond_the_quota_what_the_server_has_goes_first_and_nothing_else(home: Path) -> None:
    house = House(home, recording=Recording(free_mib=0, ballast_mib=0, quota_mib=1))
    old, new = sent(house.spool, seconds=10), queued(house.spool, seconds=10)
    house.look()
    assert {item.call_id: item.size > 0 for item in house.spool.items()} == {
        old.call_id: False,
        new.call_id: True,
    }
    assert house.keeper.problem is None
    queued(house.spool, seconds=10)
    house.look()
    assert house.keeper.problem is not None
    assert "more room" in house.keeper.problem.what
    assert len(house.spool.waiting()) == 2


def test_below_the_floor_the_next_call_is_warned_of_before_it_comes(home: Path) -> None:
    house = House(home, recording=Recording(free_mib=1 << 40, ballast_mib=0))
    assert house.keeper.problem is not None
    assert "next call" in house.keeper.problem.what


def test_a_reserve_is_laid_thrown_off_told_of_and_laid_again(home: Path) -> None:
    house = House(home, recording=Recording(free_mib=0, ballast_mib=2))
    ballast = home / "spool" / "ballast"
    assert ballast.stat().st_size == 2 * MIB
    assert ballast.stat().st_blocks * 512 >= 2 * MIB, "it keeps no place"
    assert house.spool.ballast.throw()
    assert not ballast.exists()
    assert house.keeper.problem is not None
    assert "disk is full" in house.keeper.problem.what
    assert not house.spool.ballast.throw(), "there is only one"
    house.look()
    assert ballast.exists()
    assert house.keeper.problem is None


def test_no_reserve_is_laid_where_it_would_take_the_last_room(home: Path) -> None:
    house = House(home, recording=Recording(free_mib=1 << 40, ballast_mib=2))
    assert not (home / "spool" / "ballast").exists()
    assert house.keeper.problem is not None


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def test_the_reserve_brings_a_recording_to_its_end_on_a_full_disk(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    house = House(home, recording=Recording(free_mib=0, ballast_mib=2))
    real, ballast = os.fsync, home / "spool" / "ballast"

    def full(handle: int) -> None:
        if ballast.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    item = queued(house.spool, seconds=3)
    assert not ballast.exists()
    assert house.spool.waiting()[0].size == item.size > 3 * 64_000
    assert house.keeper.problem is not None
