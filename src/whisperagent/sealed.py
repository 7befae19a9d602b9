"""The sealed recording, SREC v1: only the server's key opens it, and nobody can alter or shorten it unseen.

record.py writes while the call runs, the server reads. AES-256-CBC with HMAC-SHA-512, encrypt-then-MAC
(A256CBC-HS512, RFC 7518 section 5.2.5), in segments whose number and last flag are authenticated, as in
STREAM; a random file key is wrapped to each recipient by HPKE (RFC 9180). What lies on the disk is at any
moment an authentic prefix: a killed recorder loses the segment it was filling and nothing else.

Rules: MAC before unpadding; one error for every failure; every length from a file is bounded before use;
a segment is authentic before a byte of it is given out.
The byte layout and its reasons are in docs/sealed-recording.md, its examples in tests/vectors/.
"""

import hashlib
import hmac
import io
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from whisperagent.errors import SealedError
from whisperagent.i18n import _

MAGIC = b"\x89SREC\r\n\x1a"
VERSION = 1
SUITE_A256CBC_HS512 = 1
RECIPIENT_HPKE_X25519 = 1
HEADER_LIMIT = 65_536
RECIPIENT_LIMIT = 8
SEGMENT_SIZES = range(12, 21)
"""log2 of the plaintext bytes in a segment: 4 KiB to 1 MiB."""
OVERHEAD = 64
"""What a full segment grows by: IV 16, one block of padding 16, tag 32."""

_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_FILE_KEY_SIZE = 32
_MAC_SIZE = 32
_PREFIX = struct.Struct(">8sBBBBI")
_RECIPIENT = struct.Struct(">B8sH")


class WrongRecipient(SealedError):
    """The recording is sealed to other keys than ours."""


class Truncated(SealedError):
    """The authentic end is missing: `salvage` gives what comes before the cut."""


class Sink(Protocol):
    """Where sealed bytes go. `write` takes all of them or raises."""

    def write(self, data: bytes, /) -> object: ...


def key_id(public_key: X25519PublicKey) -> bytes:
    """The 8 bytes by which a header names a recipient."""
    return hashlib.sha256(b"srec kid\0" + public_key.public_bytes_raw()).digest()[:8]


