"""The NinjaOne client: what it sends, what it finds, and how it words what NinjaOne answers."""

import asyncio
import itertools
import json
import logging
import socket
from pathlib import Path

import jsonschema
import msgspec
import pytest

from tests.tickets.conftest import CALL, DRAFT, StandIn
from whisperagent import settings, wire
from whisperagent.errors import ConfigError
from whisperserver.tickets import NotSent, Rejected, TicketRef, Unknown, sink_for, standin
from whisperserver.tickets.faults import Fault
from whisperserver.tickets.ninjaone import NinjaOne

SCHEMA = json.loads(Path(__file__).with_name("new_ticket.schema.json").read_text("utf-8"))
SET = settings.Tickets(sink="ninjaone", client_id="a", client_secret="b", organization=12, form=3)


@pytest.mark.parametrize("priority", ["NONE", "LOW", "MEDIUM", "HIGH"])
def test_the_request_is_what_the_vendors_document_wants(priority: str) -> None:
    draft = msgspec.structs.replace(DRAFT, priority=priority)
    body = json.loads(json.dumps(NinjaOne(SET).body(draft, CALL)))
    jsonschema.validate(body, SCHEMA)
    assert body == {
        "clientId": 12,
        "ticketFormId": 3,
        "subject": DRAFT.subject,
        "status": "1000",
        "description": {"public": False, "body": DRAFT.body},
        "priority": priority,
        "tags": ["appel-3cx", f"rec-{CALL}"],
    }


def test_a_draft_without_its_marker_gets_it_back() -> None:
    body = NinjaOne(SET).body(wire.TicketDraft(subject="s", body="reviewed text"), CALL)
    assert body["description"]["body"] == f"reviewed text\n\nrec:{CALL}"
    assert body["tags"] == [f"rec-{CALL}"]
    assert NinjaOne(SET).body(wire.TicketDraft(subject="s"), CALL)["description"]["body"] == f"rec:{CALL}"


def test_a_ticket_is_found_by_the_tag_itself_and_not_by_a_mention(stand_in: StandIn) -> None:
    sink = stand_in.sink()
    other = CALL.replace("0198", "0199")
    asyncio.run(sink.create(msgspec.structs.replace(DRAFT, body=f"a caller said {CALL}"), other))
    assert asyncio.run(sink.find_by_marker(CALL)) is None
    made = asyncio.run(sink.create(DRAFT, CALL))
    assert asyncio.run(sink.find_by_marker(CALL)) == made
    assert isinstance(made, TicketRef)


def test_a_ticket_is_found_where_the_search_does_not_look_at_markers(stand_in: StandIn) -> None:
    stand_in.desk.searched = ("subject",)
    sink = stand_in.sink()
    made = asyncio.run(sink.create(DRAFT, CALL))
    for number in range(10):
        asyncio.run(sink.create(DRAFT, f"{CALL[:-1]}{number}"))
    assert asyncio.run(sink.find_by_marker(CALL)) == made


def test_only_the_board_of_the_settings_is_searched(stand_in: StandIn) -> None:
    asyncio.run(stand_in.sink().create(DRAFT, CALL))
    stand_in.faults.seen.clear()
    assert asyncio.run(stand_in.sink(board=1).find_by_marker(CALL)) is None
    assert stand_in.count("search") == 2
    assert asyncio.run(stand_in.sink(board=2).find_by_marker(CALL)) is not None


def test_an_expired_token_is_renewed_once_and_nothing_is_made_twice(stand_in: StandIn) -> None:
    sink = stand_in.sink()
    asyncio.run(sink.check())
    stand_in.desk.tokens.clear()
    asyncio.run(sink.create(DRAFT, CALL))
    assert stand_in.count("token") == 2
    assert len(stand_in.desk.tickets) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_id": "of-another-region"}, "the host must be your own region's"),
        ({"client_secret": "wrong"}, "check `tickets.client_id` and `tickets.client_secret`"),
    ],
)
def test_credentials_that_do_not_fit_say_what_to_check(
    stand_in: StandIn, changes: dict[str, str], words: str
) -> None:
    with pytest.raises(Rejected) as refused:
        asyncio.run(stand_in.sink(**changes).create(DRAFT, CALL))
    assert words in refused.value.fix
    assert stand_in.desk.tickets == []


def test_a_tenant_that_wants_a_persons_connection_is_one_clear_error(stand_in: StandIn) -> None:
    stand_in.faults.planned["create"].append(Fault.NO_USER_CONTEXT)
    with pytest.raises(Rejected) as refused:
        asyncio.run(stand_in.sink().create(DRAFT, CALL))
    assert "only a person's connection" in refused.value.what
    assert "user_context_required" in refused.value.why
    assert "docs/tickets.md" in refused.value.fix


