"""Ticketing: approved calls become tickets, in the server's own process.

Takes the ticket jobs from the queue and has `tickets.deliver` bring each one to its end. One process does it,
because the ticket system's pace is kept by one `TicketSink`. A delivery may take twenty minutes of waiting
(docs/tickets.md), so many run side by side; killed anywhere, each is resumed from what it saved.
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
RETRY_AFTER_MAX_S = 600.0

log = logging.getLogger(__name__)


class Ticketing:
    """A ticket system, and what is on its way there. waits_s: see `tickets.deliver`."""

    def __init__(self, database: Database, sink: TicketSink, waits_s: Sequence[float]) -> None:
        self._database = database
        self._sink = sink
        self._waits_s = waits_s
        self._held: dict[jobs.Job, asyncio.Task[None]] = {}

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
                    self._held[job] = group.create_task(self._deliver(job))
        finally:
            await self._put_back()

    async def _take(self) -> jobs.Job | None:
        with contextlib.suppress(SQLAlchemyError):  # the next look says whether it lasts
            async with self._database.writing() as session:
                return await jobs.take(session, jobs.TICKET)
        return None

    async def _deliver(self, job: jobs.Job) -> None:
        """One job to its end. What fails here is not lost: the sweeper makes a job for it again."""
        try:
            await self._bring(job.call_id)
        except Gone:
            log.info("call %s was erased; its ticket goes no further", job.call_id)
        except NotSent as problem:
            log.warning("the ticket of call %s waits: %s", job.call_id, calls.in_words(problem))
            await asyncio.sleep(min(problem.retry_after_s, RETRY_AFTER_MAX_S))
        except Exception:
            log.exception("the ticket of call %s broke off", job.call_id)
        async with self._database.writing() as session:
            await jobs.end(session, job)
        del self._held[job]

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
                with contextlib.suppress(SQLAlchemyError):
                    async with self._database.writing() as session:
                        await jobs.beat(session, list(self._held))

    async def _put_back(self) -> None:
        with contextlib.suppress(SQLAlchemyError):
            async with self._database.writing() as session:
                for job in self._held:
                    await jobs.put_back(session, job)
        self._held.clear()
