"""The server about itself: its public key, its health, its figures."""

import asyncio
import shutil
from collections.abc import Sequence
from typing import Annotated, Literal

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from whisperagent import wire
from whisperagent.errors import NoRoom
from whisperserver import jobs, keys
from whisperserver.api import answers
from whisperserver.auth import PUBLIC
from whisperserver.metrics import Stored
from whisperserver.services import Services
from whisperserver.store import figures, workers
from whisperserver.store.models import WorkerRow

PROMETHEUS = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # Litestar adds it to every text
Challenge = Annotated[str, QueryParameter(max_length=200, description="Sealed to the earlier key.")]
Speech = Literal["ready", "no worker", "unavailable"]


class Health(wire.Struct, frozen=True):
    """Can uploads be taken? speech: can they be transcribed too; without, calls wait.

    No more than that, because anybody may ask; the log and `transcription-status` say why.
    """

    status: Literal["ready", "unavailable"]
    database: Literal["ready", "unavailable"]
    storage: Literal["ready", "full"]
    speech: Speech


class ServiceController(Controller):
    tags = ("service",)

    @get(
        wire.SERVER_KEY,
        summary="Whom to seal recordings to",
        responses={
            200: answers.good(wire.ServerKey, wire.ServerKey(kid="5b1f…", public_key="hSDw…="), "The key."),
            **answers.errors(),
        },
    )
    async def server_key(
        self, services: NamedDependency[Services], challenge: Challenge = ""
    ) -> wire.ServerKey:
        """The server's public X25519 key. Only its private half, which never leaves the server, opens what is
        sealed to it. With `challenge`, `proof` says that the earlier key of a PC's pin is held as well.
        """
        return keys.shown(services.key, challenge)

    @get(wire.LIVE, opt={PUBLIC: True}, summary="Is the process alive?", sync_to_thread=False)
    def live(self) -> Response[dict[str, str]]:
        """Always 200 while the process answers."""
        return Response({"status": "alive"})

    @get(
        wire.READY,
        opt={PUBLIC: True},
        summary="Can uploads be taken?",
        responses={503: ResponseSpec(Health, generate_examples=False, description="Not now.")},
    )
    async def ready(self, services: NamedDependency[Services]) -> Response[Health]:
        """200 while an upload would be taken: the database answers and there is room on the disk. Whether it
        would be transcribed is said beside, in `speech`."""
        storage: Literal["ready", "full"] = "ready"
        try:
            await asyncio.to_thread(services.recordings.check_room)
        except NoRoom:
            storage = "full"
        database: Literal["ready", "unavailable"] = "ready"
        there: Sequence[WorkerRow] = ()
        try:
            async with services.database.reading() as session:
                there = await workers.there(session)
        except SQLAlchemyError:
            database = "unavailable"
        good = storage == database == "ready"
        health = Health(
            status="ready" if good else "unavailable",
            database=database,
            storage=storage,
            speech=_speech(there),
        )
        return Response(health, status_code=200 if good else 503)

    @get(
        wire.METRICS,
        opt={PUBLIC: True},
        media_type=PROMETHEUS,
        summary="Figures for Prometheus",
    )
    async def metrics(self, services: NamedDependency[Services]) -> bytes:
        """Requests, uploads, calls and tickets by state, queues, transcription times; nothing of a person."""
        return services.metrics.text(await _stored(services))


async def _stored(services: Services) -> Stored:
    async with services.database.reading() as session:
        transcribed, sound_s, work_s = await figures.transcriptions(session)
        there = await workers.there(session)
        return Stored(
            calls=await figures.calls_by_state(session),
            tickets=await figures.tickets_by_state(session),
            queues={job: await jobs.waiting(session, job) for job in (jobs.TRANSCRIBE, jobs.TICKET)},
            transcribed=transcribed,
            sound_s=sound_s,
            work_s=work_s,
            factor=await figures.newest_factor(session),
            workers={
                "ready": sum(not worker.speech_error for worker in there),
                "unavailable": sum(bool(worker.speech_error) for worker in there),
            },
            free_bytes=shutil.disk_usage(services.recordings.root).free,
            clients=services.live.clients,
        )


def _speech(there: Sequence[WorkerRow]) -> Speech:
    if not there:
        return "no worker"
    return "ready" if any(not worker.speech_error for worker in there) else "unavailable"