@dataclass(frozen=True)
class _Keys:
    """The three keys that one file key and salt give. payload and metadata: MAC key, then encryption key."""

    payload: bytes
    metadata: bytes
    header: bytes

    @classmethod
    def derive(cls, file_key: bytes, prefix: bytes, recording_id: bytes, salt: bytes) -> "_Keys":
        info = b"srec/v1 keys\0" + prefix + recording_id
        okm = HKDF(hashes.SHA512(), 160, salt, info).derive(file_key)
        return cls(okm[:64], okm[64:128], okm[128:])


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
        if segment_log2 not in SEGMENT_SIZES or len(recording_id) != 16:
            raise SealedError(
                _("a recording cannot be sealed like this"), why=_("segment size or id is out of range")
            )
        self.segment_size = 1 << segment_log2
        self.bytes_written = 0
        self._sink = sink
        self._recording_id = recording_id
        self._index = 0
        self._pending = bytearray()
        file_key = os.urandom(_FILE_KEY_SIZE)
        salt = os.urandom(32)
        prefix = _prefix(segment_log2)
        self._keys: _Keys | None = _Keys.derive(file_key, prefix, recording_id, salt)
        box = _encrypt(self._keys.metadata, metadata, _metadata_aad(recording_id))
        self._put(_header(prefix, recording_id, salt, file_key, self._keys, recipients, box))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add plaintext; every full segment goes to the sink."""
        if self._keys is None:
            raise _finished()
        self._pending += data
        while len(self._pending) >= self.segment_size:
            self._put(self._seal(bytes(self._pending[: self.segment_size]), last=False))
            del self._pending[: self.segment_size]
            self._index += 1

    def finish(self) -> None:
        """Write the last segment, shorter than the others, and forget the keys."""
        self._put(self._seal(bytes(self._pending), last=True))
        self._pending.clear()
        self._keys = None

    def _seal(self, plaintext: bytes, *, last: bool) -> bytes:
        if self._keys is None:
            raise _finished()
        return _encrypt(self._keys.payload, plaintext, _segment_aad(self._recording_id, self._index, last))

    def _put(self, data: bytes) -> None:
        self._sink.write(data)
        self.bytes_written += len(data)


class Reader:
    """Opens a sealed recording; `source` must be seekable and at its start.

    recording_id, metadata, segment_size: from the authenticated header.
    raises WrongRecipient: sealed to others. raises SealedError: anything else than an authentic header.
    """

    def __init__(self, source: BinaryIO, key: X25519PrivateKey) -> None:
        header, _file_key, keys = _unlock(source, key)
        self.metadata = _decrypt(keys.metadata, header.sealed_metadata, _metadata_aad(header.recording_id))
        self.recording_id = header.recording_id
        self.segment_size = header.segment_size
        self._source = source
        self._payload_key = keys.payload
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
        out = bytearray()
        while offset < end:
            index, skip = divmod(offset, self.segment_size)
            piece = self._open(self._block(index), index, last=index == total // self.segment_size)
            out += piece[skip : skip + end - offset]
            offset = (index + 1) * self.segment_size
        return bytes(out)

    def _block(self, index: int) -> bytes:
        """Segment `index` as it lies in the file; shorter than a full one at the end."""
        self._source.seek(self._start + index * (self.segment_size + OVERHEAD))
        return _read(self._source, self.segment_size + OVERHEAD)

    def _open_last(self, block: bytes, index: int) -> bytes:
        # A cut file and a forged end look the same from here, and both mean: no authentic end.
        try:
            return self._open(block, index, last=True)
        except SealedError:
            raise Truncated(_("the recording is cut short"), why=_("its authentic end is missing")) from None

    def _open(self, block: bytes, index: int, *, last: bool) -> bytes:
        plaintext = _decrypt(self._payload_key, block, _segment_aad(self.recording_id, index, last))
        # A full block has room for up to 15 bytes more, which would move everything after it.
        if not last and len(plaintext) != self.segment_size:
            raise _damaged()
        return plaintext


def recipients(source: BinaryIO) -> list[bytes]:
    """The key ids that a header names, unauthenticated; for a message about a recording we cannot open."""
    return [kid for _kind, kid, _body in _Header.read(source).recipients]


def recording_id(source: BinaryIO) -> bytes:
    """The id that a header carries, unauthenticated: to find a file's owner before its key is at hand."""
    return _Header.read(source).recording_id


def estimated_size(source: BinaryIO) -> int:
    """Plaintext bytes that a file of this length holds, for whoever has no key; unauthenticated.

    Up to 15 too few for a whole file; for a cut one, what comes after its last whole segment is counted too.
    raises Truncated: not even the header is whole. SealedError: not a sealed recording.
    """
    header = _Header.read(source)
    index, rest = divmod(source.seek(0, io.SEEK_END) - header.length, header.segment_size + OVERHEAD)
    return index * header.segment_size + max(0, rest - OVERHEAD)


def rewrap(source: BinaryIO, sink: Sink, key: X25519PrivateKey, to: Sequence[X25519PublicKey]) -> None:
    """Copy a recording that `key` opens so that the keys in `to` open it instead; only the header changes.

    source: seekable and at its start. A cut recording stays a cut recording.
    raises SealedError: the header is not authentic or not for `key`; or as `Writer`, about `to`.
    """
    header, file_key, keys = _unlock(source, key)
    box = header.sealed_metadata
    sink.write(_header(header.prefix, header.recording_id, header.salt, file_key, keys, to, box))
    while block := source.read(1 << 20):
        sink.write(block)


