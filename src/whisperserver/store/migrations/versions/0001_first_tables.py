"""The first tables: calls and all that hangs on them, the outbox, the job queue, the full-text index."""

from datetime import datetime

import sqlalchemy as sa
from advanced_alchemy.types import GUID
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _calls()
    _what_hangs_on_calls()
    _beside_calls()
    _job_queue()
    # Folds accents and case, so that "telephone" finds "téléphone"; rowid is calls.number. One or two letters
    # have an index of their own: all words that begin so would take a second to bring together.
    op.execute(
        "CREATE VIRTUAL TABLE call_text"
        " USING fts5(text, remote_party, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2')"
    )


def downgrade() -> None:
    op.execute("DROP TABLE call_text")
    for table in (
        "queue_task",
        "workers",
        "claims",
        "audit",
        "events",
        "tickets",
        "reviews",
        "transcripts",
        "parts",
    ):
        op.drop_table(table)
    op.drop_table("calls")


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[datetime]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_call(table: str, *, primary_key: bool = False) -> "sa.Column[str]":
    reference = sa.ForeignKey("calls.call_id", name=f"fk_{table}_call_id")
    return sa.Column("call_id", sa.String(36), reference, primary_key=primary_key, nullable=False)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("call_id", sa.String(36), nullable=False, unique=True),
        sa.Column("extension", sa.String(32), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        _moment("started_at"),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("agent_name", sa.String(200), nullable=False),
        sa.Column("remote_party", sa.String(200), nullable=False),
        sa.Column("direction", sa.String(20), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("snippet", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _moment("received_at"),
        _moment("changed_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_calls_started_at", "calls", ["started_at", "call_id"])
    op.create_index("ix_calls_state", "calls", ["state"])


def _what_hangs_on_calls() -> None:
    op.create_table(
        "parts",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        _of_call("parts"),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("codec", sa.String(10), nullable=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("recording_id", sa.LargeBinary(16), nullable=False),
        sa.Column("sound_bytes", sa.Integer(), nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        _moment("received_at"),
        sa.UniqueConstraint("call_id", "part", name="uq_parts_call_id_part"),
    )
    op.create_table(
        "transcripts",
        _of_call("transcripts", primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("segments", sa.Text(), nullable=False),
        sa.Column("original", sa.Text(), nullable=False),
        sa.Column("job_s", sa.Float(), nullable=False),
        _moment("written_at"),
    )
    op.create_index("ix_transcripts_times", "transcripts", ["written_at", "duration_s", "job_s"])
    op.create_table(
        "reviews",
        _of_call("reviews", primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(20), nullable=False),
        sa.Column("reviewer", sa.String(32), nullable=False),
        _moment("at"),
        sa.Column("note", sa.Text(), nullable=False),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        _of_call("tickets"),
        sa.Column("sink", sa.String(40), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("ticket", sa.Text(), nullable=False),
        _moment("changed_at"),
        sa.UniqueConstraint("call_id", "sink", name="uq_tickets_call_id_sink"),
    )
    op.create_index("ix_tickets_state", "tickets", ["state", "call_id"])
    op.create_table(
        "claims",
        _of_call("claims", primary_key=True),
        sa.Column("extension", sa.String(32), nullable=False),
        _moment("at"),
    )


def _beside_calls() -> None:
    # Without foreign keys: what happened to a call is still known when the call is gone.
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("call_id", sa.String(36), nullable=False),
        _moment("at"),
        sa.Column("data", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        _moment("at"),
        sa.Column("who", sa.String(32), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("call_id", sa.String(36), nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(200), primary_key=True),
        _moment("seen_at"),
        sa.Column("speech_error", sa.Text(), nullable=False),
    )


def _job_queue() -> None:
    """litestar-queues 0.12, model QueueTaskModel; we use none of what its other tables are for."""
    op.create_table(
        "queue_task",
        sa.Column("id", GUID(length=16), primary_key=True),
        sa.Column("task_name", sa.String(500), nullable=False),
        sa.Column("task_args", sa.JSON(), nullable=False),
        sa.Column("task_kwargs", sa.JSON(), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("execution_backend", sa.String(255), nullable=False),
        sa.Column("execution_profile", sa.String(255), nullable=True),
        sa.Column("execution_ref", sa.String(1000), nullable=True),
        sa.Column("worker_id", sa.String(255), nullable=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        _moment("scheduled_at", nullable=True),
        _moment("expires_at", nullable=True),
        _moment("queued_at"),
        _moment("started_at", nullable=True),
        _moment("completed_at", nullable=True),
        _moment("heartbeat_at", nullable=True),
        _moment("dispatch_checked_at", nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("task_key", sa.String(500), nullable=True, unique=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("sa_orm_sentinel", sa.Integer(), nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
    )
    pending = ["status", "queue", "scheduled_at", "expires_at", "priority", "queued_at", "created_at"]
    op.create_index("ix_queue_task_pending", "queue_task", pending)
    op.create_index("ix_queue_task_heartbeat", "queue_task", ["status", "heartbeat_at"])
    op.create_index("ix_queue_task_execution", "queue_task", ["status", "execution_ref"])
    repair = ["execution_backend", "status", "dispatch_checked_at", "created_at", "id"]
    op.create_index("ix_queue_task_dispatch_repair", "queue_task", repair)
