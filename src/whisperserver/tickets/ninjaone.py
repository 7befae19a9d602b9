"""NinjaOne as a ticket sink.

The request is `POST /v2/ticketing/ticket` as the vendor's document has it: status as text, a description
that is private and plain (`body`, never `htmlBody`: it carries a caller's words). The API knows no
idempotency key, so each ticket carries its call twice: as the tag `rec-<call id>`, which is compared exactly,
and as the last line of the description, which a search may find where it does not look at tags.
"""

from collections.abc import AsyncIterator
from typing import Any

from whisperagent import settings, wire
from whisperagent.i18n import _
from whisperserver.tickets.ninjaapi import NinjaApi, NotThere
from whisperserver.tickets.sink import Rejected, TicketRef, Unknown

TICKETS = "/v2/ticketing/ticket"
BOARDS = "/v2/ticketing/trigger/boards"
FORMS = "/v2/ticketing/ticket-form"
STATUSES = "/v2/ticketing/statuses"
NEWEST = 25
"""Tickets of a board that are looked at one by one, in case the search does not find markers."""


def board_run(board: int) -> str:
    return f"/v2/ticketing/trigger/board/{board}/run"


class NinjaOne:
    """TicketSink for one tenant. Make one for a process and keep it: it holds the pace and the token."""

    name = "ninjaone"

    def __init__(self, tickets: settings.Tickets, requests_per_s: float = 2.0) -> None:
        self._tickets = tickets
        self._api = NinjaApi(
            tickets.url, tickets.client_id, tickets.client_secret, tickets.timeout_s, requests_per_s
        )

    async def check(self) -> None:
        """See that the organisation, the form, the status and the board of the settings are there."""
        wanted = self._tickets
        await self._api.ask("GET", f"/v2/organization/{wanted.organization}")
        _expect("tickets.form", wanted.form, await self._api.ask("GET", FORMS), "id")
        _expect("tickets.status", wanted.status, await self._api.ask("GET", STATUSES), "statusId")
        boards = await self._api.ask("GET", BOARDS)
        if wanted.board:
            _expect("tickets.board", wanted.board, boards, "id")

    async def create(self, draft: wire.TicketDraft, marker: str) -> TicketRef:
        """File `draft` under the organisation and form of the settings."""
        answer = await self._api.tell("POST", TICKETS, self.body(draft, marker))
        number = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(number, int):
            raise Unknown(_("NinjaOne answered without the number of the ticket"))
        return self._ref(number)

    def body(self, draft: wire.TicketDraft, marker: str) -> dict[str, Any]:
        """The request, in the vendor's words. A marker that the reviewer took out is put back."""
        line = f"rec:{marker}"
        text = draft.body if draft.body.endswith(line) else f"{draft.body}\n\n{line}".lstrip()
        return {
            "clientId": self._tickets.organization,
            "ticketFormId": self._tickets.form,
            "subject": draft.subject,
            "status": self._tickets.status,
            "description": {"public": False, "body": text},
            "priority": draft.priority,
            "tags": list(dict.fromkeys([*draft.tags, _tag(marker)])),
        }

    async def find_by_marker(self, marker: str) -> TicketRef | None:
        """Search every board (or `tickets.board`) for the marker, then look at its newest tickets one by one.

        Which fields `searchCriteria` looks at, and how late, is not documented: so a hit counts only when the
        ticket itself carries the tag, and no hit counts only when the newest tickets do not carry it either.
        """
        seen: set[int] = set()
        async for number in self._candidates(marker):
            if number not in seen and await self._carries(number, _tag(marker)):
                return self._ref(number)
            seen.add(number)
        return None

    async def _candidates(self, marker: str) -> AsyncIterator[int]:
        boards = [self._tickets.board] if self._tickets.board else await self._boards()
        newest = {"sortBy": [{"field": "createTime", "direction": "DESC"}], "pageSize": NEWEST}
        for query in ({"searchCriteria": marker, "pageSize": NEWEST}, newest):
            for board in boards:
                answer = await self._api.ask("POST", board_run(board), query)
                for number in _numbers(answer.get("data") if isinstance(answer, dict) else None):
                    yield number

    async def _boards(self) -> list[int]:
        return _numbers(await self._api.ask("GET", BOARDS))

    async def _carries(self, number: int, tag: str) -> bool:
        try:
            ticket = await self._api.ask("GET", f"{TICKETS}/{number}")
        except NotThere:
            # Deleted since it was listed. Any other refusal rises: what may not be read may still be ours.
            return False
        return isinstance(ticket, dict) and tag in (ticket.get("tags") or ())

    def _ref(self, number: int) -> TicketRef:
        # No document gives the address of a ticket's page; this is how users quote it.
        return TicketRef(str(number), f"{self._api.url}/#/ticketing/ticket/{number}")


def _tag(marker: str) -> str:
    return f"rec-{marker}"


def _numbers(rows: object) -> list[int]:
    """The ids of a list of objects."""
    found = rows if isinstance(rows, list) else []
    return [row["id"] for row in found if isinstance(row, dict) and isinstance(row.get("id"), int)]


def _expect(setting: str, wanted: int | str, rows: object, field: str) -> None:
    """raises Rejected: NinjaOne lists nothing with that id; says what it does list."""
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if str(wanted) not in [str(row.get(field)) for row in known]:
        raise Rejected(
            _("NinjaOne has no {value} for `{setting}`").format(value=wanted, setting=setting),
            why=", ".join(f"{row.get(field)} {row.get('displayName') or row.get('name')}" for row in known),
            fix=_("set `{setting}` to one of these numbers").format(setting=setting),
        )
