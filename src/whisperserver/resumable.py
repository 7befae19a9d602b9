"""Resumable uploads: a sealed recording that comes piece by piece, over any number of broken connections.

api/resumable.py speaks tus with the sender; ingest.py stores what is whole, exactly as it stores a form.
Rules:

* An upload is of one part of one call, and its name says which: whoever lost everything finds it again.
* The offset is what is synced. Whatever breaks, the bytes that came stay, and the next ones join them.
* One request at a time writes to an upload; one that has fallen silent gives way.
* "All of it is here" is said only of what is stored. Where the server died in between, it is stored by
  whoever looks next: the sender, or `run`.
* Only sealed bytes are taken: others would lie in clear between two requests.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from weakref import WeakValueDictionary

from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError

from whisperagent import sealed, wire
from whisperagent.errors import WhisperError
from whisperagent.i18n import _
from whisperagent.settings import Serve
from whisperserver.arriving import Arriving
from whisperserver.auth import Caller
from whisperserver.ingest import Ingest, Received, answer_of, understood
from whisperserver.refusals import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    InUse,
    Lying,
    NotFound,
    NotSent,
    TooLarge,
    TooMany,
    WrongChecksum,
    WrongKind,
    WrongOffset,
)
from whisperserver.store import calls
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database
from whisperserver.store.unfinished import Description, Unfinished

SILENT_S = 60.0
"""How long a sender may say nothing in the middle of a request."""
ASIDE_S = 3.0
"""And how long, when somebody else wants to go on with the upload: its connection may be long dead."""
EVERY_S = 60.0
IDLE_S = 600.0
"""How long an upload stays open that nobody adds to. Opening it again reads all of it."""

HOPELESS = (WrongChecksum, Lying, WrongKind, BadRequest, Conflict, Forbidden, Gone)
"""What a whole recording can be refused for: sent again as it is, it would be refused again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checksum:
    """Of the bytes of one request."""

    algorithm: Literal["sha256", "sha1"]
    digest: bytes


@dataclass(frozen=True)
class Progress:
    """How far an upload is.

    offset: bytes that are kept. length: of the whole, None while nobody knows. expires_at: None once it is
    stored. received: it was stored by this very request.
    """

    offset: int
    length: int | None
    expires_at: datetime | None = None
    received: Received | None = None


