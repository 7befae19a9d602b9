"""The header of a sealed recording: who may open it.

A random file key, which exists in memory only, is wrapped for each recipient by HPKE (RFC 9180), and gives
the keys of metadata, segments and header. So a recording is given to another key, or to several, without
touching its sound: `rewrap` makes a new header and copies the rest. sealed.py writes what comes after it.

Every length from a file is bounded before use; a header is authentic before anything of it is believed,
`recipients`, `recording_id` and `estimated_size` excepted, which say so.
The byte layout and its reasons are in docs/sealed-recording.md.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from whisperagent.box import Box, damaged
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

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
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


@dataclass(frozen=True)
class Keyring:
    """The keys of one owner: recordings are sealed to the current one, and any of them opens."""

    current: X25519PrivateKey
    older: tuple[X25519PrivateKey, ...] = ()

    def public_key(self) -> X25519PublicKey:
        """Whom to seal to."""
        return self.current.public_key()

    def by_id(self) -> dict[bytes, X25519PrivateKey]:
        """Every key by its `key_id`."""
        return {key_id(key.public_key()): key for key in (self.current, *self.older)}


PrivateKey = X25519PrivateKey | Keyring
"""What opens a recording: one key, or any of several."""


def key_id(public_key: X25519PublicKey) -> bytes:
    """The 8 bytes by which a header names a recipient."""
    return hashlib.sha256(b"srec kid\0" + public_key.public_bytes_raw()).digest()[:8]


@dataclass(frozen=True)
class FileKeys:
    """What one file key and salt give. header: the MAC key of the header."""

    payload: Box
    metadata: Box
    header: bytes

    @classmethod
    def derive(cls, file_key: bytes, prefix: bytes, recording_id: bytes, salt: bytes) -> "FileKeys":
        info = b"srec/v1 keys\0" + prefix + recording_id
        okm = HKDF(hashes.SHA512(), 160, salt, info).derive(file_key)
        return cls(Box(okm[:64]), Box(okm[64:128]), okm[128:])


@dataclass(frozen=True)
class Header:
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
    def read(cls, source: BinaryIO) -> "Header":
        """raises SealedError: it is none. Truncated: it is not whole."""
        prefix = read_up_to(source, _PREFIX.size)
        if not prefix or not MAGIC.startswith(prefix[:8]):
            raise SealedError(_("this is not a sealed recording"), why=_("it does not begin as one"))
        if len(prefix) != _PREFIX.size:
            raise _cut_header()
        _magic, version, suite, segment_log2, flags, length = _PREFIX.unpack(prefix)
        known = version == VERSION and suite == SUITE_A256CBC_HS512 and flags == 0
        if not known or segment_log2 not in SEGMENT_SIZES:
            raise SealedError(_("this sealed recording is of a kind that this version does not know"))
        if not _PREFIX.size + _MAC_SIZE <= length <= HEADER_LIMIT:
            raise damaged()
        rest = read_up_to(source, length - _PREFIX.size)
        if len(rest) != length - _PREFIX.size:
            raise _cut_header()
        fields = _Fields(rest[:-_MAC_SIZE])
        identity, salt = fields.take(16), fields.take(32)
        count = int.from_bytes(fields.take(2), "big")
        if not 1 <= count <= RECIPIENT_LIMIT:
            raise damaged()
        found = []
        for _number in range(count):
            kind, kid, size = _RECIPIENT.unpack(fields.take(_RECIPIENT.size))
            found.append((kind, kid, fields.take(size)))
        sealed_metadata = fields.take(int.from_bytes(fields.take(4), "big"))
        if fields.rest:
            raise damaged()
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

    def file_key(self, key: PrivateKey) -> bytes:
        """The key that `key` unwraps. raises WrongRecipient: it is not named."""
        ours = (key if isinstance(key, Keyring) else Keyring(key)).by_id()
        for kind, kid, body in self.recipients:
            if kind == RECIPIENT_HPKE_X25519 and kid in ours:
                info = _wrap_info(self.prefix, self.recording_id, self.salt, kid)
                try:
                    return HPKE.decrypt(body, ours[kid], info=info)
                except (InvalidTag, ValueError):
                    raise damaged() from None
        raise WrongRecipient(
            _("this recording is sealed to another key"),
            why=_("it names {theirs}, we hold {ours}").format(
                theirs=", ".join(kid.hex() for _kind, kid, _body in self.recipients),
                ours=", ".join(kid.hex() for kid in ours),
            ),
        )


def begin(
    recipients: Sequence[X25519PublicKey], recording_id: bytes, metadata: bytes, segment_log2: int
) -> tuple[bytes, FileKeys]:
    """A header with a new file key, and the keys of that; arguments and errors as `sealed.Writer`."""
    file_key = os.urandom(_FILE_KEY_SIZE)
    salt = os.urandom(32)
    prefix = MAGIC + bytes([VERSION, SUITE_A256CBC_HS512, segment_log2, 0])
    keys = FileKeys.derive(file_key, prefix, recording_id, salt)
    box = keys.metadata.seal(metadata, _metadata_aad(recording_id))
    return _header(prefix, recording_id, salt, file_key, keys, recipients, box), keys


def unlock(source: BinaryIO, key: PrivateKey) -> tuple[Header, FileKeys, bytes]:
    """An authentic header, its keys and its metadata; `source` is then at the first segment.

    raises WrongRecipient: sealed to others. raises SealedError: anything else than an authentic header.
    """
    header = Header.read(source)
    keys = _authentic(header, header.file_key(key))
    return header, keys, keys.metadata.open(header.sealed_metadata, _metadata_aad(header.recording_id))


def rewrap(source: BinaryIO, sink: Sink, key: PrivateKey, to: Sequence[X25519PublicKey]) -> None:
    """Copy a recording that `key` opens so that the keys in `to` open it instead; only the header changes.

    source: seekable and at its start. A cut recording stays a cut recording.
    raises SealedError: the header is not authentic or not for `key`; or as `sealed.Writer`, about `to`.
    """
    header = Header.read(source)
    file_key = header.file_key(key)
    keys = _authentic(header, file_key)
    box = header.sealed_metadata
    sink.write(_header(header.prefix, header.recording_id, header.salt, file_key, keys, to, box))
    while block := source.read(1 << 20):
        sink.write(block)


def recipients(source: BinaryIO) -> list[bytes]:
    """The key ids that a header names, unauthenticated; for a message about a recording we cannot open."""
    return [kid for _kind, kid, _body in Header.read(source).recipients]


def recording_id(source: BinaryIO) -> bytes:
    """The id that a header carries, unauthenticated: to find a file's owner before its key is at hand."""
    return Header.read(source).recording_id


