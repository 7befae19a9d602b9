"""The sweeper: what a crash, a lost job or a missing part left behind goes on from here, every two seconds.

It reads the calls table, which is the truth, and enqueues what has no live job. The server runs it; it may
run in several processes, because everything it does is done once by the queue's key.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from whisperserver import jobs
from whisperserver.store import calls, events
from whisperserver.store.database import Database

EVERY_S = 2.0
PARTS_PATIENCE = timedelta(minutes=10)
"""How long a call waits for its last part, counted from the newest one."""

RETRY_PATIENCE = timedelta(minutes=1)
"""How long a call whose transcription failed waits for the next attempt: its cause may be over by then."""

HOUSEKEEPING_ROUNDS = 1800
"""About once an hour."""

log = logging.getLogger(__name__)


class Sweeper:
    """parts_patience: see PARTS_PATIENCE; tests give less."""

    def __init__(self, database: Database, parts_patience: timedelta = PARTS_PATIENCE) -> None:
        self._database = database
        self._parts_patience = parts_patience

    async def run(self) -> None:
        """Sweep until cancelled. A database that is busy or full is tried again the next time."""
        rounds = 0
        while True:
            try:
                await self.sweep()
                if rounds % HOUSEKEEPING_ROUNDS == 0:
                    await self._keep_house()
            except SQLAlchemyError as problem:
                log.error("cannot sweep: %s", getattr(problem, "orig", problem))
            rounds += 1
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> None:
        async with self._database.writing() as session:
            if recovered := await jobs.recover(session):
                log.warning("%d job(s) of dead workers are run again", recovered)
            for call in await calls.waiting_for_parts(session, self._parts_patience):
                log.warning("call %s goes on without its last part", call.call_id)
                call.whole = call.interrupted = True
            await session.flush()
            waiting = await calls.to_transcribe(session, RETRY_PATIENCE)
            for call_id in await _lost(session, jobs.TRANSCRIBE, waiting):
                await jobs.enqueue_transcription(session, call_id)
            for call_id in await _lost(session, jobs.TICKET, await calls.to_ticket(session)):
                await jobs.enqueue_ticket(session, call_id)

    async def _keep_house(self) -> None:
        async with self._database.writing() as session:
            await events.prune(session)
            await jobs.prune(session)


async def _lost(session: AsyncSession, job: str, call_ids: Sequence[str]) -> Sequence[str]:
    return await jobs.without_job(session, job, call_ids) if call_ids else ()
