"""The worker: a process that takes calls from the queue and has them transcribed, one at a time.

It is a process of its own so that a decoder or a model that dies takes no upload with it; `serve.py` starts
it and starts it again. Killed at any moment, it loses nothing: the call is in `transcribing`, the job is run
again (jobs.recover), and a transcript that was not saved is made anew. A call that brings its worker down
again and again is laid aside (store.transcripts.begin).
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from whisperagent.errors import AudioError, SealedError, SpeechUnavailable
from whisperagent.settings import Loaded
from whisperserver import jobs, keys, timeline
from whisperserver.store import blobs, calls, database, transcripts
from whisperserver.store.models import PartRow, WorkerRow

if TYPE_CHECKING:
    from whisperserver.transcribe.engine import Engine

POLL_S = 0.5
RELOAD_S = 15.0
"""Between two looks for a speech model that is missing."""
FORGET = timedelta(minutes=1)
"""A worker that has not been seen for so long is no longer listed."""

log = logging.getLogger(__name__)


class Worker:
    """Transcribes what the queue of this server holds.

    raises ConfigError: the settings name no database, storage or key that can be used.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._speech = loaded.settings.speech
        self._models = loaded.paths.server / "models"
        self._key = keys.load_or_make(loaded.paths)
        self._database = database.Database(database.location(loaded.settings, loaded.paths))
        self._recordings = blobs.Recordings(
            blobs.location(loaded.settings, loaded.paths), loaded.settings.serve.free_mib
        )
        self._job: jobs.Job | None = None
        self._progress = 0.0
        self._speech_error = ""

    async def run(self) -> None:
        """Work until cancelled; the call in hand then goes back to the queue."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._work())

    async def _beat(self) -> None:
        """Say that we live, what we work on, and how far it is."""
        while True:
            try:
                async with self._database.writing() as session:
                    now = datetime.now(UTC)
                    await session.merge(
                        WorkerRow(id=jobs.worker_id(), seen_at=now, speech_error=self._speech_error)
                    )
                    await session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now - FORGET))
                    if self._job is not None:
                        await jobs.beat(session, [self._job])
                        await transcripts.progress(session, self._job.call_id, self._progress)
            except SQLAlchemyError as problem:
                log.error("cannot say that this worker lives: %s", getattr(problem, "orig", problem))
            await asyncio.sleep(jobs.HEARTBEAT_S / 2)

    async def _work(self) -> None:
        engine = await self._load()
        while True:
            try:
                async with self._database.writing() as session:
                    self._progress, self._job = 0.0, await jobs.take(session, jobs.TRANSCRIBE)
                if self._job is None:
                    await asyncio.sleep(POLL_S)
                    continue
                await self._transcribe(engine, self._job)
            except SQLAlchemyError as problem:
                # What was begun is taken up again by the sweeper, once nobody beats for it.
                log.error("the database does not answer: %s", getattr(problem, "orig", problem))
                self._job = None
                await asyncio.sleep(POLL_S)

    async def _load(self) -> "Engine":
        """The speech model; while there is none, calls wait and people are told why."""
        from whisperserver.transcribe.engine import Engine  # ctranslate2 takes a second to import

        while True:
            try:
                engine = await asyncio.to_thread(Engine, self._speech, self._models)
            except SpeechUnavailable as problem:
                words = calls.in_words(problem)
                if words != self._speech_error:
                    log.error("calls wait for a speech model: %s", words)
                self._speech_error = words
                await asyncio.sleep(RELOAD_S)
            else:
                log.info("speech model %s is ready", engine.model)
                self._speech_error = ""
                return engine

    async def _transcribe(self, engine: "Engine", job: jobs.Job) -> None:
        try:
            async with self._database.writing() as session:
                parts = await transcripts.begin(session, job.call_id)
            if parts:
                await self._attempt(engine, job.call_id, parts)
        except asyncio.CancelledError:
            async with self._database.writing() as session:
                await transcripts.give_back(session, job.call_id)
                await jobs.put_back(session, job)
            raise
        async with self._database.writing() as session:
            await jobs.end(session, job)
        self._job = None

    async def _attempt(self, engine: "Engine", call_id: str, parts: Sequence[PartRow]) -> None:
        """One transcription, and what becomes of the call."""
        began = time.monotonic()
        try:
            written = await asyncio.to_thread(self._written, engine, parts, began)
        except (AudioError, SealedError) as problem:
            log.error("call %s is laid aside: %s", call_id, calls.in_words(problem))
            async with self._database.writing() as session:
                await transcripts.lay_aside(session, call_id, calls.in_words(problem))
        except Exception as problem:
            # A fault of ours, or no memory left: tried again, but not for ever.
            log.exception("call %s could not be transcribed", call_id)
            async with self._database.writing() as session:
                await transcripts.give_back(session, call_id, _cause(problem), counted=True)
        else:
            async with self._database.writing() as session:
                await transcripts.save(session, call_id, written, len(parts))
            log.info(
                "call %s transcribed: %.1f s of sound in %.1f s, %s",
                call_id,
                written.duration_s,
                written.job_s,
                written.language,
            )

    def _written(self, engine: "Engine", parts: Sequence[PartRow], began: float) -> transcripts.Written:
        sound = timeline.sound(self._recordings, self._key, parts, self._speech.max_hours)
        heard = engine.transcribe(sound, self._tell)
        return transcripts.Written(
            language=heard.language,
            model=engine.model,
            duration_s=sound.duration_s,
            segments=heard.segments,
            job_s=time.monotonic() - began,
        )

    def _tell(self, share: float) -> None:
        self._progress = share


def run(loaded: Loaded, *, until_eof: bool = False) -> None:
    """Work until a signal says to stop. until_eof: or until stdin closes, as it does when the server dies."""
    asyncio.run(_until_stopped(Worker(loaded), until_eof=until_eof))


async def _until_stopped(worker: Worker, *, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(worker.run())

    def stop(*_signal: object) -> None:
        loop.call_soon_threadsafe(work.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if until_eof:
        threading.Thread(target=_wait_for_eof, args=(stop,), daemon=True).start()
    try:
        await work
    except asyncio.CancelledError:
        log.info("the worker stops")
        logging.shutdown()
        # The thread that transcribes cannot be interrupted, and Python would wait for it.
        os._exit(0)


def _wait_for_eof(then: Callable[[], None]) -> None:
    sys.stdin.read()
    then()


def _cause(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"
