"""A real server on a free port of this machine, and short ways to what tests do with it."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import msgspec
import pytest
import uvicorn
from sqlalchemy.ext.asyncio import AsyncSession

from tests.server.ingest_fixtures import PromptServer, noise, srec
from whisperagent import settings, wire
from whisperserver.app import Background, create_app
from whisperserver.serve import listening
from whisperserver.services import Services
from whisperserver.store import transcripts
from whisperserver.store.transcripts import Written

T = TypeVar("T")

STARTED_AT = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
SERVE = settings.Serve(free_mib=0)
TICKETS = settings.Tickets(sink="ninjaone")
"""Approved calls get a ticket; nothing delivers it, so it stays a draft."""


class Server:
    """The server of a folder, in a thread of its own. Start it as `with`; what it stores outlives it.

    extension: who asks with `http`.
    """

    def __init__(
        self,
        home: Path,
        *,
        serve: settings.Serve = SERVE,
        tickets: settings.Tickets = TICKETS,
        speech: settings.Speech = settings.Speech(),
        background: Sequence[Background] = (),
    ) -> None:
        values = settings.Settings(serve=serve or settings.Serve(free_mib=0), tickets=tickets, speech=speech)
        paths = settings.Paths(home, home / "config.toml", home / "logs")
        self.loaded = settings.Loaded(values, paths, {})
        self.extension = "201"
        self.url = ""
        self.services: Services
        self._background = background
        self._loop: asyncio.AbstractEventLoop
        self._runner: uvicorn.Server
        self._thread: threading.Thread

    def __enter__(self) -> Self:
        ready: Future[None] = Future()

        async def know(services: Services) -> None:
            self.services, self._loop = services, asyncio.get_running_loop()
            ready.set_result(None)

        listener = listening("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(self.loaded, (know, *self._background)),
            log_config=None,
            ws_max_size=1 << 17,  # so that it is our limit that is seen
            timeout_graceful_shutdown=5,
        )
        self._runner = PromptServer(config)
        self._thread = threading.Thread(target=self._runner.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        ready.result(20)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._runner.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server does not stop"

    def http(self, extension: str = "", **options: Any) -> httpx.Client:
        headers = {wire.EXTENSION_HEADER: extension or self.extension}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, **options)

    def do(self, work: Awaitable[T]) -> T:
        """Run something on the server's own loop."""

        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def write(self, step: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """One writing transaction."""

        async def run() -> T:
            async with self.services.database.writing() as session:
                return await step(session)

        return self.do(run())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database has, seen from outside."""
        with sqlite3.connect(self.services.database.path) as connection:
            found = connection.execute(query).fetchall()
        connection.close()
        return found

    def change(self, statement: str) -> None:
        """Do to the database what should not happen to it."""
        with sqlite3.connect(self.services.database.path) as connection:
            connection.execute(statement)
        connection.close()

    # A call

    def seal(self, pcm: bytes, call_id: str, **metadata: Any) -> bytes:
        """A recording as the agent seals it to this server. pcm: 16 kHz, 16 bit, two sides interleaved."""
        return srec(pcm, self.services.key, call_id=call_id, **metadata)

    def upload(
        self, call_id: str, pcm: bytes = b"", *, recording: bytes = b"", **said: Any
    ) -> httpx.Response:
        """Send one part, from the extension that it says it is of."""
        said = {"extension": self.extension, "started_at": STARTED_AT, **said}
        metadata = wire.CallMetadata(call_id=call_id, **said)
        pcm = pcm or noise(64_000)
        with self.http(metadata.extension) as http:
            return http.post(
                wire.UPLOAD_RECORDING,
                files={
                    "metadata": (None, msgspec.json.encode(metadata)),
                    "recording": ("call.srec", recording or self.seal(pcm, call_id, **said)),
                },
            )

    def received(self, pcm: bytes = b"", **said: Any) -> str:
        """A new call that has come in."""
        call_id = wire.new_call_id()
        answer = self.upload(call_id, pcm, **said)
        assert answer.status_code == 202, answer.text
        return call_id

    def transcribed(self, *texts: str, language: str = "fr", **said: Any) -> str:
        """A new call and its transcript. texts: what was said, the caller first, then in turn."""
        call_id = self.received(**said)
        self.transcribe(
            call_id, *(texts or ("Mon imprimante ne marche plus.", "Je regarde.")), language=language
        )
        return call_id

    def transcribe(self, call_id: str, *texts: str, language: str = "fr") -> None:
        segments = tuple(
            wire.Segment(
                id=number,
                start_s=float(2 * number),
                end_s=2.0 * number + 1.5,
                speaker="agent" if number % 2 else "caller",
                text=text,
                words=(wire.Word(start_s=2.0 * number, end_s=2.0 * number + 1, text=text, probability=0.9),),
            )
            for number, text in enumerate(texts)
        )
        written = Written(
            language=language, model="demo", duration_s=2.0 * len(texts), segments=segments, job_s=0.5
        )

        async def step(session: AsyncSession) -> None:
            parts = await transcripts.begin(session, call_id)
            await transcripts.save(session, call_id, written, len(parts))

        self.write(step)

    def call(self, call_id: str) -> wire.Call:
        with self.http() as http:
            return msgspec.json.decode(http.get(f"{wire.CALLS}/{call_id}").content, type=wire.Call)


@contextmanager
def running(home: Path, **options: Any) -> Iterator[Server]:
    with Server(home, **options) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server-home") as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of a module that only ask, or that ask about a call of their own."""
    with running(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """Extension 201, asking `server`."""
    with server.http() as client:
        yield client


@pytest.fixture
def asking(shared: Server) -> Iterator[httpx.Client]:
    """Extension 201, asking `shared`."""
    with shared.http() as client:
        yield client


def problem(answer: httpx.Response, status: int, kind: str) -> wire.Problem:
    """The problem of this kind that an answer is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = msgspec.json.decode(answer.content, type=wire.Problem)
    assert (found.status, found.type) == (status, f"/problems/{kind}")
    assert found.title
    return found


def until(true: Callable[[], object], wait_s: float = 10.0) -> None:
    """Ask until it is so, for a while."""
    end = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < end, "it does not come to it"
        time.sleep(0.02)


def later(minutes: float) -> datetime:
    return STARTED_AT + timedelta(minutes=minutes)
