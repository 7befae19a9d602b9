"""A server with a new key proves that it still holds the one that a PC has pinned.

keys.py of the agent challenges, keys.py of the server answers. A secret is sealed to the pinned key by HPKE;
who can read it vouches with it for the key that is shown now. So a PC follows a rotation by itself, while
somebody else's server, or somebody on the way, is found out as before.

What is proved is that the pinned key is in the hand of whoever shows the new one. After a theft of the key
that is no proof of anything: then an administrator sets `server.key` (docs/sealed-recording.md).
"""

import base64
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from whisperagent.envelope import HPKE, Keyring, key_id

_INFO = b"srec/v1 succession\0"
"""What keeps a challenge and the wrapped key of a recording apart: neither is ever taken for the other."""
_KID_SIZE = 8


class Challenge:
    """To whoever holds the private half of `pinned`. text: what is sent, 120 characters of base64url."""

    def __init__(self, pinned: X25519PublicKey) -> None:
        self._secret = os.urandom(32)
        kid = key_id(pinned)
        box = HPKE.encrypt(self._secret, pinned, info=_INFO + kid)
        self.text = base64.urlsafe_b64encode(kid + box).decode()

    def met(self, proof: str, shown: X25519PublicKey) -> bool:
        """Does who holds the pinned key vouch for `shown`?"""
        return hmac.compare_digest(_proof(self._secret, shown).encode(), proof.encode())


def answer(challenge: str, keys: Keyring) -> str:
    """The proof for the current key, hex; empty when none of `keys` reads the challenge."""
    try:
        sealed = base64.b64decode(challenge, altchars=b"-_", validate=True)
        kid = sealed[:_KID_SIZE]
        secret = HPKE.decrypt(sealed[_KID_SIZE:], keys.by_id()[kid], info=_INFO + kid)
    except (ValueError, KeyError, InvalidTag):
        return ""
    return _proof(secret, keys.public_key())


def _proof(secret: bytes, shown: X25519PublicKey) -> str:
    return hmac.digest(secret, _INFO + shown.public_bytes_raw(), "sha256").hex()
