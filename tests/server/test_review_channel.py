"""The review channel over real websockets: the library's own, and the client that the PCs use."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.server.conftest import STARTED_AT, Server, until
from tests.server.ingest_fixtures import noise
from whisperagent import wire
from whisperagent.client import Client, ReviewChannel
from whisperagent.errors import NotAuthenticated
from whisperserver.live import BACKLOG, Lagging, Subscription
from whisperserver.store import claims, transcripts

T = TypeVar("T")

WAIT_S = 10.0


def channel(server: Server, query: str = "", extension: str = "201", **options: Any) -> ClientConnection:
    url = server.url.replace("http", "ws") + wire.REVIEW_CHANNEL + query
    headers = {wire.EXTENSION_HEADER: extension} if extension else {}
    return connect(url, additional_headers=headers, close_timeout=1, **options)


def heard(socket: ClientConnection, count: int) -> list[wire.Event]:
    return [msgspec.json.decode(socket.recv(WAIT_S), type=wire.Event) for _number in range(count)]


def say(socket: ClientConnection, action: str, call_id: str) -> None:
    socket.send(msgspec.json.encode({"action": action, "call_id": call_id}).decode())


def claimed_by(server: Server, call_id: str) -> str:
    return server.call(call_id).summary.claimed_by


def closing(socket: ClientConnection) -> tuple[int, str]:
    """How the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(WAIT_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


# Events


def test_what_was_missed_is_replayed_and_what_comes_follows_in_order(server: Server) -> None:
    first = server.received(noise(2000))
    with channel(server) as socket:
        [received] = heard(socket, 1)
        second = server.transcribed("Bonjour.")
        events = [received, *heard(socket, 3)]
    assert [(one.call_id, one.kind, one.data.get("state")) for one in events] == [
        (first, "call.received", "received"),
        (second, "call.received", "received"),
        (second, "call.state", "transcribing"),
        (second, "call.state", "transcribed"),
    ]
    assert [one.seq for one in events] == [1, 2, 3, 4]


def test_last_seq_leaves_out_what_was_seen(server: Server) -> None:
    server.transcribed("Bonjour.")
    with channel(server, "?last_seq=2") as socket:
        assert [one.data["state"] for one in heard(socket, 1)] == ["transcribed"]


def test_every_client_hears_everything_once_while_much_happens(server: Server) -> None:
    """Clients come in the middle of a stream of changes, each with another last_seq."""
    call_id = server.transcribed("Un.")
    sockets = []
    with ExitStack() as stack, server.http() as http:
        for version in range(1, 31):
            edit = {"version": version, "segments": [{"id": 0, "text": f"Fois {version}."}]}
            assert http.patch(f"{wire.CALLS}/{call_id}/transcript", json=edit).status_code == 200
            if version % 10 == 5:
                sockets.append((version, stack.enter_context(channel(server, f"?last_seq={version}"))))
        newest = 3 + 30
        for since, socket in sockets:
            assert [one.seq for one in heard(socket, newest - since)] == list(range(since + 1, newest + 1))


def test_the_progress_of_a_transcription_is_told_and_not_kept(server: Server) -> None:
    call_id = server.received()
    with channel(server) as socket:
        server.write(lambda session: transcripts.begin(session, call_id))
        heard(socket, 2)
        server.write(lambda session: transcripts.progress(session, call_id, 0.5))
        [event] = heard(socket, 1)
    assert (event.kind, event.seq, event.data) == ("call.progress", 0, {"progress": 0.5})


def test_events_carry_no_words(server: Server) -> None:
    call_id = server.transcribed("Zygomatique.", remote_party="Zygomatique")
    with server.http() as http:
        edit = {"version": 1, "segments": [{"id": 0, "text": "Zygomatique deux."}]}
        http.patch(f"{wire.CALLS}/{call_id}/transcript", json=edit)
    with channel(server) as socket:
        said = [socket.recv(WAIT_S) for _number in range(4)]
    assert not [message for message in said if "ygomatique" in str(message)]


# Claims


def test_a_claim_is_seen_by_all_and_ends_with_the_socket(server: Server) -> None:
    call_id = server.transcribed()
    with channel(server, "?last_seq=3", extension="202") as other:
        with channel(server, "?last_seq=3") as socket:
            say(socket, "claim", call_id)
            [claimed] = heard(other, 1)
            assert (claimed.kind, claimed.data) == ("review.claimed", {"by": "201"})
            assert claimed_by(server, call_id) == "201"
        [released] = heard(other, 1)
    assert released.kind == "review.released"
    assert claimed_by(server, call_id) == ""


def test_a_claim_is_given_back_by_release(server: Server) -> None:
    call_id = server.transcribed()
    with channel(server, "?last_seq=3") as socket:
        say(socket, "claim", call_id)
        say(socket, "release", call_id)
        assert [one.kind for one in heard(socket, 2)] == ["review.claimed", "review.released"]
        assert claimed_by(server, call_id) == ""


def test_the_first_to_claim_keeps_it(server: Server) -> None:
    call_id = server.transcribed()
    with channel(server, "?last_seq=3") as first, channel(server, "?last_seq=3", extension="202") as second:
        say(first, "claim", call_id)
        heard(second, 1)
        say(second, "claim", call_id)
        say(second, "release", call_id)
        say(second, "claim", "no such call")
        second.ping().wait(WAIT_S)
        assert claimed_by(server, call_id) == "201"


def test_a_client_that_vanishes_without_a_word_loses_its_claims(server: Server) -> None:
    call_id = server.transcribed()
    with channel(server) as socket:
        say(socket, "claim", call_id)
        until(lambda: claimed_by(server, call_id))
        socket.socket.shutdown(SHUT_RDWR)  # no goodbye
        until(lambda: not claimed_by(server, call_id))


# The rules of the channel


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("{", 1007),
        ('{"action": "dance", "call_id": "x"}', 1007),
        ("[]", 1007),
        (b"\x00\x01", 1007),
        ('"' + "x" * 70_000 + '"', 1009),
    ],
)
def test_what_is_no_command_ends_the_conversation_with_a_reason(
    shared: Server, said: str | bytes, code: int
) -> None:
    with channel(shared) as socket:
        socket.send(said)
        closed, reason = closing(socket)
    assert closed == code
    assert reason


