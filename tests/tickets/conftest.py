"""A running stand-in for NinjaOne on a free port of this machine, and tickets to file there."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
import uvicorn

from whisperagent import settings, wire
from whisperserver.tickets import standin
from whisperserver.tickets.desk import Desk
from whisperserver.tickets.faults import Faults, Operation
from whisperserver.tickets.ninjaone import NinjaOne

CALL = "01980f2e-7a3b-7c41-9d52-3f6a8b1c2d4e"
DRAFT = wire.TicketDraft(
    subject="[Appel] +33 6 12 34 56 78 - l'imprimante ne marche plus",
    body=f"Poste : 101\n\nrec:{CALL}",
    tags=("appel-3cx",),
)


@dataclass
class StandIn:
    url: str
    desk: Desk
    faults: Faults

    @property
    def tickets(self) -> settings.Tickets:
        return msgspec.convert(standin.settings_for(self.url), settings.Tickets)

    def sink(self, **changes: object) -> NinjaOne:
        """The real client, without its pause between requests."""
        return NinjaOne(msgspec.structs.replace(self.tickets, **changes), requests_per_s=10_000)

    def count(self, operation: Operation) -> int:
        return [seen for seen, _at in self.faults.seen].count(operation)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    desk, faults = Desk(), Faults()
    app = standin.create_app(desk, faults)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield StandIn(f"http://127.0.0.1:{listener.getsockname()[1]}", desk, faults)
    server.should_exit = True
    thread.join(10)


class Record:
    """A TicketRecord in memory, with everything that was ever saved."""

    def __init__(self, draft: wire.TicketDraft = DRAFT) -> None:
        self.ticket = wire.Ticket(sink="ninjaone", state=wire.TicketState.DRAFT, draft=draft)
        self.saved: list[wire.Ticket] = []

    async def load(self) -> wire.Ticket:
        return self.ticket

    async def save(self, ticket: wire.Ticket) -> None:
        self.ticket = ticket
        self.saved.append(ticket)

    @property
    def states(self) -> list[str]:
        return [ticket.state.value for ticket in self.saved]


@pytest.fixture
def record() -> Record:
    return Record()


async def no_sleep(_seconds: float) -> None:
    """Waiting, without the wait."""
    await asyncio.sleep(0)
