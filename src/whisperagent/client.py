"""Every word that the PC says to the server: HTTP by httpx, the review channel by websockets.

upload.py and the screens call it; nothing else knows a route. A method returns what `wire` names or
raises one of three errors, which carry the whole retry policy: ServerUnreachable (try again),
NotAuthenticated (tell a person, keep everything), ServerRefused (this request will never pass).
"""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from whisperagent import wire
from whisperagent.errors import NotAuthenticated, ServerRefused, ServerUnreachable
from whisperagent.i18n import _

TRY_AGAIN = (408, 413, 425, 429)
"""Statuses below 500 that mean: not now. What is too large may be taken when somebody has raised a limit."""

CLOSE_S = 1.0
"""How long to wait for the other end's goodbye on the review channel."""

T = TypeVar("T")


class Client:
    """One server, as one extension. Use as `async with`.

    url: without a path, e.g. `http://192.168.1.100:3002`; empty: there is none, and nothing reaches it.
    token: a JWT made by `wa server token`; without one, `X-Extension` alone (loopback only).
    server_clock: what the server's clock said with its newest answer, to the second; None when it did not.
    """

    def __init__(self, url: str, extension: str, token: str = "", timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.headers = {wire.EXTENSION_HEADER: extension}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.server_clock: datetime | None = None
        self._http = httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def server_key(self, challenge: str = "") -> wire.ServerKey:
        """Whom to seal recordings to. challenge: of `succession.Challenge`, may be empty."""
        params = {"challenge": challenge} if challenge else None
        return await self._ask("GET", wire.SERVER_KEY, wire.ServerKey, params=params)

    async def upload(self, recording: Path, metadata: wire.CallMetadata) -> wire.UploadAnswer:
        """Send one sealed part. Sent again, it is answered again and stored once.

        The file is read as it is sent, 64 KiB at a time.
        raises OSError: the file cannot be read.
        """
        with recording.open("rb") as file:
            return await self._ask(
                "POST",
                wire.UPLOAD_RECORDING,
                wire.UploadAnswer,
                # Metadata first: the server knows whose recording it is before the bytes come.
                files={
                    "metadata": (None, msgspec.json.encode(metadata), "application/json"),
                    "recording": (recording.name, file, "application/octet-stream"),
                },
            )

    async def transcription_status(self, call_id: str) -> wire.TranscriptionStatus:
        return await self._ask("GET", f"{wire.TRANSCRIPTION_STATUS}/{call_id}", wire.TranscriptionStatus)

    async def calls(
        self, *, q: str = "", state: str = "", cursor: str = "", limit: int = 50
    ) -> wire.CallPage:
        """One page of calls, newest first. q: words to look for in transcripts."""
        asked = {"q": q, "state": state, "cursor": cursor}
        params = {"limit": str(limit)} | {name: value for name, value in asked.items() if value}
        return await self._ask("GET", wire.CALLS, wire.CallPage, params=params)

    async def call(self, call_id: str) -> wire.Call:
        return await self._ask("GET", f"{wire.CALLS}/{call_id}", wire.Call)

    async def edit(self, call_id: str, edit: wire.TranscriptEdit) -> wire.Transcript:
        """Correct segments; ServerRefused with status 409 when someone else was first."""
        return await self._send("PATCH", f"{wire.CALLS}/{call_id}/transcript", edit, wire.Transcript)

    async def review(self, call_id: str, decision: wire.ReviewDecision) -> wire.Call:
        """Approve or reject; ServerRefused with status 409 when the transcript has changed since."""
        return await self._send("POST", f"{wire.CALLS}/{call_id}/review", decision, wire.Call)

    async def erase(self, call_id: str) -> None:
        """Destroy a call; ServerRefused with status 404 when the server does not know it."""
        await self._request("DELETE", f"{wire.CALLS}/{call_id}")

    def channel(self, last_seq: int = 0) -> "ReviewChannel":
        return ReviewChannel(self, last_seq)

    async def _send(self, method: str, path: str, body: msgspec.Struct, answer: type[T]) -> T:
        content = msgspec.json.encode(body)
        return await self._ask(method, path, answer, content=content, content_type="application/json")

    async def _ask(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "",
        files: dict[str, tuple[str | None, object, str]] | None = None,
    ) -> T:
        response = await self._request(
            method, path, params=params, content=content, content_type=content_type, files=files
        )
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.DecodeError:
            raise _not_our_server(self.url, response) from None

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "",
        files: dict[str, tuple[str | None, object, str]] | None = None,
    ) -> httpx.Response:
        try:
            response = await self._http.request(
                method,
                path,
                params=params,
                content=content,
                headers={"Content-Type": content_type} if content_type else None,
                files=files,  # type: ignore[arg-type]  # httpx types leave out (None, bytes, str)
            )
        except (httpx.TransportError, httpx.InvalidURL) as problem:
            raise unreachable(self.url, problem) from None
        self.server_clock = _clock(response)
        if response.status_code >= 400:
            raise _refusal(self.url, response)
        return response


