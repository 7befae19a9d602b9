"""Figures of the store, for monitoring: how many, how long, how old."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from whisperagent.wire import CallState, TicketState
from whisperserver.store.models import CallRow, TicketRow, TranscriptRow


async def calls_by_state(session: AsyncSession) -> Mapping[str, int]:
    return await _count(session, CallRow.state, CallState)


async def tickets_by_state(session: AsyncSession) -> Mapping[str, int]:
    return await _count(session, TicketRow.state, TicketState)


async def transcriptions(session: AsyncSession) -> tuple[int, float, float]:
    """How many transcripts there are, seconds of sound in them, seconds the work took. They only rise:
    erasing a call keeps these numbers of it."""
    query = select(func.count(), func.sum(TranscriptRow.duration_s), func.sum(TranscriptRow.job_s))
    count, sound_s, work_s = (await session.execute(query)).one()
    return count, sound_s or 0.0, work_s or 0.0


async def newest_factor(session: AsyncSession) -> float:
    """Work for a second of sound, in the newest transcript; 0 when there is none."""
    query = (
        select(TranscriptRow.job_s / TranscriptRow.duration_s)
        .where(TranscriptRow.duration_s > 0)
        .order_by(TranscriptRow.written_at.desc())
        .limit(1)
    )
    return await session.scalar(query) or 0.0


async def _count(
    session: AsyncSession, column: InstrumentedAttribute[str], states: type[CallState] | type[TicketState]
) -> Mapping[str, int]:
    counted: dict[str, Any] = dict(
        (await session.execute(select(column, func.count()).group_by(column))).tuples().all()
    )
    # A state that nothing is in is a zero, not a gap in a graph.
    return {str(state): counted.get(str(state), 0) for state in states}
