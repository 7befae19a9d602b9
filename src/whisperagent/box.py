"""A256CBC-HS512 (RFC 7518 section 5.2.5) in one piece: IV, AES-256-CBC, HMAC-SHA-512 cut to 256 bits.

envelope.py puts the metadata into one, sealed.py every segment. Encrypt-then-MAC: opening compares the tag
before it decrypts anything. A segment is encrypted where it will be hashed and written from, because
copying it costs as much as a tenth of the cipher; AES and SHA-512 run without the GIL.
"""

import hmac
import os
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from whisperagent.errors import SealedError
from whisperagent.i18n import _

OVERHEAD = 64
"""What a plaintext of whole blocks grows by: IV 16, one block of padding 16, tag 32."""
IV_SIZE = BLOCK_SIZE = 16
TAG_SIZE = 32


class Box:
    """Seals and opens under one key. key: MAC key 32, encryption key 32 (RFC 7518 section 5.2.2.1)."""

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key[:32], digestmod="sha512")
        self._aes = algorithms.AES(key[32:])

    def seal(self, plaintext: bytes | bytearray | memoryview, aad: bytes) -> bytes:
        """IV, ciphertext, tag. aad: authenticated with it, and not in it."""
        padding = BLOCK_SIZE - len(plaintext) % BLOCK_SIZE
        out = bytearray(IV_SIZE + len(plaintext) + padding + TAG_SIZE)
        iv = out[:IV_SIZE] = os.urandom(IV_SIZE)
        body, tag = memoryview(out)[:-TAG_SIZE], memoryview(out)[-TAG_SIZE:]
        encryptor = Cipher(self._aes, modes.CBC(iv)).encryptor()
        # `update_into` wants room for a block more than it fills: that of the tag, which comes later.
        done = IV_SIZE + encryptor.update_into(plaintext, memoryview(out)[IV_SIZE:])
        encryptor.update_into(bytes([padding]) * padding, memoryview(out)[done:])
        tag[:] = self._tag(aad, body)
        return bytes(out)

    def open(self, box: bytes, aad: bytes) -> bytes:
        """raises SealedError: it was not sealed like this, under this key and with this `aad`."""
        if len(box) < OVERHEAD or len(box) % BLOCK_SIZE:
            raise damaged()
        body, tag = memoryview(box)[:-TAG_SIZE], memoryview(box)[-TAG_SIZE:]
        if not hmac.compare_digest(self._tag(aad, body), tag):
            raise damaged()
        decryptor = Cipher(self._aes, modes.CBC(box[:IV_SIZE])).decryptor()
        padded = decryptor.update(body[IV_SIZE:])
        # The tag was right, so the padding is what the writer put there; checked all the same.
        padding = padded[-1]
        if not 1 <= padding <= BLOCK_SIZE or padded[-padding:] != bytes([padding]) * padding:
            raise damaged()
        return padded[:-padding]

    def _tag(self, aad: bytes, body: memoryview) -> bytes:
        mac = self._mac.copy()
        mac.update(aad)
        mac.update(body)
        mac.update(struct.pack(">Q", len(aad) * 8))
        return mac.digest()[:TAG_SIZE]


def damaged() -> SealedError:
    """The one error of every failure: which check it was is nobody's business."""
    return SealedError(_("this sealed recording is damaged"), why=_("it is not what was written"))
