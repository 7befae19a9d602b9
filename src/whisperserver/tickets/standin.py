"""A stand-in for NinjaOne: enough of its API to file tickets and to look at them.

For the demo and for tests, where there is no tenant. It answers the routes that ninjaone.py asks, in the
shapes of the vendor's document, and says in its answers that it is not NinjaOne. desk.py keeps the tickets,
faults.py breaks answers on order. What the document leaves open (what a search finds, and how late) is a
choice here, not knowledge: docs/tickets.md.
"""

import secrets
import socket
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from whisperagent import console
from whisperagent.errors import UsageError
from whisperagent.i18n import _
from whisperserver.tickets.desk import BOARDS, FORMS, ORGANIZATIONS, STAND_IN, STATUSES, Desk
from whisperserver.tickets.faults import Faults

CLIENT_ID = "stand-in"
CLIENT_SECRET = "not-a-secret"  # noqa: S105 - shown at every start

PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ white-space: pre-wrap }}</style></head>
<body><h1>{title}</h1><p>{what}</p>{tickets}</body></html>
"""


class Refused(Exception):
    """An answer other than 2xx, in one of the vendor's shapes."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.document = document


def create_app(desk: Desk | None = None, faults: Faults | None = None) -> Litestar:
    """The stand-in as an ASGI app. desk: the tickets to begin with. faults: what shall go wrong."""
    desk = desk or Desk()
    return Litestar(
        route_handlers=[tickets_page, token, create, read, boards, run_board, organization, forms, statuses],
        state=State({"desk": desk}),
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
        middleware=[faults or Faults()],
        exception_handlers={Refused: _refusal},
        openapi_config=None,
        # A library's app in somebody's process leaves that process's logging alone.
        logging_config=None,
    )


