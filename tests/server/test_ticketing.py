"""Approved calls on their way to the ticket system: the queue, the store and the NinjaOne client together."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from tests.server.test_store import WRITTEN, Store
from tests.tickets.conftest import StandIn, stand_in  # noqa: F401 - a fixture
from whisperagent import wire
from whisperagent.wire import TicketState
from whisperserver import jobs
from whisperserver.store import database, reviews, transcripts
from whisperserver.sweep import Sweeper
from whisperserver.ticketing import Ticketing
from whisperserver.tickets import NotSent, TicketRef, TicketSink
from whisperserver.tickets.faults import Fault

T = TypeVar("T")

DRAFT = wire.TicketDraft(subject="Imprimante", tags=("appel-3cx",))
WAIT_S = 20.0


@dataclass
class Slow:
    """A ticket system that answers when it is told to."""

    name: str = "ninjaone"
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    made: int = 0

    async def check(self) -> None:
        pass

    async def find_by_marker(self, marker: str) -> TicketRef | None:
        return None

    async def create(self, draft: wire.TicketDraft, marker: str) -> TicketRef:
        self.made += 1
        self.asked.set()
        await self.answer.wait()
        return TicketRef(str(1000 + self.made), "")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    path = tmp_path / "calls.db"
    database.migrate(path)
    return Store(path)


def approved(store: Store) -> str:
    """A call that was read and approved; its ticket has a job."""
    call_id = store.receive()
    decision = wire.ReviewDecision(version=1, decision="approved")

    store.write(
        lambda session: transcripts.begin(session, call_id),
        lambda session: transcripts.save(session, call_id, WRITTEN, 1),
        lambda session: reviews.decide(session, call_id, decision, DRAFT, "ninjaone", "201"),
        lambda session: jobs.enqueue_ticket(session, call_id),
    )
    return call_id


def ticket(store: Store, call_id: str) -> wire.Ticket:
    async def load() -> wire.Ticket:
        async with database.opened(store.path) as opened:
            return await reviews.StoredTicket(opened, call_id, "ninjaone", DRAFT).load()

    return asyncio.run(load())


def job(store: Store) -> list[tuple[object, ...]]:
    return store.rows("SELECT status FROM queue_task WHERE queue = 'ticket'")


def state_of(store: Store, call_id: str) -> object:
    return store.rows("SELECT state FROM calls WHERE call_id = ?", call_id)[0][0]


def delivering(
    store: Store, sink: TicketSink, until: Callable[[database.Database], Awaitable[T]], **waits: float
) -> None:
    """Deliver what waits, in a server's loop, until `until` has ended; then stop in order."""

    async def run() -> None:
        async with database.opened(store.path) as opened:
            work = asyncio.create_task(Ticketing(opened, sink, (0.01, 0.01), **waits).run())
            try:
                async with asyncio.timeout(WAIT_S):
                    await until(opened)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    asyncio.run(run())


def its_end(store: Store) -> Callable[[database.Database], Awaitable[None]]:
    """Until no ticket has a job any more."""

    async def wait(_opened: database.Database) -> None:
        await so_far(lambda: job(store) == [("completed",)])

    return wait


async def so_far(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for is in a file
        await asyncio.sleep(0.02)


def test_an_approved_call_becomes_a_ticket(store: Store, stand_in: StandIn) -> None:  # noqa: F811
    call_id = approved(store)
    delivering(store, stand_in.sink(), its_end(store))
    assert store.state(call_id) == ("ticketed", "")
    assert [str(made["id"]) for made in stand_in.desk.tickets] == [ticket(store, call_id).id]


def test_a_ticket_whose_answer_was_lost_is_looked_for_until_the_ticket_system_is_back(
    store: Store,
    stand_in: StandIn,  # noqa: F811
) -> None:
    """It goes down as it makes the ticket: neither the answer nor the first looks come through."""
    call_id = approved(store)
    stand_in.faults.planned["create"].append(Fault.DONE_THEN_CUT)
    stand_in.faults.planned["search"].extend([Fault.CUT, Fault.CRASH])
    delivering(store, stand_in.sink(), its_end(store), again_s=0.01)
    assert store.state(call_id) == ("ticketed", "")
    assert len(stand_in.desk.tickets) == 1


def test_a_ticket_system_that_cannot_be_reached_is_tried_again(store: Store) -> None:
    class Away(Slow):
        async def create(self, draft: wire.TicketDraft, marker: str) -> TicketRef:
            self.made += 1
            if self.made < 3:
                raise NotSent("nobody answers")
            return TicketRef("1001", "")

    call_id = approved(store)
    delivering(store, Away(), its_end(store), again_s=0.01)
    assert store.state(call_id) == ("ticketed", "")


def test_a_job_that_is_taken_for_dead_while_its_ticket_is_sent_sends_no_second_one(store: Store) -> None:
    """As when the machine slept: nobody beat for the job, so the sweeper gives it to the next taker, which is
    the one that still has it."""
    call_id = approved(store)
    slow = Slow()

    async def sleep_and_wake(opened: database.Database) -> None:
        await slow.asked.wait()
        with store.changing() as connection:
            connection.execute("UPDATE queue_task SET heartbeat_at = '2020-01-01' WHERE queue = 'ticket'")
        await Sweeper(opened).sweep()
        await so_far(lambda: job(store) == [("running",)])
        slow.answer.set()
        await its_end(store)(opened)

    delivering(store, slow, sleep_and_wake)
    assert slow.made == 1
    assert store.state(call_id) == ("ticketed", "")
    assert ticket(store, call_id).id == "1001"


def test_a_server_that_stops_while_a_ticket_is_sent_leaves_the_job_to_the_next_one(store: Store) -> None:
    call_id = approved(store)
    slow = Slow()

    async def asked(_opened: database.Database) -> None:
        await slow.asked.wait()

    delivering(store, slow, asked)
    assert job(store) == [("pending",)]
    assert ticket(store, call_id).state is TicketState.SENDING


def test_a_delivery_that_breaks_stops_no_other(store: Store) -> None:
    """A fault of ours in one of them, while the other waits for its answer."""

    class Broken(Slow):
        async def create(self, draft: wire.TicketDraft, marker: str) -> TicketRef:
            if marker == first:
                self.made += 1
                raise RuntimeError("a fault of ours")
            return await super().create(draft, marker)

    first, second = approved(store), approved(store)
    broken = Broken()

    async def both(_opened: database.Database) -> None:
        await broken.asked.wait()
        await so_far(lambda: broken.made == 2)
        broken.answer.set()
        await so_far(lambda: state_of(store, second) == "ticketed")

    delivering(store, broken, both)
    assert state_of(store, first) == "approved"
    assert sorted(job(store)) == [("completed",), ("pending",)]


def test_an_erased_call_gets_no_ticket_and_its_job_ends(store: Store) -> None:
    call_id = approved(store)
    slow = Slow()

    async def erased(opened: database.Database) -> None:
        await slow.asked.wait()
        with store.changing() as connection:
            connection.execute("UPDATE calls SET state = 'erased'")
        slow.answer.set()
        await its_end(store)(opened)

    delivering(store, slow, erased)
    assert store.state(call_id)[0] == "erased"
