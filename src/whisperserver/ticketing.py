"""Ticketing: approved calls become tickets, in the server's own process.

Takes the ticket jobs from the queue and has `tickets.deliver` bring each one to its end. One process does it,
because the ticket system's pace is kept by one `TicketSink`. A delivery may take twenty minutes of waiting
(docs/tickets.md), so many run side by side; killed anywhere, each is resumed from what it saved. Its job ends
when the ticket is made or waits for a person, and not before: a ticket that nobody knows of is looked for by
whoever takes the job next.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from whisperagent.wire import CallState
from whisperserver import jobs
from whisperserver.refusals import Gone
from whisperserver.store import calls
from whisperserver.store.database import Database
from whisperserver.store.reviews import StoredTicket
from whisperserver.tickets import NotSent, TicketSink, deliver

POLL_S = 0.5
AT_ONCE = 50
"""Deliveries side by side; most of them only wait."""
AGAIN_S = 30.0
"""Before a ticket that could not be sent is tried again, unless the ticket system asks for more."""
AGAIN_MAX_S = 600.0

log = logging.getLogger(__name__)


class Ticketing:
    """A ticket system, and what is on its way there. waits_s: see `tickets.deliver`. again_s: see AGAIN_S."""

    def __init__(
        self, database: Database, sink: TicketSink, waits_s: Sequence[float], again_s: float = AGAIN_S
    ) -> None:
        self._database = database
        self._sink = sink
        self._waits_s = waits_s
        self._again_s = again_s
        self._held: dict[str, jobs.Job] = {}
        """By call, because two deliveries of one ticket would make two tickets."""

    async def run(self) -> None:
        """Deliver until cancelled; what is on its way then goes back to the queue."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                while True:
                    job = await self._take() if len(self._held) < AT_ONCE else None
                    if job is None:
                        await asyncio.sleep(POLL_S)
                        continue
                    # A process that was stopped for a while is taken for dead, and finds its own jobs again.
                    under_way = job.call_id in self._held
                    self._held[job.call_id] = job
                    if not under_way:
                        group.create_task(self._deliver(job.call_id))
        finally:
            await self._put_back()

    async def _take(self) -> jobs.Job | None:
        return await self._database.written(lambda session: jobs.take(session, jobs.TICKET))

    async def _deliver(self, call_id: str) -> None:
        again_s = await self._attempt(call_id)
        await asyncio.sleep(again_s)
        leave = jobs.put_back if again_s else jobs.end
        await self._database.written(lambda session: leave(session, self._held[call_id]))
        del self._held[call_id]

    async def _attempt(self, call_id: str) -> float:
        """returns: how long to wait before it is tried again, in seconds; 0 when there is no more to do."""
        try:
            await self._bring(call_id)
        except Gone:
            log.info("call %s was erased; its ticket goes no further", call_id)
        except NotSent as problem:
            log.warning("the ticket of call %s waits: %s", call_id, problem.in_words())
            return min(max(problem.retry_after_s, self._again_s), AGAIN_MAX_S)
        except Exception:
            log.exception("the ticket of call %s broke off", call_id)
            return self._again_s
        return 0.0

    async def _bring(self, call_id: str) -> None:
        """Deliver the ticket of an approved call; of any other there is nothing to do."""
        async with self._database.reading() as session:
            call = await calls.find(session, call_id)
            if call is None or call.state != CallState.APPROVED:
                return
            ticket = (await calls.detail(session, call_id)).ticket
        if ticket is not None:
            record = StoredTicket(self._database, call_id, self._sink.name, ticket.draft)
            await deliver(self._sink, ticket.draft, call_id, record, self._waits_s)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(jobs.HEARTBEAT_S)
            if self._held:
                await self._database.written(lambda session: jobs.beat(session, list(self._held.values())))

    async def _put_back(self) -> None:
        # What cannot be put back now is taken up when this process is seen to be dead.
        with contextlib.suppress(SQLAlchemyError):
            async with self._database.writing() as session:
                for job in self._held.values():
                    await jobs.put_back(session, job)
        self._held.clear()
