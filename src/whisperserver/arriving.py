"""A recording on its way from the sender to the disk: hashed, sealed, and seen to be what is said of it.

ingest.py feeds it. Nothing that is said about a recording is believed where the bytes tell it: a sealed one
is opened and every segment checked, and kind, channels and length are read from what was sent.
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
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
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

    def __init__(self, recordings: Recordings, key: X25519PrivateKey) -> None:
        self.size = 0
        self._recordings = recordings
        self._key = key
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._kind = ""
        self._file: BinaryIO | None = None
        self._writer: sealed.Writer | None = None

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
        with _on_disk():
            file.flush()
            os.fsync(file.fileno())
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

    def _written(self) -> BinaryIO:
        assert self._file is not None  # noqa: S101 - for the type checker: there is no empty recording here
        return self._file

    def _write(self, block: bytearray) -> None:
        with _on_disk():
            if self._file is None:
                self._begin(block)
            self._hash.update(block)
            (self._writer or self._written()).write(block)

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
        """Open what came sealed, to its end; gives whether only the beginning of it was authentic."""
        file = self._written()
        file.seek(0)
        try:
            reader = sealed.Reader(file, self._key)
            if reader.recording_id != uuid.UUID(said.call_id).bytes:
                raise Lying(
                    _("this is the recording of another call"),
                    why=_("sealed is {theirs}, said is {said}").format(
                        theirs=uuid.UUID(bytes=reader.recording_id), said=said.call_id
                    ),
                )
            for _segment in reader.segments():
                pass
        except sealed.WrongRecipient as problem:
            raise WrongKind(
                _("this recording is sealed for another server"),
                why=problem.why,
                fix=_("the PC holds another server's key; nothing is lost, the recording stays there"),
            ) from None
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


def _inside(said: wire.CallMetadata, reader: sealed.Reader, size: int) -> wire.CallMetadata:
    """What was said, with what the recorder sealed into the recording at its first sample: that is authentic.

    raises Lying: it is another part, or the sound is of another kind than is said.
    """
    found = containers.kind(reader.read_at(0, containers.HEAD)) or "pcm"
    if size and said.codec != found:
        raise _other_codec(said.codec, found)
    try:
        written = msgspec.json.decode(reader.metadata, type=wire.CallMetadata)
    except msgspec.DecodeError:
        return said  # another recorder than ours
    if written.part != said.part:
        raise Lying(
            _("this is another part of the call"),
            why=_("sealed is part {sealed}, said is {said}").format(sealed=written.part, said=said.part),
        )
    return replace(said, layout=written.layout, sample_rate=written.sample_rate)


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
