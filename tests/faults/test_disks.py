"""A disk that is really full: on the PC and on the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disk import small_disk
from tests.faults.house import CALM, House
from whisperagent.spool import Spool

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 2
LATER_MIB = 200
STORM_S = 12.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "house", 1, CALM)
    yield house
    house.close()


def test_a_pc_whose_disk_is_full_says_so_and_loses_nothing_that_it_has(house: House) -> None:
    with small_disk(house.pc, MIB) as disk:
        house.full = disk.mounted
        house.storm(1, STORM_S)
        told = sum(any(life.told for life in call.lives) for call in house.calls)
        disk.grow(LATER_MIB)
        house.calm()
        account = house.account()
    assert account.balanced, account.report()
    assert account.on_server > 0
    # Where no disk can be mounted nothing was full; the storms of test_storm.py refuse writes anywhere.
    assert told > 0 or not disk.mounted


def test_a_server_whose_disk_is_full_takes_no_call_and_the_pc_keeps_it(house: House) -> None:
    with small_disk(house.server_home, MIB) as disk:
        house.storm(1, STORM_S)
        waiting = Spool(house.pc / "spool").waiting()
        disk.grow(LATER_MIB)
        house.calm()
        account = house.account()
    assert account.balanced, account.report()
    assert account.on_server == account.made
    if disk.mounted:
        assert any("disk is too full" in item.error for item in waiting), [item.error for item in waiting]
