"""A small WhisperAgent server that stores in memory: real HTTP on loopback, the two routes an agent needs.

It checks what the real one checks (the hash, the recipient, one recording for a call and part) and can be
told to fail. It has no review channel, as behind a proxy that lets no websocket through.
"""

import hashlib
import io
import socket
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self
from urllib.parse import parse_qs

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fakes import pcm
from whisperagent import sealed, succession, wire

Answer = tuple[int, object]


class FakeServer:
    """stored: (call_id, part) -> (bytes, metadata). asked: every upload, taken or not.

    known: calls that it has from elsewhere. erased: calls that it was asked to erase.
    tokens: what proved who asked, of every request. token: the only one it accepts; empty: it asks for none.
    ahead_s: how far its clock is ahead of ours.

    fail: called with the metadata of an upload before it is stored; an answer it gives is sent instead.
    """

    def __init__(self) -> None:
        self.key = X25519PrivateKey.generate()
        self.older_keys: tuple[X25519PrivateKey, ...] = ()
        self.stored: dict[tuple[str, int], tuple[bytes, wire.CallMetadata]] = {}
        self.asked: list[wire.CallMetadata] = []
        self.erased: set[str] = set()
        self.known: set[str] = set()
        self.tokens: set[str] = set()
        self.token = ""
        self.ahead_s = 0.0
        self.fail: Callable[[wire.CallMetadata], Answer | None] = lambda _metadata: None
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._http: ThreadingHTTPServer | None = None

    def start(self) -> Self:
        """Listen; until then the port refuses, as a server that is down does."""
        handler = type("Handler", (_Handler,), {"fake": self})
        self._http = _Http(("127.0.0.1", self.port), handler)
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def keys(self) -> sealed.Keyring:
        return sealed.Keyring(self.key, self.older_keys)

    def open(self, recording: bytes) -> sealed.Reader:
        """Open what was stored, as only this server can."""
        return sealed.Reader(io.BytesIO(recording), self.keys)

    def pcm(self, call_id: str, part: int = 1) -> bytes:
        return pcm(self.stored[call_id, part][0], self.keys)

    def take(self, recording: bytes, metadata: wire.CallMetadata) -> tuple[int, object]:
        """Store one upload; gives status and body."""
        self.asked.append(metadata)
        if answer := self.fail(metadata):
            return answer
        digest = hashlib.sha256(recording).hexdigest()
        if (metadata.sha256, metadata.size) != (digest, len(recording)):
            return 422, {"type": "about:blank", "title": "not the bytes that were announced", "status": 422}
        known = self.stored.setdefault((metadata.call_id, metadata.part), (recording, metadata))
        if known[0] != recording:
            return 409, {"type": "about:blank", "title": "other bytes than before", "status": 409}
        return 202, wire.UploadAnswer(
            call_id=metadata.call_id,
            part=metadata.part,
            state=wire.CallState.RECEIVED,
            sha256=digest,
            size=len(recording),
            status_url=f"{wire.TRANSCRIPTION_STATUS}/{metadata.call_id}",
        )


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """An agent that is killed leaves in the middle of a word; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.fake.tokens.add(self.headers.get("Authorization", ""))
        if self.fake.token and self.headers.get("Authorization") != f"Bearer {self.fake.token}":
            self._say(401, {"type": "about:blank", "title": "this token is not valid", "status": 401})
        elif self.path.partition("?")[0] == wire.SERVER_KEY:
            challenge = parse_qs(self.path.partition("?")[2]).get("challenge", [""])[0]
            proof = succession.answer(challenge, self.fake.keys)
            self._say(200, msgspec.structs.replace(key_of(self.fake.key), proof=proof))
        else:
            self._say(404, {"type": "about:blank", "title": "not found", "status": 404})

    def do_POST(self) -> None:
        self.fake.tokens.add(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = _multipart(body, self.headers["Content-Type"].partition("boundary=")[2].encode())
        metadata = msgspec.json.decode(parts["metadata"], type=wire.CallMetadata)
        self._say(*self.fake.take(parts["recording"], metadata))

    def do_DELETE(self) -> None:
        call_id = self.path.removeprefix(f"{wire.CALLS}/")
        if call_id not in self.fake.known | {known for known, _part in self.fake.stored}:
            self._say(404, {"type": "about:blank", "title": "not found", "status": 404})
            return
        self.fake.erased.add(call_id)
        self.send_response(204)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.fake.ahead_s)

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""

    def _say(self, status: int, body: object) -> None:
        content = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def key_of(key: X25519PrivateKey) -> wire.ServerKey:
    import base64

    public = key.public_key()
    return wire.ServerKey(
        kid=sealed.key_id(public).hex(), public_key=base64.b64encode(public.public_bytes_raw()).decode()
    )


def _multipart(body: bytes, boundary: bytes) -> dict[str, bytes]:
    found = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        headers, _blank, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = headers.partition(b'name="')[2].partition(b'"')[0].decode()
        found[name] = content.removesuffix(b"\r\n")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