@pytest.mark.parametrize("fault", [Fault.CRASH, Fault.PAGE, Fault.CUT], ids=lambda fault: fault.name)
def test_a_token_that_cannot_be_had_means_not_sent(stand_in: StandIn, fault: Fault) -> None:
    stand_in.faults.planned["token"].append(fault)
    with pytest.raises(NotSent):
        asyncio.run(stand_in.sink().create(DRAFT, CALL))
    assert stand_in.count("create") == 0


def test_nothing_is_asked_before_the_end_of_a_retry_after(stand_in: StandIn) -> None:
    stand_in.faults.planned["create"].append(Fault.THROTTLE)
    sink = stand_in.sink()
    for _again in range(3):
        with pytest.raises(NotSent) as postponed:
            asyncio.run(sink.create(DRAFT, CALL))
        assert 0 < postponed.value.retry_after_s <= 7
    assert stand_in.count("create") == 1


def test_at_most_two_requests_a_second_are_made(stand_in: StandIn) -> None:
    asyncio.run(NinjaOne(stand_in.tickets).check())
    moments = [at for _operation, at in stand_in.faults.seen]
    # The wait is counted where the request leaves; a little less may lie between two arrivals.
    assert all(later - earlier > 0.4 for earlier, later in itertools.pairwise(moments))
    assert len(moments) == 5


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        ({"form": 9}, "NinjaOne has no 9 for `tickets.form`", "1 Default"),
        ({"status": "1"}, "NinjaOne has no 1 for `tickets.status`", "1000 New, 2000 Open"),
        ({"board": 9}, "NinjaOne has no 9 for `tickets.board`", "2 All tickets"),
        ({"organization": 9}, "NinjaOne rejects the request", "no organization 9"),
    ],
)
def test_the_check_names_the_setting_that_is_wrong_and_lists_what_there_is(
    stand_in: StandIn, changes: dict[str, object], what: str, why: str
) -> None:
    with pytest.raises(Rejected) as refused:
        asyncio.run(stand_in.sink(**changes).check())
    assert what in refused.value.what
    assert why in refused.value.why


def test_the_check_makes_no_ticket(stand_in: StandIn) -> None:
    asyncio.run(stand_in.sink(board=2).check())
    assert (stand_in.count("create"), stand_in.desk.tickets) == (0, [])


def test_an_answer_without_a_number_leaves_everything_open(stand_in: StandIn) -> None:
    with pytest.raises(Unknown):
        asyncio.run(
            answered(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        )


def test_a_server_that_speaks_no_http_leaves_everything_open() -> None:
    with pytest.raises(Unknown):
        asyncio.run(answered(b"220 mail.example ESMTP\r\n"))


def test_no_secret_and_no_word_of_a_call_reaches_the_logs(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    draft = wire.TicketDraft(subject="canary-subject", body="canary-body")
    asyncio.run(stand_in.sink().create(draft, CALL))
    stand_in.faults.planned["create"].append(Fault.CRASH)
    with pytest.raises(Unknown):
        asyncio.run(stand_in.sink().create(draft, CALL))
    assert "NinjaOne answers 503 to POST /v2/ticketing/ticket (incident stand-in-500" in caplog.text
    for secret in ("canary", standin.CLIENT_SECRET, *stand_in.desk.tokens):
        assert secret not in caplog.text


def test_without_a_sink_there_is_none() -> None:
    assert sink_for(settings.Tickets()) is None


def test_a_sink_with_everything_set_is_ninjaone() -> None:
    sink = sink_for(SET)
    assert sink is not None
    assert sink.name == "ninjaone"


def test_missing_settings_are_named_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"`tickets.client_secret`, `tickets.form`") as wrong:
        sink_for(msgspec.structs.replace(SET, client_secret="", form=0))
    assert "wa config set" in wrong.value.fix


@pytest.mark.parametrize("url", ["http://eu.ninjarmm.com", "eu.ninjarmm.com", "https://", "http://[::1"])
def test_an_address_that_would_show_the_secret_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"tickets\.url"):
        sink_for(msgspec.structs.replace(SET, url=url))


async def answered(answer: bytes) -> TicketRef:
    """What `create` makes of `answer`, from a server that knows nothing but a token and these bytes."""
    token = b'{"access_token":"t"}'
    first = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(token)
        + token
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (first, answer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        port = server.sockets[0].getsockname()[1]
        tickets = msgspec.structs.replace(SET, url=f"http://127.0.0.1:{port}")
        return await NinjaOne(tickets, requests_per_s=10_000).create(DRAFT, CALL)
