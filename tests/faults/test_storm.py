"""Everything breaks, again and again; afterwards every call is on the server exactly once, or on the PC.

The negative controls break a promise as well: a suite that does not notice has not looked.
"""

from functools import partial
from pathlib import Path

import pytest

from tests.faults import network, storm
from tests.faults.house import CALM, House, Weather

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 4
FAULTS = 510


def test_no_call_is_lost_torn_or_there_twice_whatever_breaks(tmp_path: Path) -> None:
    account = storm.run(tmp_path, SEED, FAULTS, 400)
    assert account.balanced, account.report()
    assert account.faults.total() >= 500
    assert account.on_server > 20
    happened = {kind.split(": ")[-1] for kind in account.faults}
    assert happened >= {"kill -9", "kill -9 at its disk", "power cut", "ENOSPC", "EIO", *network.KINDS}
    assert happened >= {"clock jump of -365 days", "clock jump of +3650 days"}


KILLS = Weather(kill=0.6, cut=0, fail=0, jumps=0, network=0.3)
CUTS = Weather(kill=0, cut=0.8, fail=0, outside=0, server=0, jumps=0, network=0)


@pytest.mark.parametrize(
    ("weather", "sabotage", "no_sync"),
    [
        pytest.param(KILLS, ("no_recovery", ""), False, id="recovery switched off"),
        pytest.param(KILLS, ("forget_unacknowledged", ""), False, id="forgotten before the receipt"),
        pytest.param(KILLS, ("", "acknowledge_early"), False, id="acknowledged before it is stored"),
        pytest.param(CUTS, ("", ""), True, id="fsync switched off"),
    ],
)
def test_a_broken_promise_is_noticed(
    tmp_path: Path, weather: Weather, sabotage: tuple[str, str], no_sync: bool
) -> None:
    agent, server = (f"tests.faults.controls:{name}" if name else "" for name in sabotage)
    make = partial(House, weather=weather, sabotage=(agent, server), no_sync=no_sync)
    account = storm.run(tmp_path, SEED, 60, 60, make)
    assert not account.balanced
    assert account.problems


def test_a_house_in_which_nothing_breaks_is_in_order(tmp_path: Path) -> None:
    """Else the accounting would find nothing wrong because it finds nothing."""
    account = storm.run(tmp_path, SEED, 1, 5, partial(House, weather=CALM))
    assert account.balanced, account.report()
    assert account.on_server == account.made > 2
    assert account.worst_loss_s == 0.0
