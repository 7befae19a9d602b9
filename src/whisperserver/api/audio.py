"""The sound of a call, as a WAV file that players can seek in: opened piece by piece as it is sent."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream

from whisperagent import wire
from whisperagent.i18n import _
from whisperserver.api import answers
from whisperserver.auth import Caller
from whisperserver.refusals import NoSuchRange
from whisperserver.services import Services
from whisperserver.store import calls, events
from whisperserver.timeline import Wav

PIECE = 1 << 18
"""Bytes that are opened and sent at once."""

Range = Annotated[str, HeaderParameter(name="Range", description="`bytes=0-1023`; one range is served.")]
IfRange = Annotated[str, HeaderParameter(name="If-Range", description="Makes it the whole: see `Range`.")]


class AudioController(Controller):
    path = wire.CALLS
    tags = ("calls",)

    @get(
        "/{call_id:str}/audio",
        summary="The sound",
        responses={
            200: ResponseSpec(bytes, generate_examples=False, description="WAV.", media_type="audio/wav"),
            206: ResponseSpec(bytes, generate_examples=False, description="A piece.", media_type="audio/wav"),
            **answers.errors(404, 410, 416),
        },
    )
    async def audio(
        self,
        call_id: FromPath[str],
        services: NamedDependency[Services],
        caller: NamedDependency[Caller],
        asked: Range = "",
        unless_changed: IfRange = "",
    ) -> Stream:
        """The whole call, its parts on one time line, as WAV. Who listens is written down."""
        async with services.database.writing() as session:
            await calls.get(session, call_id)
            parts = await calls.parts(session, call_id)
            events.audit(session, caller.extension, "listened", call_id)
        max_hours = services.loaded.settings.speech.max_hours
        wav = await asyncio.to_thread(Wav, services.recordings, services.key, parts, max_hours)
        # With If-Range a piece is wanted only of a file that is known; we give out nothing to know it by.
        piece = None if unless_changed else _piece(asked, wav.length)
        begin, end = piece or (0, wav.length)
        # Read before the answer begins: what no longer opens is still answered as an error.
        first = await asyncio.to_thread(wav.read, begin, min(PIECE, end - begin))
        headers = {
            "accept-ranges": "bytes",
            "content-length": str(end - begin),
            "content-disposition": f'inline; filename="{call_id}.wav"',
        }
        if piece:
            headers["content-range"] = f"bytes {begin}-{end - 1}/{wav.length}"
        return Stream(
            _sound(wav, first, begin + len(first), end),
            status_code=206 if piece else 200,
            headers=headers,
            media_type="audio/wav",
        )


async def _sound(wav: Wav, first: bytes, start: int, end: int) -> AsyncIterator[bytes]:
    yield first
    for offset in range(start, end, PIECE):
        yield await asyncio.to_thread(wav.read, offset, min(PIECE, end - offset))


def _piece(asked: str, length: int) -> tuple[int, int] | None:
    """What a Range header asks for, as [begin, end); None for the whole (RFC 9110 section 14.2).

    Several ranges, other units and what cannot be read ask for the whole. raises NoSuchRange.
    """
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", asked.replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    begin = int(first) if first else max(0, length - int(last))
    end = min(length, int(last) + 1) if first and last else length
    if begin >= end:
        raise NoSuchRange(
            _("the sound has no such bytes"), why=_("it has {count}").format(count=length), length=length
        )
    return begin, end
