"""The agent on this PC, in a process of its own, and what it has recorded."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.agent.fakes import local_key, pcm
from tests.agent.processes import AgentProcess
from tests.linux.sound import Samples, sides
from whisperagent.spool import Spool
from whisperagent.wire import SAMPLE_RATE, CallMetadata


class Agent(AgentProcess):
    """`wa agent run --headless --json`, no simulation."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.home = Path(environment["WA_HOME"])
        self.output = self.home.parent / f"agent-{time.monotonic_ns()}.out"
        with self.output.open("wb") as stdout, self.output.with_suffix(".err").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "whisperagent", "agent", "run", "--headless", "--json"],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def ready(self) -> "Agent":
        """It watches."""
        self.wait_for(lambda: bool(self.status()))
        return self

    def moments(self) -> list[dict[str, Any]]:
        lines = self.output.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def told(self, event: str, count: int = 1) -> None:
        """Wait until it has told this so often."""
        self.wait_for(lambda: self.events().count(event) >= count)

    def recorded(self, seconds: float) -> None:
        """Wait until the call is recorded for so long, from now on."""
        until_s = self.recorded_s() + seconds
        self.wait_for(lambda: self.recorded_s() >= until_s)


TAIL_S = 0.5
"""What the recorder keeps after the last stream was seen; what a technician says on is in it."""


class Part(NamedTuple):
    """A part of a call as it lies in the queue, opened; the sides up to when the streams had gone."""

    metadata: CallMetadata
    technician: Samples
    caller: Samples

    @property
    def marks(self) -> list[str]:
        return [mark.kind for mark in self.metadata.marks]


def queued(home: Path) -> list[Part]:
    """Every part that waits to be sent, oldest first."""
    tail = round(4 * TAIL_S * SAMPLE_RATE)
    return [
        Part(item.entry.metadata, *sides(pcm(item.path, local_key(home))[:-tail]))
        for item in sorted(Spool(home / "spool").waiting(), key=lambda item: (item.started_at, item.part))
    ]
