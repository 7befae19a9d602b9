"""The contract between agent and server: routes, states, and every body that crosses the wire.

JSON in snake_case, times in UTC (RFC 3339), errors as problem details (RFC 9457). Both sides import
these structs, so neither can drift; `docs/api.md` is the same contract in prose.
"""

import os
import re
import time
import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

UPLOAD_RECORDING = "/api/upload-recording"
UPLOADS = "/api/uploads"
TUS_VERSION = "1.0.0"
TRANSCRIPTION_STATUS = "/api/transcription-status"
CALLS = "/api/calls"
SERVER_KEY = "/api/server-key"
REVIEW_CHANNEL = "/ws/review"
METRICS = "/metrics"
LIVE = "/health/live"
READY = "/health/ready"

DEFAULT_PORT = 3002
EXTENSION_HEADER = "X-Extension"
SAMPLE_RATE = 16_000
SIDES = ("agent", "caller")

END = r"(?![\s\S])"
"""The end of a text in a pattern. Python's `$` lets a line break follow; JSON Schema does not know `\\Z`."""

Speaker = Literal["agent", "caller", "unknown"]
CallId = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}" + END, description="UUIDv7 of the call")
]
Extension = Annotated[str, Meta(pattern=r"^[0-9A-Za-z._-]{1,32}" + END, description="3CX extension")]
Seconds = Annotated[float, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=10_000)]


class CallState(StrEnum):
    """Where a call is on the server's half of the line."""

    RECEIVED = "received"
    TRANSCRIBING = "transcribing"
    TRANSCRIBED = "transcribed"
    APPROVED = "approved"
    TICKETED = "ticketed"
    FAILED = "failed"
    REJECTED = "rejected"
    ERASED = "erased"
    QUARANTINED = "quarantined"


class SpoolState(StrEnum):
    """Where a recording is on the PC: the name of the folder it lies in; of a dropped one the description."""

    RECORDING = "recording"
    QUEUED = "queued"
    OVERDUE = "overdue"
    REJECTED = "rejected"
    DONE = "done"
    DROPPED = "dropped"


class TicketState(StrEnum):
    """Where a ticket is on its way to the ticket system (docs/architecture.md, "never two tickets")."""

    DRAFT = "draft"
    SENDING = "sending"
    UNKNOWN = "unknown"
    CREATED = "created"
    FAILED = "failed"


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the bodies; unknown fields are ignored so that an older peer is still understood."""


class Mark(Struct, frozen=True):
    """Something that happened during a call.

    at_s: seconds from the part's first sample.
    kind: `held`, `resumed`, `gap`, `restarted`, …
    """

    at_s: Seconds
    kind: Annotated[str, Meta(max_length=40)]
    note: Text = ""


class Capture(Struct, frozen=True):
    """How each side was heard, e.g. `wasapi-microphone` and `process-loopback`."""

    agent: str = "unknown"
    caller: str = "unknown"


class CallMetadata(Struct, frozen=True):
    """What the agent says of one part of a call: the part `metadata` of an upload.

    A call has several parts when the agent was restarted during it; (`call_id`, `part`) is unique.
    started_at: UTC of this part's first sample. duration_s: length of this part.
    last: no further part follows. complete: False when the recording was cut short.
    sha256, size: of the uploaded bytes; the server checks them when they are given.
    """

    call_id: CallId
    extension: Extension
    started_at: datetime
    part: Annotated[int, Meta(ge=1, le=1000)] = 1
    last: bool = True
    complete: bool = True
    duration_s: Seconds = 0.0
    agent_name: Annotated[str, Meta(max_length=200)] = ""
    account: Annotated[str, Meta(max_length=200)] = ""
    direction: Literal["inbound", "outbound", "internal", "unknown"] = "unknown"
    remote_party: Annotated[str, Meta(max_length=200)] = ""
    layout: Literal["split", "mono"] = "split"
    codec: Literal["pcm", "wav", "flac", "opus"] = "pcm"
    sample_rate: Annotated[int, Meta(ge=8_000, le=48_000)] = SAMPLE_RATE
    capture: Capture = Capture()
    marks: tuple[Mark, ...] = ()
    agent_version: Annotated[str, Meta(max_length=40)] = ""
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?" + END)] = ""
    size: Annotated[int, Meta(ge=0)] = 0


class UploadAnswer(Struct, frozen=True):
    """The server's receipt. A 2xx means: stored and synced, and this is the hash of what was stored."""

    call_id: str
    part: int
    state: CallState
    sha256: str
    size: int
    status_url: str


class TranscriptionStatus(Struct, frozen=True):
    """position: place in the queue, 0 when it does not wait. progress: 0..1."""

    call_id: str
    state: CallState
    position: int = 0
    progress: float = 0.0
    error: str = ""
    transcript_url: str = ""


class Word(Struct, frozen=True):
    """One word, with seconds from the start of the call. probability: 0..1."""

    start_s: float
    end_s: float
    text: str
    probability: float


class Segment(Struct, frozen=True):
    """One stretch of speech of one speaker. id: place in the transcript, from 0, kept by edits."""

    id: int
    start_s: float
    end_s: float
    speaker: Speaker
    text: str
    words: tuple[Word, ...] = ()
    probability: float = 1.0


