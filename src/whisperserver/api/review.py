"""The review channel: events out, claims in, on one websocket.

Who asks was checked at the handshake (auth.py). live.py says what is sent and why nothing is missed; a claim
lasts as long as the socket that made it. A client that is gone without a word is noticed by the pings of the
server that runs the app (uvicorn), which closes every socket with 1012 when it stops.
"""

import asyncio
import contextlib
import logging
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect

from whisperagent import wire
from whisperagent.i18n import _
from whisperserver import problems
from whisperserver.auth import Caller
from whisperserver.live import Lagging, Live, Subscription
from whisperserver.refusals import BadRequest
from whisperserver.services import Services
from whisperserver.store import claims
from whisperserver.store.database import Database

MESSAGE_MAX = 64 * 1024
"""Bytes of one message of a client."""
SEQ_MAX = (1 << 63) - 1

NOT_TEXT, TOO_BIG, BROKEN, LAGGING = 1007, 1009, 1011, 1013
"""Close codes, RFC 6455 section 7.4 and the IANA registry."""
GONE = (OSError, RuntimeError)
"""What uvicorn raises when something is sent to a client that has just left."""

Socket = WebSocket[Caller, Any, Any]

log = logging.getLogger(__name__)


class Closing(Exception):
    """The client broke the rules of the channel."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@websocket(wire.REVIEW_CHANNEL)
async def review_channel(
    socket: Socket, services: NamedDependency[Services], caller: NamedDependency[Caller]
) -> None:
    """Events after `?last_seq=`, then live; takes `claim` and `release`."""
    try:
        last_seq = _last_seq(socket.query_params.get("last_seq", "0"))
    except BadRequest as problem:
        await problems.refuse_socket(socket.scope, socket.send, problem)
        return
    held = Claims(services.database, caller.extension)
    await socket.accept()
    try:
        with services.live.subscription() as subscription:
            await _side_by_side(socket, services.live, subscription, last_seq, held)
    finally:
        await held.release_all()


class Claims:
    """What one socket has claimed."""

    def __init__(self, database: Database, extension: str) -> None:
        self._database = database
        self._extension = extension
        self._held: set[str] = set()

    async def obey(self, command: wire.Command) -> None:
        async with self._database.writing() as session:
            if command.action == "release":
                await claims.release(session, [command.call_id], self._extension)
                self._held.discard(command.call_id)
                return
            self._held.add(command.call_id)  # before: cancelled at the commit, the claim may be there
            if not await claims.claim(session, command.call_id, self._extension):
                self._held.discard(command.call_id)

    async def release_all(self) -> None:
        if self._held:
            await self._database.written(lambda session: claims.release(session, self._held, self._extension))


async def _side_by_side(
    socket: Socket, live: Live, subscription: Subscription, last_seq: int, held: Claims
) -> None:
    """Send and listen until either ends, then close with the reason, if the client is still there."""
    tasks = {
        asyncio.create_task(_send(socket, live, subscription, last_seq)),
        asyncio.create_task(_listen(socket, held)),
    }
    try:
        done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    try:
        for task in done:
            task.result()
    except WebSocketDisconnect:
        return
    except Closing as closing:
        await _close(socket, closing.code, closing.reason)
    except Lagging:
        await _close(socket, LAGGING, "too slow; come back with last_seq")
    except Exception:
        log.exception("a review channel broke")
        await _close(socket, BROKEN, "a fault of the server")


async def _send(socket: Socket, live: Live, subscription: Subscription, last_seq: int) -> None:
    """raises WebSocketDisconnect: the client is gone. Lagging."""
    async for message in live.messages(subscription, last_seq):
        try:
            await socket.send_data(message)
        except GONE:
            raise WebSocketDisconnect(detail="the client is gone") from None


async def _close(socket: Socket, code: int, reason: str) -> None:
    with contextlib.suppress(*GONE):
        await socket.close(code, reason)


async def _listen(socket: Socket, held: Claims) -> None:
    """raises WebSocketDisconnect: the client is gone. Closing."""
    while True:
        event: Any = await socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(detail="the client is gone", code=event["code"])
        text = event.get("text")
        if text is None:
            raise Closing(NOT_TEXT, "a command is JSON text")
        if len(text) > MESSAGE_MAX:
            raise Closing(TOO_BIG, "a command has at most 64 KiB")
        try:
            command = msgspec.json.decode(text, type=wire.Command)
        except msgspec.DecodeError as problem:
            raise Closing(NOT_TEXT, f"not a command: {problem}"[:120]) from None
        await held.obey(command)


def _last_seq(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= SEQ_MAX:
        return int(text)
    raise BadRequest(
        _("`last_seq` is not the number of an event"),
        fix=_("give the `seq` of the last event you have seen, or 0"),
    )