def refused(
    server: Server, status: int, query: str = "", extension: str = "201", **options: Any
) -> wire.Problem:
    with pytest.raises(InvalidStatus) as handshake:
        channel(server, query, extension, **options)
    answer = handshake.value.response
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    return msgspec.json.decode(answer.body or b"", type=wire.Problem)


def test_a_handshake_without_a_credential_is_answered_like_a_request(shared: Server) -> None:
    assert refused(shared, 401, extension="").type == "/problems/not-authenticated"


def test_a_page_of_another_site_opens_no_channel(shared: Server) -> None:
    assert "evil.example" in refused(shared, 403, origin="http://evil.example").title


@pytest.mark.parametrize("last_seq", ["-1", "x", "9" * 30, "1.5", "٣"])
def test_a_last_seq_that_is_none_is_refused(shared: Server, last_seq: str) -> None:
    assert "last_seq" in refused(shared, 400, f"?last_seq={last_seq}").title


def test_a_client_that_lags_behind_is_told_so() -> None:
    """It is then closed with 1013 and comes back with its last_seq."""

    async def run() -> None:
        subscription = Subscription()
        event = wire.Event(seq=1, kind="call.state", call_id="", at=STARTED_AT)
        for _number in range(BACKLOG + 1):
            subscription.put(event)
        with pytest.raises(Lagging):
            await subscription.next()

    asyncio.run(run())


def test_the_number_of_clients_is_known(server: Server) -> None:
    def shown() -> str:
        text = httpx.get(f"{server.url}{wire.METRICS}").text
        return next(line for line in text.splitlines() if line.startswith("whisperagent_websocket_clients"))

    with channel(server), channel(server):
        until(lambda: shown().endswith(" 2.0"))
    until(lambda: shown().endswith(" 0.0"))


# The server stops and comes back


def test_a_stopping_server_says_so_at_once(server: Server) -> None:
    with channel(server) as socket:
        began = time.monotonic()
        server.stop()
        assert closing(socket)[0] == 1012
    assert time.monotonic() - began < 3.0


def test_claims_of_a_server_that_was_killed_are_forgotten_at_its_next_start(tmp_path: Path) -> None:
    with Server(tmp_path / "home") as server:
        call_id = server.transcribed()
        server.write(lambda session: claims.claim(session, call_id, "201"))
        assert claimed_by(server, call_id) == "201"
    with Server(tmp_path / "home") as server:
        assert claimed_by(server, call_id) == ""


def with_client(server: Server, work: Callable[[ReviewChannel], Awaitable[T]], extension: str = "201") -> T:
    async def run() -> T:
        async with Client(server.url, extension) as client, asyncio.timeout(WAIT_S):
            return await work(client.channel())

    return asyncio.run(run())


def test_the_pcs_own_client_hears_and_claims(server: Server) -> None:
    call_id = server.transcribed()

    async def work(review: ReviewChannel) -> list[str]:
        kinds: list[str] = []
        async with aclosing(review.events()) as events:
            async for event in events:
                kinds.append(event.kind)
                if len(kinds) == 3:
                    await review.claim(call_id)
                if len(kinds) == 4:
                    return kinds
        return kinds

    assert with_client(server, work)[-1] == "review.claimed"


def test_the_pcs_own_client_knows_when_it_is_not_known(server: Server) -> None:
    async def work(review: ReviewChannel) -> None:
        async with aclosing(review.events()) as events:
            await anext(events)

    with pytest.raises(NotAuthenticated):
        with_client(server, work, extension="not an extension")
