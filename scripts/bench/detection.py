"""What the agent costs on a PC with sound, and how soon it sees a call: Linux, a PulseAudio of its own.

`python scripts/bench/detection.py [--calls 5] [--seconds 20]` starts `wa agent run --headless` beside a fake
softphone (tests/linux/sound.py) and measures from the moment the softphone is told to open or close its
streams, its own start-up included. Budget: a call is seen within 1.5 s and its end within 4 s; 60 MB and
0.5 % of a core idle, 80 MB and 3 % while recording. Exit 1 above it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the sound server and the softphone of the tests

from tests.linux.agent import Agent
from tests.linux.sound import PulseAudio, Softphone, Tones

BUDGET_S = {"begun": 1.5, "ended": 4.0}
BUDGET = {"idle": (60.0, 0.5), "recording": (80.0, 3.0)}
"""MB of resident memory, per cent of one core."""
SETTLE_S, RESUME_S = 3.0, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each state is measured")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        pulse = PulseAudio(Path(folder, "pulse"))
        environment = (
            os.environ
            | pulse.environment
            | {
                "WA_HOME": str(home),
                "WA_AGENT__EXTENSION": "201",
                "WA_AGENT__NOTIFY": "false",
                "WA_SERVER__URL": "http://127.0.0.1:9",
                "WA_RECORDING__FREE_MIB": "0",
                "WA_RECORDING__MIN_S": "1",
                "WA_DETECTION__RESUME_S": str(RESUME_S),
            }
        )
        try:
            pulse.start()
            with Agent(environment) as agent:
                over = measure(agent.ready(), Softphone(pulse, home, Tones(home)), chosen)
        finally:
            pulse.stop()
    if over:
        sys.exit(f"above the budget: {', '.join(over)}")


def measure(agent: Agent, softphone: Softphone, chosen: argparse.Namespace) -> list[str]:
    """Print everything; gives what is above its budget."""
    softphone.speak()
    costs = {"idle": cost(agent, chosen.seconds)}
    found: dict[str, list[float]] = {"suspected": [], "begun": [], "ended": []}
    for number in range(1, chosen.calls + 1):
        began = time.monotonic()
        softphone.call()
        for name, event in (("suspected", "detected"), ("begun", "recording")):
            agent.told(event, number)
            found[name].append(time.monotonic() - began)
        if number == 1:
            costs["recording"] = cost(agent, chosen.seconds)
        agent.recorded(1)
        ended = time.monotonic()
        softphone.hang_up()
        # An end is sealed when nothing has come back for so long.
        agent.told("sealed", number)
        found["ended"].append(time.monotonic() - ended - RESUME_S)
    over = []
    for name, seconds in found.items():
        print(f"{name:10} {statistics.median(seconds):6.2f} s, at most {max(seconds):.2f} s")
        if name in BUDGET_S and max(seconds) > BUDGET_S[name]:
            over.append(name)
    for name, (mb, percent) in costs.items():
        print(f"{name:10} {mb:6.1f} MB {percent:6.2f} % of a core")
        if mb > BUDGET[name][0] or percent > BUDGET[name][1]:
            over.append(name)
    return over


def cost(agent: Agent, seconds: float) -> tuple[float, float]:
    """MB and per cent of a core that the agent takes for so long."""
    process = psutil.Process(agent.process.pid)
    time.sleep(SETTLE_S)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, elapsed_s = process.cpu_times(), time.monotonic() - began
    used_s = after.user + after.system - before.user - before.system
    return process.memory_info().rss / 1e6, 100 * used_s / elapsed_s


if __name__ == "__main__":
    main()
