"""What the OpenAPI document says of answers: examples that are real values, and the errors of a route."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example

from whisperagent import wire
from whisperagent.wire import CallState, TicketState

MEANINGS = {
    400: "The request cannot be understood.",
    401: "Who asks is not known.",
    403: "Known, but not allowed.",
    404: "There is no such call, or it has no transcript yet.",
    409: "Someone else was first, or the call is not where this step begins.",
    410: "The call was erased.",
    413: "More bytes than are taken here.",
    416: "The range begins after the end of the sound.",
}

STARTED_AT = datetime(2026, 11, 25, 9, 1, 30, tzinfo=UTC)
CALL_ID = "019ab5c2-7d1e-7b3a-9c41-5f6e2d8a1b07"

TRANSCRIPT = wire.Transcript(
    call_id=CALL_ID,
    version=1,
    language="fr",
    model="large-v3-turbo",
    duration_s=74.2,
    segments=(
        wire.Segment(
            id=0,
            start_s=0.8,
            end_s=2.6,
            speaker="agent",
            text="Bonjour, support informatique.",
            words=(wire.Word(start_s=0.8, end_s=1.3, text="Bonjour,", probability=0.98),),
            probability=0.97,
        ),
        wire.Segment(id=1, start_s=3.1, end_s=5.9, speaker="caller", text="Mon imprimante ne marche plus."),
    ),
)
DRAFT = wire.TicketDraft(
    subject="[Appel] +33 6 12 34 56 78 - Mon imprimante ne marche plus.",
    body="Poste : 201\n…\n\nrec:" + CALL_ID,
    tags=("appel-3cx",),
)
SUMMARY = wire.CallSummary(
    call_id=CALL_ID,
    state=CallState.TRANSCRIBED,
    extension="201",
    started_at=STARTED_AT,
    duration_s=74.2,
    remote_party="+33 6 12 34 56 78",
    direction="inbound",
    language="fr",
    snippet="Bonjour, support informatique.",
)
CALL = wire.Call(
    summary=SUMMARY,
    parts=(
        wire.CallPart(
            metadata=wire.CallMetadata(
                call_id=CALL_ID, extension="201", started_at=STARTED_AT, duration_s=74.2
            ),
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            size=4_751_322,
            received_at=STARTED_AT,
        ),
    ),
    transcript=TRANSCRIPT,
    draft=DRAFT,
)
TICKETED = msgspec.structs.replace(
    CALL,
    summary=msgspec.structs.replace(SUMMARY, state=CallState.APPROVED),
    review=wire.Review(decision="approved", reviewer="201", at=STARTED_AT),
    draft=None,
    ticket=wire.Ticket(sink="ninjaone", state=TicketState.DRAFT, draft=DRAFT),
)
EDIT = wire.TranscriptEdit(version=1, segments=(wire.SegmentEdit(id=1, text="Mon imprimante est en panne."),))
DECISION = wire.ReviewDecision(version=2, decision="approved", ticket=None, note="")
RECEIPT = wire.UploadAnswer(
    call_id=CALL_ID,
    part=1,
    state=CallState.RECEIVED,
    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    size=4_751_322,
    status_url=f"{wire.TRANSCRIPTION_STATUS}/{CALL_ID}",
)
STATUS = wire.TranscriptionStatus(call_id=CALL_ID, state=CallState.RECEIVED, position=3)


def examples(value: msgspec.Struct) -> list[Example]:
    return [Example(summary="example", value=msgspec.to_builtins(value))]


def good(kind: Any, value: msgspec.Struct, description: str) -> ResponseSpec:
    return ResponseSpec(kind, generate_examples=False, description=description, examples=examples(value))


def errors(*statuses: int, meanings: Mapping[int, str] = MappingProxyType({})) -> dict[int, ResponseSpec]:
    """The problem details that a route may answer with; 401 and 403 are everywhere.

    meanings: what a status means there, where it is not what it means everywhere.
    """
    said = {**MEANINGS, **meanings}
    return {
        status: ResponseSpec(
            wire.Problem,
            generate_examples=False,
            description=said[status],
            media_type="application/problem+json",
        )
        for status in sorted({401, 403, *statuses})
    }