class _Upload:
    """An upload that somebody works on, or did a short time ago. offset: what of it is synced."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self.arriving: Arriving | None = None
        self.offset = 0
        self.used_at = time.monotonic()
        self._waiting: asyncio.Timeout | None = None
        self._unwanted = False

    async def heard(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """What comes, as long as it comes. raises NotSent: no more does."""
        self._unwanted = False
        pieces = aiter(body)
        while not self._unwanted:
            try:
                async with asyncio.timeout(SILENT_S) as self._waiting:
                    piece = await anext(pieces, None)
            except TimeoutError:
                break
            finally:
                self._waiting = None
            if piece is None:
                return
            self.used_at = time.monotonic()
            yield piece
        raise NotSent(
            _("the rest of the upload did not come"), fix=_("ask for the offset, and go on from there")
        )

    def break_off(self) -> None:
        """End the request that writes to it, if there is one."""
        self._unwanted = True
        if self._waiting:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def give_way(self) -> None:
        """End the request that writes to it, if nothing comes of it any more."""
        if time.monotonic() - self.used_at > ASIDE_S:
            self.break_off()


class Resumable:
    """key: the server's own."""

    def __init__(
        self, database: Database, recordings: Recordings, key: sealed.PrivateKey, ingest: Ingest, serve: Serve
    ) -> None:
        self.max_bytes = serve.max_resumable_mb * 1_000_000
        self._database = database
        self._recordings = recordings
        self._key = key
        self._ingest = ingest
        self._uploads_max = serve.unfinished_uploads
        self._bytes_max = serve.unfinished_mb * 1_000_000
        self._unfinished = Unfinished(recordings.root, timedelta(days=serve.unfinished_days))
        self._unfinished.sweep()
        self._known: WeakValueDictionary[str, _Upload] = WeakValueDictionary()
        self._open: dict[str, _Upload] = {}
        self._creating = asyncio.Lock()

    async def create(self, caller: Caller, said: bytes, length: int | None) -> tuple[str, Progress]:
        """Begin the upload of a part, or find it again; gives its name. Bytes that are here stay here.

        said: `wire.CallMetadata` as JSON. length: None while the call still runs.
        raises BadRequest, Forbidden, Gone, TooLarge, TooMany, NoRoom; Conflict: more has come than it says;
        InUse: somebody sends to it, and says something else of it.
        """
        wanted = Description(said=understood(said, caller), length=length)
        name = f"{wanted.said.call_id}.{wanted.said.part}"
        self._check_length(length)
        async with self._creating:
            if stored := await self._stored(caller, name):
                return name, Progress(stored.size, stored.size)
            upload = self._upload(name)
            known = await self._described(caller, name)
            if known and length is None:
                wanted = replace(wanted, length=known.length)
            if known != wanted:
                if upload.lock.locked():
                    upload.give_way()
                    raise _in_use()
                async with upload.lock:
                    if known is None:
                        await self._check_share(caller, length or 0, 1)
                        await asyncio.to_thread(self._recordings.check_room, length or 0)
                        await self._discard(upload)  # what was given up, and is not yet swept away
                    await self._describe(name, wanted)
            size = upload.offset if upload.arriving else self._unfinished.size(name)
            return name, self._progress(name, size, wanted)

    async def look(self, caller: Caller, name: str) -> Progress:
        """How far the upload is. One that is all here and not stored, because the server died, is stored now.

        raises NotFound, Forbidden, Gone; and what `append` raises at the end of an upload.
        """
        upload = self._upload(name)
        if upload.lock.locked() and upload.arriving:
            described = await self._described(caller, name)
            if described and described.length != upload.offset:
                return self._progress(name, upload.offset, described)
        async with upload.lock:
            if stored := await self._stored(caller, name):
                return Progress(stored.size, stored.size)
            described = await self._existing(caller, name)
            return await self._as_far_as_it_is(upload, await self._opened(upload), described)

    async def append(
        self,
        caller: Caller,
        name: str,
        offset: int,
        body: AsyncIterator[bytes],
        *,
        coming: int | None = None,
        length: int | None = None,
        said: bytes | None = None,
        checksum: Checksum | None = None,
    ) -> Progress:
        """Add bytes at `offset`, synced when this returns; with those that complete it, it is stored, too.

        body: ends with NotSent where the connection breaks. coming: its length, where the request says it.
        length: of the whole, once it is known. said: what is then known of the call, in place of what was.
        raises NotFound, Forbidden, Gone, WrongOffset, InUse, BadRequest, TooLarge, TooMany, NoRoom, NotSent,
        WrongChecksum: of the whole or, nothing being taken, of these bytes; Lying, WrongKind, Conflict: as
        Ingest.store. What is refused as a whole is gone, and is to be sent from its beginning if at all.
        """
        upload = self._upload(name)
        if upload.lock.locked():
            upload.give_way()
            raise _in_use()
        async with upload.lock:
            if stored := await self._stored(caller, name):
                if offset != stored.size:
                    raise _wrong_offset(offset, stored.size)
                return Progress(stored.size, stored.size)
            described = await self._existing(caller, name)
            arriving = await self._opened(upload)
            if offset != arriving.size:
                raise _wrong_offset(offset, arriving.size)
            described = await self._declared(caller, name, described, length, said)
            if described.length is None:
                await self._check_share(caller, coming or 0, 0)
            limit = self.max_bytes if described.length is None else described.length
            if coming and offset + coming > limit:
                raise self._too_large(limit)
            await asyncio.to_thread(self._recordings.check_room, coming or 0)
            await self._take(upload, arriving, body, limit, checksum)
            return await self._as_far_as_it_is(upload, arriving, described)

    async def receipt(self, caller: Caller, name: str) -> wire.UploadAnswer:
        """raises NotFound: it is not stored. Forbidden, Gone."""
        if stored := await self._stored(caller, name):
            return stored
        raise NotFound(_("this recording is not stored"), fix=_("`HEAD` says how far its upload is"))

    async def terminate(self, caller: Caller, name: str) -> None:
        """Destroy what came of an upload.

        raises NotFound, Forbidden, Gone; Conflict: it is stored already.
        """
        upload = self._upload(name)
        await self._existing(caller, name, unless_stored=True)
        upload.break_off()
        async with upload.lock:
            await self._existing(caller, name, unless_stored=True)
            await self._discard(upload)

    async def erase(self, call_id: str) -> bool:
        """Destroy what came of the uploads of a call; says whether there were any."""
        names = await asyncio.to_thread(self._unfinished.names)
        found = [self._upload(name) for name in names if name.startswith(f"{call_id}.")]
        for upload in found:
            upload.break_off()
            async with upload.lock:
                await self._discard(upload)
        return bool(found)

    async def run(self) -> None:
        """Until cancelled, forget uploads that nobody goes on with; store those that a crash left whole."""
        while True:
            try:
                for name in await asyncio.to_thread(self._unfinished.names):
                    await self._tend(self._upload(name))
            except SQLAlchemyError as problem:
                log.error("cannot look after uploads: %s", getattr(problem, "orig", problem))
            for upload in list(self._open.values()):
                if not upload.lock.locked() and time.monotonic() - upload.used_at > IDLE_S:
                    self._put_away(upload)
            await asyncio.sleep(EVERY_S)

    # One upload

    def _upload(self, name: str) -> _Upload:
        """raises NotFound: no upload can have this name."""
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[1-9][0-9]{0,3}", name):
            raise _no_upload(name)
        return self._known.setdefault(name, _Upload(name))

    async def _stored(self, caller: Caller, name: str) -> wire.UploadAnswer | None:
        """The receipt of a part that is stored. raises NotFound, Forbidden, Gone."""
        call_id, _dot, part = name.partition(".")
        if not wire.is_call_id(call_id) or not part.isdigit():
            raise _no_upload(name)
        async with self._database.reading() as session:
            row = await calls.stored_part(session, call_id, int(part), caller.extension)
            return answer_of(row, await calls.get(session, call_id)) if row else None

    async def _described(self, caller: Caller, name: str) -> Description | None:
        """raises Forbidden: another extension began it."""
        described = await asyncio.to_thread(self._unfinished.described, name)
        if described and described.said.extension != caller.extension:
            raise Forbidden(
                _("this upload belongs to another extension"),
                why=_("extension {other} began it").format(other=described.said.extension),
            )
        return described

    async def _existing(self, caller: Caller, name: str, *, unless_stored: bool = False) -> Description:
        """raises NotFound, Forbidden. unless_stored: Conflict, Gone."""
        if unless_stored and await self._stored(caller, name):
            raise Conflict(
                _("this recording is stored"),
                why=_("its upload is over"),
                fix=_("`DELETE {path}/…` erases its call").format(path=wire.CALLS),
            )
        if described := await self._described(caller, name):
            return described
        raise _no_upload(name)

    async def _declared(
        self, caller: Caller, name: str, described: Description, length: int | None, said: bytes | None
    ) -> Description:
        """The description, with the length that is now known, and what is then said of the call."""
        if length is None:
            return described
        self._check_length(length)
        if described.length not in (None, length):
            raise BadRequest(
                _("the length of an upload is said once"),
                why=_("said were {known} bytes, now {length}").format(known=described.length, length=length),
            )
        wanted = replace(described, length=length)
        if said is not None:
            wanted = replace(wanted, said=understood(said, caller))
        if (wanted.said.call_id, wanted.said.part) != (described.said.call_id, described.said.part):
            raise BadRequest(_("this is said of another recording than the one that is uploaded"))
        if wanted != described:
            await self._describe(name, wanted)
        return wanted

    async def _describe(self, name: str, description: Description) -> None:
        size = self._unfinished.size(name)
        if description.length is not None and description.length < size:
            raise Conflict(
                _("more of this recording is here than it is long"),
                why=_("said are {length} bytes, {size} came").format(length=description.length, size=size),
                fix=_("`DELETE` the upload, and begin again"),
            )
        await asyncio.to_thread(self._unfinished.describe, name, description)

    async def _opened(self, upload: _Upload) -> Arriving:
        """What has come of it, read and checked if it is not open yet."""
        upload.used_at = time.monotonic()
        if upload.arriving is None:
            file = await asyncio.to_thread(self._unfinished.open, upload.name)
            upload.arriving = await asyncio.to_thread(Arriving.resumed, self._recordings, self._key, file)
            upload.offset = upload.arriving.size
            self._open[upload.name] = upload
        return upload.arriving

    async def _take(
        self,
        upload: _Upload,
        arriving: Arriving,
        body: AsyncIterator[bytes],
        limit: int,
        checksum: Checksum | None,
    ) -> None:
        """Take in what comes. Where the sender breaks off, or sends too much, what came before is kept."""
        begun = arriving.size
        # SHA-1 is asked for by other clients; it finds accidents, and nobody relies on it for more.
        sums = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        broken: WhisperError | None = None
        try:
            try:
                async for piece in upload.heard(body):
                    if arriving.size == 0:
                        _check_sealed(piece)
                    if arriving.size + len(piece) > limit:
                        raise self._too_large(limit)
                    if sums:
                        sums.update(piece)
                    await arriving.add(piece)
            except (NotSent, TooLarge) as problem:
                broken = problem
            await arriving.end()
            await asyncio.to_thread(arriving.sync)
        except WrongKind:
            await self._discard(upload)
            raise
        except BaseException:
            # Nobody knows how far it came; the file does.
            self._put_away(upload)
            raise
        if broken:
            upload.offset = arriving.size
            raise broken
        if checksum and sums and sums.digest() != checksum.digest:
            self._put_away(upload)
            await asyncio.to_thread(self._unfinished.cut, upload.name, begun)
            raise WrongChecksum(
                _("other bytes came than were sent"),
                why=_("their checksum is not the one of `Upload-Checksum`"),
                fix=_("send them again from the same offset"),
            )
        upload.offset = arriving.size

    async def _as_far_as_it_is(self, upload: _Upload, arriving: Arriving, described: Description) -> Progress:
        """How far it is; stored, if that is the end."""
        if described.length != arriving.size:
            return self._progress(upload.name, arriving.size, described)
        received = await self._store(upload, arriving, described.said)
        return Progress(received.answer.size, received.answer.size, received=received)

    async def _store(self, upload: _Upload, arriving: Arriving, said: wire.CallMetadata) -> Received:
        try:
            if said.sha256 and said.sha256 != arriving.sha256:
                raise WrongChecksum(
                    _("other bytes came than were announced"),
                    why=_("announced is SHA-256 {said}, this is {came}").format(
                        said=said.sha256, came=arriving.sha256
                    ),
                    fix=_("send it again from its beginning"),
                )
            received = await self._ingest.store(arriving, said)
        except HOPELESS:
            await self._discard(upload)
            raise
        except BaseException:
            self._put_away(upload)
            raise
        await self._discard(upload)
        return received

    async def _discard(self, upload: _Upload) -> None:
        """Leave nothing of an upload but what was stored."""
        self._put_away(upload)
        await asyncio.to_thread(self._unfinished.remove, upload.name)

    def _put_away(self, upload: _Upload) -> None:
        """Close it; who wants it next reads it again."""
        if upload.arriving:
            upload.arriving.close()
        upload.arriving = None
        self._open.pop(upload.name, None)

    async def _tend(self, upload: _Upload) -> None:
        if upload.lock.locked():
            return
        async with upload.lock:
            described = await asyncio.to_thread(self._unfinished.described, upload.name)
            if described is None:
                log.warning("the upload %s is given up: nobody went on with it", upload.name)
                await self._discard(upload)
                return
            try:
                if await self._stored(Caller(described.said.extension), upload.name):
                    await self._discard(upload)
                elif described.length == self._unfinished.size(upload.name):
                    await self._as_far_as_it_is(upload, await self._opened(upload), described)
                    log.warning("the upload %s was whole and is stored now", upload.name)
            except Gone:
                await self._discard(upload)
            except WhisperError as problem:
                log.error("the upload %s cannot be stored: %s", upload.name, problem.in_words())

    # What is allowed

    def _progress(self, name: str, offset: int, description: Description) -> Progress:
        return Progress(offset, description.length, self._unfinished.expires(name))

    def _check_length(self, length: int | None) -> None:
        if length == 0:
            raise BadRequest(_("the recording is empty"), why=_("its length is said to be 0"))
        if length is not None and length > self.max_bytes:
            raise self._too_large(self.max_bytes)

    async def _check_share(self, caller: Caller, coming: int, uploads: int) -> None:
        """raises TooMany: with these bytes, or one more upload, the caller would have too much under way."""
        usage = await asyncio.to_thread(self._unfinished.usage, caller.extension)
        if usage.uploads + uploads > self._uploads_max or usage.size + coming > self._bytes_max:
            raise TooMany(
                _("extension {extension} has too many uploads under way").format(extension=caller.extension),
                why=_("{count} with {size} MB are not finished").format(
                    count=usage.uploads, size=usage.size // 1_000_000
                ),
                fix=_(
                    "finish or delete some, or raise `serve.unfinished_uploads` and `serve.unfinished_mb` "
                    "on the server"
                ),
            )

    def _too_large(self, limit: int) -> TooLarge:
        if limit < self.max_bytes:
            return TooLarge(
                _("more bytes come than the recording has"),
                why=_("its length is {limit}").format(limit=limit),
            )
        return TooLarge(
            _("the recording is too large"),
            why=_("more than {count} MB").format(count=self.max_bytes // 1_000_000),
            fix=_("raise `serve.max_resumable_mb` on the server, or send the call in several parts"),
        )


def _check_sealed(beginning: bytes) -> None:
    if not sealed.MAGIC.startswith(beginning[: len(sealed.MAGIC)]):
        raise WrongKind(
            _("only a sealed recording can be sent in pieces"),
            why=_("in clear it would lie on the server's disk between two of them"),
            fix=_("send it whole: `POST {path}`").format(path=wire.UPLOAD_RECORDING),
        )


def _no_upload(name: str) -> NotFound:
    return NotFound(
        _("there is no upload {name}").format(name=name),
        fix=_("begin it: `POST {path}`").format(path=wire.UPLOADS),
    )


def _in_use() -> InUse:
    return InUse(_("another request sends to this upload"), fix=_("try again in a few seconds"))


def _wrong_offset(given: int, offset: int) -> WrongOffset:
    return WrongOffset(
        _("these bytes do not join those that are here"),
        why=_("they begin at {given}, here are {offset}").format(given=given, offset=offset),
        fix=_("go on from `Upload-Offset`"),
        offset=offset,
    )