@dataclass(frozen=True)
class _Header:
    """The fields of a header, bounded but not yet authentic. prefix: its first 12 bytes."""

    prefix: bytes
    recording_id: bytes
    salt: bytes
    recipients: list[tuple[int, bytes, bytes]]
    sealed_metadata: bytes
    authenticated: bytes
    mac: bytes
    segment_size: int
    length: int

    @classmethod
    def read(cls, source: BinaryIO) -> "_Header":
        prefix = _read(source, _PREFIX.size)
        if not prefix or not MAGIC.startswith(prefix[:8]):
            raise SealedError(_("this is not a sealed recording"), why=_("it does not begin as one"))
        if len(prefix) != _PREFIX.size:
            raise _cut_header()
        _magic, version, suite, segment_log2, flags, length = _PREFIX.unpack(prefix)
        known = version == VERSION and suite == SUITE_A256CBC_HS512 and flags == 0
        if not known or segment_log2 not in SEGMENT_SIZES:
            raise SealedError(_("this sealed recording is of a kind that this version does not know"))
        if not _PREFIX.size + _MAC_SIZE <= length <= HEADER_LIMIT:
            raise _damaged()
        rest = _read(source, length - _PREFIX.size)
        if len(rest) != length - _PREFIX.size:
            raise _cut_header()
        fields = _Fields(rest[:-_MAC_SIZE])
        identity, salt = fields.take(16), fields.take(32)
        count = int.from_bytes(fields.take(2), "big")
        if not 1 <= count <= RECIPIENT_LIMIT:
            raise _damaged()
        found = []
        for _number in range(count):
            kind, kid, size = _RECIPIENT.unpack(fields.take(_RECIPIENT.size))
            found.append((kind, kid, fields.take(size)))
        sealed_metadata = fields.take(int.from_bytes(fields.take(4), "big"))
        if fields.rest:
            raise _damaged()
        return cls(
            prefix=prefix[: _PREFIX.size - 4],
            recording_id=identity,
            salt=salt,
            recipients=found,
            sealed_metadata=sealed_metadata,
            authenticated=prefix + rest[:-_MAC_SIZE],
            mac=rest[-_MAC_SIZE:],
            segment_size=1 << segment_log2,
            length=length,
        )

    def file_key(self, key: X25519PrivateKey) -> bytes:
        """The key that `key` unwraps. raises WrongRecipient: it is not named."""
        ours = key_id(key.public_key())
        for kind, kid, body in self.recipients:
            if kind == RECIPIENT_HPKE_X25519 and kid == ours:
                info = _wrap_info(self.prefix, self.recording_id, self.salt, kid)
                try:
                    return _HPKE.decrypt(body, key, info=info)
                except (InvalidTag, ValueError):
                    raise _damaged() from None
        raise WrongRecipient(
            _("this recording is sealed to another key"),
            why=_("it names {theirs}, we hold {ours}").format(
                theirs=", ".join(kid.hex() for _kind, kid, _body in self.recipients), ours=ours.hex()
            ),
        )


