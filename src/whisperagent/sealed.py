"""The sealed recording, SREC v1: only the server's key opens it, and nobody can alter or shorten it unseen.

record.py writes while the call runs, the server reads. AES-256-CBC with HMAC-SHA-512 (box.py) in segments
whose number and last flag are authenticated, as in STREAM, behind a header that holds the key, wrapped to
each recipient (envelope.py). What lies on the disk is at any moment an authentic prefix: a killed recorder
loses the segment it was filling and nothing else.

Rules: MAC before unpadding; one error for every failure; every length from a file is bounded before use;
a segment is authentic before a byte of it is given out.
The byte layout and its reasons are in docs/sealed-recording.md, its examples in tests/vectors/.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from whisperagent import envelope
from whisperagent.box import OVERHEAD, Box, damaged
from whisperagent.envelope import (
    HEADER_LIMIT,
    MAGIC,
    Header,
    Keyring,
    PrivateKey,
    Sink,
    Truncated,
    WrongRecipient,
    key_id,
    read_up_to,
    recipients,
    recording_id,
    rewrap,
)
from whisperagent.errors import SealedError
from whisperagent.i18n import _

__all__ = [
    "HEADER_LIMIT",
    "MAGIC",
    "OVERHEAD",
    "Keyring",
    "PrivateKey",
    "Reader",
    "Sink",
    "Truncated",
    "Writer",
    "WrongRecipient",
    "estimated_size",
    "key_id",
    "recipients",
    "recording_id",
    "rewrap",
]


class Writer:
    """Seals a recording into `sink` as it is made.

    sink: gets the header at once, then one segment a `write`; never closed nor synced here. When it raises
        and has taken nothing, the segment is kept and goes with the next `write` or `finish`.
    recipients: X25519 keys, 1 to 8; each can open the recording.
    recording_id: 16 bytes, the UUID of the call.
    metadata: sealed into the header, e.g. JSON about the call; header and metadata fit into 64 KiB.
    segment_log2: 12..20; a segment is what a power cut can cost.
    raises SealedError: no recipients or too many, a key that is none, metadata too long, a size out of range.
    """

    def __init__(
        self,
        sink: Sink,
        recipients: Sequence[X25519PublicKey],
        recording_id: bytes,
        metadata: bytes = b"",
        segment_log2: int = 16,
    ) -> None:
        if segment_log2 not in envelope.SEGMENT_SIZES or len(recording_id) != 16:
            raise SealedError(
                _("a recording cannot be sealed like this"), why=_("segment size or id is out of range")
            )
        self.segment_size = 1 << segment_log2
        self.bytes_written = 0
        self._sink = sink
        self._recording_id = recording_id
        self._index = 0
        self._pending = bytearray()
        header, keys = envelope.begin(recipients, recording_id, metadata, segment_log2)
        self._payload: Box | None = keys.payload
        self._put(header)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add plaintext; every full segment goes to the sink."""
        if self._payload is None:
            raise _finished()
        rest = memoryview(data).cast("B")
        try:
            while len(self._pending) + len(rest) >= self.segment_size:
                if self._pending:
                    missing = max(0, self.segment_size - len(self._pending))
                    self._pending += rest[:missing]
                    rest = rest[missing:]
                    self._put(self._seal(self._pending[: self.segment_size], last=False))
                    del self._pending[: self.segment_size]
                else:
                    # What comes in whole segments is not copied on its way to the cipher.
                    self._put(self._seal(rest[: self.segment_size], last=False))
                    rest = rest[self.segment_size :]
                self._index += 1
        finally:
            self._pending += rest

    def finish(self) -> None:
        """Write the last segment, shorter than the others, and forget the keys."""
        self._put(self._seal(self._pending, last=True))
        self._pending.clear()
        self._payload = None

    def _seal(self, plaintext: bytearray | memoryview, *, last: bool) -> bytes:
        if self._payload is None:
            raise _finished()
        return self._payload.seal(plaintext, _segment_aad(self._recording_id, self._index, last))

    def _put(self, data: bytes) -> None:
        self._sink.write(data)
        self.bytes_written += len(data)


