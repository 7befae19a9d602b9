"""The queue of jobs: our port to litestar-queues, small enough that another engine can take its place.

A job says only "look at this call": what is to be done stands in the calls table, so a job may run twice or
be lost. It is enqueued in the transaction that makes it necessary; the sweeper (sweep.py) enqueues what was
lost; a job whose worker died is run again, by its process id at once on this machine, by its heartbeat
anywhere.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

import psutil
from litestar_queues.backends.advanced_alchemy.models import QueueTaskModel
from litestar_queues.backends.advanced_alchemy.service import QueueTaskService
from litestar_queues.models import HeartbeatTouch
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

TRANSCRIBE = "transcribe"
TICKET = "ticket"
LIVE = ("pending", "scheduled", "running")

HEARTBEAT_S = 2.0
STALE_S = 30.0
"""A job that nobody has beaten for so long is run again: longer than a beat may wait for the database."""

NO_LIMIT = 1_000_000
"""The engine may re-run a dead worker's job as often as it likes; transcripts.ATTEMPTS_MAX is the limit."""

KEEP = timedelta(days=7)

_Service: type[QueueTaskService] = QueueTaskService.for_model(QueueTaskModel)


@dataclass(frozen=True)
class Queue:
    """jobs: waiting. oldest_s: how long the first of them has waited."""

    jobs: int
    oldest_s: float


async def enqueue_transcription(session: AsyncSession, call_id: str) -> None:
    """Have the call transcribed, once this transaction is committed. A call has one live job at most."""
    await _enqueue(session, TRANSCRIBE, call_id)


async def enqueue_ticket(session: AsyncSession, call_id: str) -> None:
    """Have the ticket of the call delivered, once this transaction is committed."""
    await _enqueue(session, TICKET, call_id)


async def _enqueue(session: AsyncSession, job: str, call_id: str) -> None:
    await _Service(session=session).enqueue(
        job,
        args=(),
        kwargs={"call_id": call_id},
        queue=job,
        priority=0,
        max_retries=NO_LIMIT,
        scheduled_at=None,
        key=_key(job, call_id),
        execution_backend="local",
        execution_profile=None,
        metadata={},
    )


@dataclass(frozen=True)
class Job:
    """A job that this process has taken. run: rises each time it is taken anew, so that a late word of an
    earlier taker changes nothing."""

    id: UUID
    call_id: str
    run: int


async def take(session: AsyncSession, job: str) -> Job | None:
    """The job that waits longest, now ours; None when none waits. Keep it alive with `beat`."""
    service = _Service(session=session)
    found = await service.claim_next(queue=job, execution_backend="local")
    if found is None:
        return None
    await service.assign_worker(found.id, worker_id=worker_id(), expected_retry_count=found.retry_count)
    return Job(found.id, str(found.kwargs["call_id"]), found.retry_count)


async def beat(session: AsyncSession, held: Sequence[Job]) -> None:
    """Say that these are still worked on; at least every HEARTBEAT_S."""
    await _Service(session=session).touch_heartbeats([HeartbeatTouch(job.id, job.run) for job in held])


async def end(session: AsyncSession, job: Job) -> None:
    """It is done, whatever came of it: that stands in the calls table."""
    await _Service(session=session).complete_task(job.id, expected_retry_count=job.run)


async def put_back(session: AsyncSession, job: Job) -> None:
    """We stop: somebody else may take it at once."""
    await _Service(session=session).interrupt_task(
        job.id, expected_retry_count=job.run, worker_id=worker_id(), queued_at=datetime.now(UTC)
    )


async def without_job(session: AsyncSession, job: str, call_ids: Sequence[str]) -> Sequence[str]:
    """Those of the calls for which no such job waits or runs."""
    here = (QueueTaskModel.queue == job) & QueueTaskModel.status.in_(LIVE)
    live = set(await session.scalars(select(QueueTaskModel.task_key).where(here)))
    return [call_id for call_id in call_ids if _key(job, call_id) not in live]


async def position(session: AsyncSession, call_id: str) -> int:
    """The place of the call among those that wait for transcription, from 1; 0 when it does not wait."""
    waiting = QueueTaskModel.status.in_(("pending", "scheduled")) & (QueueTaskModel.queue == TRANSCRIBE)
    ours = await session.scalar(
        select(QueueTaskModel).where(waiting, QueueTaskModel.task_key == _key(TRANSCRIBE, call_id))
    )
    if ours is None:
        return 0
    before = select(func.count()).where(waiting, QueueTaskModel.queued_at < ours.queued_at)
    return 1 + (await session.scalar(before) or 0)


async def waiting(session: AsyncSession, job: str) -> Queue:
    here = QueueTaskModel.status.in_(("pending", "scheduled")) & (QueueTaskModel.queue == job)
    row = (await session.execute(select(func.count(), func.min(QueueTaskModel.queued_at)).where(here))).one()
    count, oldest = row
    if oldest is None:
        return Queue(0, 0.0)
    age = datetime.now(UTC) - (oldest if oldest.tzinfo else oldest.replace(tzinfo=UTC))
    return Queue(count, max(0.0, age.total_seconds()))


async def recover(session: AsyncSession) -> int:
    """Give the jobs of dead workers to the others; returns how many."""
    held = await session.scalars(
        select(QueueTaskModel.worker_id).where(QueueTaskModel.status == "running").distinct()
    )
    dead = [worker for worker in held if worker and _is_dead(worker)]
    if dead:
        theirs = QueueTaskModel.worker_id.in_(dead) & (QueueTaskModel.status == "running")
        # The engine takes a missing heartbeat for a dead worker's.
        await session.execute(update(QueueTaskModel).where(theirs).values(heartbeat_at=None))
    result = await _Service(session=session).requeue_stale_running(stale_after=timedelta(seconds=STALE_S))
    return result.requeued


async def prune(session: AsyncSession) -> None:
    """Forget jobs that are long over."""
    over = QueueTaskModel.status.not_in(LIVE) & (QueueTaskModel.completed_at < datetime.now(UTC) - KEEP)
    await session.execute(delete(QueueTaskModel).where(over))


@cache
def worker_id() -> str:
    """This process among all workers: machine, process, and its birth, since process ids are used again."""
    return f"{platform.node()}:{os.getpid()}:{_birth(psutil.Process())}"


def _is_dead(worker: str) -> bool:
    """Certainly dead: it was on this machine, and is no longer."""
    place, _colon, birth = worker.rpartition(":")
    node, _colon, number = place.rpartition(":")
    if node != platform.node() or not number.isdigit():
        return False
    try:
        process = psutil.Process(int(number))
        return _birth(process) != birth or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _birth(process: psutil.Process) -> str:
    """When it began, by a clock that nobody sets."""
    # Linux knows it from the start of the machine; psutil adds the time of that, which moves with the clock.
    return f"{process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0):.2f}"


def _key(job: str, call_id: str) -> str:
    return f"{job}:{call_id}"