def serve(port: int, file: Path | None = None, host: str = "127.0.0.1") -> None:
    """Answer until Ctrl+C. port: 0 takes a free one. file: where the tickets are kept, e.g. `tickets.json`.

    raises UsageError: the port is taken, or `file` is not a stand-in's file.
    """
    desk = _desk(file)
    try:
        listener = socket.create_server((host, port))
    except OSError as problem:
        raise UsageError(
            _("cannot listen on {host}:{port}").format(host=host, port=port),
            why=problem.strerror or str(problem),
            fix=_("choose another with --port"),
        ) from None
    url = f"http://{host}:{listener.getsockname()[1]}"
    console.say(
        _("{url} is a stand-in for NinjaOne, for demonstration and tests; not NinjaOne").format(url=url)
    )
    for name, value in settings_for(url).items():
        console.say(f"  WA_TICKETS__{name.upper()}={value}")
    config = uvicorn.Config(create_app(desk), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def settings_for(url: str) -> dict[str, Any]:
    """What to set under [tickets] so that a server files its tickets here."""
    return {
        "sink": "ninjaone",
        "url": url,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "organization": ORGANIZATIONS[0]["id"],
        "form": FORMS[0]["id"],
    }


def signed_in(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """As the vendor answers (facts of unauthenticated probes): no header 400, a bad token 401."""
    scheme, _space, given = connection.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not given:
        raise Refused(400, {"errorCode": 400, "message": "Authorization header is missing or malformed"})
    if given not in connection.app.state.desk.tokens:
        raise _unauthorized("invalid_token", "unknown or expired")


@post("/ws/oauth/token", status_code=200)
async def token(request: Request[Any, Any, Any], desk: NamedDependency[Desk]) -> dict[str, Any]:
    form = {name: values[0] for name, values in parse_qs((await request.body()).decode("latin-1")).items()}
    if form.get("client_id") != CLIENT_ID:
        raise Refused(404, {"resultCode": "Client app not exist", "incidentId": _incident()})
    if form.get("client_secret") != CLIENT_SECRET or form.get("grant_type") != "client_credentials":
        raise _unauthorized("invalid_client", "bad secret or grant")
    given = secrets.token_urlsafe()
    desk.tokens.add(given)
    return {"access_token": given, "token_type": "Bearer", "expires_in": 3600, "scope": form.get("scope", "")}


@post("/v2/ticketing/ticket", guards=[signed_in], status_code=200)
async def create(request: Request[Any, Any, Any], desk: NamedDependency[Desk]) -> dict[str, Any]:
    try:
        return desk.create(await request.body())
    except ValueError as problem:
        raise _bad_request(problem) from None


@get("/v2/ticketing/ticket/{number:int}", guards=[signed_in])
async def read(number: FromPath[int], desk: NamedDependency[Desk]) -> dict[str, Any]:
    if ticket := desk.ticket(number):
        return ticket
    raise Refused(404, {"resultCode": "NOT_FOUND", "errorMessage": f"no ticket {number}"})


@get("/v2/ticketing/trigger/boards", guards=[signed_in])
async def boards() -> list[dict[str, Any]]:
    return BOARDS


@post("/v2/ticketing/trigger/board/{board:int}/run", guards=[signed_in], status_code=200)
async def run_board(
    request: Request[Any, Any, Any], board: FromPath[int], desk: NamedDependency[Desk]
) -> dict[str, Any]:
    try:
        return desk.run_board(board, await request.body())
    except KeyError:
        raise Refused(404, {"errorCode": 404, "message": f"no board {board}"}) from None
    except ValueError as problem:
        raise _bad_request(problem) from None


@get("/v2/organization/{number:int}", guards=[signed_in])
async def organization(number: FromPath[int]) -> dict[str, Any]:
    for row in ORGANIZATIONS:
        if row["id"] == number:
            return row
    raise Refused(404, {"resultCode": "NOT_FOUND", "errorMessage": f"no organization {number}"})


@get("/v2/ticketing/ticket-form", guards=[signed_in])
async def forms() -> list[dict[str, Any]]:
    return FORMS


@get("/v2/ticketing/statuses", guards=[signed_in])
async def statuses() -> list[dict[str, Any]]:
    return STATUSES


@get("/")
async def tickets_page(request: Request[Any, Any, Any], desk: NamedDependency[Desk]) -> Response[Any]:
    """The tickets, newest first: a page for people, JSON for programs (without `Accept: text/html`)."""
    if "text/html" not in request.headers.get("Accept", ""):
        return Response({"what": STAND_IN, "tickets": desk.tickets}, media_type="application/json")
    # The element's id is the fragment of `TicketRef.url`, so that this address works here as well.
    articles = [
        f'<article id="/ticketing/ticket/{ticket["id"]}"><h2>{ticket["id"]} {escape(ticket["subject"])}</h2>'
        f"<p>{escape(', '.join(ticket['tags']))}</p>"
        f"<pre>{escape(ticket['description'] or '')}</pre></article>"
        for ticket in reversed(desk.tickets)
    ]
    page = PAGE.format(
        title=_("Tickets"), what=STAND_IN, tickets="".join(articles) or f"<p>{_('no ticket yet')}</p>"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})


def _desk(file: Path | None) -> Desk:
    try:
        return Desk(file)
    except (OSError, ValueError, LookupError, TypeError) as problem:
        raise UsageError(
            _("cannot keep tickets in {path}").format(path=file),
            why=str(problem),
            fix=_("name a file that this command made, or one that does not exist yet"),
        ) from None


def _refusal(_request: Request[Any, Any, Any], refused: Refused) -> Response[dict[str, Any]]:
    return Response({**refused.document, "what": STAND_IN}, status_code=refused.status)


def _unauthorized(error: str, description: str) -> Refused:
    return Refused(401, {"error": error, "error_description": description, "error_code": 401})


def _bad_request(problem: ValueError) -> Refused:
    return Refused(400, {"resultCode": "VALIDATION", "errorMessage": str(problem), "incidentId": _incident()})


def _incident() -> str:
    return f"stand-in-{secrets.token_hex(4)}"
