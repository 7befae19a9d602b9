"""What the agent costs the PC it runs on: memory and processor, idle and while it records.

`python scripts/bench/agent.py [--seconds 30] [--layout split]` runs `wa agent run --headless --simulate`
without a server, as on the worst day, and reads what the system says of the process. Beside it sleeps a bare
Python, so that the numbers can be compared between machines. Budget (DESIGN): 60 MB and 0.5 % of a core
idle, 80 MB and 3 % while recording. Exit 1 above it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil

RATE = 16_000
BUDGET = {"idle": (60.0, 0.5), "recording": (80.0, 3.0)}
"""MB of resident memory, per cent of one core."""
SETTLE_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each state is measured")
    parser.add_argument("--layout", choices=("split", "mono"), default="split")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        short, long = call(home / "short.wav", 1), call(home / "long.wav", SETTLE_S + chosen.seconds + 20)
        with running([sys.executable, "-c", "import time; time.sleep(3600)"], {}) as bare:
            bare_mb = bare.memory_info().rss / 1e6
        # A call that is over at once leaves the agent idle; the other one outlasts the measurement.
        measured = {
            "idle": agent(home / "idle", short, chosen, "idle"),
            "recording": agent(home / "recording", long, chosen, "call"),
        }
    print(f"{'':10} {'memory':>9} {'of a bare Python':>17} {'of a core':>10}   budget")
    print(f"{'python':10} {bare_mb:6.1f} MB {1:16.1f}x")
    over = []
    for name, (mb, percent) in measured.items():
        most_mb, most_percent = BUDGET[name]
        budget = f"{most_mb:.0f} MB, {most_percent} %"
        print(f"{name:10} {mb:6.1f} MB {mb / bare_mb:16.1f}x {percent:8.2f} %   {budget}")
        if mb > most_mb or percent > most_percent:
            over.append(name)
    if over:
        sys.exit(f"above the budget: {', '.join(over)}")


def agent(home: Path, file: Path, chosen: argparse.Namespace, state: str) -> tuple[float, float]:
    """MB and per cent of a core of an agent that has been in `state` for a while; its peak memory."""
    command = [sys.executable, "-m", "whisperagent", "agent", "run", "--headless", "--simulate", str(file)]
    settings = {
        "WA_HOME": str(home),
        "WA_AGENT__EXTENSION": "201",
        "WA_SERVER__URL": "http://127.0.0.1:9",
        "WA_RECORDING__LAYOUT": chosen.layout,
        "WA_RECORDING__FREE_MIB": "0",
        "WA_DETECTION__RESUME_S": "1",
    }
    with running(command, settings) as process:
        wait_for(home, state)
        time.sleep(SETTLE_S)
        before = process.cpu_times()
        began = time.monotonic()
        memory_mb = 0.0
        while (elapsed_s := time.monotonic() - began) < chosen.seconds:
            memory_mb = max(memory_mb, process.memory_info().rss / 1e6)
            time.sleep(1)
        after = process.cpu_times()
        wait_for(home, state)
    used_s = after.user + after.system - before.user - before.system
    return memory_mb, 100 * used_s / elapsed_s


def wait_for(home: Path, state: str) -> None:
    """Until the agent says that it is in this state, and not before the call that it was started with."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            status = json.loads((home / "agent.json").read_bytes())
        except FileNotFoundError:
            status = {"state": "", "calls_today": 0}
        if status["state"] == state and (state == "call" or over(home)):
            return
        time.sleep(0.1)
    sys.exit(f"the agent was never in state {state}")


def over(home: Path) -> bool:
    """Has the short call come and gone? It is in the log either way."""
    log = home / "logs" / "agent.log"
    return log.exists() and any(word in log.read_text("utf-8") for word in (" queued ", " short "))


@contextmanager
def running(command: list[str], settings: dict[str, str]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def call(path: Path, seconds: float) -> Path:
    """A call of noise."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(Random(1).randbytes(4 * round(seconds * RATE)))
    return path


if __name__ == "__main__":
    main()