class ReviewChannel:
    """The server's events, with replay: nothing is missed while the connection is down.

    connected: is the connection up now? last_seq: the newest event seen; keep it to go on from there.
    """

    def __init__(self, client: Client, last_seq: int = 0) -> None:
        self.connected = False
        self.last_seq = last_seq
        self._client = client
        self._socket: ClientConnection | None = None

    async def events(self) -> AsyncGenerator[wire.Event]:
        """Events for ever, reconnecting as often as it takes.

        raises NotAuthenticated: the server does not know us. ServerRefused: it has no review channel.
        Trying again at once would help neither.
        """
        delays = _delays()
        while True:
            try:
                # Closed by hand: a generator that is merely left keeps its connection until it is collected.
                async with aclosing(self._connections()) as connections:
                    connection = self._socket = await anext(connections)
                    self.connected = True
                    try:
                        async for message in connection:
                            if (event := self._new(message)) is not None:
                                delays = _delays()
                                yield event
                    except ConnectionClosed:
                        pass
                    finally:
                        self._socket, self.connected = None, False
                    # The next connection asks for what this one did not bring, so its address differs.
            except InvalidStatus as problem:
                raise _handshake_refusal(self._client.url, problem) from None
            # A server that lets us in and hangs up is not asked again at once, nor by all PCs together.
            await asyncio.sleep(next(delays))

    async def greet(self, limit_s: float) -> None:
        """Connect and hang up again: does the server let us in?

        raises as `events`. ServerUnreachable: not within `limit_s`.
        """
        try:
            async with asyncio.timeout(limit_s), aclosing(self._connections()) as connections:
                await anext(connections)
        except InvalidStatus as problem:
            raise _handshake_refusal(self._client.url, problem) from None
        except TimeoutError as problem:
            raise unreachable(self._client.url, httpx.ConnectTimeout(str(problem))) from None

    def _new(self, message: str | bytes) -> wire.Event | None:
        """The event in `message`, unless it was seen before or cannot be read: it is only a hint."""
        try:
            event = msgspec.json.decode(message, type=wire.Event)
        except msgspec.DecodeError:
            return None
        if event.seq and event.seq <= self.last_seq:
            return None
        self.last_seq = max(self.last_seq, event.seq)
        return event

    async def claim(self, call_id: str) -> None:
        """Tell the others that this call is being reviewed; without a connection nobody is told."""
        await self._say(wire.Command(action="claim", call_id=call_id))

    async def release(self, call_id: str) -> None:
        await self._say(wire.Command(action="release", call_id=call_id))

    async def _say(self, command: wire.Command) -> None:
        if self._socket is not None:
            try:
                await self._socket.send(msgspec.json.encode(command).decode())
            except ConnectionClosed:
                return  # a claim is a courtesy; the version check of a review is what protects the transcript

    def _connections(self) -> AsyncGenerator[ClientConnection]:
        url = self._client.url.replace("http", "ws", 1)
        connections = connect(
            f"{url}{wire.REVIEW_CHANNEL}?last_seq={self.last_seq}",
            additional_headers=self._client.headers,
            process_exception=_fatal,
            reconnect_delays=_delays,
            close_timeout=CLOSE_S,
        )
        return cast("AsyncGenerator[ClientConnection]", aiter(connections))  # declared as an iterator only


def unreachable(url: str, problem: Exception) -> ServerUnreachable:
    """A transport error in words."""
    if not url:
        return no_server()
    return ServerUnreachable(
        _("cannot reach {url}").format(url=url),
        why=_("no answer in time") if isinstance(problem, httpx.TimeoutException) else _reason(problem),
        fix=_("check `url` under [server] in config.toml, and that `wa server serve` runs there"),
    )


