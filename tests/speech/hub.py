"""A stand-in of the model hub: the demo's model under every name, as huggingface_hub asks for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from whisperserver.transcribe.models import folder

COMMIT = "a" * 40
MODEL = folder("demo", Path())


class _Hub(BaseHTTPRequestHandler):
    broken = False

    def do_GET(self) -> None:
        files = sorted(MODEL.iterdir())
        if "/nobody/" in self.path:
            self._answer(b"{}", status=404, error="RepoNotFound")
        elif self.path.startswith("/api/") and "/tree/" in self.path:
            self._answer(
                [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
                    for file in files
                ]
            )
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in files]
            self._answer({"id": "owner/model", "sha": COMMIT, "siblings": siblings})
        else:
            content = (MODEL / self.path.rpartition("/")[2]).read_bytes()
            self._answer(content, cut=self.broken and self.path.endswith("model.bin"))

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _answer(self, body: object, status: int = 200, error: str = "", cut: bool = False) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{COMMIT}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *_what: object) -> None:
        pass


@contextmanager
def hub(broken: bool = False) -> Iterator[str]:
    """Its URL. broken: it hangs up in the middle of the model, every time."""
    handler = type("Hub", (_Hub,), {"broken": broken})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
