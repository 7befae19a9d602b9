"""Private calls are destroyed here, and what the server has of them there, until nothing is left.

A call of more than half an hour, or one in which the agent was restarted, is sent in parts, so what is said
to be private at its end may have left this PC; and Windows deletes no file that somebody has open.
`erase.json` keeps what is still to be erased.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec

from whisperagent import files
from whisperagent.client import Client
from whisperagent.errors import ServerRefused, WhisperError
from whisperagent.spool import Spool

RETRY_S = 60.0

log = logging.getLogger(__name__)


class Eraser:
    """path: `erase.json`, there only while there is something to erase."""

    def __init__(self, path: Path, spool: Spool, client: Client) -> None:
        self._path = path
        self._spool = spool
        self._client = client
        self._added = asyncio.Event()
        self._left: set[str] = set()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._left = msgspec.json.decode(path.read_bytes(), type=set[str])
        self._private = set(self._left)

    def destroy(self, call_id: str) -> bool:
        """Delete every part of this call; True when the server may have one, and is asked to erase it.

        It is on the list before anything is deleted: whoever dies in between is told by it.
        """
        if sent := self._spool.left_recording(call_id):
            self.add(call_id)
        self._spool.destroy(call_id)
        if self._spool.holds(call_id):
            self.add(call_id)
        return sent

    def add(self, call_id: str) -> None:
        """Have this call erased, now and whenever a part of it is sent after all."""
        self._private.add(call_id)
        self._left.add(call_id)
        self._keep()
        self._added.set()

    def sent(self, call_id: str) -> None:
        """A part was on its way while its call became private, and has arrived."""
        if call_id in self._private:
            self.add(call_id)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._added.clear()
            for call_id in sorted(self._left):
                await self._erase(call_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._left else None):
                    await self._added.wait()

    async def _erase(self, call_id: str) -> None:
        self._spool.destroy(call_id)
        if self._spool.holds(call_id):
            return  # somebody has it open: the next round
        try:
            await self._client.erase(call_id)
        except ServerRefused as problem:
            if problem.status != 404:
                log.warning("call %s is not erased yet: %s", call_id, problem.what)
                return
        except WhisperError as problem:
            log.warning("call %s is not erased yet: %s", call_id, problem.what)
            return
        log.info("call %s is erased", call_id)
        self._left.discard(call_id)
        self._keep()

    def _keep(self) -> None:
        try:
            if self._left:
                files.write(self._path, msgspec.json.encode(sorted(self._left)))
            else:
                self._path.unlink(missing_ok=True)
        except OSError as problem:
            # A full disk must not keep a private call from being destroyed; this run knows all the same.
            log.warning("cannot keep %s: %s", self._path, problem)