def no_server() -> ServerUnreachable:
    """What is said where none is named."""
    return ServerUnreachable(
        _("no server is named"),
        why=_("`url` under [server] is empty, so calls stay on this PC"),
        fix=_("`wa config set server.url http://192.168.1.100:3002`, with your own"),
    )


def _reason(problem: Exception) -> str:
    """What the system said, which httpx and what it stands on have wrapped up."""
    cause: BaseException | None = problem
    while cause is not None:
        match cause:
            case ssl.SSLCertVerificationError():
                return _("its certificate is not trusted: {why}").format(why=cause.verify_message)
            case ssl.SSLError():
                return _("it does not speak TLS as we do: {why}").format(why=cause.reason)
            case socket.gaierror():
                return _("the name is unknown")
            case ConnectionRefusedError():
                return _("the connection was refused")
        cause = cause.__cause__ or cause.__context__
    return str(problem) or type(problem).__name__


def _refusal(url: str, response: httpx.Response) -> ServerUnreachable | NotAuthenticated | ServerRefused:
    status = response.status_code
    problem = _problem(response.content)
    if problem is None:
        # Not our server's words: a proxy's page, perhaps. It knows no call, so it cannot refuse one.
        if 400 <= status < 500 and status not in (401, 403, *TRY_AGAIN):
            return _not_our_server(url, response)
        problem = wire.Problem(type="about:blank", title=response.reason_phrase, status=status)
    what = problem.title or _("the server answered {status}").format(status=status)
    if status in (401, 403):
        return NotAuthenticated(what, why=problem.detail, fix=problem.fix or _ask_for_a_token())
    if status >= 500 or status in TRY_AGAIN:
        return ServerUnreachable(
            what, why=problem.detail, fix=problem.fix, retry_after_s=_retry_after(response)
        )
    return ServerRefused(what, status=status, why=problem.detail, fix=problem.fix)


def _not_our_server(url: str, response: httpx.Response) -> ServerUnreachable:
    return ServerUnreachable(
        _("{url} does not answer like a WhisperAgent server").format(url=url),
        why=_("it answered {status} {reason}, {kind}").format(
            status=response.status_code,
            reason=response.reason_phrase,
            kind=response.headers.get("Content-Type", "-"),
        ),
        fix=_("check `url` under [server] in config.toml"),
    )


def _fatal(problem: Exception) -> Exception | None:
    """Of what may go wrong when the review channel is opened: what trying again would not mend."""
    if isinstance(problem, InvalidStatus):
        status = problem.response.status_code
        return problem if 400 <= status < 500 and status not in TRY_AGAIN else None
    return None if isinstance(problem, OSError | InvalidHandshake) else problem


def _handshake_refusal(url: str, problem: InvalidStatus) -> NotAuthenticated | ServerRefused:
    status = problem.response.status_code
    said = _problem(problem.response.body)
    why = said.detail if said else ""
    if status in (401, 403):
        what = said.title if said else _("{url} refuses the review channel").format(url=url)
        return NotAuthenticated(what, why=why, fix=(said.fix if said else "") or _ask_for_a_token())
    return ServerRefused(_("{url} has no review channel").format(url=url), status=status, why=why)


def _problem(body: bytes | bytearray) -> wire.Problem | None:
    """Our server's words; None when it is somebody else who speaks."""
    try:
        return msgspec.json.decode(body, type=wire.Problem)
    except msgspec.DecodeError:
        return None


def _ask_for_a_token() -> str:
    return _("ask for a token: `wa server token EXTENSION`")


def _clock(response: httpx.Response) -> datetime | None:
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return date if date.tzinfo else None


def _retry_after(response: httpx.Response) -> float:
    # Only the form in seconds: our server sends no other, and a date would trust two clocks.
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _delays() -> Generator[float]:
    """0.5 s, then longer up to 30 s, never twice the same, so that a hundred PCs do not come back at once."""
    delay = 0.5
    while True:
        yield delay * random.uniform(0.7, 1.3)  # noqa: S311 - jitter, not a secret
        delay = min(30.0, delay * 1.6)
