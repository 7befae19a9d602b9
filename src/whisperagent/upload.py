"""Drain the spool: one recording at a time, oldest first, for ever.

spool.py says what waits, client.py sends it. What a failure means decides what happens: no answer, wait and
try again; not let in, tell a person and keep everything; refused, set this recording aside with the
server's words and go on with the others. There is no last try. Only a receipt whose hash is that of the
bytes we sent lets the PC forget a recording.
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from whisperagent.client import Client
from whisperagent.errors import NotAuthenticated, SealedError, ServerRefused, ServerUnreachable, WhisperError
from whisperagent.i18n import _
from whisperagent.keys import Keys
from whisperagent.patience import Patience
from whisperagent.settings import Upload
from whisperagent.spool import Item, Spool
from whisperagent.wire import CallMetadata, UploadAnswer

LOOK_S = 1.0
"""How often the folders are looked at: `wa queue retry` runs in another process."""


class Uploader:
    """Sends what waits in `spool`.

    tell: called with `uploaded` or `refused` and the item. problem: why nothing can be sent now, None
    when the server takes everything. server_seen_at: when it last answered.
    """

    def __init__(
        self, spool: Spool, client: Client, keys: Keys, rules: Upload, tell: Callable[[str, Item], None]
    ) -> None:
        self.problem: WhisperError | None = None
        self.server_seen_at: datetime | None = None
        self._spool = spool
        self._client = client
        self._keys = keys
        self._rules = rules
        self._tell = tell
        self._patience = Patience(rules.retry_max_s)
        self._seen = asyncio.Event()
        self._failures = 0

    def server_seen(self) -> None:
        """Somebody heard from the server: whatever waits is tried at once."""
        self._seen.set()

    async def run(self) -> None:
        """Send what waits, until cancelled; greet the server first, so that its key is known early."""
        everything = True
        while True:
            due = self._due(everything)
            pause_s = await self._round(due) if due or everything else 0.0
            everything = await self._wait(pause_s or self._until_next_s())

    async def _round(self, due: list[Item]) -> float:
        """Send these; gives how long to leave the server alone afterwards."""
        try:
            await self._greet()
        except WhisperError as problem:
            return self._stop(problem, due[:1])
        for item in due:
            if (in_the_way := await self._send(item)) is not None:
                return self._stop(in_the_way, [item])
        self.problem = None
        self._failures = 0
        return 0.0

    async def _greet(self) -> None:
        """Is the server there, and is it the one whose key we hold?"""
        shown = await self._client.server_key()
        self.server_seen_at = datetime.now(UTC)
        await self._keys.greet(shown, self._client.server_key)

    async def _send(self, item: Item) -> WhisperError | None:
        """Send one and move it to where it now belongs; gives what stands in the way of the others too."""
        try:
            metadata = await asyncio.to_thread(self._prepare, item)
            receipt = await self._client.upload(item.path, metadata)
            _compare(receipt, metadata)
        except NotAuthenticated as problem:
            return problem
        except (ServerRefused, SealedError) as problem:
            self._spool.reject(item, in_words(problem))
            self._tell("refused", item)
        except ServerUnreachable as problem:
            if problem.retry_after_s or not await self._answers():
                return problem
            self._postpone(item, problem, self._backoff_s(item.attempts + 1))
        except FileNotFoundError:
            return None  # another process has just moved it; the next look finds it
        except (OSError, WhisperError) as problem:
            self._postpone(item, problem, self._backoff_s(item.attempts + 1))
        else:
            self._spool.done(item, receipt)
            self._tell("uploaded", item)
        return None

    def _prepare(self, item: Item) -> CallMetadata:
        """Wrap the recording for the server if need be, and say which bytes are sent. Runs in a thread."""
        self._keys.wrap_for_server(item.path)
        with item.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        return msgspec.structs.replace(item.entry.metadata, sha256=digest, size=size)

    async def _answers(self) -> bool:
        """Is it only this recording that the server stumbles over?"""
        try:
            await self._greet()
        except WhisperError:
            return False
        return True

    def _stop(self, problem: WhisperError, tried: list[Item]) -> float:
        self.problem = problem
        self._failures += 1
        wait_s = self._rules.retry_max_s
        if isinstance(problem, ServerUnreachable):
            wait_s = problem.retry_after_s or self._backoff_s(self._failures)
        for item in tried:
            self._postpone(item, problem, wait_s)
        return wait_s

    def _postpone(self, item: Item, problem: Exception, wait_s: float) -> None:
        self._spool.failed(item, in_words(problem), datetime.now(UTC) + timedelta(seconds=wait_s))

    def _backoff_s(self, failures: int) -> float:
        """Full jitter: anywhere up to `retry_s`, doubled with every failure up to `retry_max_s`."""
        longest_s = min(self._rules.retry_max_s, self._rules.retry_s * 2.0 ** min(failures - 1, 30))
        return random.uniform(0, longest_s)  # noqa: S311 - jitter, not a secret

    def _due(self, everything: bool) -> list[Item]:
        return [it for it in self._spool.waiting() if everything or self._patience.left_s(it) == 0]

    def _until_next_s(self) -> float:
        waits = [self._patience.left_s(item) for item in self._spool.waiting()]
        return min(waits, default=self._rules.retry_max_s)

    async def _wait(self, longest_s: float) -> bool:
        """Until the time is over, the folders change, or the server is seen: was it the last?"""
        before = self._spool.changed()
        loop = asyncio.get_running_loop()
        until = loop.time() + longest_s
        while (left_s := until - loop.time()) > 0 and self._spool.changed() == before:
            # Not `wait_for`, which on Python 3.11 swallows a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_S, left_s)):
                    await self._seen.wait()
                break
        seen = self._seen.is_set()
        self._seen.clear()
        return seen


def _compare(receipt: UploadAnswer, sent: CallMetadata) -> None:
    if (receipt.sha256, receipt.size) != (sent.sha256, sent.size):
        raise WhisperError(
            _("the server stored other bytes than were sent"),
            why=_("sent {ours}, stored {theirs}").format(ours=sent.sha256[:16], theirs=receipt.sha256[:16]),
        )


def in_words(problem: Exception) -> str:
    """What and why, in one line."""
    if isinstance(problem, WhisperError):
        return _("{what}: {why}").format(what=problem.what, why=problem.why) if problem.why else problem.what
    return str(problem)
