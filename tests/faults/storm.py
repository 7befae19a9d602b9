"""Several houses at once, until enough has been broken."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.faults import programs
from tests.faults.accounting import Account
from tests.faults.house import House

HOUSES = 3


def run(
    root: Path, seed: int, faults: int, limit_s: float, make: Callable[[Path, int], House] = House
) -> Account:
    """One run, in HOUSES houses side by side; every run is told by its seed.

    faults: about how many in all. limit_s: after which it is enough all the same. make: builds a house.
    """
    print(f"seed {seed}", file=sys.stderr)
    programs.context()  # before there are threads
    account = Account()
    with ThreadPoolExecutor(HOUSES) as pool:
        share = -(-faults // HOUSES)
        seeds = [seed * HOUSES + number for number in range(HOUSES)]
        for one in pool.map(partial(_house, root, share, limit_s, make), seeds):
            account.add(one)
    print(account.report())
    return account


def _house(root: Path, faults: int, limit_s: float, make: Callable[[Path, int], House], seed: int) -> Account:
    house = make(root / f"house-{seed}", seed)
    try:
        house.storm(faults, limit_s)
        house.calm()
        return house.account()
    finally:
        house.close()