class Reader:
    """Opens a sealed recording; `source` must be seekable and at its start.

    key: that of a recipient, or several, of which one may be a recipient's.
    recording_id, metadata, segment_size: from the authenticated header.
    raises WrongRecipient: sealed to others. raises SealedError: anything else than an authentic header.
    """

    def __init__(self, source: BinaryIO, key: PrivateKey) -> None:
        header, keys, self.metadata = envelope.unlock(source, key)
        self.recording_id = header.recording_id
        self.segment_size = header.segment_size
        self._source = source
        self._payload = keys.payload
        self._start = header.length
        self._size: int | None = None

    def segments(self) -> Iterator[bytes]:
        """The plaintext, segment by segment, each authentic before it is given out.

        raises Truncated after the last whole segment of a cut file; SealedError for any other damage.
        """
        index = 0
        while len(block := self._block(index)) == self.segment_size + OVERHEAD:
            yield self._open(block, index, last=False)
            index += 1
        yield self._open_last(block, index)

    def salvage(self) -> Iterator[bytes]:
        """As `segments`, but ends without an error where the file stops being authentic.

        Whoever calls this treats the recording as interrupted, whatever came out.
        """
        try:
            yield from self.segments()
        except SealedError:
            return

    def complete(self) -> bool:
        """Does the file end with its authentic last segment? Reads only that one."""
        try:
            self.size()
        except SealedError:
            return False
        return True

    def size(self) -> int:
        """Plaintext bytes, authenticated by the last segment.

        raises Truncated: there is none.
        """
        if self._size is None:
            index = (self._source.seek(0, io.SEEK_END) - self._start) // (self.segment_size + OVERHEAD)
            self._size = index * self.segment_size + len(self._open_last(self._block(index), index))
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Plaintext [offset, offset + length) as far as the recording goes, from the segments it lies in.

        raises SealedError: one of them is not authentic, or the end is missing. ValueError: below 0.
        """
        if offset < 0 or length < 0:
            raise ValueError("offset and length are counted from 0")
        total = self.size()
        end = min(total, offset + length)
        pieces = []
        while offset < end:
            index, skip = divmod(offset, self.segment_size)
            piece = self._open(self._block(index), index, last=index == total // self.segment_size)
            pieces.append(piece[skip : skip + end - offset])
            offset = (index + 1) * self.segment_size
        return b"".join(pieces)

    def _block(self, index: int) -> bytes:
        """Segment `index` as it lies in the file; shorter than a full one at the end."""
        self._source.seek(self._start + index * (self.segment_size + OVERHEAD))
        return read_up_to(self._source, self.segment_size + OVERHEAD)

    def _open_last(self, block: bytes, index: int) -> bytes:
        # A cut file and a forged end look the same from here, and both mean: no authentic end.
        try:
            return self._open(block, index, last=True)
        except SealedError:
            raise Truncated(_("the recording is cut short"), why=_("its authentic end is missing")) from None

    def _open(self, block: bytes, index: int, *, last: bool) -> bytes:
        plaintext = self._payload.open(block, _segment_aad(self.recording_id, index, last))
        # A full block has room for up to 15 bytes more, which would move everything after it.
        if not last and len(plaintext) != self.segment_size:
            raise damaged()
        return plaintext


def estimated_size(source: BinaryIO) -> int:
    """Plaintext bytes that a file of this length holds, for whoever has no key; unauthenticated.

    Up to 15 too few for a whole file; for a cut one, what comes after its last whole segment is counted too.
    raises Truncated: not even the header is whole. SealedError: not a sealed recording.
    """
    header = Header.read(source)
    index, rest = divmod(source.seek(0, io.SEEK_END) - header.length, header.segment_size + OVERHEAD)
    return index * header.segment_size + max(0, rest - OVERHEAD)


def _segment_aad(identity: bytes, index: int, last: bool) -> bytes:
    return b"SREC1seg" + identity + struct.pack(">QB", index, last)


def _finished() -> SealedError:
    return SealedError(_("this recording is finished"))
