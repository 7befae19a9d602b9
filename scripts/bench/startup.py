"""How long `wa` takes to answer: DESIGN's budget is 150 ms on an idle core.

`python scripts/bench/startup.py [-n 20]` starts each program n times, in turns, so that whatever else the
machine does falls on all of them alike. It prints medians in ms, their ratio to a bare `python -c pass`
of the same run, and the fastest of all, which is what the machine does when it is not disturbed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

BUDGET_MS = 150.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=20, help="how often each is started")
    times = parser.parse_args().n
    wa = str(Path(sysconfig.get_path("scripts")) / "wa")
    programs = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "wa --help": [wa, "--help"],
        "wa agent status": [wa, "agent", "status"],
        "wa config show": [wa, "config", "show"],
    }
    taken_ms: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"WA_HOME": home, "LANG": "C.UTF-8"}
        for turn in range(times + 1):
            for name, command in programs.items():
                began = time.perf_counter()
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                elapsed_ms = (time.perf_counter() - began) * 1000
                # 1: `wa agent status` of a PC where no agent runs.
                if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                    sys.exit(f"{name} failed:\n{done.stderr}")
                if turn:  # the first turn fills the caches
                    taken_ms[name].append(elapsed_ms)
    bare_ms = statistics.median(taken_ms["python -c pass"])
    print(f"{'':18} {'median':>9} {'ratio':>7} {'fastest':>9}")
    for name, all_ms in taken_ms.items():
        median_ms = statistics.median(all_ms)
        print(f"{name:18} {median_ms:6.0f} ms {median_ms / bare_ms:6.1f}x {min(all_ms):6.0f} ms")
    slow = [name for name, all_ms in taken_ms.items() if statistics.median(all_ms) > BUDGET_MS]
    if slow:
        sys.exit(f"above {BUDGET_MS:.0f} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
