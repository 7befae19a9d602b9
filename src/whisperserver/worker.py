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
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from whisperagent.errors import AudioError, ConfigError, SealedError, SpeechUnavailable
from whisperagent.i18n import _
from whisperagent.settings import Loaded
from whisperserver import jobs, keys, timeline
from whisperserver.store import blobs, database, transcripts
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

    raises ConfigError: the settings name no database, storage or key that can be used, or none is there yet.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._speech = loaded.settings.speech
        self._models = loaded.paths.server / "models"
        where = database.location(loaded.settings, loaded.paths)
        if not where.exists():
            raise ConfigError(
                _("there are no calls in {path}").format(path=where),
                fix=_("start the server first: `wa server serve`"),
            )
        self._key = keys.load_or_make(loaded.paths, where)
        self._database = database.Database(where)
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
            job = await self._database.written(lambda session: jobs.take(session, jobs.TRANSCRIBE))
            if job is None:
                await asyncio.sleep(POLL_S)
                continue
            self._progress, self._job = 0.0, job
            await self._transcribe(engine, job)
            self._job = None

    async def _load(self) -> "Engine":
        """The speech model; while there is none, calls wait and people are told why."""
        from whisperserver.transcribe.engine import Engine  # ctranslate2 takes a second to import

        while True:
            try:
                engine = await asyncio.to_thread(Engine, self._speech, self._models)
            except SpeechUnavailable as problem:
                words = problem.in_words()
                if words != self._speech_error:
                    log.error("calls wait for a speech model: %s", words)
                self._speech_error = words
                await asyncio.sleep(RELOAD_S)
            else:
                log.info("speech model %s is ready", engine.model)
                self._speech_error = ""
                return engine

    async def _transcribe(self, engine: "Engine", job: jobs.Job) -> None:
        written = self._database.written
        try:
            if parts := await written(lambda session: transcripts.begin(session, job.call_id)):
                await self._attempt(engine, job.call_id, parts)
            await written(lambda session: jobs.end(session, job))
        except asyncio.CancelledError:
            await self._give_back(job)
            raise

    async def _give_back(self, job: jobs.Job) -> None:
        """Once: we stop, and what cannot be given back now is taken from us when we are dead."""
        try:
            async with self._database.writing() as session:
                await transcripts.give_back(session, job.call_id)
                await jobs.put_back(session, job)
        except SQLAlchemyError as problem:
            log.error("call %s cannot be given back: %s", job.call_id, getattr(problem, "orig", problem))

    async def _attempt(self, engine: "Engine", call_id: str, parts: Sequence[PartRow]) -> None:
        """One transcription, and what becomes of the call."""
        written = self._database.written
        began = time.monotonic()
        try:
            heard = await asyncio.to_thread(self._heard, engine, parts, began)
        except (AudioError, SealedError) as problem:
            words = problem.in_words()
            log.error("call %s is laid aside: %s", call_id, words)
            await written(lambda session: transcripts.lay_aside(session, call_id, words))
        except Exception as problem:
            # A fault of ours, or no memory left: tried again, but not for ever.
            log.exception("call %s could not be transcribed", call_id)
            cause = f"{type(problem).__name__}: {problem}"
            await written(lambda session: transcripts.give_back(session, call_id, cause, counted=True))
        else:
            await written(lambda session: transcripts.save(session, call_id, heard, len(parts)))
            log.info(
                "call %s transcribed: %.1f s of sound in %.1f s, %s",
                call_id,
                heard.duration_s,
                heard.job_s,
                heard.language,
            )

    def _heard(self, engine: "Engine", parts: Sequence[PartRow], began: float) -> transcripts.Written:
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


async def _until_stopped(worker: Worker, *, until_eof: bool) -> NoReturn:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop(*_signal: object) -> None:
        loop.call_soon_threadsafe(stopped.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if until_eof:
        threading.Thread(target=_wait_for_eof, args=(stop,), daemon=True).start()
    work = asyncio.ensure_future(worker.run())
    asks = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({work, asks}, return_when=asyncio.FIRST_COMPLETED)
    # Once, however often we are asked: a second time would break off the giving back.
    work.cancel()
    code = 0
    try:
        await work
    except asyncio.CancelledError:
        log.info("the worker stops")
    except Exception:
        log.exception("the worker broke")
        code = 1
    logging.shutdown()
    # The thread that transcribes cannot be interrupted, and Python would wait for it.
    os._exit(code)


def _wait_for_eof(then: Callable[[], None]) -> None:
    sys.stdin.read()
    then()
