"""One house: a PC, a network and a server, in which a seed decides what breaks, and when.

`storm` plays calls and breaks things; `calm` lets everything come to its end; `account` counts.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.faults import accounting, programs
from tests.faults.accounting import Account, Life, Made
from tests.faults.disk import KILL, NONE, POWER_CUT, Control
from tests.faults.network import Network
from tests.faults.pc import ANSWER_S, GAP_S
from tests.faults.programs import Orders, Program
from whisperagent import wire
from whisperagent.wire import SAMPLE_RATE

EXTENSION = "201"
CALL_ID = 36
LIFE_S = 2.5
"""The longest that an agent may live in a storm: what waits for a server waits in vain, and is killed."""
JUMPS_DAYS = (-365, 3650)
CALM_S = 60.0
PC: dict[str, Any] = {
    "agent.extension": EXTENSION,
    "recording.free_mib": 0,
    "recording.min_s": 0.0,
    "recording.silent_alarm_s": 0.0,
    "detection.resume_s": 2.0,
    "detection.end_s": 1.0,
    "upload.retry_s": 0.05,
    "upload.retry_max_s": 0.2,
    "server.timeout_s": 1.0,
}
SERVER: dict[str, Any] = {"serve.workers": 0, "serve.free_mib": 0}


@dataclass(frozen=True)
class Weather:
    """How much breaks, in shares of one.

    kill, cut, fail: of lives, of agents and servers, that end by a kill or a power cut at an event of their
    disk (`deepest` is the last it may be), or whose disk refuses up to `rate` in 10,000 events. outside: of
    agents that are killed from outside. server: of agents' lives in which the server is killed from outside.
    jumps: of lives in which the clock jumps. network: of requests.
    """

    kill: float = 0.4
    cut: float = 0.3
    fail: float = 0.1
    deepest: int = 110
    rate: int = 200
    outside: float = 0.2
    server: float = 0.2
    jumps: float = 0.15
    network: float = 0.5


CALM = Weather(kill=0, cut=0, fail=0, outside=0, server=0, jumps=0, network=0)


class House:
    """root: an empty folder. sabotage: what the negative controls break, as (of the agent, of the server)."""

    def __init__(
        self,
        root: Path,
        seed: int,
        weather: Weather = Weather(),
        *,
        sabotage: tuple[str, str] = ("", ""),
        no_sync: bool = False,
        **settings: Any,
    ) -> None:
        self.root = root
        self.calls: list[Made] = []
        self.faults: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        self.problems: list[str] = []
        self._chance = Random(seed)
        self._weather = weather
        self._no_sync = no_sync
        port = free_port()
        self.network = Network(port, Random(seed + 1), weather.network)
        self.network.on_cut = self._strike
        self.pc, self.server_home = root / "pc", root / "server"
        for home in (self.pc, self.server_home):
            home.mkdir(parents=True)
        url = f"http://127.0.0.1:{self.network.port}"
        self._pc_orders = Orders(
            self.pc, root / "pc.page", {**PC, "server.url": url, **settings}, once=True, sabotage=sabotage[0]
        )
        self._server_orders = Orders(
            self.server_home, root / "server.page", {**SERVER, "serve.port": port}, sabotage=sabotage[1]
        )
        self._url = f"http://127.0.0.1:{port}"
        self._server: Program | None = None
        self._agent: Program | None = None
        self._telephone = Control(root / "pc.page")
        self.full = False
        """Is the disk of the PC full, so that calls cannot be recorded whole?"""
        self.littered: set[str] = set()
        """Ids of recordings that are none, which lie in the spool."""

    # The storm

    def storm(self, faults: int, limit_s: float) -> None:
        """Play calls and break things, until so many have been broken, or for so long."""
        if self._no_sync:
            self.found()
        end = time.monotonic() + limit_s
        while self._count() < faults and time.monotonic() < end:
            self.keep_server()
            self._live()

    def found(self) -> None:
        """Let the server make its key and its database in peace: the recordings are what is to be lost."""
        server = Program(programs.server, replace(self._server_orders, arm=False))
        self._server_answers(server)
        server.stop()

    def _count(self) -> int:
        return self.faults.total() + self.network.counts.total()

    def keep_server(self) -> None:
        """Have the server running; what its disk has in store is drawn anew with each start."""
        if self._server is not None and self._server.runs:
            return
        if self._server is not None:
            self._bury(self._server, "server")
        self._server = Program(programs.server, self._server_orders, **self._fate())
        if self._chance.random() < self._weather.jumps:
            self._jump(self._server)

    def _live(self) -> None:
        """One life of an agent: a call, or as much of it as the weather allows."""
        call = self._call_now()
        orders = replace(
            self._pc_orders, call=call.number, seconds=call.frames / SAMPLE_RATE, speed=self._speed()
        )
        agent = self._agent = Program(programs.agent, orders, **self._fate())
        limit_s = LIFE_S
        if self._chance.random() < self._weather.outside:
            limit_s = self._chance.uniform(0.05, 1.0)
        began = time.monotonic()
        kill_s, jump_s = (
            self._chance.uniform(0, 0.5) if self._chance.random() < share else LIFE_S
            for share in (self._weather.server, self._weather.jumps)
        )
        while not agent.wait(0.05) and (lived_s := time.monotonic() - began) < limit_s:
            if lived_s >= kill_s:
                self.kill_server()
                kill_s = LIFE_S
            if lived_s >= jump_s:
                self._jump(agent)
                jump_s = LIFE_S
            self.keep_server()
        if agent.kill():
            self.faults["agent: kill -9"] += 1
        self._bury(agent, "agent")
        call.lives.append(self._life(agent))

    def live_twice(self) -> list[Program]:
        """Two agents start at the same moment, on one spool; gives them, dead."""
        call = self._call_now()
        orders = replace(self._pc_orders, call=call.number, seconds=call.frames / SAMPLE_RATE, arm=False)
        other = self.root / "other.page"
        Control(other)["clock"] = self._telephone["clock"]
        agents = [Program(programs.agent, one) for one in (orders, replace(orders, page=other))]
        until = time.monotonic() + LIFE_S
        while all(agent.runs for agent in agents) and time.monotonic() < until:
            agents[0].wait(0.02)
        time.sleep(self._chance.uniform(0, 0.5))
        for agent in agents:
            self.faults["two agents on one spool"] += 1
            agent.kill()
            call.lives.append(self._life(agent))
        self._telephone["clock"] = max(agent.control["clock"] for agent in agents)
        return agents

    def _life(self, agent: Program) -> Life:
        control = agent.control
        return Life(
            control["opened"],
            control["clock"],
            agent.died,
            disturbed=self.full or bool(control["enospc"] or control["eio"]),
            told=bool(control["unrecorded"]),
            jumped=bool(control["clock_s"]),
        )

    def _jump(self, program: Program) -> None:
        """Its clock is set to another year, while it runs."""
        days = self._chance.choice(JUMPS_DAYS)
        program.control["clock_s"] = days * 86_400
        self.faults[f"clock jump of {days:+} days"] += 1

    def _speed(self) -> float:
        return self._chance.choice((20.0, 40.0, 80.0))

    def _call_now(self) -> Made:
        """The call that goes on; when it is over, the next one comes in."""
        if self.calls:
            call = self.calls[-1]
            clock = self._telephone["clock"] + round(GAP_S * SAMPLE_RATE)
            if clock < round(ANSWER_S * SAMPLE_RATE) + call.frames:
                self._telephone["clock"] = clock
                return call
        self._telephone["clock"] = 0
        seconds = self._chance.uniform(3, 10)
        self.calls.append(Made(len(self.calls), round(seconds * SAMPLE_RATE)))
        return self.calls[-1]

    def _fate(self) -> dict[str, int]:
        """What its disk has in store for a process."""
        weather, drawn = self._weather, self._chance.random()
        fate = {"seed": self._chance.getrandbits(62), "end": NONE, "no_sync": int(self._no_sync)}
        if drawn < weather.kill + weather.cut:
            fate["end"] = KILL if drawn < weather.kill else POWER_CUT
            fate["at"] = self._chance.randint(1, weather.deepest)
            fate["moment"] = self._chance.randrange(3)
        elif drawn < weather.kill + weather.cut + weather.fail:
            fate["rate"] = self._chance.randint(20, weather.rate)
        return fate

    def _bury(self, program: Program, name: str) -> None:
        control = program.control
        if program.died and control["ended"]:
            self.faults[f"{name}: {'kill -9 at its disk' if control['ended'] == KILL else 'power cut'}"] += 1
            self.places[step(control.place)] += 1
        self.faults[f"{name}: ENOSPC"] += control["enospc"]
        self.faults[f"{name}: EIO"] += control["eio"]
        self.faults += Counter()  # those that never happened are no entries
        excused = control["enospc"] or control["eio"] or self.full or self.littered
        if not program.died and program.exit_code and not excused:
            words = program.orders.home.with_name(f"{program.orders.home.name}.log").read_text("utf-8")
            said = words.splitlines()[-1:]
            self.problems.append(f"the {name} ended by itself with {program.exit_code}: {said}")

    def kill_server(self) -> None:
        """kill -9, from outside, at this moment; `storm` starts it again."""
        if self._strike():
            self.faults["server: kill -9"] += 1

    def _strike(self) -> bool:
        with contextlib.suppress(ProcessLookupError):
            if self._server is not None and self._server.runs:
                os.kill(self._server.pid, signal.SIGKILL)
                return True
        return False

    # The calm

    def calm(self) -> None:
        """Nothing breaks any more: the call is played to its end, and all that waits is sent."""
        for program in (self._agent, self._server):
            if program is not None:
                program.kill()
        if self._server is not None:
            self._bury(self._server, "server")
        self._server = Program(programs.server, replace(self._server_orders, arm=False))
        if not self._server_answers(self._server):
            return
        self.network.calm()
        if self.calls:
            call = self._call_now()
            agent = Program(
                programs.agent,
                replace(
                    self._pc_orders,
                    call=call.number,
                    seconds=call.frames / SAMPLE_RATE,
                    arm=False,
                ),
            )
            self._let_end(agent)
            call.lives.append(self._life(agent))
        self._let_end(Program(programs.agent, replace(self._pc_orders, arm=False)))
        self._server.stop()

    def _let_end(self, agent: Program) -> None:
        if not agent.wait(CALM_S):
            self.problems.append("the agent does not come to its end though nothing is in its way")
            agent.kill()
        self._bury(agent, "agent")

    def _server_answers(self, server: Program) -> bool:
        until = time.monotonic() + CALM_S
        while server.runs and time.monotonic() < until:
            try:
                httpx.get(self._url + wire.LIVE, timeout=5)
            except httpx.TransportError:
                time.sleep(0.02)
            else:
                return True
        words = (self.root / "server.log").read_text("utf-8").splitlines()[-1:]
        self.problems.append(f"the server does not start though nothing is in its way: {words}")
        return False

    def account(self) -> Account:
        """What became of the calls."""
        try:
            account = accounting.close(self.calls, self.pc, self.server_home, self.littered)
        except (OSError, ValueError, sqlite3.Error) as problem:
            # Not even its key or its database can be read: all is lost.
            account = Account(made=len(self.calls), lost=len(self.calls), problems=[repr(problem)])
        account.problems += dict.fromkeys(self.problems)
        account.places = self.places
        account.faults = self.faults + Counter(
            {f"network: {kind}": count for kind, count in self.network.counts.items()}
        )
        return account

    def close(self) -> None:
        """End what still runs."""
        for program in (self._agent, self._server):
            if program is not None:
                program.kill()
        self.network.close()


def step(place: str) -> str:
    """Which step of the line writes there."""
    if place.startswith("calls.db"):
        return "commit"
    steps = {".incoming": "receive", ".unfinished": "receive", "recording": "record", "queued": "queue"}
    if len(place) == CALL_ID:
        return "store"
    return steps.get(place, place if place in ("done", "rejected", "overdue") else "set up")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
