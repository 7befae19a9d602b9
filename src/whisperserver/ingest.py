"""Ingest: an upload becomes a recording that is stored, sealed to this server's key, and a part of its call.

api/uploads.py hands it the bytes as they come, resumable.py a recording that came piece by piece; arriving.py
looks at them, jobs.py gets the call once it is whole. Rules:

* What arrives in clear is sealed before it touches the disk; at most a block of it is in memory.
* A cut recording is kept only where the sender says that it was cut, and then as an interrupted one.
* The file has its name, durably, before the row is committed, and the answer comes after both. A crash in
  between leaves a file that the next try replaces; a refusal, or a sender who goes away, leaves nothing.
* Whether a part is new is decided under the write lock of the database, so two senders cannot both be first.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from whisperagent import sealed, wire
from whisperagent.i18n import _
from whisperserver import jobs, multipart
from whisperserver.arriving import DURATION_MAX_S, Arriving
from whisperserver.auth import Caller
from whisperserver.refusals import BadRequest, Lying, TooLarge
from whisperserver.store import calls, events
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database
from whisperserver.store.models import CallRow, PartRow

METADATA_MAX = 1 << 16
FORM_ROOM = 1 << 20
"""What a form may be longer than its recording."""

YEARS = range(1970, 2200)
"""A PC's clock may be wrong, but not so wrong that a calendar cannot hold it."""


@dataclass(frozen=True)
class Received:
    """fresh: it is stored now; otherwise it was before."""

    answer: wire.UploadAnswer
    fresh: bool