class _Fields:
    """Takes fields off bytes and never past their end."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest

    def take(self, size: int) -> bytes:
        if size > len(self.rest):
            raise _damaged()
        field, self.rest = self.rest[:size], self.rest[size:]
        return field


def _prefix(segment_log2: int) -> bytes:
    return MAGIC + bytes([VERSION, SUITE_A256CBC_HS512, segment_log2, 0])


def _header(
    prefix: bytes,
    identity: bytes,
    salt: bytes,
    file_key: bytes,
    keys: _Keys,
    to: Sequence[X25519PublicKey],
    box: bytes,
) -> bytes:
    """A whole header. box: the metadata, sealed."""
    if not 1 <= len(to) <= RECIPIENT_LIMIT:
        raise SealedError(_("a recording needs 1 to {limit} recipients").format(limit=RECIPIENT_LIMIT))
    wrapped = b""
    for public_key in to:
        kid = key_id(public_key)
        try:
            body = _HPKE.encrypt(file_key, public_key, info=_wrap_info(prefix, identity, salt, kid))
        except ValueError:
            # A point of low order: whoever chose it could open the recording without a private key.
            raise SealedError(_("{kid} is not a key to seal a recording to").format(kid=kid.hex())) from None
        wrapped += _RECIPIENT.pack(RECIPIENT_HPKE_X25519, kid, len(body)) + body
    fields = identity + salt + len(to).to_bytes(2, "big") + wrapped + len(box).to_bytes(4, "big") + box
    length = _PREFIX.size + len(fields) + _MAC_SIZE
    if length > HEADER_LIMIT:
        raise SealedError(_("the metadata is too long to seal"))
    authenticated = prefix + length.to_bytes(4, "big") + fields
    return authenticated + _header_mac(keys, authenticated)


def _unlock(source: BinaryIO, key: X25519PrivateKey) -> tuple[_Header, bytes, _Keys]:
    """An authentic header, its file key and the keys of that; `source` is then at the first segment."""
    header = _Header.read(source)
    file_key = header.file_key(key)
    if len(file_key) != _FILE_KEY_SIZE:
        raise _damaged()
    keys = _Keys.derive(file_key, header.prefix, header.recording_id, header.salt)
    if not hmac.compare_digest(_header_mac(keys, header.authenticated), header.mac):
        raise _damaged()
    return header, file_key, keys


def _header_mac(keys: _Keys, authenticated: bytes) -> bytes:
    return hmac.digest(keys.header, authenticated, "sha512")[:_MAC_SIZE]


def _wrap_info(prefix: bytes, identity: bytes, salt: bytes, kid: bytes) -> bytes:
    # HPKE's base mode takes no associated data here, so everything the wrap belongs to goes into `info`.
    return b"srec/v1 wrap\0" + prefix + identity + salt + kid


def _metadata_aad(identity: bytes) -> bytes:
    return b"SREC1met" + identity


def _segment_aad(identity: bytes, index: int, last: bool) -> bytes:
    return b"SREC1seg" + identity + struct.pack(">QB", index, last)


def _encrypt(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """IV, ciphertext, tag. key: MAC key 32, encryption key 32 (RFC 7518 section 5.2.2.1)."""
    iv = os.urandom(16)
    padding = 16 - len(plaintext) % 16
    encryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(plaintext + bytes([padding]) * padding) + encryptor.finalize()
    return iv + ciphertext + _tag(key, aad, iv + ciphertext)


def _decrypt(key: bytes, block: bytes, aad: bytes) -> bytes:
    if len(block) < OVERHEAD or len(block) % 16:
        raise _damaged()
    body, tag = block[:-_MAC_SIZE], block[-_MAC_SIZE:]
    if not hmac.compare_digest(_tag(key, aad, body), tag):
        raise _damaged()
    decryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(body[:16])).decryptor()
    padded = decryptor.update(body[16:]) + decryptor.finalize()
    # The tag was right, so the padding is what the writer put there; checked all the same.
    padding = padded[-1]
    if not 1 <= padding <= 16 or padded[-padding:] != bytes([padding]) * padding:
        raise _damaged()
    return padded[:-padding]


def _tag(key: bytes, aad: bytes, body: bytes) -> bytes:
    mac = hmac.new(key[:32], aad, "sha512")
    mac.update(body)
    mac.update(struct.pack(">Q", len(aad) * 8))
    return mac.digest()[:_MAC_SIZE]


def _read(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end; a raw file may give less than it was asked for."""
    block = source.read(size)
    while len(block) < size and (more := source.read(size - len(block))):
        block += more
    return block


def _damaged() -> SealedError:
    return SealedError(_("this sealed recording is damaged"), why=_("it is not what was written"))


def _cut_header() -> Truncated:
    return Truncated(_("the recording is cut short"), why=_("even its header is not whole"))


def _finished() -> SealedError:
    return SealedError(_("this recording is finished"))
