"""The outbox: what happened, in the transaction in which it happened.

live.py reads it. `seq` rises in the order of the commits, because SQLite lets one writer in at a time.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import wire
from whisperserver.store.models import AuditRow, EventRow

KEEP = timedelta(days=30)
"""How long somebody may be away and still be told everything; after that, the list of calls tells it."""


def tell(session: AsyncSession, kind: str, call_id: str, **data: Any) -> None:
    """Add an event. data: ids, states and numbers; never the words of a call."""
    session.add(EventRow(kind=kind, call_id=call_id, at=datetime.now(UTC), data=data))


def audit(session: AsyncSession, who: str, action: str, call_id: str) -> None:
    session.add(AuditRow(at=datetime.now(UTC), who=who, action=action, call_id=call_id))


async def since(session: AsyncSession, seq: int, limit: int) -> Sequence[wire.Event]:
    """The events after `seq`, oldest first, at most `limit`."""
    rows = await session.scalars(
        select(EventRow).where(EventRow.seq > seq).order_by(EventRow.seq).limit(limit)
    )
    return [
        wire.Event(seq=row.seq, kind=row.kind, call_id=row.call_id, at=row.at, data=row.data) for row in rows
    ]


async def newest(session: AsyncSession) -> int:
    return (await session.scalar(select(func.max(EventRow.seq)))) or 0


async def prune(session: AsyncSession) -> None:
    await session.execute(delete(EventRow).where(EventRow.at < datetime.now(UTC) - KEEP))
