"""What can go wrong between a ticket system and us, on order: the stand-in's middleware for tests.

Each fault says whether the request was executed; the client is told something else, or nothing.
"""

import asyncio
import time
from collections import deque
from enum import Enum
from typing import Literal

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from whisperserver.tickets.desk import STAND_IN

Operation = Literal["token", "create", "search", "read"]

HTML = b"text/html; charset=utf-8"
JSON = b"application/json"
WAIT_PAGE = f"<html><body>Please wait a moment. ({STAND_IN})</body></html>".encode()
CRASHED = b'{"resultCode":"FAILURE","errorMessage":"NullPointerException","incidentId":"stand-in-500"}'
THROTTLED = b'{"errorCode":429,"message":"Too many requests"}'
NO_USER = b'{"error":"user_context_required","error_description":"an authorization code is needed"}'


class Fault(Enum):
    """executed: is the request carried out before its answer goes wrong?

    ending: an `answer` of this status and body, a `cut` in the middle of one, or `silence` before a cut.
    """

    DONE_THEN_CUT = (True, "cut")
    DONE_THEN_500 = (True, "answer", 500, JSON, CRASHED)
    DONE_THEN_PAGE = (True, "answer", 200, HTML, WAIT_PAGE)
    DONE_THEN_SILENCE = (True, "silence")
    CUT = (False, "cut")
    CRASH = (False, "answer", 503, JSON, CRASHED)
    PAGE = (False, "answer", 200, HTML, WAIT_PAGE)
    THROTTLE = (False, "answer", 429, JSON, THROTTLED)
    THROTTLE_PAGE = (False, "answer", 403, HTML, WAIT_PAGE)
    NO_USER_CONTEXT = (False, "answer", 403, JSON, NO_USER)

    def __init__(
        self, executed: bool, ending: str, status: int = 200, content_type: bytes = JSON, body: bytes = b""
    ) -> None:
        self.executed = executed
        self.ending = ending
        self.status = status
        self.content_type = content_type
        self.body = body


class Faults(ASGIMiddleware):
    """planned: faults of the next requests of each operation, in order. seen: operation and time of each."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self.planned: dict[Operation, deque[Fault]] = {
            "token": deque(),
            "create": deque(),
            "search": deque(),
            "read": deque(),
        }
        self.seen: deque[tuple[Operation, float]] = deque(maxlen=10_000)
        self.silence_s = 60.0

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        operation = _operation(scope["method"], scope["path"])  # type: ignore[typeddict-item]
        self.seen.append((operation, time.monotonic()))
        if not self.planned[operation]:
            await next_app(scope, receive, send)
            return
        fault = self.planned[operation].popleft()
        if fault.executed:
            await next_app(scope, receive, _drop)
        await self._answer(fault, send)

    async def _answer(self, fault: Fault, send: Send) -> None:
        if fault.ending == "silence":
            await asyncio.sleep(self.silence_s)
        whole = fault.ending == "answer"
        length = len(fault.body) if whole else 1000
        headers = [(b"content-type", fault.content_type), (b"content-length", b"%d" % length)]
        if fault.status == 429:
            headers.append((b"retry-after", b"7"))
        await send({"type": "http.response.start", "status": fault.status, "headers": headers})
        if whole:
            await send({"type": "http.response.body", "body": fault.body, "more_body": False})
        # Else the answer ends here, shorter than it promised: the server closes the connection.


async def _drop(message: Message) -> None:
    """Where the real answer goes when the client must not see it."""


def _operation(method: str, path: str) -> Operation:
    if path == "/ws/oauth/token":
        return "token"
    if path == "/v2/ticketing/ticket" and method == "POST":
        return "create"
    return "search" if path.endswith("/run") else "read"
