"""Tickets: from a reviewed call to exactly one ticket in the helpdesk's system.

draft.py writes the text, delivery.py sends it once, sink.py says what a ticket system must offer, ninjaone.py
(over ninjaapi.py) is one; standin.py stands in for NinjaOne in the demo and in tests. docs/tickets.md.
"""

from whisperagent import settings
from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperserver.tickets.delivery import TicketRecord, deliver
from whisperserver.tickets.draft import as_approved, draft_for
from whisperserver.tickets.ninjaone import NinjaOne
from whisperserver.tickets.sink import NotSent, Rejected, TicketRef, TicketSink, Unknown

__all__ = [
    "NotSent",
    "Rejected",
    "TicketRecord",
    "TicketRef",
    "TicketSink",
    "Unknown",
    "as_approved",
    "deliver",
    "draft_for",
    "sink_for",
]

NEEDED = ("client_id", "client_secret", "organization", "form")


def sink_for(tickets: settings.Tickets) -> TicketSink | None:
    """The ticket system of the settings, None for `none`. Make it once for a process: it holds the pace.

    raises ConfigError: a setting is missing, or the address is not https.
    """
    if tickets.sink == "none":
        return None
    if missing := [f"tickets.{name}" for name in NEEDED if not getattr(tickets, name)]:
        raise ConfigError(
            _("NinjaOne needs {settings}").format(settings=", ".join(f"`{name}`" for name in missing)),
            fix=_("set them with `wa config set`; docs/tickets.md says where to find each"),
        )
    return NinjaOne(tickets)
