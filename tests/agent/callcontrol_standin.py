"""3CX's Call Control API as its documents and live samples describe it, for one API client, on loopback.

POST /connect/token (client credentials), GET /callcontrol/{dn}/participants, and the websocket
/callcontrol/ws with its numbered upsert (0) and remove (1) events, which name an entity and say no more.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import msgspec
import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Scope]]
Send = Callable[[Scope], Awaitable[None]]

UPSERT, REMOVE = 0, 1


class StandIn:
    """granted: the extensions that the API client may see. tokens: how many were made.

    asked: every path that was asked for. rude: answers everything with a page of words.
    """

    client_id, client_secret = "whisperagent", "canary-3cx"

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.granted = {"201"}
        self.tokens = 0
        self.asked: list[str] = []
        self.rude = False
        self._participants: dict[int, dict[str, Any]] = {}
        self._valid = ""
        self._sequence = 0
        self._channels: set[asyncio.Queue[str]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer; until then the port refuses."""
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            port=self._port,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn sets no event
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            self.hang_up()
            server.should_exit = True
            await serving

    @property
    def listeners(self) -> int:
        """How many websockets are open."""
        return len(self._channels)

    def put(self, number: int, status: str, *, dn: str = "201", party: str = "+33612345678") -> None:
        """A leg of a call at `dn` is new, or has changed."""
        self._participants[number] = {
            "id": number,
            "status": status,
            "dn": dn,
            "party_caller_name": "",
            "party_dn": "10007",
            "party_caller_id": party,
            "party_did": "",
            "device_id": f"sip:{dn}@127.0.0.1:5063",
            "party_dn_type": "Wexternalline",
            "direct_control": False,
            "originated_by_dn": "ROUTER",
            "originated_by_type": "Wroutepoint",
            "callid": 1265,
            "legid": 1,
        }
        self._tell(UPSERT, dn, number)

    def remove(self, number: int) -> None:
        """A leg has hung up."""
        self._tell(REMOVE, self._participants.pop(number)["dn"], number)

    def say(self, words: str) -> None:
        """Send this on the websocket as it is."""
        for channel in self._channels:
            channel.put_nowait(words)

    def expire(self) -> None:
        """The token that was given is valid no longer; the websocket stays."""
        self._valid = ""

    def hang_up(self) -> None:
        """Close every websocket."""
        self.say("")

    def _tell(self, kind: int, dn: str, number: int) -> None:
        self._sequence += 1
        event = {"event_type": kind, "entity": f"/callcontrol/{dn}/participants/{number}"}
        message = {"sequence": self._sequence, "event": event | {"attached_data": None}}
        self.say(msgspec.json.encode(message).decode())

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        known = bool(self._valid) and headers.get(b"authorization") == f"Bearer {self._valid}".encode()
        if scope["type"] == "websocket":
            await self._channel(known, receive, send)
            return
        body = b""
        while (part := await receive()).get("more_body"):
            body += part["body"]
        self.asked.append(scope["path"])
        status, answer = self._answer(scope["method"], scope["path"], body + part["body"], known=known)
        content = b"<html>busy</html>" if self.rude else msgspec.json.encode(answer)
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, path: str, body: bytes, *, known: bool) -> tuple[int, object]:
        if (method, path) == ("POST", "/connect/token"):
            given = parse_qs(body.decode())
            wanted = ("client_credentials", self.client_id, self.client_secret)
            if (
                tuple(given.get(name, [""])[0] for name in ("grant_type", "client_id", "client_secret"))
                != wanted
            ):
                return 401, {"error": "invalid_client"}
            self.tokens += 1
            self._valid = f"token-{self.tokens}"
            return 200, {"token_type": "Bearer", "expires_in": 60, "access_token": self._valid}
        if not known:
            return 401, {"error": "unauthorized"}
        dn = path.removeprefix("/callcontrol/").removesuffix("/participants")
        if dn not in self.granted:
            return 403, {"error": "forbidden"}
        return 200, [one for one in self._participants.values() if one["dn"] == dn]

    async def _channel(self, known: bool, receive: Receive, send: Send) -> None:
        await receive()
        if not known:
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b""})
            return
        await send({"type": "websocket.accept"})
        channel = asyncio.Queue[str]()
        self._channels.add(channel)
        gone = asyncio.create_task(receive())
        try:
            while True:
                words = asyncio.create_task(channel.get())
                await asyncio.wait({words, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    words.cancel()
                    return
                if not words.result():
                    await send({"type": "websocket.close", "code": 1012})
                    return
                await send({"type": "websocket.send", "text": words.result()})
        finally:
            self._channels.discard(channel)
            gone.cancel()
