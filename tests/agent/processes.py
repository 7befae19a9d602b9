"""An agent in a process of its own, to be watched, killed and started again."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DEADLINE_S = 40.0


class AgentProcess:
    """`wa agent run --headless --json --simulate CALL`; use as `with`: nothing outlives the test."""

    def __init__(self, environment: Mapping[str, str], call: Path, speed: float, *more: str) -> None:
        self.home = Path(environment["WA_HOME"])
        arguments = ["agent", "run", "--headless", "--json", "--simulate", str(call), "--speed", str(speed)]
        self.output = self.home.parent / f"agent-{time.monotonic_ns()}.out"
        with self.output.open("wb") as stdout, self.output.with_suffix(".err").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "whisperagent", *arguments, *more],
                env=dict(environment),
                stdout=stdout,
                stderr=stderr,
            )

    def __enter__(self) -> "AgentProcess":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def events(self) -> list[str]:
        """What it has told so far."""
        lines = self.output.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line)["event"] for line in lines if line.endswith("\n")]

    def errors(self) -> str:
        return self.output.with_suffix(".err").read_text("utf-8")

    def status(self) -> dict[str, Any]:
        """`agent.json`, empty while there is none."""
        try:
            found: dict[str, Any] = json.loads((self.home / "agent.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found if found["pid"] == self.process.pid else {}

    def recorded_s(self) -> float:
        return float((self.status().get("call") or {}).get("recorded_s", 0.0))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it is so; an agent that ends meanwhile is a failure with its own words."""
        wait_until(lambda: condition() or self.process.poll() is not None, self.errors)
        assert condition(), self.errors()

    def kill(self) -> None:
        """kill -9: it has no time for anything."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE_S)


def wait_until(condition: Callable[[], bool], explain: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"it never came to that\n{explain()}"
        time.sleep(0.02)
