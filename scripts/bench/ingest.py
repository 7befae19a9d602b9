#!/usr/bin/env python3
"""How fast a plain upload is sealed and stored, beside an ASGI app that only counts the same bytes.

One server process holds both; 8 senders at once, on loopback, floor and ingest in turn, best round of each.
Budget: ingest >= 0.5 x the floor (fsync included, which the floor does not need). Exit 1 below it.

    .venv/bin/python scripts/bench/ingest.py [--mb 100] [--senders 8] [--rounds 3]
"""

import argparse
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from litestar import Litestar
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from whisperagent import settings, wire
from whisperserver import problems
from whisperserver.api.uploads import UploadsController
from whisperserver.auth import Authentication
from whisperserver.ingest import Ingest
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database, migrate

BUDGET = 0.5
FLOOR = "/floor"
MEMORY = "/memory"
BOUNDARY = "b0undary"
BLOCK = 1 << 18


def serve(root: Path) -> None:
    """The server of the measurement; says its port on stdout and runs until it is ended."""
    migrate(root / "calls.db")
    recordings = Recordings(root / "recordings", 0)
    ingest = Ingest(Database(root / "calls.db"), recordings, X25519PrivateKey.generate(), 4_096_000_000)
    app = Litestar(
        [UploadsController],
        dependencies={"ingest": Provide(lambda: ingest, sync_to_thread=False)},
        middleware=[DefineMiddleware(Authentication, serve=settings.Serve())],
        exception_handlers={Exception: problems.answer},
        logging_config=None,
    )

    async def either(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == MEMORY:
            await _say(send, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        elif scope["path"] == FLOOR:
            await _count(receive, send)
        else:
            await app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(either, log_level="critical", lifespan="off")).run(sockets=[listener])


async def _count(receive: Any, send: Any) -> None:
    count = 0
    more = True
    while more:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _say(send, str(count))


async def _say(send: Any, text: str) -> None:
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def send(port: int, path: str, size: int, senders: int) -> float:
    """MB a second, all senders together."""
    failures: list[str] = []
    forms = [_form(size) for _sender in range(senders)]
    threads = [threading.Thread(target=_send, args=(port, path, form, size, failures)) for form in forms]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{path}: {failures[0]}")
    return senders * size / 1e6 / (time.perf_counter() - begun)


def _form(size: int) -> tuple[bytes, bytes, bytes]:
    """What comes before the sound, a block of the sound, and what comes after it."""
    metadata = wire.CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=datetime.now(UTC))
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    start = (part % "metadata").encode() + msgspec.json.encode(metadata) + b"\r\n"
    wav = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 2, 16_000, 64_000, 4, 16)
    start += (part % "recording").encode() + wav + struct.pack("<4sI", b"data", size)
    return start, os.urandom(BLOCK), f"\r\n--{BOUNDARY}--\r\n".encode()


def _send(port: int, path: str, form: tuple[bytes, bytes, bytes], size: int, failures: list[str]) -> None:
    start, block, end = form
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Extension: 201\r\nConnection: close\r\n"
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    head += f"Content-Length: {len(start) + size + len(end)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + start)
        for at in range(0, size, BLOCK):
            connection.sendall(block[: size - at])
        connection.sendall(end)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    if not answer.startswith(b"HTTP/1.1 202"):
        failures.append(answer.decode(errors="replace"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=100, help="size of one recording")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            ratio = measure(port, root, chosen.mb * 1_000_000, chosen.senders, chosen.rounds)
        finally:
            server.terminate()
            server.wait()
    sys.exit(0 if ratio >= BUDGET else 1)


def measure(port: int, root: Path, size: int, senders: int, rounds: int) -> float:
    """Best round of ingest over best round of the floor."""
    for path in (FLOOR, wire.UPLOAD_RECORDING):
        send(port, path, 5_000_000, senders)
    before = _peak_mib(port)
    best = {FLOOR: 0.0, wire.UPLOAD_RECORDING: 0.0}
    for number in range(1, rounds + 1):
        for path in best:
            speed = send(port, path, size, senders)
            best[path] = max(best[path], speed)
            print(f"round {number}  {path:24} {speed:6.0f} MB/s", flush=True)
        shutil.rmtree(root / "recordings")  # a small disk holds every number of rounds
        (root / "recordings" / ".incoming").mkdir(parents=True)
    ratio = best[wire.UPLOAD_RECORDING] / best[FLOOR]
    print(f"ingest is {ratio:.2f} x the floor (budget {BUDGET}); memory +{_peak_mib(port) - before:.0f} MiB")
    return ratio


def _peak_mib(port: int) -> float:
    return int(httpx.get(f"http://127.0.0.1:{port}{MEMORY}").text) / 1024


if __name__ == "__main__":
    main()
