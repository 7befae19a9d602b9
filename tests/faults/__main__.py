"""`scripts/faults`: break things for as long as you like, and count at the end."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import storm
from tests.faults.accounting import Account

RUN_S = 60.0
"""A run of its own every minute: its accounting is short to read, and its seed short to repeat."""


def main() -> int:
    parser = argparse.ArgumentParser("faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, help="keep every house in this folder")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    total, seed = Account(), given.seed
    while (left_s := end - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory(prefix="wa-faults-") as folder:
            account = storm.run(given.keep or Path(folder), seed, sys.maxsize, min(RUN_S, left_s))
        total.add(account)
        seed += 1
    print(f"\nseeds {given.seed}..{seed - 1}\n{total.report()}")
    return 0 if total.balanced else 1


if __name__ == "__main__":
    sys.exit(main())
