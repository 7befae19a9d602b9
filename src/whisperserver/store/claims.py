"""Claims: who reads a call right now. A courtesy to the others: a review's version check guards the words."""

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent.wire import CallState
from whisperserver.store import calls, events
from whisperserver.store.models import ClaimRow


async def claim(session: AsyncSession, call_id: str, extension: str) -> bool:
    """True when the call is now `extension`'s; False when there is no such call or another has it."""
    held = await session.get(ClaimRow, call_id)
    if held is not None:
        return held.extension == extension
    call = await calls.find(session, call_id)
    if call is None or call.state == CallState.ERASED:
        return False
    session.add(ClaimRow(call_id=call_id, extension=extension, at=datetime.now(UTC)))
    events.tell(session, "review.claimed", call_id, by=extension)
    return True


async def release(session: AsyncSession, call_ids: Iterable[str], extension: str) -> None:
    for call_id in call_ids:
        held = await session.get(ClaimRow, call_id)
        if held is not None and held.extension == extension:
            await session.delete(held)
            events.tell(session, "review.released", call_id, by=extension)


async def forget_all(session: AsyncSession) -> None:
    """At the server's start: the sockets that held them are gone."""
    await session.execute(delete(ClaimRow))
