"""The server process: the app on its address, workers beside it, all of it ended together.

`wa server serve` is this. Workers are processes of their own (worker.py), started here, started again when
they die, and told to stop by their stdin, which closes however this process ends.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import filelock
import uvicorn

from whisperagent import console
from whisperagent.errors import AlreadyRunning, UsageError
from whisperagent.i18n import _
from whisperagent.settings import Loaded
from whisperserver import auth
from whisperserver.app import Background, Patience, create_app
from whisperserver.services import Services
from whisperserver.ticketing import Ticketing
from whisperserver.tickets import TicketSink, sink_for

STOP_S = 4
"""How long open requests may take to end when the server stops."""
WORKER_STOP_S = 5
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Where the system lets us choose: a silent peer is asked after a minute, and given up a minute later."""
FILES = 10_000
"""Open files that the server asks the system for: sockets most of all."""

log = logging.getLogger(__name__)


def serve(loaded: Loaded) -> None:
    """Answer until a signal says to stop.

    raises ConfigError: an address beyond loopback without a signing key, an unusable key, database or
    storage. UsageError: the address is taken. AlreadyRunning: another server has this home.
    """
    serving = loaded.settings.serve
    auth.check_bind(serving)
    sink = sink_for(loaded.settings.tickets)
    loaded.paths.server.mkdir(mode=0o700, parents=True, exist_ok=True)
    _allow_many_sockets()
    with _lock(loaded), listening(serving.host, serving.port) as listener:
        background: list[Background] = [keep_worker] * serving.workers
        if sink is not None:
            background.append(partial(_deliver_tickets, sink))
        app = create_app(loaded, background)
        host, port = listener.getsockname()[:2]
        console.say(_("listening on {url}").format(url=f"http://{_in_url(host)}:{port}"))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=STOP_S,
            ws_max_size=1 << 16,
            # Events are short; compressing them would take a third of a megabyte for each of 2,000 sockets.
            ws_per_message_deflate=False,
            server_header=False,
            proxy_headers=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


async def _deliver_tickets(sink: TicketSink, services: Services) -> None:
    await Ticketing(services.database, sink, services.loaded.settings.tickets.retry_s).run()


async def keep_worker(services: Services) -> None:
    """One worker process, always."""
    # What the command line said of the model, the worker reads from its environment.
    environment = os.environ | {"WA_SPEECH__MODEL": services.loaded.settings.speech.model}
    patience = Patience()
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "whisperagent", "server", "worker", "--until-eof"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env=environment,
            # Ctrl+C at the terminal is for the server, which stops its workers in order.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        log.error("a worker died with code %s; another one is started", code)
        await patience.wait()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its stdin; it gives its call back and goes."""
    assert process.stdin is not None  # noqa: S101 - for the type checker: we asked for a pipe
    process.stdin.close()
    try:
        async with asyncio.timeout(WORKER_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def listening(host: str, port: int) -> socket.socket:
    """A socket that waits for connections. port: 0 takes a free one. raises UsageError: the address is taken.

    What is set here, every connection inherits.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as problem:
        raise UsageError(
            _("cannot listen on {host}:{port}").format(host=host, port=port),
            why=problem.strerror or str(problem),
            fix=_("stop what uses this port, or choose another: `wa server serve --port 3003`"),
        ) from None
    # Without, an answer waits 40 ms for the acknowledgement of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A PC that fell asleep in the middle of an upload says nothing more, and nobody would ever notice.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return listener


def _allow_many_sockets() -> None:
    """2,000 review channels need more open files than most systems allow a program that does not ask."""
    if os.name != "posix":
        return
    import resource  # POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _lock(loaded: Loaded) -> Iterator[None]:
    """Hold the home's lock, which the system frees however this process ends."""
    lock = filelock.FileLock(loaded.paths.server / "server.lock")
    try:
        lock.acquire(timeout=0.2)
    except filelock.Timeout:
        raise AlreadyRunning(
            _("a server runs in this home already"),
            why=_("it holds {lock}").format(lock=lock.lock_file),
            fix=_("stop it first, or give the other one a home of its own: `WA_HOME=…`"),
        ) from None
    try:
        yield
    finally:
        lock.release()