class Ingest:
    """key: the server's own. max_bytes: of one recording, as it is sent."""

    def __init__(
        self, database: Database, recordings: Recordings, key: sealed.PrivateKey, max_bytes: int
    ) -> None:
        self._database = database
        self._recordings = recordings
        self._key = key
        self._max_bytes = max_bytes
        # A thread of its own: in the common ones a file could wait behind long recordings that are being
        # checked, and the write lock of the database with it.
        self._keeper = ThreadPoolExecutor(1, "keep")

    async def receive(
        self, caller: Caller, content_type: str, body: AsyncIterator[bytes], length: int | None = None
    ) -> Received:
        """Take in one upload. The same part again with the same bytes changes nothing.

        body: the form, in pieces. length: of the form, where the request says it.
        raises NoRoom, TooLarge, BadRequest, Forbidden, WrongKind, Lying, Conflict, Gone. Whatever it raises,
        nothing of the upload is left.
        """
        if length is not None and length > self._max_bytes + FORM_ROOM:
            raise self._too_large()
        self._recordings.check_room(length or 0)
        arriving = Arriving(self._recordings, self._key)
        try:
            said = await self._take_in(caller, content_type, body, arriving)
            return await self.store(arriving, said)
        finally:
            arriving.discard()

    async def store(self, arriving: Arriving, said: wire.CallMetadata) -> Received:
        """Keep what has arrived to its end, unless it was before. What is not kept is left to the caller.

        raises NoRoom, Forbidden, WrongKind, Lying, Conflict, Gone.
        """
        _compare(said, arriving)
        async with self._database.reading() as session:
            if known := await calls.known_part(session, said, arriving.sha256):
                return Received(answer_of(known, await calls.get(session, known.call_id)), fresh=False)
        part = await asyncio.to_thread(arriving.settle, said)
        return await self._keep(arriving, part)

    async def _take_in(
        self, caller: Caller, content_type: str, body: AsyncIterator[bytes], arriving: Arriving
    ) -> wire.CallMetadata:
        """Read the form to its end; gives its metadata, checked against who sends and what came."""
        seen: set[str] = set()
        name = ""
        text = bytearray()
        async with aclosing(multipart.read(content_type, self._bounded(body))) as form:
            async for piece in form:
                if isinstance(piece, multipart.Part):
                    name = piece.name
                    if name in seen and name in ("recording", "metadata"):
                        raise BadRequest(_("the form has two parts `{name}`").format(name=name))
                    if "metadata" in seen and name == "recording":
                        understood(text, caller)  # refused before its bytes come, not after them
                    seen.add(name)
                    continue
                if name == "recording":
                    await arriving.add(piece)
                elif name == "metadata":
                    text += piece
                if arriving.size > self._max_bytes:
                    raise self._too_large()
                if len(text) > METADATA_MAX:
                    raise BadRequest(
                        _("the metadata is too long"),
                        why=_("more than {count} bytes").format(count=METADATA_MAX),
                    )
        for wanted in ("recording", "metadata"):
            if wanted not in seen:
                raise BadRequest(
                    _("the form has no part `{name}`").format(name=wanted),
                    fix=_("`curl -F recording=@call.wav -F metadata=…` sends both"),
                )
        said = understood(text, caller)
        await arriving.end()
        if arriving.size == 0:
            raise BadRequest(_("the recording is empty"), why=_("not one byte of it came"))
        return said

    async def _keep(self, arriving: Arriving, part: PartRow) -> Received:
        async with self._database.writing() as session:
            # Asked again: another sender of the same part may have been faster.
            if known := await calls.known_part(session, part.metadata_json, part.sha256):
                return Received(answer_of(known, await calls.get(session, known.call_id)), fresh=False)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._keeper, arriving.keep, part.path)
            call, to_transcribe = await calls.add_part(session, part)
            if to_transcribe:
                await jobs.enqueue_transcription(session, call.call_id)
            events.audit(session, part.metadata_json.extension, "received", call.call_id)
            answer = answer_of(part, call)
        return Received(answer, fresh=True)

    async def _bounded(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body, counted here because a request may say any length of itself, or none."""
        total = 0
        async for chunk in body:
            total += len(chunk)
            if total > self._max_bytes + FORM_ROOM:
                raise self._too_large()
            yield chunk

    def _too_large(self) -> TooLarge:
        return TooLarge(
            _("the recording is too large"),
            why=_("more than {count} MB").format(count=self._max_bytes // 1_000_000),
            fix=_("raise `serve.max_upload_mb` on the server, or send the call in several parts"),
        )


def understood(text: bytes | bytearray, caller: Caller) -> wire.CallMetadata:
    """raises BadRequest: it is no metadata. Forbidden: it is in another one's name."""
    try:
        said = msgspec.json.decode(text.decode("utf-8-sig"), type=wire.CallMetadata)
    except UnicodeDecodeError:
        raise BadRequest(_("the metadata is not text"), why=_("it is not UTF-8")) from None
    except msgspec.DecodeError as problem:
        raise BadRequest(
            _("the metadata cannot be understood"),
            why=str(problem),
            fix=_("it needs `call_id` (a UUID), `extension` and `started_at`, as JSON"),
        ) from None
    caller.must_be(said.extension)
    if said.started_at.tzinfo is None:
        raise BadRequest(
            _("the metadata cannot be understood"),
            why=_("`started_at` has no time zone"),
            fix=_("write it as `2026-01-05T09:00:00Z`"),
        )
    if said.started_at.year not in YEARS or said.duration_s > DURATION_MAX_S:
        raise BadRequest(
            _("the metadata cannot be understood"),
            why=_("`started_at` or `duration_s` is out of range"),
        )
    return said


def _compare(said: wire.CallMetadata, came: Arriving) -> None:
    """raises Lying: other bytes came than were announced."""
    if said.sha256 and said.sha256 != came.sha256:
        raise Lying(
            _("other bytes came than were announced"),
            why=_("announced is SHA-256 {said}, this is {came}").format(said=said.sha256, came=came.sha256),
            fix=_("send it again"),
        )
    if said.size and said.size != came.size:
        raise Lying(
            _("other bytes came than were announced"),
            why=_("announced are {said} bytes, these are {came}").format(said=said.size, came=came.size),
            fix=_("send it again"),
        )


def answer_of(part: PartRow, call: CallRow) -> wire.UploadAnswer:
    return wire.UploadAnswer(
        call_id=part.call_id,
        part=part.part,
        state=wire.CallState(call.state),
        sha256=part.sha256,
        size=part.size,
        status_url=f"{wire.TRANSCRIPTION_STATUS}/{part.call_id}",
    )
