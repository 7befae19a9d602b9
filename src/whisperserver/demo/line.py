"""The line as processes: a stand-in for NinjaOne, a server and an agent, on loopback, under one folder.

    FOLDER/server/    WA_HOME of `wa server serve`
    FOLDER/pc/        WA_HOME of `wa agent run`, with its simulated softphone
    FOLDER/tickets.json, FOLDER/*.log

Each can be stopped, killed and started again by itself, which is how tests see that nothing is lost.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import tomlkit

from whisperagent import wire
from whisperagent.errors import WhisperError
from whisperagent.i18n import _, spoken
from whisperserver.tickets import standin

EXTENSION = "201"
START_S = 60.0
STOP_S = 15.0
POLL_S = 0.05
LAST_LINES = 5


class Program:
    """One program of the line. `NAME.out` keeps its stdout, `NAME.log` its stderr, both appended to."""

    def __init__(self, name: str, arguments: list[str], folder: Path, home: Path) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        # The settings of whoever runs this are not those of the line.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WA_")}
        environment |= {"WA_HOME": str(self._home), "WA_UI__LANGUAGE": spoken()}
        with self.output.open("ab") as output, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "whisperagent", *self._arguments, *more],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end, and wait; SIGKILL when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LAST_LINES:])


class Line:
    """folder: where all of it lies. model: a folder with a speech model, or `demo`."""

    def __init__(self, folder: Path, model: str = "demo") -> None:
        self.folder = folder
        self.pc = folder / "pc"
        self.server_home = folder / "server"
        for home in (self.pc, self.server_home):
            home.mkdir(parents=True, exist_ok=True)
        server_port, standin_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{server_port}"
        self.standin_url = f"http://127.0.0.1:{standin_port}"
        _write_config(
            self.server_home,
            {
                "serve": {"port": server_port, "free_mib": 64},
                "speech": {"model": model},
                "tickets": standin.settings_for(self.standin_url),
            },
        )
        _write_config(
            self.pc,
            {
                "agent": {"extension": EXTENSION, "name": "Demo"},
                "server": {"url": self.url},
                "recording": {"free_mib": 64},
                "upload": {"retry_s": 1.0, "retry_max_s": 5.0},
            },
        )
        tickets = ["server", "standin", "ninjaone", "--port", str(standin_port)]
        self.standin = Program(
            "standin", [*tickets, "--file", str(self.tickets_file)], folder, self.server_home
        )
        self.server = Program("server", ["server", "serve"], folder, self.server_home)
        self.agent = Program("agent", ["agent", "run", "--headless", "--json"], folder, self.pc)

    @property
    def tickets_file(self) -> Path:
        return self.folder / "tickets.json"

    def start_server(self) -> None:
        """Start stand-in and server, those that do not run; gives back when both answer."""
        programs = ((self.standin, self.standin_url), (self.server, f"{self.url}{wire.LIVE}"))
        for program, _url in programs:
            if not program.runs:
                program.start()
        for program, url in programs:
            self.wait(partial(_answers, url), program, START_S)

    def play(self, call: Path, speed: float) -> None:
        """Start the agent on a PC where this call comes in; after a crash it goes on with it."""
        self.agent.start("--simulate", str(call), "--speed", str(speed))

    def moments(self) -> list[dict[str, Any]]:
        """What the agent has told so far: `{"at", "event", "call_id", "details"}`, oldest first."""
        if not self.agent.output.exists():
            return []
        lines = self.agent.output.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def recorded_s(self) -> float:
        """How much of the call the agent says it has recorded."""
        status = (
            json.loads((self.pc / "agent.json").read_bytes()) if (self.pc / "agent.json").exists() else {}
        )
        return float((status.get("call") or {}).get("recorded_s", 0.0))

    def tickets(self) -> list[dict[str, Any]]:
        """Every ticket of the stand-in, as it shows them itself."""
        found: list[dict[str, Any]] = httpx.get(self.standin_url).json()["tickets"]
        return found

    def wait(self, condition: Callable[[], bool], program: Program, limit_s: float) -> None:
        """Until `condition()`. raises WhisperError: `program` ended before, or it takes too long."""
        end = time.monotonic() + limit_s
        while not condition():
            if not program.runs:
                raise WhisperError(
                    _("the {program} of the demonstration has stopped").format(program=program.name),
                    why=program.last_words(),
                    fix=_("its log is {path}").format(path=program.log),
                )
            if time.monotonic() > end:
                raise WhisperError(
                    _("the {program} of the demonstration does not get on").format(program=program.name),
                    why=program.last_words(),
                    fix=_("its log is {path}").format(path=program.log),
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        for program in (self.agent, self.server, self.standin):
            program.stop()


@contextmanager
def line(folder: Path, model: str = "demo") -> Iterator[Line]:
    """A line whose programs end with the block."""
    made = Line(folder, model)
    try:
        yield made
    finally:
        made.stop()


def _write_config(home: Path, sections: dict[str, dict[str, Any]]) -> None:
    (home / "config.toml").write_text(tomlkit.dumps(sections), "utf-8")


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False
