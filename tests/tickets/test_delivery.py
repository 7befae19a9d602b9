"""One ticket, whatever happens on the way: the real NinjaOne client, over HTTP, against the stand-in."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tests.tickets.conftest import CALL, DRAFT, Record, StandIn, no_sleep
from whisperagent import wire
from whisperagent.wire import TicketState
from whisperserver.tickets import NotSent, TicketSink, deliver
from whisperserver.tickets.faults import Fault

WAITS_S = (60.0, 300.0)


def send(
    sink: TicketSink, record: Record, sleep: Callable[[float], Awaitable[None]] = no_sleep
) -> wire.Ticket:
    return asyncio.run(deliver(sink, DRAFT, CALL, record, WAITS_S, sleep))


def test_a_ticket_is_saved_as_sending_before_it_is_sent(stand_in: StandIn, record: Record) -> None:
    ticket = send(stand_in.sink(), record)
    assert record.states == ["sending", "created"]
    assert record.saved[0].unanswered == 1
    assert ticket == record.ticket
    assert ticket.id == str(stand_in.desk.tickets[0]["id"])
    assert ticket.url == f"{stand_in.url}/#/ticketing/ticket/{ticket.id}"


def test_a_ticket_delivered_again_is_not_sent_again(stand_in: StandIn, record: Record) -> None:
    first = send(stand_in.sink(), record)
    assert send(stand_in.sink(), record) == first
    assert len(stand_in.desk.tickets) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.DONE_THEN_CUT, Fault.DONE_THEN_500, Fault.DONE_THEN_PAGE, Fault.DONE_THEN_SILENCE],
    ids=lambda fault: fault.name,
)
def test_a_ticket_whose_answer_was_lost_is_found_and_adopted(
    stand_in: StandIn, record: Record, fault: Fault
) -> None:
    stand_in.faults.planned["create"].append(fault)
    ticket = send(stand_in.sink(timeout_s=0.5), record)
    assert record.states == ["sending", "unknown", "created"]
    assert [str(made["id"]) for made in stand_in.desk.tickets] == [ticket.id]
    assert (ticket.error, ticket.unanswered) == ("", 0)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CRASH, Fault.PAGE], ids=lambda fault: fault.name)
def test_a_ticket_that_nobody_finds_is_sent_once_more(
    stand_in: StandIn, record: Record, fault: Fault
) -> None:
    stand_in.faults.planned["create"].append(fault)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    send(stand_in.sink(), record, sleep)
    assert waited == list(WAITS_S)
    assert record.states == ["sending", "unknown", "sending", "created"]
    assert len(stand_in.desk.tickets) == 1


def test_a_ticket_that_is_never_answered_ends_with_a_person(stand_in: StandIn, record: Record) -> None:
    stand_in.faults.planned["create"].extend([Fault.CUT, Fault.CRASH, Fault.CUT])
    ticket = send(stand_in.sink(), record)
    assert ticket.state is TicketState.UNKNOWN
    assert f"look there for `rec-{CALL}`" in ticket.error
    assert stand_in.count("create") == 2


def test_an_unknown_ticket_delivered_again_is_looked_for_and_never_sent_a_third_time(
    stand_in: StandIn, record: Record
) -> None:
    stand_in.faults.planned["create"].extend([Fault.CUT, Fault.CRASH])
    send(stand_in.sink(), record)
    assert send(stand_in.sink(), record).state is TicketState.UNKNOWN
    assert stand_in.count("create") == 2
    stand_in.desk.create(msgspec.json.encode(stand_in.sink().body(DRAFT, CALL)))
    assert send(stand_in.sink(), record).state is TicketState.CREATED


@pytest.mark.parametrize("committed", [True, False])
def test_a_worker_killed_while_sending_is_resumed_without_a_second_ticket(
    stand_in: StandIn, record: Record, committed: bool
) -> None:
    sink = stand_in.sink()
    if committed:
        asyncio.run(sink.create(DRAFT, CALL))
    record.ticket = wire.Ticket(sink="ninjaone", state=TicketState.SENDING, draft=DRAFT, unanswered=1)
    assert send(sink, record).state is TicketState.CREATED
    assert len(stand_in.desk.tickets) == 1


def test_a_delivery_cancelled_while_it_waits_for_the_answer_is_resumed(
    stand_in: StandIn, record: Record
) -> None:
    stand_in.faults.planned["create"].append(Fault.DONE_THEN_SILENCE)

    async def stop_the_server() -> None:
        delivery = asyncio.create_task(deliver(stand_in.sink(), DRAFT, CALL, record, WAITS_S, no_sleep))
        while not stand_in.desk.tickets:  # noqa: ASYNC110 - the stand-in lives in another thread
            await asyncio.sleep(0.01)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery

    asyncio.run(stop_the_server())
    assert record.ticket.state is TicketState.SENDING
    assert send(stand_in.sink(), record).id == str(stand_in.desk.tickets[0]["id"])
    assert len(stand_in.desk.tickets) == 1


def test_a_rejected_ticket_fails_with_the_vendors_words_and_can_be_delivered_when_mended(
    stand_in: StandIn, record: Record
) -> None:
    ticket = send(stand_in.sink(form=77), record)
    assert ticket.state is TicketState.FAILED
    assert "ticketFormId 77 does not exist" in ticket.error
    assert send(stand_in.sink(), record).state is TicketState.CREATED


@pytest.mark.parametrize("fault", [Fault.THROTTLE, Fault.THROTTLE_PAGE], ids=lambda fault: fault.name)
def test_a_throttled_ticket_stays_a_draft_for_later(stand_in: StandIn, record: Record, fault: Fault) -> None:
    stand_in.faults.planned["create"].append(fault)
    with pytest.raises(NotSent) as postponed:
        send(stand_in.sink(), record)
    assert postponed.value.retry_after_s == (7 if fault is Fault.THROTTLE else 60)
    assert (record.ticket.state, record.ticket.unanswered) == (TicketState.DRAFT, 0)
    assert send(stand_in.sink(), record).state is TicketState.CREATED


def test_a_ticket_system_that_is_not_there_leaves_a_draft(stand_in: StandIn, record: Record) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(NotSent, match="cannot reach"):
        send(stand_in.sink(url=nobody), record)
    assert record.ticket.state is TicketState.DRAFT


@pytest.mark.parametrize(
    "fault", [Fault.CRASH, Fault.CUT, Fault.PAGE, Fault.THROTTLE], ids=lambda fault: fault.name
)
def test_a_search_that_fails_proves_nothing_so_nothing_is_sent(
    stand_in: StandIn, record: Record, fault: Fault
) -> None:
    stand_in.faults.planned["create"].append(Fault.CUT)
    stand_in.faults.planned["search"].append(fault)
    with pytest.raises(NotSent):
        send(stand_in.sink(), record)
    assert record.ticket.state is TicketState.UNKNOWN
    assert stand_in.count("create") == 1
    assert send(stand_in.sink(), record).state is TicketState.CREATED


def test_a_search_that_is_forbidden_asks_a_person(stand_in: StandIn, record: Record) -> None:
    stand_in.faults.planned["create"].append(Fault.CUT)
    stand_in.faults.planned["search"].append(Fault.NO_USER_CONTEXT)
    ticket = send(stand_in.sink(), record)
    assert ticket.state is TicketState.UNKNOWN
    assert "user_context_required" in ticket.error
    assert stand_in.count("create") == 1


def test_a_rejection_after_an_unanswered_send_does_not_say_that_there_is_no_ticket(
    stand_in: StandIn, record: Record
) -> None:
    stand_in.faults.planned["create"].extend([Fault.CUT, Fault.NO_USER_CONTEXT])
    ticket = send(stand_in.sink(), record)
    assert (ticket.state, ticket.unanswered) == (TicketState.UNKNOWN, 1)
    assert "user_context_required" in ticket.error


def test_a_second_send_that_is_throttled_waits_for_the_job_and_asks_nobody(
    stand_in: StandIn, record: Record
) -> None:
    stand_in.faults.planned["create"].extend([Fault.CUT, Fault.THROTTLE])
    with pytest.raises(NotSent):
        send(stand_in.sink(), record)
    assert (record.ticket.state, record.ticket.unanswered) == (TicketState.UNKNOWN, 1)
    assert "by hand" not in record.ticket.error
    assert send(stand_in.sink(), record).state is TicketState.CREATED
    assert len(stand_in.desk.tickets) == 1


def test_a_ticket_that_shows_up_late_is_still_adopted(stand_in: StandIn, record: Record) -> None:
    stand_in.faults.planned["create"].append(Fault.DONE_THEN_CUT)
    stand_in.desk.lag_s = 3600

    async def sleep(seconds: float) -> None:
        if seconds == WAITS_S[-1]:
            stand_in.desk.lag_s = 0

    assert send(stand_in.sink(), record, sleep).state is TicketState.CREATED
    assert len(stand_in.desk.tickets) == 1


def test_without_a_single_wait_nothing_is_delivered(stand_in: StandIn, record: Record) -> None:
    with pytest.raises(ValueError, match="waits_s"):
        asyncio.run(deliver(stand_in.sink(), DRAFT, CALL, record, ()))
    assert stand_in.count("create") == 0
