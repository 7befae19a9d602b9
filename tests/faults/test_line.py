"""Worker, server and the way to the ticket system break: each call has one transcript and one ticket."""

import json
import sqlite3
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from tests.faults import programs
from tests.faults.disk import KILL, POWER_CUT
from tests.faults.house import free_port
from tests.faults.network import Network
from tests.faults.programs import Orders, Program
from whisperagent import wire
from whisperserver.demo import CALLS
from whisperserver.tickets import standin

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

SEED = 3
CALLS_MADE = 8
FAULTS = 50
STORM_S = 90.0
CALM_S = 120.0
PIECE_S = 3
GIVEN_UP = ("failed", "quarantined")
Run = Callable[[Orders], None]


class Office:
    """A server, its worker and a stand-in for NinjaOne behind a network; `storm`, then `calm`."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.faults: Counter[str] = Counter()
        self.call_ids = [wire.new_call_id() for _number in range(CALLS_MADE)]
        self._chance = Random(seed)
        self._home = root / "server"
        self._home.mkdir(parents=True)
        port, desk = free_port(), free_port()
        self.network = Network(desk, Random(seed + 1), 0.3)
        tickets = standin.settings_for(f"http://127.0.0.1:{self.network.port}")
        settings: dict[str, Any] = {
            "serve.port": port,
            "serve.workers": 0,
            "serve.free_mib": 0,
            "speech.model": "demo",
            "speech.threads": 1,
            "tickets.retry_s": (0.2, 0.4, 0.8),
            "tickets.timeout_s": 1.0,
            **{f"tickets.{name}": value for name, value in tickets.items()},
        }
        self._orders = {
            "server": Orders(self._home, root / "server.page", settings),
            "worker": Orders(self._home, root / "worker.page", settings),
        }
        (root / "desk").mkdir()
        self._desk = Program(programs.standin, Orders(root / "desk", root / "desk.page", {"port": desk}))
        self._running: dict[str, Program] = {}
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={wire.EXTENSION_HEADER: "201"}, timeout=5
        )

    def storm(self) -> None:
        end = time.monotonic() + STORM_S
        while self.faults.total() + self.network.counts.total() < FAULTS and time.monotonic() < end:
            for name in self._orders:
                self._keep(name)
            if self._chance.random() < 0.3:
                name = self._chance.choice(("server", "worker", "worker"))
                if self._running[name].kill():
                    self.faults[f"{name}: kill -9"] += 1
            self._work()
            time.sleep(self._chance.uniform(0.05, 0.6))

    def calm(self) -> None:
        """Nothing dies any more, until every call has come to its end."""
        for name in self._orders:
            self._keep(name, peace=True)
        self.network.calm()
        end = time.monotonic() + CALM_S
        while not self._work() and time.monotonic() < end:
            for name in self._orders:
                self._keep(name, peace=True)
            time.sleep(0.2)
        for program in self._running.values():
            program.stop()
        self._desk.stop()

    def close(self) -> None:
        for program in (*self._running.values(), self._desk):
            program.kill()
        self._api.close()
        self.network.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self._home / "server/calls.db") as database:
            found = database.execute(query).fetchall()
        database.close()
        return found

    def tickets(self) -> Counter[str]:
        """How many there are for each call."""
        desk = json.loads((self.root / "desk/tickets.json").read_bytes())
        return Counter(
            tag.removeprefix("rec-")
            for ticket in desk["tickets"]
            for tag in ticket["tags"]
            if tag.startswith("rec-")
        )

    def _keep(self, name: str, *, peace: bool = False) -> None:
        """Have it running. peace: and nothing happens to it from now on."""
        program = self._running.get(name)
        if program is not None:
            if peace:
                program.control["end"] = program.control["rate"] = 0
            if program.runs:
                return
            self._bury(name, program)
        fate = {} if peace else self._fate()
        run: Run = programs.server if name == "server" else programs.worker
        self._running[name] = Program(run, self._orders[name], **fate)

    def _bury(self, name: str, program: Program) -> None:
        control = program.control
        if control["ended"]:
            self.faults[f"{name}: {'kill -9 at its disk' if control['ended'] == KILL else 'power cut'}"] += 1
        for kind in ("enospc", "eio"):
            self.faults[f"{name}: {kind.upper()}"] += control[kind]

    def _fate(self) -> dict[str, int]:
        drawn = self._chance.random()
        fate = {"seed": self._chance.getrandbits(62)}
        if drawn < 0.6:
            fate |= {"end": KILL if drawn < 0.4 else POWER_CUT, "moment": self._chance.randrange(3)}
            fate["at"] = self._chance.randint(1, 120)
        elif drawn < 0.7:
            fate["rate"] = self._chance.randint(20, 200)
        return fate

    def _work(self) -> bool:
        """What PC and reviewer do: send what is not there, approve what is transcribed, try again what was
        given up. Are all done?"""
        done = 0
        try:
            for call_id in self.call_ids:
                state = self._state(call_id)
                if not state:
                    self._send(call_id)
                elif state == "transcribed":
                    self._approve(call_id)
                elif state in GIVEN_UP:
                    self._begin_anew(call_id)
                done += state == "ticketed"
        except httpx.TransportError:
            return False
        return done == len(self.call_ids)

    def _state(self, call_id: str) -> str:
        answer = self._api.get(f"{wire.TRANSCRIPTION_STATUS}/{call_id}")
        return str(answer.json()["state"]) if answer.is_success else "" if answer.status_code == 404 else "?"

    def _send(self, call_id: str) -> None:
        metadata = {"call_id": call_id, "extension": "201", "started_at": "2026-11-25T09:00:00Z"}
        recording = ("call.wav", piece(self.call_ids.index(call_id)))
        self._api.post(
            wire.UPLOAD_RECORDING, data={"metadata": json.dumps(metadata)}, files={"recording": recording}
        )

    def _approve(self, call_id: str) -> None:
        version = self._api.get(f"{wire.CALLS}/{call_id}").json()["transcript"]["version"]
        decision = wire.ReviewDecision(version=version, decision="approved")
        self._api.post(f"{wire.CALLS}/{call_id}/review", content=msgspec.json.encode(decision))

    def _begin_anew(self, call_id: str) -> None:
        """`wa server retry`."""
        again = Program(
            programs.retry, Orders(self._home, self.root / "retry.page", {}, arm=False, once=True)
        )
        assert again.wait(30), call_id


def piece(number: int) -> bytes:
    """A few seconds of a call, as WAV."""
    sound = BytesIO()
    with wave.open(str(CALLS / "english.wav"), "rb") as call, wave.open(sound, "wb") as cut:
        call.setpos(number * PIECE_S * wire.SAMPLE_RATE // 4)
        cut.setparams(call.getparams())
        cut.writeframes(call.readframes(PIECE_S * wire.SAMPLE_RATE))
    return sound.getvalue()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, SEED)
    yield office
    office.close()


def test_each_call_becomes_one_transcript_and_one_ticket(office: Office) -> None:
    office.storm()
    office.calm()
    faults = office.faults + Counter({f"network: {kind}": n for kind, n in office.network.counts.items()})
    states = office.rows("SELECT call_id, state FROM calls")
    tickets = office.tickets()
    transcripts = office.rows("SELECT call_id FROM transcripts")
    print(
        f"seed {SEED}: {faults.total()} faults, {dict(sorted(faults.items()))}: {CALLS_MADE} calls made = "
        f"{len(transcripts)} transcripts = {tickets.total()} tickets"
    )
    assert sorted(states) == [(call_id, "ticketed") for call_id in sorted(office.call_ids)]
    assert sorted(call_id for (call_id,) in transcripts) == sorted(office.call_ids)
    assert tickets == Counter(office.call_ids)
    assert faults.total() >= FAULTS / 2
    assert {"worker: kill -9", "server: kill -9"} <= set(faults)
