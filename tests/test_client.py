"""The PC's side of the wire, against real servers on loopback: three errors carry the whole retry policy."""

import asyncio
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from whisperagent import wire
from whisperagent.client import Client, ReviewChannel
from whisperagent.errors import NotAuthenticated, ServerRefused, ServerUnreachable

pytestmark = pytest.mark.anyio

CALL = "0198c0de-0000-7000-8000-000000000001"
KEY = wire.ServerKey(kid="00", public_key="AA==")
METADATA = wire.CallMetadata(call_id=CALL, extension="201", started_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC))


class Web:
    """A server that says what a test tells it to.

    asked: method, path and headers of each request. received: length and first bytes of its body.
    """

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.body = msgspec.json.encode(KEY)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.received: list[tuple[int, bytes]] = []
        handler = type("Handler", (_Handler,), {"web": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def say(self, status: int, body: bytes | wire.Problem = b"", **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def speak_tls(self, certificate: Path) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._http.handle_error = lambda *_arguments: None  # type: ignore[method-assign]  # expected here
        return self.url.replace("http://", "https://")

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PATCH(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.web.asked.append((self.command, self.path, dict(self.headers)))
        length = left = int(self.headers.get("Content-Length", 0))
        head = b""
        while left and (chunk := self.rfile.read(min(left, 1 << 16))):
            head, left = head or chunk[:1000], left - len(chunk)
        self.web.received.append((length, head))
        self.send_response(self.web.status)
        for name, value in self.web.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.web.body)))
        self.end_headers()
        self.wfile.write(self.web.body)

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.stop()


async def ask(url: str, timeout_s: float = 5.0) -> wire.ServerKey:
    async with Client(url, "201", timeout_s=timeout_s) as client:
        return await client.server_key()


def problem(status: int, title: str = "no", detail: str = "because", fix: str = "do this") -> wire.Problem:
    return wire.Problem(type="about:blank", title=title, status=status, detail=detail, fix=fix)


# What cannot be reached


async def test_a_refused_connection_is_worth_trying_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerUnreachable) as caught:
        await ask(f"http://127.0.0.1:{port}")
    assert caught.value.why == "the connection was refused"
    assert caught.value.exit_code == 3


async def test_an_unknown_name_is_said_to_be_one() -> None:
    with pytest.raises(ServerUnreachable, match=r"server\.invalid") as caught:
        await ask("http://server.invalid:3002")
    assert caught.value.why == "the name is unknown"


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(ServerUnreachable) as caught:
            await ask(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        assert caught.value.why == "no answer in time"


async def test_a_server_that_hangs_up_is_worth_trying_again() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        with pytest.raises(ServerUnreachable) as caught:
            await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert caught.value.why


async def test_a_certificate_that_nobody_vouches_for_is_named_as_the_reason(web: Web, tmp_path: Path) -> None:
    url = web.speak_tls(self_signed(tmp_path / "server.pem"))
    with pytest.raises(ServerUnreachable) as caught:
        await ask(url)
    assert "certificate is not trusted" in caught.value.why


async def test_https_to_a_server_without_it_is_named_as_the_reason(web: Web) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        await ask(web.url.replace("http://", "https://"))
    assert "TLS" in caught.value.why


# What is answered


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>Sign in to the guest network</html>", "text/html"),
        (200, b'{"some": "json"}', "application/json"),
        (302, b"", "text/html"),
        (404, b"<html>nginx</html>", "text/html"),
        (404, b'{"error": "no such page"}', "application/json"),
        (407, b"<html>proxy</html>", "text/html"),
    ],
)
async def test_an_answer_of_another_server_never_refuses_a_recording(
    web: Web, status: int, body: bytes, kind: str
) -> None:
    web.say(status, body, Content_Type=kind, Location="/login")
    with pytest.raises(ServerUnreachable, match="does not answer like a WhisperAgent server") as caught:
        await ask(web.url)
    assert f"{status} {HTTPStatus(status).phrase}" in caught.value.why
    assert kind in caught.value.why


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("html", [False, True])
async def test_401_and_403_mean_that_a_person_must_act(web: Web, status: int, html: bool) -> None:
    web.say(status, b"<html>" if html else problem(status, fix=""))
    with pytest.raises(NotAuthenticated) as caught:
        await ask(web.url)
    assert "wa server token" in caught.value.fix
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_any_other_4xx_is_a_refusal_in_the_servers_own_words(web: Web, status: int) -> None:
    web.say(status, problem(status, "it is so"))
    with pytest.raises(ServerRefused) as caught:
        await ask(web.url)
    error = caught.value
    assert (error.status, error.what, error.why, error.fix) == (status, "it is so", "because", "do this")


@pytest.mark.parametrize("status", [408, 413, 425, 429, 500, 502, 503, 504, 507])
@pytest.mark.parametrize("html", [False, True])
async def test_not_now_is_worth_trying_again(web: Web, status: int, html: bool) -> None:
    web.say(status, b"<html>" if html else problem(status))
    with pytest.raises(ServerUnreachable) as caught:
        await ask(web.url)
    assert caught.value.retry_after_s == 0


