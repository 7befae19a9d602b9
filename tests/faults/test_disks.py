"""A disk that is really full: on the PC and on the server."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.disk import small_disk
from tests.faults.house import CALM, House
from whisperagent.spool import Spool

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 2
LATER_MIB = 200
PLAY_S = 60.0
FULL = "disk is too full"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "house", 1, CALM)
    yield house
    house.close()


def test_a_pc_whose_disk_is_full_says_so_and_loses_nothing_that_it_has(house: House) -> None:
    with small_disk(house.pc, MIB) as disk:
        house.full = disk.mounted
        told = play_until(house, lambda: any(life.told for call in house.calls for life in call.lives))
        disk.grow(LATER_MIB)
        house.calm()
        account = house.account()
    assert account.balanced, account.report()
    assert account.on_server > 0
    # Where no disk can be mounted nothing was full; the storms of test_storm.py refuse writes anywhere.
    assert told or not disk.mounted


def test_a_server_whose_disk_is_full_takes_no_call_and_the_pc_keeps_it(house: House) -> None:
    spool = Spool(house.pc / "spool")
    with small_disk(house.server_home, MIB) as disk:
        refused = play_until(house, lambda: any(FULL in item.error for item in spool.waiting()))
        disk.grow(LATER_MIB)
        house.calm()
        account = house.account()
    assert account.balanced, account.report()
    assert account.on_server == account.made
    assert refused or not disk.mounted


def play_until(house: House, true: Callable[[], bool]) -> bool:
    """Play calls until it is so, or for long enough; is it so?"""
    end = time.monotonic() + PLAY_S
    while not true() and time.monotonic() < end:
        house.storm(1, 1.0)
    return true()
