"""Reviews and tickets: what a person decided, and how far its ticket is."""

from datetime import UTC, datetime

from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import wire
from whisperagent.i18n import _
from whisperagent.wire import CallState, TicketState
from whisperserver.refusals import Conflict
from whisperserver.store import calls, events, transcripts
from whisperserver.store.database import Database
from whisperserver.store.models import ReviewRow, TicketRow

MENDABLE = (TicketState.FAILED, TicketState.UNKNOWN)
"""Tickets that wait for a person; approving the call once more sends them on their way again."""


async def decide(
    session: AsyncSession,
    call_id: str,
    decision: wire.ReviewDecision,
    draft: wire.TicketDraft,
    sink: str,
    who: str,
) -> bool:
    """Approve or reject. draft: what the ticket will say. sink: the ticket system, `none` for none.

    returns: is a ticket to be delivered now? The same decision sent again is answered and changes nothing.
    raises NotFound, Gone; Conflict: another version was read, or someone decided otherwise before.
    """
    call = await calls.get(session, call_id)
    wanted = CallState.APPROVED if decision.decision == "approved" else CallState.REJECTED
    if call.state != CallState.TRANSCRIBED:
        return await _again(session, call_id, CallState(call.state), wanted, draft, sink)
    await transcripts.version(session, call_id, decision.version)
    await session.merge(
        ReviewRow(
            call_id=call_id,
            version=decision.version,
            decision=decision.decision,
            reviewer=who,
            at=datetime.now(UTC),
            note=decision.note,
        )
    )
    calls.move(session, call, wanted)
    events.audit(session, who, decision.decision, call_id)
    if wanted is CallState.REJECTED or sink == "none":
        return False
    ticket = wire.Ticket(sink=sink, state=TicketState.DRAFT, draft=draft)
    session.add(
        TicketRow(call_id=call_id, sink=sink, state=ticket.state, ticket=ticket, changed_at=datetime.now(UTC))
    )
    return True


async def _again(
    session: AsyncSession,
    call_id: str,
    state: CallState,
    wanted: CallState,
    draft: wire.TicketDraft,
    sink: str,
) -> bool:
    decided = (
        (CallState.APPROVED, CallState.TICKETED) if wanted is CallState.APPROVED else (CallState.REJECTED,)
    )
    if state not in decided:
        raise Conflict(
            _("this call cannot be decided on now"),
            why=_("it is {state}").format(state=state),
            fix=_("load the call again"),
        )
    row = await _row(session, call_id, sink)
    if row is None or row.ticket.state not in MENDABLE:
        return False
    if row.ticket.state is TicketState.FAILED:
        # Certainly not made, so a new text cannot differ from that of a made one.
        row.ticket = replace(row.ticket, draft=draft)
        row.changed_at = datetime.now(UTC)
    return True


async def _row(session: AsyncSession, call_id: str, sink: str) -> TicketRow | None:
    here = (TicketRow.call_id == call_id) & (TicketRow.sink == sink)
    row: TicketRow | None = await session.scalar(select(TicketRow).where(here))
    return row


class StoredTicket:
    """The ticket of one call, as `tickets.deliver` reads and saves it."""

    def __init__(self, database: Database, call_id: str, sink: str, draft: wire.TicketDraft) -> None:
        self._database = database
        self._call_id = call_id
        self._sink = sink
        self._draft = draft

    async def load(self) -> wire.Ticket:
        async with self._database.reading() as session:
            row = await _row(session, self._call_id, self._sink)
        return row.ticket if row else wire.Ticket(sink=self._sink, state=TicketState.DRAFT, draft=self._draft)

    async def save(self, ticket: wire.Ticket) -> None:
        """Keep the ticket; once it is made, the call is ticketed, in the same transaction.

        raises NotFound, Gone: the call was erased meanwhile; what the ticket says must not come back with it.
        """
        await self._database.written(lambda session: self._save(session, ticket))

    async def _save(self, session: AsyncSession, ticket: wire.Ticket) -> None:
        call = await calls.get(session, self._call_id)
        row = await _row(session, self._call_id, self._sink)
        if row is None:
            row = TicketRow(call_id=self._call_id, sink=self._sink)
            session.add(row)
        row.ticket, row.state, row.changed_at = ticket, ticket.state, datetime.now(UTC)
        if call.state != CallState.APPROVED:
            return
        if ticket.state is TicketState.CREATED:
            calls.move(session, call, CallState.TICKETED)
        elif ticket.error != call.error:
            calls.move(session, call, CallState.APPROVED, ticket.error)