@pytest.mark.parametrize(
    ("text", "wait_s"), [("120", 120.0), ("-5", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("", 0.0)]
)
async def test_the_server_says_how_long_to_leave_it_alone(web: Web, text: str, wait_s: float) -> None:
    web.say(429, problem(429), Retry_After=text)
    with pytest.raises(ServerUnreachable) as caught:
        await ask(web.url)
    assert caught.value.retry_after_s == wait_s


# What is asked


@pytest.mark.parametrize(("token", "authorization"), [("", None), ("jwt", "Bearer jwt")])
async def test_every_request_says_who_asks(web: Web, token: str, authorization: str | None) -> None:
    async with Client(web.url + "/", "201", token) as client:
        assert await client.server_key() == KEY
    [(method, path, headers)] = web.asked
    assert (method, path) == ("GET", "/api/server-key")
    assert (headers["X-Extension"], headers.get("Authorization")) == ("201", authorization)


async def test_the_list_asks_for_what_was_given_only(web: Web) -> None:
    web.say(200, msgspec.json.encode(wire.CallPage(items=())))
    async with Client(web.url, "201") as client:
        await client.calls(q="imprimante & réseau", limit=10)
    assert web.asked[0][1] == "/api/calls?limit=10&q=imprimante+%26+r%C3%A9seau"


async def test_a_correction_carries_its_version_and_names_the_conflict(web: Web) -> None:
    web.say(409, problem(409))
    async with Client(web.url, "201") as client:
        with pytest.raises(ServerRefused) as caught:
            await client.edit(CALL, wire.TranscriptEdit(version=3, segments=()))
        assert caught.value.status == 409
    assert web.asked[0][:2] == ("PATCH", f"/api/calls/{CALL}/transcript")
    assert web.received[0][1] == b'{"version":3,"segments":[]}'


async def test_an_upload_is_streamed_from_the_disk_with_its_metadata_first(web: Web, tmp_path: Path) -> None:
    size = 48 << 20
    recording = tmp_path / "call.srec"
    with recording.open("wb") as file:
        file.truncate(size)
    receipt = wire.UploadAnswer(
        call_id=CALL, part=1, state=wire.CallState.RECEIVED, sha256="0" * 64, size=size, status_url="/"
    )
    web.say(202, msgspec.json.encode(receipt))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Client(web.url, "201") as client:
        tracemalloc.start()
        beside = asyncio.create_task(others())
        assert await client.upload(recording, METADATA) == receipt
        beside.cancel()
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 << 20
    assert turns > size >> 16  # the loop belonged to others at least once for each piece read
    [(length, head)] = web.received
    assert length > size
    assert head.index(b'name="metadata"') < head.index(b'name="recording"; filename="call.srec"')
    assert msgspec.json.encode(METADATA) in head


async def test_a_recording_that_is_gone_is_no_matter_of_the_server(web: Web, tmp_path: Path) -> None:
    async with Client(web.url, "201") as client:
        with pytest.raises(FileNotFoundError):
            await client.upload(tmp_path / "gone.srec", METADATA)
    assert web.asked == []


# The review channel

Serves = Callable[[ServerConnection, int], Any]


class Channel:
    """A review channel whose connections are served, one after the other, by what a test gives."""

    def __init__(self, *turns: Serves) -> None:
        self.turns = list(turns)
        self.last_seqs: list[int] = []
        self.headers: list[Any] = []
        self.times: list[float] = []

    async def connected(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        last_seq = int(socket.request.path.partition("last_seq=")[2])
        self.last_seqs.append(last_seq)
        self.headers.append(socket.request.headers)
        self.times.append(asyncio.get_running_loop().time())
        if self.turns:
            await self.turns.pop(0)(socket, last_seq)
        else:
            await socket.wait_closed()


@asynccontextmanager
async def channel(
    served: Channel, refuse: Callable[[], int] = lambda: 0, body: str = ""
) -> AsyncIterator[ReviewChannel]:
    def before(socket: ServerConnection, _request: Request) -> Response | None:
        status = refuse()
        return socket.respond(HTTPStatus(status), body) if status else None

    async with serve(served.connected, "127.0.0.1", 0, process_request=before) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", "201", "jwt") as client:
            yield client.channel()


def event(seq: int, kind: str = "call.state") -> str:
    at = datetime(2026, 1, 5, 9, 0, tzinfo=UTC) + timedelta(seconds=seq)
    return msgspec.json.encode(wire.Event(seq=seq, kind=kind, call_id=CALL, at=at)).decode()


def sends(*messages: str | bytes) -> Serves:
    async def turn(socket: ServerConnection, _last_seq: int) -> None:
        for message in messages:
            await socket.send(message)

    return turn


async def take(channel: ReviewChannel, count: int) -> list[int]:
    """The numbers of the next `count` events."""
    found: list[int] = []
    async with asyncio.timeout(20), aclosing(channel.events()) as events:
        async for one in events:
            found.append(one.seq)
            if len(found) == count:
                break
    return found


async def test_after_a_break_the_channel_goes_on_where_it_was() -> None:
    served = Channel(sends(event(1), event(4)), sends(event(5), event(6)))
    async with channel(served) as events:
        assert await take(events, 4) == [1, 4, 5, 6]
        assert events.last_seq == 6
    assert served.last_seqs == [0, 4]
    assert served.headers[0]["Authorization"] == "Bearer jwt"
    assert served.headers[0]["X-Extension"] == "201"


async def test_an_event_that_comes_twice_is_told_once() -> None:
    served = Channel(sends(event(1), event(2), event(2), event(1), event(3)), sends(event(3), event(4)))
    async with channel(served) as events:
        assert await take(events, 4) == [1, 2, 3, 4]


async def test_passing_events_without_a_number_are_told_and_move_nothing() -> None:
    served = Channel(sends(event(3), event(0, "call.progress"), event(0, "call.progress"), event(4)))
    async with channel(served) as events:
        assert await take(events, 4) == [3, 0, 0, 4]


async def test_a_message_that_cannot_be_read_is_passed_over() -> None:
    served = Channel(sends("hello", b"\xff", '{"seq": "one"}', event(1)))
    async with channel(served) as events:
        assert await take(events, 1) == [1]
    assert served.last_seqs == [0]


async def test_a_connection_that_breaks_without_goodbye_is_made_again() -> None:
    async def breaks(socket: ServerConnection, _last_seq: int) -> None:
        await socket.send(event(1))
        socket.transport.abort()

    served = Channel(breaks, sends(event(2)))
    async with channel(served) as events:
        assert await take(events, 2) == [1, 2]


async def test_a_server_that_hangs_up_at_once_is_asked_less_and_less_often() -> None:
    served = Channel(sends(), sends(), sends(event(1)))
    async with channel(served) as events:
        assert await take(events, 1) == [1]
    first, second, third = served.times
    assert second - first > 0.3
    assert third - second > 0.5


@pytest.mark.parametrize("status", [401, 403])
async def test_a_channel_that_does_not_know_us_ends(status: int) -> None:
    async with channel(Channel(), lambda: status) as events:
        with pytest.raises(NotAuthenticated) as caught:
            await take(events, 1)
        assert "wa server token" in caught.value.fix
        assert not events.connected


async def test_a_refusal_at_the_door_is_in_the_servers_own_words() -> None:
    said = msgspec.json.encode(problem(401, "the token has expired")).decode()
    async with channel(Channel(), lambda: 401, said) as events:
        with pytest.raises(NotAuthenticated, match="the token has expired") as caught:
            await take(events, 1)
    assert (caught.value.why, caught.value.fix) == ("because", "do this")


async def test_a_server_without_a_channel_is_a_refusal() -> None:
    async with channel(Channel(), lambda: 404) as events:
        with pytest.raises(ServerRefused) as caught:
            await take(events, 1)
        assert caught.value.status == 404


@pytest.mark.parametrize("status", [200, 302, 429, 503])
async def test_not_now_at_the_door_is_tried_again(status: int) -> None:
    statuses = iter([status, 0])
    async with channel(Channel(sends(event(1))), lambda: next(statuses, 0)) as events:
        assert await take(events, 1) == [1]


async def test_claims_go_to_the_server_while_there_is_one() -> None:
    heard: list[wire.Command] = []

    async def listens(socket: ServerConnection, _last_seq: int) -> None:
        await socket.send(event(1))
        heard.extend([msgspec.json.decode(await socket.recv(), type=wire.Command) for _number in range(2)])
        await socket.send(event(2))

    async with channel(Channel(listens)) as events:
        await events.claim(CALL)  # before there is a connection: nobody is told
        async with asyncio.timeout(20), aclosing(events.events()) as told:
            await anext(told)
            assert events.connected
            await events.claim(CALL)
            await events.release(CALL)
            await anext(told)
        assert not events.connected
    assert [(command.action, command.call_id) for command in heard] == [("claim", CALL), ("release", CALL)]


def self_signed(where: Path) -> Path:
    """A certificate that only its owner vouches for, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server.invalid")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    where.write_bytes(private + certificate.public_bytes(pem))
    return where


async def test_a_review_channel_that_does_not_answer_is_given_up() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", "201") as client:
            with pytest.raises(ServerUnreachable, match="cannot reach"):
                await client.channel().greet(0.2)


async def test_the_servers_clock_is_that_of_its_newest_answer(web: Web) -> None:
    async with Client(web.url, "201") as client:
        assert client.server_clock is None
        await client.server_key()
        assert client.server_clock is not None
        assert abs(client.server_clock - datetime.now(UTC)) < timedelta(minutes=1)
