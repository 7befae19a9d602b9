"""Workers: who is there to transcribe, as worker.py says of itself every second."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent.i18n import _
from whisperserver.store.models import WorkerRow

PATIENCE = timedelta(seconds=10)
"""A worker that has said nothing for so long does not count."""


async def there(session: AsyncSession) -> Sequence[WorkerRow]:
    query = select(WorkerRow).where(WorkerRow.seen_at > datetime.now(UTC) - PATIENCE)
    return (await session.scalars(query)).all()


async def trouble(session: AsyncSession) -> str:
    """Why nothing is transcribed now, in words; empty when a worker can."""
    errors = [worker.speech_error for worker in await there(session)]
    if not errors:
        return _("no worker is running")
    return "" if "" in errors else errors[0]
