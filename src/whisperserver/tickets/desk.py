"""What the stand-in for NinjaOne keeps: tickets in memory, and in a JSON file when there is one.

Written from the vendor's document, and separately from the client (ninjaone.py), so that a misreading in one
shows in the other. Stricter than the document in one thing: a field that it does not know is an error.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

STAND_IN = "a stand-in for NinjaOne, for demonstration and tests; not NinjaOne"

ORGANIZATIONS = [{"id": 1, "name": "Demo"}]
FORMS = [{"id": 1, "name": "Default", "active": True, "default": True, "fields": []}]
STATUSES = [
    {"statusId": 1000, "name": "NEW", "displayName": "New"},
    {"statusId": 2000, "name": "OPEN", "displayName": "Open"},
]
BOARDS = [{"id": 1, "name": "Unassigned tickets"}, {"id": 2, "name": "All tickets"}]
ALL_TICKETS = 2

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Uuid = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class Description(Body):
    public: bool
    body: str | None = None
    html_body: str | None = None
    time_tracked: Int32 | None = None
    duplicate_in_incidents: bool = False


class Cc(Body):
    uids: list[Uuid] | None = None
    emails: list[str] | None = None


class Attribute(Body):
    attribute_id: Int32
    value: str
    id: Int32 | None = None


class NewTicket(Body):
    """The body of `POST /v2/ticketing/ticket`."""

    client_id: Int32
    ticket_form_id: Int32
    subject: Annotated[str, Meta(max_length=200)]
    status: str
    description: Description | None = None
    location_id: Int32 | None = None
    node_id: Int32 | None = None
    type: (
        Literal[
            "PROBLEM",
            "QUESTION",
            "INCIDENT",
            "TASK",
            "CHANGE_REQUEST",
            "SERVICE_REQUEST",
            "PROJECT",
            "APPOINTMENT",
            "MISCELLANEOUS",
        ]
        | None
    ) = None
    cc: Cc | None = None
    assigned_app_user_id: Int32 | None = None
    requester_uid: Uuid | msgspec.UnsetType = msgspec.UNSET
    severity: Literal["NONE", "MINOR", "MODERATE", "MAJOR", "CRITICAL"] | None = "NONE"
    priority: Literal["NONE", "LOW", "MEDIUM", "HIGH"] | None = "NONE"
    parent_ticket_id: Int32 | None = None
    tags: list[str] | None = None
    attributes: list[Attribute] | None = None
    additional_assigned_technician_ids: list[Int32] | None = None
    followup_time: float | None = None


class Search(Body):
    """The body of `POST …/board/{id}/run`, as far as the stand-in answers it."""

    page_size: Int32 = 100
    search_criteria: Annotated[str, Meta(max_length=512)] = ""
    sort_by: list[dict[str, str]] = []
    filters: list[dict[str, Any]] = []
    include_columns: list[str] = []
    last_cursor_id: Int32 = 0


class Desk:
    """The tickets. file: read at the start, made when it is not there, replaced after each ticket.

    lag_s: how long a ticket exists before any board shows it.
    searched: the fields of a ticket that `searchCriteria` looks at. tokens: those that were given out.
    """

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self.clock = clock
        self.lag_s = 0.0
        self.searched: tuple[str, ...] = ("subject", "description", "tags")
        self.tokens: set[str] = set()
        self.tickets: list[dict[str, Any]] = []
        if file is not None and file.exists():
            self.tickets = json.loads(file.read_text("utf-8"))["tickets"]
        self._write()

    def create(self, body: bytes) -> dict[str, Any]:
        """Make a ticket from a request's body. raises ValueError: with what the vendor's document wants."""
        try:
            new = msgspec.json.decode(body, type=NewTicket)
        except msgspec.DecodeError as problem:
            raise ValueError(str(problem)) from None
        _among(new.client_id, ORGANIZATIONS, "id", "clientId")
        _among(new.ticket_form_id, FORMS, "id", "ticketFormId")
        _among(new.status, STATUSES, "statusId", "status")
        ticket = {
            "id": 1000 + len(self.tickets) + 1,
            "version": 1,
            "clientId": new.client_id,
            "ticketFormId": new.ticket_form_id,
            "subject": new.subject,
            "status": next(row for row in STATUSES if str(row["statusId"]) == new.status),
            "type": new.type,
            "priority": new.priority,
            "severity": new.severity,
            "source": "TECHNICIAN",
            "tags": new.tags or [],
            "createTime": self.clock(),
            "deleted": False,
            "attributeValues": [],
            # Not part of NinjaOne's answer: it keeps descriptions in the ticket's log.
            "description": new.description.body if new.description else None,
        }
        self.tickets.append(ticket)
        self._write()
        return ticket

    def ticket(self, number: int) -> dict[str, Any] | None:
        return next((ticket for ticket in self.tickets if ticket["id"] == number), None)

    def run_board(self, board: int, body: bytes) -> dict[str, Any]:
        """What a board shows. raises ValueError: not the document's body. KeyError: no such board."""
        if board not in [row["id"] for row in BOARDS]:
            raise KeyError(board)
        try:
            search = msgspec.json.decode(body or b"{}", type=Search)
        except msgspec.DecodeError as problem:
            raise ValueError(str(problem)) from None
        shown = [ticket for ticket in self.tickets if board == ALL_TICKETS and self._is_shown(ticket)]
        found = [ticket for ticket in shown if self._matches(ticket, search.search_criteria)]
        if {"field": "createTime", "direction": "DESC"} in search.sort_by:
            found.reverse()
        rows = [{"id": ticket["id"], "summary": ticket["subject"]} for ticket in found[: search.page_size]]
        return {"data": rows, "metadata": {"lastCursorId": rows[-1]["id"] if rows else 0}}

    def _is_shown(self, ticket: dict[str, Any]) -> bool:
        return bool(self.clock() - ticket["createTime"] >= self.lag_s)

    def _matches(self, ticket: dict[str, Any], criteria: str) -> bool:
        return not criteria or any(criteria in str(ticket[field]) for field in self.searched)

    def _write(self) -> None:
        if self.file is None:
            return
        temporary = self.file.with_name(f"{self.file.name}.tmp")
        temporary.write_text(
            json.dumps({"what": STAND_IN, "tickets": self.tickets}, ensure_ascii=False, indent=2), "utf-8"
        )
        temporary.replace(self.file)


def _among(value: int | str, rows: list[dict[str, Any]], field: str, name: str) -> None:
    if str(value) not in [str(row[field]) for row in rows]:
        raise ValueError(f"{name} {value} does not exist")
