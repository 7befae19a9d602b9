"""The app: every part of the server put together, and what runs beside the requests.

`serve.py` runs it by uvicorn, tests by Litestar's client. Errors become answers in problems.py; every answer
gets the same protective headers here.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from whisperagent import __version__, wire
from whisperagent.i18n import _
from whisperagent.settings import Loaded
from whisperserver import auth, keys, problems
from whisperserver.api.audio import AudioController
from whisperserver.api.calls import CallsController, StatusController
from whisperserver.api.resumable import ResumableController
from whisperserver.api.review import review_channel
from whisperserver.api.service import ServiceController
from whisperserver.api.uploads import UploadsController
from whisperserver.ingest import Ingest
from whisperserver.live import Live
from whisperserver.metrics import Measured, Metrics
from whisperserver.refusals import Stopping
from whisperserver.resumable import Resumable
from whisperserver.services import Services
from whisperserver.store import blobs, claims, database
from whisperserver.sweep import Sweeper

__all__ = ["Background", "Services", "create_app"]

Background = Callable[[Services], Awaitable[None]]

BODY_MAX = 1 << 20
"""Bytes of any request but an upload, which has its own limit."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    # Words and voices of people: no cache keeps them.
    "cache-control": "no-store",
}

log = logging.getLogger(__name__)


def create_app(loaded: Loaded, background: Sequence[Background] = ()) -> Litestar:
    """The server of these settings, its database brought up to date.

    background: what else runs as long as the app does, each as `background(services)`, for ever.
    raises ConfigError: an address beyond loopback without a signing key; a key, database or storage that
    cannot be used.
    """
    settings, paths = loaded.settings, loaded.paths
    auth.check_bind(settings.serve)
    where = database.location(settings, paths)
    ring = keys.load_or_make(paths, where)
    database.migrate(where)
    recordings = blobs.Recordings(blobs.location(settings, paths), settings.serve.free_mib)
    recordings.sweep()
    store = database.Database(where)
    services = Services(loaded, store, recordings, ring, Live(store), Metrics())
    ingest = Ingest(store, recordings, ring, settings.serve.max_upload_mb * 1_000_000)
    resumable = Resumable(store, recordings, ring, ingest, settings.serve)

    @asynccontextmanager
    async def running(_app: Litestar) -> AsyncIterator[None]:
        async with store.writing() as session:
            await claims.forget_all(session)
        await services.live.begin()
        runs: list[Callable[[], Awaitable[None]]] = [services.live.run, Sweeper(store).run, resumable.run]
        runs += [partial(run, services) for run in background]
        tasks = [asyncio.create_task(_kept_running(run)) for run in runs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()

    return Litestar(
        [
            CallsController,
            AudioController,
            StatusController,
            UploadsController,
            ResumableController,
            ServiceController,
            review_channel,
        ],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "ingest": Provide(lambda: ingest, sync_to_thread=False),
            "resumable": Provide(lambda: resumable, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
        },
        middleware=[
            DefineMiddleware(Measured, metrics=services.metrics),
            _Stoppable,
            DefineMiddleware(auth.Authentication, serve=settings.serve),
        ],
        exception_handlers={Exception: problems.answer},
        before_send=[_protect],
        lifespan=[running],
        request_max_body_size=BODY_MAX,
        openapi_config=_openapi(),
        logging_config=None,
    )


class _Stoppable:
    """Middleware: a request that is cut off because the server stops is answered, if it still can be.

    uvicorn cancels what is left when its patience ends, and takes what rises from that for a fault.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except asyncio.CancelledError:
            if scope["type"] == ScopeType.HTTP and not begun:
                raise Stopping(_("the server stops"), fix=_("try again later")) from None


class Patience:
    """The wait before what broke is started again: longer with each time, short again after it was well."""

    WAITS_S = (0.2, 1.0, 5.0, 30.0)
    WELL_S = 60.0

    def __init__(self) -> None:
        self._breaks = 0
        self._began = time.monotonic()

    async def wait(self) -> None:
        if time.monotonic() - self._began > self.WELL_S:
            self._breaks = 0
        await asyncio.sleep(self.WAITS_S[min(self._breaks, len(self.WAITS_S) - 1)])
        self._breaks += 1
        self._began = time.monotonic()


async def _kept_running(run: Callable[[], Awaitable[None]]) -> None:
    """Run it until it ends or is cancelled; when it breaks, say so and start it again."""
    patience = Patience()
    while True:
        try:
            await run()
        except Exception:
            log.exception("a task of the server broke; it is started again")
        else:
            return
        await patience.wait()


def _caller(scope: Scope) -> auth.Caller:
    caller: auth.Caller = scope["user"]
    return caller


async def _protect(message: Message, _scope: Scope) -> None:
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="WhisperAgent",
        version=__version__,
        description="Calls of a helpdesk: uploaded sealed, transcribed, reviewed, turned into tickets. "
        "Errors are problem details (RFC 9457).",
        use_handler_docstrings=True,
        # Only the document itself: the pages that draw it load their scripts from elsewhere.
        render_plugins=[
            JsonRenderPlugin(path=["/", "/openapi.json"]),
            YamlRenderPlugin(path="/openapi.yaml"),
        ],
        tags=[
            Tag("uploads", "Recordings come in."),
            Tag("calls", "What became of them."),
            Tag("service", "The server about itself."),
        ],
        components=Components(
            security_schemes={
                "token": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="JWT",
                    description="Of `wa server token EXTENSION`; needed by a server beyond loopback.",
                ),
                "extension": SecurityScheme(
                    type="apiKey",
                    security_scheme_in="header",
                    name=wire.EXTENSION_HEADER,
                    description="Enough on loopback.",
                ),
            }
        ),
        security=[{"token": []}, {"extension": []}],
    )