class Transcript(Struct, frozen=True):
    """The words of a call, in order of time. version: rises with every edit."""

    call_id: str
    version: int
    language: str
    model: str
    duration_s: float
    segments: tuple[Segment, ...]


class SegmentEdit(Struct, frozen=True):
    """A correction of one segment; what is None stays. An empty text removes the segment."""

    id: int
    text: Text | None = None
    speaker: Speaker | None = None


class TranscriptEdit(Struct, frozen=True):
    """version: the one that was corrected; 409 when someone else was first."""

    version: int
    segments: Annotated[tuple[SegmentEdit, ...], Meta(max_length=10_000)]


class TicketDraft(Struct, frozen=True):
    """What the ticket will say. subject: up to 200 characters, NinjaOne's own limit."""

    subject: Annotated[str, Meta(min_length=1, max_length=200)]
    body: Annotated[str, Meta(max_length=60_000)] = ""
    priority: Literal["NONE", "LOW", "MEDIUM", "HIGH"] = "NONE"
    tags: tuple[str, ...] = ()


class ReviewDecision(Struct, frozen=True):
    """version: of the transcript that was read. ticket: None asks for the draft as it stands."""

    version: int
    decision: Literal["approved", "rejected"]
    ticket: TicketDraft | None = None
    note: Text = ""


class Review(Struct, frozen=True):
    decision: Literal["approved", "rejected"]
    reviewer: str
    at: datetime
    note: str = ""


class Ticket(Struct, frozen=True):
    """id and url: the ticket system's own, empty until it has answered.

    unanswered: sends whose outcome nobody knows; it decides whether one more is allowed.
    """

    sink: str
    state: TicketState
    draft: TicketDraft
    id: str = ""
    url: str = ""
    error: str = ""
    unanswered: int = 0


class CallSummary(Struct, frozen=True):
    """A line of the call list. snippet: the passage that matched `q`, else the first words."""

    call_id: str
    state: CallState
    extension: str
    started_at: datetime
    duration_s: float = 0.0
    agent_name: str = ""
    remote_party: str = ""
    direction: str = "unknown"
    language: str = ""
    snippet: str = ""
    claimed_by: str = ""
    ticket_id: str = ""
    error: str = ""


class CallPart(Struct, frozen=True):
    metadata: CallMetadata
    sha256: str
    size: int
    received_at: datetime


class Call(Struct, frozen=True):
    """Everything about one call. draft: the ticket as the server would write it."""

    summary: CallSummary
    parts: tuple[CallPart, ...]
    transcript: Transcript | None = None
    review: Review | None = None
    draft: TicketDraft | None = None
    ticket: Ticket | None = None


class CallPage(Struct, frozen=True):
    """next_cursor: give it back as `cursor` for the next page; empty on the last one."""

    items: tuple[CallSummary, ...]
    next_cursor: str = ""


class ServerKey(Struct, frozen=True):
    """Whom recordings are sealed to. public_key: X25519, 32 bytes in base64. kid: `sealed.key_id`, hex.

    proof: where a challenge was sent, that the server holds the key it was sealed to (succession.py), hex.
    """

    kid: str
    public_key: str
    proof: str = ""


class Event(Struct, frozen=True):
    """A message of the review channel: a hint that something changed; the store is the truth.

    seq: rises by at least one; give the last one seen as `last_seq` to get what was missed.
    kind: `call.received`, `call.state`, `call.progress`, `review.claimed`, `review.released`,
        `transcript.edited`.
    """

    seq: int
    kind: str
    call_id: str
    at: datetime
    data: dict[str, Any] = {}


class Command(Struct, frozen=True):
    """What a client says on the review channel."""

    action: Literal["claim", "release"]
    call_id: str


class Problem(Struct, frozen=True):
    """An error of the API (RFC 9457). detail says why, fix what to do."""

    type: str
    title: str
    status: int
    detail: str = ""
    fix: str = ""
    instance: str = ""


class CurrentCall(Struct, frozen=True):
    """The call that is being recorded.

    levels: dBFS by side. silent_s: how long a side has been silent. alarms: the sides silent for too long.
    """

    call_id: str
    started_at: datetime
    state: str
    recorded_s: float
    part: int = 1
    remote_party: str = ""
    levels: dict[str, float] = {}
    silent_s: dict[str, float] = {}
    alarms: tuple[str, ...] = ()


class AgentStatus(Struct, frozen=True):
    """`agent.json`: what the daemon says of itself, replaced about once a second.

    paused_until: until then, or until `resume`, calls are recorded as silence. private: a call is up that is
    not recorded, because somebody said so.
    """

    pid: int
    version: str
    state: str
    started_at: datetime
    updated_at: datetime
    extension: str
    host: str
    server_url: str
    server_connected: bool = False
    server_seen_at: datetime | None = None
    server_error: str = ""
    call: CurrentCall | None = None
    queue: dict[str, int] = {}
    calls_today: int = 0
    paused_until: datetime | None = None
    private: bool = False
    error: str = ""


def new_call_id() -> str:
    """A UUIDv7 (RFC 9562 section 5.7): sorts by time, made by the agent at the first sample."""
    milliseconds = time.time_ns() // 1_000_000
    # Not by `secrets`: that imports OpenSSL, which costs `wa agent status` a tenth of its time.
    chance = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 7 << 76 | (chance >> 68) << 64 | 2 << 62 | chance & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def is_call_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None
