"""A recording on its way from the sender to the disk: hashed, sealed, and seen to be what is said of it.

ingest.py and resumable.py feed it. Nothing that is said about a recording is believed where the bytes tell
it: a sealed one is opened and every segment checked while the next bytes come, and kind, channels and length
are read from what was sent.
"""

import asyncio
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from whisperagent import sealed, wire
from whisperagent.errors import AudioError, NoRoom, SealedError
from whisperagent.i18n import _
from whisperserver import containers
from whisperserver.refusals import BadRequest, Lying, WrongKind
from whisperserver.store.blobs import Recordings
from whisperserver.store.models import PartRow

BLOCK = 1 << 18
"""What is hashed, sealed and written in one go, away from the event loop."""

DURATION_MAX_S = 7 * 24 * 3600.0


class Arriving:
    """A recording on its way to the disk: counted and hashed as it comes, sealed unless it is already.

    `settle` and `keep` block, and are meant for a thread; one at a time.
    """

    def __init__(self, recordings: Recordings, key: sealed.PrivateKey) -> None:
        self.size = 0
        self._recordings = recordings
        self._key = key
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._kind = ""
        self._file: BinaryIO | None = None
        self._writer: sealed.Writer | None = None
        self._opening: _Opening | None = None

    @classmethod
    def resumed(cls, recordings: Recordings, key: sealed.PrivateKey, file: BinaryIO) -> "Arriving":
        """Go on with a sealed recording of which a beginning lies in `file`, or nothing yet. Blocks.

        What a power cut has left behind the last authentic segment is cut off: it may not be what was sent.
        """
        self = cls(recordings, key)
        self._file = file
        self._opening = _Opening(file, key)
        with _on_disk():
            size = file.seek(0, os.SEEK_END)
            self._opening.follow(size)
            if self._opening.problem and self._opening.authentic:
                size = file.truncate(self._opening.authentic)
                self._opening = _Opening(file, key)
                self._opening.follow(size)
            file.seek(0)
            while block := file.read(BLOCK):
                self._hash.update(block)
            os.fsync(file.fileno())
        self.size = size
        return self

    @property
    def sha256(self) -> str:
        """Of the bytes as they came, after `end`."""
        return self._hash.hexdigest()

    async def add(self, data: bytes) -> None:
        """raises WrongKind: it is no recording. NoRoom: it cannot be written."""
        self.size += len(data)
        self._pending += data
        if len(self._pending) >= BLOCK:
            await self.end()

    async def end(self) -> None:
        """Write what waits."""
        block, self._pending = self._pending, bytearray()
        if block:
            await asyncio.to_thread(self._write, block)

    def sync(self) -> None:
        """What was written stays, whatever happens. Blocks."""
        with _on_disk():
            os.fsync(self._written().fileno())

    def settle(self, said: wire.CallMetadata) -> PartRow:
        """Make it whole and synced, and see what it is; gives its row.

        raises WrongKind, Lying: it is not what was said, or not for us. NoRoom: it cannot be written.
        """
        if self._writer:
            with _on_disk():
                self._writer.finish()
            cut = False
        else:
            cut = self._check(said)
        file = self._written()
        file.seek(0)
        reader = sealed.Reader(file, self._key)
        size = reader.size()
        said = self._of_kind(said) if self._writer else _inside(said, reader, size)
        said, shorter = _corrected(said, reader, size)
        interrupted = cut or shorter or not said.complete
        self.sync()
        return PartRow(
            call_id=said.call_id,
            part=said.part,
            metadata_json=replace(said, complete=not interrupted, sha256=self.sha256, size=self.size),
            sha256=self.sha256,
            size=self.size,
            codec=said.codec,
            path=f"{said.call_id}/{said.part}.srec",
            recording_id=reader.recording_id,
            sound_bytes=size,
            interrupted=interrupted,
            received_at=datetime.now(UTC),
        )

    def keep(self, name: str) -> None:
        with _on_disk():
            self._recordings.keep(self._written(), name)
        self._file = None

    def discard(self) -> None:
        """Leave nothing of it, unless it was kept."""
        if self._file:
            self._recordings.discard(self._file)

    def close(self) -> None:
        """Leave what is written where it is."""
        if self._file:
            self._file.close()

    def _written(self) -> BinaryIO:
        assert self._file is not None  # noqa: S101 - for the type checker: there is no empty recording here
        return self._file

    def _write(self, block: bytearray) -> None:
        with _on_disk():
            if self._file is None:
                self._begin(block)
            self._hash.update(block)
            if self._writer:
                self._writer.write(block)
            else:
                self._write_on(block)

    def _write_on(self, block: bytearray) -> None:
        """Add to what came sealed. raises WrongKind: it is for another server; no need to await the rest."""
        file = self._written()
        size = file.seek(0, os.SEEK_END) + len(block)
        file.write(block)
        if self._opening is None:
            self._opening = _Opening(file, self._key)
        self._opening.follow(size)
        if isinstance(self._opening.problem, sealed.WrongRecipient):
            raise _for_another(self._opening.problem)

    def _begin(self, block: bytearray) -> None:
        self._kind = containers.kind(bytes(block[: containers.HEAD]))
        if not self._kind:
            raise WrongKind(
                _("this is not a recording"),
                why=_("it begins as no kind of sound that is taken"),
                fix=_("send a sealed recording (.srec), WAV, FLAC or Ogg Opus"),
            )
        self._file = self._recordings.incoming()
        if self._kind != containers.SEALED:
            # Whose call it is may come after its bytes, so the id in the header is its own.
            self._writer = sealed.Writer(self._file, [self._key.public_key()], uuid.uuid4().bytes)

    def _of_kind(self, said: wire.CallMetadata) -> wire.CallMetadata:
        """What was said of a recording that came in clear, with the codec that it has."""
        if said.codec not in ("pcm", self._kind):  # `pcm` is also what is said when nothing is said
            raise _other_codec(said.codec, self._kind)
        return replace(said, codec=self._kind)

    def _check(self, said: wire.CallMetadata) -> bool:
        """See what came sealed to its end; gives whether only the beginning of it was authentic."""
        assert self._opening is not None  # noqa: S101 - for the type checker: what has no writer came sealed
        try:
            reader = self._opening.finish()
            if reader.recording_id != uuid.UUID(said.call_id).bytes:
                raise Lying(
                    _("this is the recording of another call"),
                    why=_("sealed is {theirs}, said is {said}").format(
                        theirs=uuid.UUID(bytes=reader.recording_id), said=said.call_id
                    ),
                )
        except sealed.WrongRecipient as problem:
            raise _for_another(problem) from None
        except SealedError as problem:
            if said.complete:
                raise Lying(
                    problem.what,
                    why=problem.why,
                    fix=_("send it again; where it was cut, say `complete: false` to keep what there is"),
                ) from None
            self._salvage()
            return True
        return False

    def _salvage(self) -> None:
        """Put the authentic beginning, sealed as a whole, in the place of what came."""
        file = self._written()
        file.seek(0)
        try:
            reader = sealed.Reader(file, self._key)
        except SealedError as problem:
            raise Lying(problem.what, why=problem.why, fix=_("nothing of it can be opened")) from None
        with _on_disk():
            whole = self._recordings.incoming()
            self._file = whole
            try:
                writer = sealed.Writer(
                    whole,
                    [self._key.public_key()],
                    reader.recording_id,
                    reader.metadata,
                    reader.segment_size.bit_length() - 1,
                )
                for segment in reader.salvage():
                    writer.write(segment)
                writer.finish()
            finally:
                self._recordings.discard(file)


