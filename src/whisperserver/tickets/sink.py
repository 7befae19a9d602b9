"""Where tickets go: what delivery.py asks of a ticket system, and the three ways one can fail.

The three errors carry the whole policy of sending again, so a new ticket system only has to sort what it
sees into them: NotSent (certainly not made, try later), Rejected (certainly not made, a person must act),
Unknown (perhaps made: never simply send again). When in doubt: Unknown.
"""

from dataclasses import dataclass
from typing import Protocol

from whisperagent import wire
from whisperagent.errors import TicketError


class NotSent(TicketError):
    """Certainly nothing was made, and later it may work: refused connection, TLS, 429.

    retry_after_s: how long the ticket system asked to be left alone, 0 when it did not say.
    """

    exit_code = 3

    def __init__(self, what: str, *, why: str = "", fix: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retry_after_s = retry_after_s


class Rejected(TicketError):
    """Certainly nothing was made, and trying again helps nobody: the other 4xx, with the vendor's words."""


class Unknown(TicketError):
    """Perhaps made: the request was written and no proper answer came (time-out, reset, 5xx, not JSON)."""


@dataclass(frozen=True)
class TicketRef:
    """A ticket that exists. id: the ticket system's own. url: where a person reads it."""

    id: str
    url: str


class TicketSink(Protocol):
    """A ticket system. marker: the call's id, carried by its ticket so that it can be found again."""

    @property
    def name(self) -> str:
        """As in `tickets.sink`, e.g. `ninjaone`."""

    async def check(self) -> None:
        """See that tickets can be made, without making one. raises NotSent, Rejected."""

    async def find_by_marker(self, marker: str) -> TicketRef | None:
        """The ticket that carries exactly this marker; None only when every place to look was asked.

        raises NotSent: could not ask. Rejected: may not ask.
        """

    async def create(self, draft: wire.TicketDraft, marker: str) -> TicketRef:
        """Make a ticket that carries `marker`, with one request. raises NotSent, Rejected, Unknown."""
