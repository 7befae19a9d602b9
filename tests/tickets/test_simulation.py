"""Never two tickets: thousands of deliveries against the stand-in's desk, with everything going wrong.

Time is simulated. Each run may lose answers, commit late, hide a new ticket from its search, refuse
connections, and kill the worker between any two steps; a killed or postponed delivery is called again, as the
job queue does. The same world with a blind retry makes doubles, which shows that it can.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest

from tests.tickets.conftest import CALL, DRAFT
from whisperagent import wire
from whisperagent.wire import TicketState
from whisperserver.tickets import NotSent, TicketRef, Unknown, deliver
from whisperserver.tickets.desk import ALL_TICKETS, Desk

RUNS = 10_000
WAITS_S = (60.0, 300.0, 900.0)
BODY = msgspec.json.encode(
    {"clientId": 1, "ticketFormId": 1, "subject": DRAFT.subject, "status": "1000", "tags": [f"rec-{CALL}"]}
)


class Killed(BaseException):
    """kill -9 of the worker, here and now."""


@dataclass
class Odds:
    """How often each thing goes wrong, at one step."""

    refused: float = 0.05
    lost_request: float = 0.03
    lost_answer: float = 0.05
    late: float = 0.03
    search_fails: float = 0.05
    killed: float = 0.03


class World:
    """A desk, a clock, a record and a worker: sink, record and sleep at once, for one ticket."""

    name = "desk"

    def __init__(self, seed: int, lag_s: float, odds: Odds) -> None:
        self.random = random.Random(seed)
        self.odds = odds
        self.now = 0.0
        self.desk = Desk(clock=lambda: self.now)
        self.desk.lag_s = lag_s
        self.late: list[float] = []
        self.stored = wire.Ticket(sink=self.name, state=TicketState.DRAFT, draft=DRAFT)

    async def load(self) -> wire.Ticket:
        self._maybe_killed()
        return self.stored

    async def save(self, ticket: wire.Ticket) -> None:
        self._maybe_killed()
        self.stored = ticket
        self._maybe_killed()

    async def sleep(self, seconds: float) -> None:
        self._pass(seconds)
        self._maybe_killed()

    async def check(self) -> None:
        """The desk is always there."""

    async def create(self, draft: wire.TicketDraft, marker: str) -> TicketRef:
        self._maybe_killed()
        self._pass(0.2)
        if self._happens(self.odds.refused):
            raise NotSent("refused")
        if self._happens(self.odds.lost_request):
            self._pass(30)
            raise Unknown("no answer")
        if self._happens(self.odds.late):
            # The vendor goes on with the request after the client has stopped listening.
            self.late.append(self.now + self.random.uniform(0, 90))
            self._maybe_killed()
            self._pass(30)
            raise Unknown("no answer")
        number = self.desk.create(BODY)["id"]
        self._maybe_killed()
        if self._happens(self.odds.lost_answer):
            self._pass(30)
            raise Unknown("no answer")
        return TicketRef(str(number), "")

    async def find_by_marker(self, marker: str) -> TicketRef | None:
        self._maybe_killed()
        if self._happens(self.odds.search_fails):
            raise NotSent("no answer")
        rows = self.desk.run_board(ALL_TICKETS, msgspec.json.encode({"searchCriteria": marker}))["data"]
        return TicketRef(str(rows[0]["id"]), "") if rows else None

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        while self.late and min(self.late) <= self.now:
            self.late.remove(min(self.late))
            self.desk.create(BODY)

    def _happens(self, odds: float) -> bool:
        return self.random.random() < odds

    def _maybe_killed(self) -> None:
        if self._happens(self.odds.killed):
            raise Killed


async def careful(world: World) -> None:
    await deliver(world, DRAFT, CALL, world, WAITS_S, world.sleep)


async def blind_retry(world: World) -> None:
    """What a client does that sends again on any failure."""
    if (await world.load()).state is TicketState.CREATED:
        return
    for _attempt in range(4):
        try:
            ref = await world.create(DRAFT, CALL)
        except (NotSent, Unknown):
            await world.sleep(2)
        else:
            await world.save(msgspec.structs.replace(world.stored, state=TicketState.CREATED, id=ref.id))
            return


async def run(world: World, worker: Callable[[World], Awaitable[None]]) -> None:
    """Call the worker as a job queue does: again after a kill, later after NotSent."""
    for _again in range(200):
        try:
            await worker(world)
        except Killed:
            world._pass(5)
        except NotSent:
            world._pass(300)
        else:
            break
    else:
        raise AssertionError("the job never came to an end")
    # Whatever was still on its way arrives.
    world._pass(10_000)


def outcomes(worker: Callable[[World], Awaitable[None]], lag_s: float, odds: Odds) -> list[World]:
    async def all_runs() -> list[World]:
        worlds = [World(seed, lag_s, odds) for seed in range(RUNS)]
        for world in worlds:
            await run(world, worker)
        return worlds

    return asyncio.run(all_runs())


@pytest.mark.parametrize("lag_s", [0, 20, 120, 600])
def test_no_run_makes_two_tickets_and_none_is_said_to_exist_that_does_not(lag_s: float) -> None:
    worlds = outcomes(careful, lag_s, Odds())
    doubles = [world for world in worlds if len(world.desk.tickets) > 1]
    assert doubles == []
    for world in worlds:
        numbers = [str(ticket["id"]) for ticket in world.desk.tickets]
        if world.stored.state is TicketState.CREATED:
            assert numbers == [world.stored.id]
        else:
            # Everything else ends with a person who is told what to do.
            assert world.stored.state is TicketState.UNKNOWN
            assert f"rec-{CALL}" in world.stored.error
    made = sum(world.stored.state is TicketState.CREATED for world in worlds)
    assert made > 0.98 * RUNS


def test_the_same_world_with_a_blind_retry_makes_doubles() -> None:
    worlds = outcomes(blind_retry, 0, Odds())
    assert sum(len(world.desk.tickets) > 1 for world in worlds) > 0.02 * RUNS


def test_a_search_that_lags_longer_than_all_waits_is_what_the_promise_depends_on() -> None:
    worlds = outcomes(careful, 10_000, Odds())
    assert sum(len(world.desk.tickets) > 1 for world in worlds) > 0


def test_a_record_that_forgets_the_count_still_never_makes_two_tickets() -> None:
    class Forgetful(World):
        async def save(self, ticket: wire.Ticket) -> None:
            await super().save(msgspec.structs.replace(ticket, unanswered=0))

    async def all_runs() -> list[World]:
        worlds: list[World] = [Forgetful(seed, 600, Odds()) for seed in range(RUNS)]
        for world in worlds:
            await run(world, careful)
        return worlds

    assert [world for world in asyncio.run(all_runs()) if len(world.desk.tickets) > 1] == []
