"""Deliver a ticket exactly once, to a ticket system that has no idempotency key.

                 ┌─ certainly not made ─> DRAFT (NotSent: the caller's job tries later) or FAILED (Rejected)
    DRAFT -> SENDING ─ answered ────────> CREATED
                 └─ nobody knows ───────> UNKNOWN ─ wait, look for the marker ─> CREATED
                                             └─ nowhere after all waits: one more send, then a person

SENDING is saved before the request leaves, so whoever finds it after a crash knows that nobody knows. A send
whose outcome is unknown is counted in `unanswered`; only a fresh ticket, or one such send followed by looks
that all found nothing, may be sent. So a killed worker is resumed by calling `deliver` again, and a second
ticket needs a ticket system that hides the first one for longer than all the waits together.
tests/tickets/test_simulation.py measures it. One `deliver` a ticket at a time: the job queue sees to that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from whisperagent import wire
from whisperagent.i18n import _
from whisperagent.wire import TicketState
from whisperserver.tickets.sink import NotSent, Rejected, TicketRef, TicketSink, Unknown

MOST_UNANSWERED = 2
"""Sends without an answer before a person decides: the first, and one more."""

log = logging.getLogger(__name__)


class TicketRecord(Protocol):
    """The stored ticket of one call."""

    async def load(self) -> wire.Ticket:
        """As last saved; for a new ticket one in state DRAFT."""

    async def save(self, ticket: wire.Ticket) -> None:
        """Keep every field, `unanswered` too; durable before it returns."""


async def deliver(
    sink: TicketSink,
    draft: wire.TicketDraft,
    marker: str,
    record: TicketRecord,
    waits_s: Sequence[float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> wire.Ticket:
    """Bring the ticket of `record` to CREATED, FAILED or UNKNOWN, and give it as it was saved.

    marker: the call's id. waits_s: seconds before each look for a ticket whose answer was lost; at least one,
    and together longer than the ticket system's search may lag.
    FAILED may be delivered again once its cause is mended; UNKNOWN looks again and sends as the count allows.
    raises NotSent: try later, nothing is lost. Killed or cancelled anywhere, call it again.

    Source: docs/tickets.md.
    """
    if not waits_s:
        raise ValueError("waits_s is empty: a re-send without a look makes second tickets")
    ticket = await record.load()
    if ticket.state is TicketState.CREATED:
        return ticket
    # A record that does not keep the count still says by its state that one send is open.
    open_sends = max(ticket.unanswered, int(ticket.state in (TicketState.SENDING, TicketState.UNKNOWN)))
    ticket = replace(ticket, sink=sink.name, draft=draft, unanswered=open_sends)
    delivery = _Delivery(sink, marker, record, ticket)
    if open_sends or not await delivery.send():
        await delivery.settle(waits_s, sleep)
    return delivery.ticket


class _Delivery:
    """One call of `deliver`: the ticket as it was last saved, and the steps that change it."""

    def __init__(self, sink: TicketSink, marker: str, record: TicketRecord, ticket: wire.Ticket) -> None:
        self.sink = sink
        self.marker = marker
        self.record = record
        self.ticket = ticket

    async def send(self) -> bool:
        """Send once. True when there is nothing to settle: made, or certainly not made."""
        before = self.ticket
        await self._save(TicketState.SENDING, unanswered=before.unanswered + 1)
        try:
            ref = await self.sink.create(before.draft, self.marker)
        except Unknown as problem:
            await self._save(TicketState.UNKNOWN, error=problem.in_words())
            return False
        except NotSent as problem:
            # With an earlier send still open, this answer says nothing about that one.
            state = TicketState.UNKNOWN if before.unanswered else TicketState.DRAFT
            await self._save(state, unanswered=before.unanswered, error=problem.in_words())
            raise
        except Rejected as problem:
            if before.unanswered:
                await self._hand_over(problem.in_words(), before.unanswered)
            else:
                await self._save(TicketState.FAILED, unanswered=0, error=problem.in_words())
        else:
            await self._made(ref)
        return True

    async def settle(self, waits_s: Sequence[float], sleep: Callable[[float], Awaitable[None]]) -> None:
        """Find out what became of an unanswered send; where nothing did, send once more."""
        try:
            if await self._look(waits_s, sleep):
                return
            if self.ticket.unanswered < MOST_UNANSWERED and (
                await self.send() or await self._look(waits_s, sleep)
            ):
                return
        except Rejected as problem:
            await self._hand_over(problem.in_words(), self.ticket.unanswered)
            return
        await self._hand_over(_("a search does not find it"), self.ticket.unanswered)

    async def _look(self, waits_s: Sequence[float], sleep: Callable[[float], Awaitable[None]]) -> bool:
        """After each wait, look for the marker; adopt the ticket that carries it."""
        if self.ticket.state is not TicketState.UNKNOWN:
            stopped = _("the server stopped while the ticket was being sent")
            await self._save(TicketState.UNKNOWN, error=stopped)
        for wait_s in waits_s:
            await sleep(wait_s)
            # NotSent rises from here: a look that could not be made proves nothing, so all begin again later.
            if ref := await self.sink.find_by_marker(self.marker):
                await self._made(ref)
                return True
        return False

    async def _made(self, ref: TicketRef) -> None:
        await self._save(TicketState.CREATED, id=ref.id, url=ref.url, unanswered=0)

    async def _hand_over(self, why: str, unanswered: int) -> None:
        """Leave the rest to a person."""
        words = _(
            "{sink} did not say whether it made this ticket ({why}); look there for `rec-{marker}`: "
            "if there is no such ticket, make it by hand from the draft"
        ).format(sink=self.sink.name, why=why, marker=self.marker)
        await self._save(TicketState.UNKNOWN, unanswered=unanswered, error=words)

    async def _save(self, state: TicketState, **changes: str | int) -> None:
        self.ticket = replace(self.ticket, **{"error": "", **changes}, state=state)
        await self.record.save(self.ticket)
        log.info("ticket of call %s: %s%s", self.marker, state, f" {self.ticket.id}" * bool(self.ticket.id))
