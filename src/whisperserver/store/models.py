"""The tables. Columns that hold a `wire` value hold it as JSON and give it back as the struct."""

from datetime import datetime
from typing import Any

import msgspec
from advanced_alchemy.base import DefaultBase
from advanced_alchemy.types import DateTimeUTC
from sqlalchemy import Dialect, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from whisperagent import wire


class Json(TypeDecorator[Any]):
    """A value of type `kind`, kept as JSON text. kind: a `wire` struct, or any type msgspec knows."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value, type=self.kind)


Moment = DateTimeUTC(timezone=True)


class CallRow(DefaultBase):
    """One call.

    number: its row in the full-text index. attempts: transcriptions begun and not ended in order.
    """

    __tablename__ = "calls"
    __table_args__ = (
        Index("ix_calls_started_at", "started_at", "call_id"),
        Index("ix_calls_state", "state"),
        {"sqlite_autoincrement": True},  # a number is never used again: the full-text index goes by it
    )

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    call_id: Mapped[str] = mapped_column(String(36), unique=True)
    extension: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime] = mapped_column(Moment)
    duration_s: Mapped[float] = mapped_column(Float, default=0.0)
    agent_name: Mapped[str] = mapped_column(String(200), default="")
    remote_party: Mapped[str] = mapped_column(String(200), default="")
    direction: Mapped[str] = mapped_column(String(20), default="unknown")
    language: Mapped[str] = mapped_column(String(20), default="")
    snippet: Mapped[str] = mapped_column(Text, default="")
    error: Mapped[str] = mapped_column(Text, default="")
    whole: Mapped[bool] = mapped_column(default=False)
    """Every part has come, or the sweeper no longer waits for the rest."""
    interrupted: Mapped[bool] = mapped_column(default=False)
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    received_at: Mapped[datetime] = mapped_column(Moment)
    changed_at: Mapped[datetime] = mapped_column(Moment)


class PartRow(DefaultBase):
    """One recording of a call.

    sha256, size: of the bytes as they came. sound_bytes: plaintext in the blob.
    """

    __tablename__ = "parts"
    __table_args__ = (UniqueConstraint("call_id", "part", name="uq_parts_call_id_part"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    call_id: Mapped[str] = mapped_column(ForeignKey("calls.call_id", name="fk_parts_call_id"))
    part: Mapped[int] = mapped_column(Integer)
    metadata_json: Mapped[wire.CallMetadata] = mapped_column("metadata", Json(wire.CallMetadata))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(Integer)
    codec: Mapped[str] = mapped_column(String(10))
    path: Mapped[str] = mapped_column(String(200))
    recording_id: Mapped[bytes] = mapped_column(LargeBinary(16))
    sound_bytes: Mapped[int] = mapped_column(Integer)
    interrupted: Mapped[bool] = mapped_column(default=False)
    received_at: Mapped[datetime] = mapped_column(Moment)


class TranscriptRow(DefaultBase):
    """original: as the model wrote it; segments: as people corrected it. job_s: seconds the work took."""

    __tablename__ = "transcripts"
    # Sums for monitoring are read from this alone, not through the words of every call.
    __table_args__ = (Index("ix_transcripts_times", "written_at", "duration_s", "job_s"),)

    call_id: Mapped[str] = mapped_column(
        ForeignKey("calls.call_id", name="fk_transcripts_call_id"), primary_key=True
    )
    version: Mapped[int] = mapped_column(Integer)
    language: Mapped[str] = mapped_column(String(20))
    model: Mapped[str] = mapped_column(String(200))
    duration_s: Mapped[float] = mapped_column(Float)
    segments: Mapped[tuple[wire.Segment, ...]] = mapped_column(Json(tuple[wire.Segment, ...]))
    original: Mapped[tuple[wire.Segment, ...]] = mapped_column(Json(tuple[wire.Segment, ...]))
    job_s: Mapped[float] = mapped_column(Float)
    written_at: Mapped[datetime] = mapped_column(Moment)


class ReviewRow(DefaultBase):
    __tablename__ = "reviews"

    call_id: Mapped[str] = mapped_column(
        ForeignKey("calls.call_id", name="fk_reviews_call_id"), primary_key=True
    )
    version: Mapped[int] = mapped_column(Integer)
    decision: Mapped[str] = mapped_column(String(20))
    reviewer: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(Moment)
    note: Mapped[str] = mapped_column(Text, default="")


class TicketRow(DefaultBase):
    """One ticket for a call and ticket system, never two."""

    __tablename__ = "tickets"
    __table_args__ = (
        UniqueConstraint("call_id", "sink", name="uq_tickets_call_id_sink"),
        # The sweeper looks for those under way every two seconds, and past the texts of all others.
        Index("ix_tickets_state", "state", "call_id"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    call_id: Mapped[str] = mapped_column(ForeignKey("calls.call_id", name="fk_tickets_call_id"))
    sink: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20))
    ticket: Mapped[wire.Ticket] = mapped_column(Json(wire.Ticket))
    changed_at: Mapped[datetime] = mapped_column(Moment)


class EventRow(DefaultBase):
    """The outbox of the review channel."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_autoincrement": True},)  # a pruned seq must never come back

    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(40))
    call_id: Mapped[str] = mapped_column(String(36))
    at: Mapped[datetime] = mapped_column(Moment)
    data: Mapped[dict[str, Any]] = mapped_column(Json(dict[str, Any]))


class AuditRow(DefaultBase):
    """Who did what to which call; rows are only added."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(Moment)
    who: Mapped[str] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(40))
    call_id: Mapped[str] = mapped_column(String(36))


class ClaimRow(DefaultBase):
    """Who reads a call right now; gone with the websocket that claimed it."""

    __tablename__ = "claims"

    call_id: Mapped[str] = mapped_column(
        ForeignKey("calls.call_id", name="fk_claims_call_id"), primary_key=True
    )
    extension: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(Moment)


class WorkerRow(DefaultBase):
    """A worker process. speech_error: why it cannot transcribe, empty when it can."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(Moment)
    speech_error: Mapped[str] = mapped_column(Text, default="")
