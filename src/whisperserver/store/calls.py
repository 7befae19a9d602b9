"""Calls and their parts: receive, find, list, move from state to state, erase."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, delete, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import wire
from whisperagent.i18n import _
from whisperagent.wire import CallState
from whisperserver.refusals import BadRequest, Conflict, Forbidden, Gone, NotFound
from whisperserver.store import events, search
from whisperserver.store.models import (
    CallRow,
    ClaimRow,
    Moment,
    PartRow,
    ReviewRow,
    TicketRow,
    TranscriptRow,
)

OPEN = (
    CallState.RECEIVED,
    CallState.TRANSCRIBING,
    CallState.TRANSCRIBED,
    CallState.FAILED,
    CallState.QUARANTINED,
)
"""States in which a further part still changes the transcript: nobody has decided on the call yet."""


async def find(session: AsyncSession, call_id: str) -> CallRow | None:
    row: CallRow | None = await session.scalar(select(CallRow).where(CallRow.call_id == call_id))
    return row


async def get(session: AsyncSession, call_id: str) -> CallRow:
    """raises NotFound: there is no such call. Gone: it was erased."""
    row = await find(session, call_id)
    if row is None:
        raise NotFound(_("there is no call {call_id}").format(call_id=call_id))
    if row.state == CallState.ERASED:
        raise Gone(_("the call {call_id} was erased").format(call_id=call_id))
    return row


async def parts(session: AsyncSession, call_id: str) -> Sequence[PartRow]:
    return (
        await session.scalars(select(PartRow).where(PartRow.call_id == call_id).order_by(PartRow.part))
    ).all()


async def stored_part(session: AsyncSession, call_id: str, part: int, extension: str) -> PartRow | None:
    """This part, if it is here. extension: who asks, and may only ask for its own.

    raises Forbidden: the call is of another extension. Gone: it was erased.
    """
    call = await find(session, call_id)
    if call is None:
        return None
    if call.extension != extension:
        raise Forbidden(
            _("this call belongs to another extension"),
            why=_("extension {other} sent it").format(other=call.extension),
        )
    if call.state == CallState.ERASED:
        raise Gone(_("the call {call_id} was erased").format(call_id=call_id))
    here = (PartRow.call_id == call_id) & (PartRow.part == part)
    row: PartRow | None = await session.scalar(select(PartRow).where(here))
    return row


async def known_part(session: AsyncSession, metadata: wire.CallMetadata, sha256: str) -> PartRow | None:
    """This part, if it came before with the same bytes; None if it never came.

    raises Conflict: it came with other bytes. Forbidden, Gone: as `stored_part`.
    """
    part = await stored_part(session, metadata.call_id, metadata.part, metadata.extension)
    if part is not None and part.sha256 != sha256:
        raise Conflict(
            _("part {part} of this call is here already, with other bytes").format(part=metadata.part),
            why=_("stored is SHA-256 {stored}, this is {given}").format(stored=part.sha256, given=sha256),
            fix=_("a recording that differs needs a call_id of its own"),
        )
    return part


async def add_part(session: AsyncSession, part: PartRow) -> tuple[CallRow, bool]:
    """Add a new part to its call, which the first one makes.

    returns: the call, and whether it is now to be transcribed.
    """
    metadata = part.metadata_json
    call = await find(session, part.call_id)
    if call is None:
        call = CallRow(
            call_id=part.call_id,
            extension=metadata.extension,
            state=CallState.RECEIVED,
            started_at=metadata.started_at,
            received_at=part.received_at,
            changed_at=part.received_at,
        )
        session.add(call)
        events.tell(session, "call.received", part.call_id, state=CallState.RECEIVED)
        await session.flush()
    session.add(part)
    await session.flush()
    await _sum_up(session, call)
    if not await _still_open(session, call):
        words = _("part {part} came after the call was read; it is kept with the sound").format(
            part=part.part
        )
        move(session, call, CallState(call.state), words)
        return call, False
    if call.state != CallState.TRANSCRIBING:  # a running transcription sees at its end that it missed a part
        move(session, call, CallState.RECEIVED)
    call.attempts = 0
    return call, call.whole and call.state == CallState.RECEIVED


async def _still_open(session: AsyncSession, call: CallRow) -> bool:
    transcript = await session.get(TranscriptRow, call.call_id)
    corrected = transcript is not None and transcript.segments != transcript.original
    return call.state in OPEN and not corrected


async def _sum_up(session: AsyncSession, call: CallRow) -> None:
    """Say of the call what its parts say together."""
    rows = await parts(session, call.call_id)
    said = [row.metadata_json for row in rows]
    call.started_at = min(one.started_at for one in said)
    ends = max(one.started_at + timedelta(seconds=one.duration_s) for one in said)
    call.duration_s = (ends - call.started_at).total_seconds()
    call.agent_name = _first(one.agent_name for one in said)
    call.remote_party = _first(one.remote_party for one in said)
    call.direction = next((one.direction for one in said if one.direction != "unknown"), "unknown")
    call.interrupted = any(row.interrupted for row in rows)
    last = max((one.part for one in said if one.last), default=0)
    call.whole = last > 0 and {one.part for one in said} >= set(range(1, last + 1))
    call.received_at = max(row.received_at for row in rows)
    transcript = await session.get(TranscriptRow, call.call_id)
    await search.index(session, call.number, call.remote_party, transcript.segments if transcript else ())


def _first(values: Any) -> str:
    return next((value for value in values if value), "")


def move(session: AsyncSession, call: CallRow, state: CallState, error: str = "") -> None:
    """Put a call into a state and tell the review channel; nothing is told when nothing changes."""
    if call.state == state and call.error == error:
        return
    call.state, call.error = state, error
    call.changed_at = datetime.now(UTC)
    call.progress = 0.0
    events.tell(session, "call.state", call.call_id, state=str(state))


async def page(
    session: AsyncSession,
    *,
    q: str = "",
    states: Sequence[str] = (),
    extension: str = "",
    remote_party: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str = "",
    limit: int = 50,
) -> wire.CallPage:
    """Calls, newest first. since, until: of the start, the second one excluded.

    raises BadRequest: a cursor that no page gave out.
    """
    query = _listed().where(CallRow.state != CallState.ERASED)
    words = search.expression(q)
    if q.strip():
        query = query.where(search.matching(words, CallRow.number))
    if states:
        query = query.where(CallRow.state.in_(states))
    if extension:
        query = query.where(CallRow.extension == extension)
    if remote_party:
        query = query.where(CallRow.remote_party.contains(remote_party, autoescape=True))
    if since:
        query = query.where(CallRow.started_at >= since)
    if until:
        query = query.where(CallRow.started_at < until)
    if cursor:
        begun, call_id = _opened(cursor)
        bound = tuple_(literal(begun, Moment), literal(call_id))
        query = query.where(tuple_(CallRow.started_at, CallRow.call_id) < bound)
    query = query.order_by(CallRow.started_at.desc(), CallRow.call_id.desc()).limit(limit + 1)
    rows = (await session.execute(query)).all()
    following = _sealed(rows[limit - 1][0]) if len(rows) > limit else ""
    shown = rows[:limit]
    passages = await search.passages(session, words, [row[0].number for row in shown])
    items = tuple(_summary_of(row, passages.get(row[0].number, "")) for row in shown)
    return wire.CallPage(items=items, next_cursor=following)


def _listed() -> Select[Any]:
    """Select (call, who claims it, ticket)."""
    made = and_(TicketRow.call_id == CallRow.call_id, TicketRow.state == wire.TicketState.CREATED)
    query: Select[Any] = (
        select(CallRow, ClaimRow.extension, TicketRow.ticket)
        .outerjoin(ClaimRow, ClaimRow.call_id == CallRow.call_id)
        .outerjoin(TicketRow, made)
    )
    return query


async def summary(session: AsyncSession, call: CallRow) -> wire.CallSummary:
    row = (await session.execute(_listed().where(CallRow.number == call.number))).first()
    assert row is not None  # noqa: S101 - for the type checker: the caller has just read this row
    return _summary_of(row)


def _summary_of(row: Row[Any], passage: str = "") -> wire.CallSummary:
    call, claimed_by, ticket = row
    return wire.CallSummary(
        call_id=call.call_id,
        state=CallState(call.state),
        extension=call.extension,
        started_at=call.started_at,
        duration_s=call.duration_s,
        agent_name=call.agent_name,
        remote_party=call.remote_party,
        direction=call.direction,
        language=call.language,
        snippet=(passage or call.snippet).replace("\n", " "),
        claimed_by=claimed_by or "",
        ticket_id=ticket.id if ticket else "",
        error=call.error,
    )


async def detail(session: AsyncSession, call_id: str) -> wire.Call:
    """Everything about one call, but the draft of its ticket. raises NotFound, Gone."""
    call = await get(session, call_id)
    transcript = await session.get(TranscriptRow, call_id)
    review = await session.get(ReviewRow, call_id)
    ticket = await session.scalar(
        select(TicketRow).where(TicketRow.call_id == call_id).order_by(TicketRow.id.desc())
    )
    return wire.Call(
        summary=await summary(session, call),
        parts=tuple(
            wire.CallPart(
                metadata=row.metadata_json, sha256=row.sha256, size=row.size, received_at=row.received_at
            )
            for row in await parts(session, call_id)
        ),
        transcript=shown(transcript) if transcript else None,
        review=None
        if review is None
        else wire.Review(decision=review.decision, reviewer=review.reviewer, at=review.at, note=review.note),  # type: ignore[arg-type]  # one of two, by `reviews.decide`
        ticket=ticket.ticket if ticket else None,
    )


def shown(row: TranscriptRow) -> wire.Transcript:
    return wire.Transcript(
        call_id=row.call_id,
        version=row.version,
        language=row.language,
        model=row.model,
        duration_s=row.duration_s,
        segments=row.segments,
    )


async def erase(session: AsyncSession, call: CallRow) -> None:
    """Forget a call but for its id, so that it cannot come back by a re-sent upload, and the times of its
    work, so that figures which only rise do not fall.
    """
    for table in (PartRow, ReviewRow, TicketRow, ClaimRow):
        await session.execute(delete(table).where(table.call_id == call.call_id))
    of_call = TranscriptRow.call_id == call.call_id
    await session.execute(update(TranscriptRow).where(of_call).values(segments=(), original=(), language=""))
    await search.forget(session, call.number)
    await search.purge(session)
    call.agent_name = call.remote_party = call.language = call.snippet = ""
    move(session, call, CallState.ERASED)


async def has_transcript(session: AsyncSession, call_id: str) -> bool:
    return await session.get(TranscriptRow, call_id) is not None


async def waiting_for_parts(session: AsyncSession, patience: timedelta) -> Sequence[CallRow]:
    """Calls whose last part has not come, and whose newest part is older than `patience`."""
    long_ago = datetime.now(UTC) - patience
    query = select(CallRow).where(
        CallRow.state == CallState.RECEIVED, CallRow.whole.is_(False), CallRow.received_at < long_ago
    )
    return (await session.scalars(query)).all()


async def to_transcribe(session: AsyncSession, patience: timedelta) -> Sequence[str]:
    """Ids of the calls that should have a job: nobody else is going to remember them.

    patience: how long one that has failed is left alone.
    """
    states = (CallState.RECEIVED, CallState.TRANSCRIBING)
    due = or_(CallRow.attempts == 0, CallRow.changed_at < datetime.now(UTC) - patience)
    query = select(CallRow.call_id).where(CallRow.state.in_(states), CallRow.whole, due)
    return (await session.scalars(query)).all()


async def to_ticket(session: AsyncSession) -> Sequence[str]:
    """Ids of the approved calls whose ticket should have a job.

    Not one that failed or that nobody knows of: unless its job still lives, it waits for a person. A call
    that was approved when there was no ticket system has no ticket, and gets none later by itself.
    """
    under_way = TicketRow.state.in_((wire.TicketState.DRAFT, wire.TicketState.SENDING))
    query = (
        select(CallRow.call_id)
        .join(TicketRow, TicketRow.call_id == CallRow.call_id)
        .where(CallRow.state == CallState.APPROVED, under_way)
    )
    return (await session.scalars(query)).all()


def _sealed(call: CallRow) -> str:
    return base64.urlsafe_b64encode(f"{call.started_at.isoformat()} {call.call_id}".encode()).decode()


def _opened(cursor: str) -> tuple[datetime, str]:
    try:
        begun, _blank, call_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return datetime.fromisoformat(begun).astimezone(UTC), call_id
    except (binascii.Error, ValueError, OverflowError):
        raise BadRequest(
            _("`cursor` is not one that a page gave out"), fix=_("begin again without a cursor")
        ) from None
