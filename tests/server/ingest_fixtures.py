"""Recordings, forms and a store to send them to: what the tests of ingest and of the time line share."""

import asyncio
import io
import socket
import sqlite3
import struct
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import uvicorn
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from litestar import Litestar
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from whisperagent import sealed, settings, wire
from whisperserver import problems
from whisperserver.api.uploads import UploadsController
from whisperserver.auth import Authentication, Caller
from whisperserver.ingest import Ingest, Received
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database, migrate

CALL = "01980f2e-7a3b-7c41-9d52-3f6a8b1c2d4e"
STARTED_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
CALLER = Caller("201")
BOUNDARY = "b0undary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
MAX_BYTES = 20_000_000


def metadata(**changes: Any) -> wire.CallMetadata:
    said = wire.CallMetadata(call_id=CALL, extension=CALLER.extension, started_at=STARTED_AT)
    return msgspec.structs.replace(said, **changes)


def said(**changes: Any) -> bytes:
    return msgspec.json.encode(metadata(**changes))


def part(name: str, content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(part(name, content) for name, content in parts) + f"--{BOUNDARY}--\r\n".encode()


def upload(recording: bytes, **changes: Any) -> bytes:
    """A form as the agent sends it."""
    return form(("metadata", said(**changes)), ("recording", recording))


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def wav(pcm: bytes, channels: int = 2, rate: int = wire.SAMPLE_RATE, length: int | None = None) -> bytes:
    """length: what the header says of the sound, which may be wrong."""
    data = len(pcm) if length is None else length
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", (36 + data) & 0xFFFFFFFF, b"WAVE", b"fmt ", 16)
        + form
        + struct.pack("<4sI", b"data", data)
        + pcm
    )


def srec(
    pcm: bytes,
    key: X25519PrivateKey,
    *,
    call_id: str = CALL,
    inside: bytes | None = None,
    cut: int = 0,
    **changes: Any,
) -> bytes:
    """A recording as the agent's recorder seals it. cut: bytes that its end lacks."""
    sink = io.BytesIO()
    inside = said(call_id=call_id, **changes) if inside is None else inside
    writer = sealed.Writer(sink, [key.public_key()], uuid.UUID(call_id).bytes, inside, segment_log2=14)
    writer.write(pcm)
    writer.finish()
    return sink.getvalue()[: len(sink.getvalue()) - cut]


def opened(data: bytes, key: X25519PrivateKey) -> bytes:
    return b"".join(sealed.Reader(io.BytesIO(data), key).segments())


async def pieces(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)


@dataclass
class Place:
    """A server's store in a folder."""

    root: Path
    free_mib: int = 0
    key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)

    def __post_init__(self) -> None:
        migrate(self.root / "calls.db")
        self.database = Database(self.root / "calls.db")
        self.recordings = Recordings(self.root / "recordings", self.free_mib)

    def ingest(self, max_bytes: int = MAX_BYTES) -> Ingest:
        return Ingest(self.database, self.recordings, self.key, max_bytes)

    async def receive(self, body: bytes, caller: Caller = CALLER, content_type: str = FORM) -> Received:
        return await self.ingest().receive(caller, content_type, pieces(body))

    def files(self) -> list[str]:
        """Everything in the folder of the recordings, half received ones too."""
        root = self.root / "recordings"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def stored(self, call_id: str = CALL, part: int = 1) -> bytes:
        return (self.root / "recordings" / call_id / f"{part}.srec").read_bytes()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database has, seen from outside."""
        with sqlite3.connect(self.root / "calls.db") as connection:
            found = connection.execute(query).fetchall()
        connection.close()
        return found

    def change(self, statement: str) -> None:
        with sqlite3.connect(self.root / "calls.db") as connection:
            connection.execute(statement)
        connection.close()

    def is_untouched(self) -> bool:
        return not self.files() and not self.rows("SELECT 1 FROM calls UNION ALL SELECT 1 FROM queue_task")


def create_app(place: Place, max_bytes: int = MAX_BYTES) -> Litestar:
    """The upload route alone, as app.py wires it."""
    ingest = place.ingest(max_bytes)
    return Litestar(
        [UploadsController],
        dependencies={"ingest": Provide(lambda: ingest, sync_to_thread=False)},
        middleware=[DefineMiddleware(Authentication, serve=settings.Serve())],
        exception_handlers={Exception: problems.answer},
        logging_config=None,
    )


class PromptServer(uvicorn.Server):
    """Sees at once that it is to stop: uvicorn itself looks ten times a second, most tests are shorter."""

    async def main_loop(self) -> None:
        while not self.should_exit:  # noqa: ASYNC110 - another thread sets it, as it sets uvicorn's own
            await asyncio.sleep(0.005)


@contextmanager
def listening(app: Litestar) -> Iterator[str]:
    """A real server on a free port of this machine; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, lifespan="off")
    server = PromptServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
