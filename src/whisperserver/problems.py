"""Every error as an answer: problem details (RFC 9457), made here and nowhere else.

What the server says no to carries its own words (what, why, what to do). Anything else that goes wrong is
ours: it is logged with its traceback and answered without its inside.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import Scope, Send

from whisperagent import wire
from whisperagent.errors import AudioError, NoRoom, NotAuthenticated, SealedError, WhisperError
from whisperagent.i18n import _
from whisperserver.refusals import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    InUse,
    Lying,
    NoSuchRange,
    NotFound,
    NotSent,
    OtherProtocol,
    Stopping,
    TooLarge,
    TooMany,
    WrongChecksum,
    WrongKind,
    WrongOffset,
)
from whisperserver.store.database import is_passing

MEDIA_TYPE = "application/problem+json"
RETRY_S = 5
"""How long a client is asked to wait when the database is busy, or the server stops."""
LATER_S = 300
"""And when it has too many uploads under way."""

KINDS: dict[type, tuple[int, str]] = {
    BadRequest: (400, "bad-request"),
    NotAuthenticated: (401, "not-authenticated"),
    Forbidden: (403, "forbidden"),
    NotFound: (404, "not-found"),
    NotSent: (408, "not-sent"),
    Conflict: (409, "conflict"),
    WrongOffset: (409, "wrong-offset"),
    Gone: (410, "gone"),
    OtherProtocol: (412, "other-protocol"),
    TooLarge: (413, "too-large"),
    WrongKind: (415, "wrong-kind"),
    NoSuchRange: (416, "no-such-range"),
    Lying: (422, "not-as-declared"),
    InUse: (423, "in-use"),
    TooMany: (429, "too-many"),
    WrongChecksum: (460, "wrong-checksum"),  # a status of tus, which HTTP does not know
    # Only a recording that was kept raises these two; of one that comes in, ingest.py says what is wrong.
    SealedError: (500, "unreadable"),
    AudioError: (500, "unreadable"),
    Stopping: (503, "busy"),
    NoRoom: (507, "no-room"),
}
"""A subclass is answered as its nearest base here."""

OF_THE_PROTOCOL = {
    400: "bad-request",
    404: "not-found",
    405: "not-allowed",
    413: "too-large",
    415: "wrong-kind",
}
"""What the framework refuses by itself."""

log = logging.getLogger(__name__)


def of(problem: Exception, path: str) -> tuple[wire.Problem, dict[str, str]]:
    """The answer to an error, and its headers. path: what was asked for."""
    kind = next((KINDS[base] for base in type(problem).__mro__ if base in KINDS), None)
    if kind and isinstance(problem, WhisperError):
        return _problem(*kind, path, problem.what, problem.why, problem.fix), _headers(problem)
    if isinstance(problem, HTTPException) and problem.status_code < 500:
        return _of_the_protocol(problem, path), dict(problem.headers or {})
    if is_passing(problem):
        words = (_("the server is too busy"), _("its database did not answer in time"), _("try again later"))
        return _problem(503, "busy", path, *words), {"retry-after": str(RETRY_S)}
    words = (_("the server failed"), _("this is a fault of the server"), _("its log says more"))
    return _problem(500, "failure", path, *words), {}


def answer(request: Request[Any, Any, Any], problem: Exception) -> Response[bytes]:
    """For Litestar: the response to any exception."""
    # Not `request.url`, which is made of the header `Host` and fails where that is nonsense.
    body, headers = of(problem, request.scope["path"])
    if body.status >= 500:
        _log(problem, body.status, request.scope)
    return Response(
        msgspec.json.encode(body), status_code=body.status, headers=headers, media_type=MEDIA_TYPE
    )


async def refuse_socket(scope: Scope, send: Send, problem: Exception) -> None:
    """Answer a handshake like a request, instead of the bare 403 that closing it would send."""
    body, headers = of(problem, scope["path"])
    if body.status >= 500:
        _log(problem, body.status, scope)
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": body.title})
        return
    pairs = {"content-type": MEDIA_TYPE, **headers}
    start: Any = {
        "type": "websocket.http.response.start",
        "status": body.status,
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
    }
    end: Any = {"type": "websocket.http.response.body", "body": msgspec.json.encode(body)}
    await send(start)
    await send(end)


def _problem(status: int, name: str, path: str, what: str, why: str = "", fix: str = "") -> wire.Problem:
    return wire.Problem(
        type=f"/problems/{name}", title=what, status=status, detail=why, fix=fix, instance=path
    )


def _headers(problem: WhisperError) -> dict[str, str]:
    if isinstance(problem, NotAuthenticated):
        return {"www-authenticate": "Bearer"}
    if isinstance(problem, Stopping | InUse):
        return {"retry-after": str(RETRY_S)}
    if isinstance(problem, TooMany):
        return {"retry-after": str(LATER_S)}
    if isinstance(problem, WrongOffset):
        return {"upload-offset": str(problem.offset)}
    if isinstance(problem, OtherProtocol):
        return {"tus-version": wire.TUS_VERSION}
    if isinstance(problem, NoSuchRange):
        return {"content-range": f"bytes */{problem.length}"}
    return {}


def _of_the_protocol(problem: HTTPException, path: str) -> wire.Problem:
    what = {
        404: _("there is nothing at this address"),
        405: _("this address does not take this method"),
        413: _("the request is too large"),
        415: _("this kind of content is not taken"),
    }.get(problem.status_code, _("the request cannot be understood"))
    name = OF_THE_PROTOCOL.get(problem.status_code, "bad-request")
    fix = _("see /schema/openapi.json for what this server takes")
    return _problem(problem.status_code, name, path, what, _why(problem), fix)


def _why(problem: HTTPException) -> str:
    """The fields that are wrong, each with what is wrong about it."""
    found = [one for one in problem.extra or () if isinstance(one, Mapping)]
    if found:
        return "; ".join(_field(str(one.get("key", "")), str(one.get("message", ""))) for one in found)
    # The framework's bare phrase says nothing, and an address may carry words that somebody looks for.
    bare = problem.detail == HTTPStatus(problem.status_code).phrase or "://" in problem.detail
    return "" if bare else problem.detail


def _field(name: str, message: str) -> str:
    if message == f"'{name}'":  # a KeyError's text: there is no such field
        message = _("is missing")
    return f"{_('the body') if name == 'data' else f'`{name}`'}: {message}"


def _log(problem: Exception, status: int, scope: Scope) -> None:
    route = scope.get("path_template", "")
    if status in (503, 507):
        log.error("%s cannot be answered now: %s", route, getattr(problem, "orig", problem))
    else:
        log.error("%s broke", route, exc_info=problem)
