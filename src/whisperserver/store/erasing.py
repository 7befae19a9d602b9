"""Erasing a call: its recordings and its rows, in an order that a crash cannot turn into half a call."""

import asyncio

from whisperagent.i18n import _
from whisperagent.wire import CallState
from whisperserver.refusals import NotFound
from whisperserver.store import calls, events
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database


async def erase(database: Database, recordings: Recordings, call_id: str, who: str) -> None:
    """Destroy the keys of its recordings, then their bytes, then all that was said. Again changes nothing.

    raises NotFound: there is no such call.
    """
    erased: set[str] = set()
    while True:
        async with database.writing() as session:
            call = await calls.find(session, call_id)
            if call is None:
                raise NotFound(_("there is no call {call_id}").format(call_id=call_id))
            if call.state == CallState.ERASED:
                return
            left = {part.path for part in await calls.parts(session, call_id)} - erased
            if not left:
                # The rows go last: until then a server that is killed still knows what to destroy.
                await calls.erase(session, call)
                events.audit(session, who, "erased", call_id)
                break
        for path in left:
            await asyncio.to_thread(recordings.erase, path)
        erased |= left
    await database.forget()