class _Opening:
    """Opens a sealed recording while it still grows: at its end only the last segment is left to check.

    authentic: bytes that were found to be so. problem: what was wrong after them.
    """

    def __init__(self, file: BinaryIO, key: sealed.PrivateKey) -> None:
        self.authentic = 0
        self.problem: SealedError | None = None
        self._file = file
        self._key = key
        self._reader: sealed.Reader | None = None
        self._segments: Iterator[bytes] = iter(())

    def follow(self, size: int) -> None:
        """Open the segments that are whole among the first `size` bytes."""
        if not size:
            return
        try:
            if self._reader is None and self.problem is None:
                self._begin()
            while self._reader and size - self.authentic >= self._reader.segment_size + sealed.OVERHEAD:
                next(self._segments)
                self.authentic += self._reader.segment_size + sealed.OVERHEAD
        except SealedError as problem:
            # A cut header may be whole with the next bytes.
            if self._reader or not isinstance(problem, sealed.Truncated):
                self.problem = problem
                self._reader = None

    def finish(self) -> sealed.Reader:
        """All has come. raises SealedError: the first problem that there is."""
        if self.problem:
            raise self.problem
        if self._reader is None:
            self._begin()
        for _segment in self._segments:
            pass
        return self._begun()

    def _begin(self) -> None:
        self._file.seek(0)
        self._reader = sealed.Reader(self._file, self._key)
        self.authentic = self._file.tell()
        self._segments = self._reader.segments()

    def _begun(self) -> sealed.Reader:
        assert self._reader is not None  # noqa: S101 - for the type checker: `finish` has begun it
        return self._reader


