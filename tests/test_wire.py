"""The contract: what crosses the wire is bounded, forward compatible, and the same on both sides."""

import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from whisperagent import wire

CALL = "0198c0de-0000-7000-8000-000000000001"
LEAST = {"call_id": CALL, "extension": "201", "started_at": "2026-01-05T09:00:00Z"}


def metadata(**more: Any) -> wire.CallMetadata:
    return msgspec.json.decode(json.dumps(LEAST | more).encode(), type=wire.CallMetadata)


def test_three_fields_are_enough_for_a_plain_curl() -> None:
    found = metadata()
    assert (found.part, found.last, found.complete, found.layout) == (1, True, True, "split")
    assert found.started_at == datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def test_a_newer_agent_is_understood() -> None:
    assert metadata(mood="good") == metadata()


def test_metadata_comes_back_as_it_was_sent() -> None:
    sent = metadata(marks=[{"at_s": 1.5, "kind": "held"}], remote_party="+33 6 12 34 56 78", sha256="a" * 64)
    assert msgspec.json.decode(msgspec.json.encode(sent), type=wire.CallMetadata) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"call_id": "../../etc/passwd"},
        {"call_id": CALL.upper()},
        {"call_id": CALL + "\n"},
        {"extension": ""},
        {"extension": "2 01"},
        {"extension": "x" * 33},
        {"started_at": "yesterday"},
        {"part": 0},
        {"part": 1001},
        {"duration_s": -1},
        {"remote_party": "x" * 201},
        {"codec": "mp3"},
        {"sample_rate": 0},
        {"sha256": "g" * 64},
        {"size": -1},
        {"marks": [{"at_s": -1, "kind": "held"}]},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_metadata_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        metadata(**wrong)


@pytest.mark.parametrize("subject", ["", "x" * 201])
def test_a_ticket_that_the_ticket_system_would_refuse_is_refused_here(subject: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"subject": subject}, wire.TicketDraft)


def test_a_call_id_is_a_uuid_of_now_and_sorts_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [wire.new_call_id() for _number in range(200)]
    after = time.time_ns() // 1_000_000
    for call_id in ids:
        found = uuid.UUID(call_id)
        assert (found.version, found.variant) == (7, uuid.RFC_4122)
        assert before <= found.int >> 80 <= after
        assert wire.is_call_id(call_id)
        assert metadata(call_id=call_id).call_id == call_id
    assert len(set(ids)) == len(ids)
    assert [call_id[:13] for call_id in ids] == sorted(call_id[:13] for call_id in ids)


@pytest.mark.parametrize("text", ["", CALL[:-1], CALL + "0", CALL.upper(), CALL + "\n", "latest"])
def test_what_is_no_call_id(text: str) -> None:
    assert not wire.is_call_id(text)


def test_states_are_the_words_of_the_contract() -> None:
    assert [str(state) for state in wire.CallState] == [
        "received",
        "transcribing",
        "transcribed",
        "approved",
        "ticketed",
        "failed",
        "rejected",
        "erased",
        "quarantined",
    ]
    assert msgspec.json.encode(wire.CallState.RECEIVED) == b'"received"'