def read_up_to(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end; a raw file may give less than it was asked for."""
    block = source.read(size)
    while len(block) < size and (more := source.read(size - len(block))):
        block += more
    return block


class _Fields:
    """Takes fields off bytes and never past their end."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest

    def take(self, size: int) -> bytes:
        if size > len(self.rest):
            raise damaged()
        field, self.rest = self.rest[:size], self.rest[size:]
        return field


def _header(
    prefix: bytes,
    identity: bytes,
    salt: bytes,
    file_key: bytes,
    keys: FileKeys,
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
            body = HPKE.encrypt(file_key, public_key, info=_wrap_info(prefix, identity, salt, kid))
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


def _authentic(header: Header, file_key: bytes) -> FileKeys:
    """The keys of a header that is what was written."""
    if len(file_key) != _FILE_KEY_SIZE:
        raise damaged()
    keys = FileKeys.derive(file_key, header.prefix, header.recording_id, header.salt)
    if not hmac.compare_digest(_header_mac(keys, header.authenticated), header.mac):
        raise damaged()
    return keys


def _header_mac(keys: FileKeys, authenticated: bytes) -> bytes:
    return hmac.digest(keys.header, authenticated, "sha512")[:_MAC_SIZE]


def _wrap_info(prefix: bytes, identity: bytes, salt: bytes, kid: bytes) -> bytes:
    # HPKE's base mode takes no associated data here, so everything the wrap belongs to goes into `info`.
    return b"srec/v1 wrap\0" + prefix + identity + salt + kid


def _metadata_aad(identity: bytes) -> bytes:
    return b"SREC1met" + identity


def _cut_header() -> Truncated:
    return Truncated(_("the recording is cut short"), why=_("even its header is not whole"))