def _for_another(problem: sealed.WrongRecipient) -> WrongKind:
    return WrongKind(
        _("this recording is sealed for another server"),
        why=problem.why,
        fix=_("the PC holds another server's key; nothing is lost, the recording stays there"),
    )


def _inside(said: wire.CallMetadata, reader: sealed.Reader, size: int) -> wire.CallMetadata:
    """What was said, with what the recorder sealed into the recording at its first sample: that is authentic.

    raises Lying: it is another part, or the sound is of another kind than is said.
    """
    found = containers.kind(reader.read_at(0, containers.HEAD)) or "pcm"
    try:
        written = msgspec.json.decode(reader.metadata, type=wire.CallMetadata)
    except msgspec.DecodeError:
        written = said  # another recorder than ours
    if size and written.codec != found:
        raise _other_codec(written.codec, found)
    if written.part != said.part:
        raise Lying(
            _("this is another part of the call"),
            why=_("sealed is part {sealed}, said is {said}").format(sealed=written.part, said=said.part),
        )
    # A recorder that was killed before its first segment leaves no sound, of no kind.
    codec = written.codec if size else "pcm"
    return replace(said, layout=written.layout, sample_rate=written.sample_rate, codec=codec)


def _corrected(said: wire.CallMetadata, reader: sealed.Reader, size: int) -> tuple[wire.CallMetadata, bool]:
    """What was said, with the channels, rate and length that the sound has; and whether it is cut."""
    try:
        found = containers.examine(reader.read_at, size, said)
    except AudioError as problem:
        raise WrongKind(problem.what, why=problem.why, fix=problem.fix) from None
    if said.codec == "pcm" and said.sample_rate != wire.SAMPLE_RATE:
        raise WrongKind(
            _("raw sound is taken with {rate} samples a second").format(rate=wire.SAMPLE_RATE),
            why=_("this has {rate}").format(rate=said.sample_rate),
        )
    if found.cut and said.complete:
        raise Lying(
            _("the recording is cut short"),
            why=_("it is shorter than it says itself"),
            fix=_("send it again; where it was cut, say `complete: false` to keep what there is"),
        )
    if size and said.codec in ("pcm", "wav") and not found.frames:
        raise BadRequest(_("the recording is empty"), why=_("there is no sound in it"))
    if found.duration_s > DURATION_MAX_S:
        raise Lying(_("the recording says that it is weeks long"))
    known = found.frames or said.codec in ("pcm", "wav")
    corrected = replace(
        said,
        layout="split" if found.channels == 2 else "mono",
        sample_rate=found.sample_rate,
        duration_s=round(found.duration_s, 3) if known else said.duration_s,
    )
    return corrected, found.cut


def _other_codec(said: str, found: str) -> Lying:
    return Lying(
        _("the sound is of another kind than is said"),
        why=_("said is `{said}`, found is `{found}`").format(said=said, found=found),
    )


@contextmanager
def _on_disk() -> Iterator[None]:
    """raises NoRoom: the disk is full, and the sender may know; any other trouble of the disk is a fault."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise NoRoom(
            _("the server's disk is too full to take a recording"),
            why=problem.strerror or str(problem),
            fix=_("free some space on the server; the recording stays queued on the PC"),
        ) from problem
