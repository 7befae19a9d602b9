"""The key of this PC, which opens what was recorded here, where `recording.local_key` wants one.

keys.py seals to it beside the server's key. It is in the system's keyring, its public half beside that in
`own.pub`, so that recording never asks the keyring, which may be locked or want to ask a person first. Where
there is no keyring it is in `own.key`, for its owner only.
"""

import base64
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from whisperagent import files, sealed

log = logging.getLogger(__name__)

SERVICE = "WhisperAgent"
ANSWER_S = 10.0
"""How long the keyring may take: locked, it waits for a person who may not be there."""


class LocalKey:
    """home: where `own.pub` or `own.key` lies. answer_s: how long the keyring may take. pub: that file."""

    def __init__(self, home: Path, answer_s: float = ANSWER_S) -> None:
        self.pub = home / "own.pub"
        self._file = home / "own.key"
        self._answer_s = answer_s

    def public(self) -> X25519PublicKey | None:
        """Whom to seal to; None when there is no key yet. raises OSError: a file cannot be read."""
        if (key := self._in_file()) is not None:
            return key.public_key()
        try:
            return X25519PublicKey.from_public_bytes(base64.b64decode(self.pub.read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError:
            log.error("%s is no key", self.pub)
            return None

    def make(self) -> X25519PublicKey:
        """A new key, kept; gives its public half. raises OSError: it cannot be kept."""
        key = X25519PrivateKey.generate()
        public = key.public_key()
        if self._kept(key):
            files.write(self.pub, _text(public.public_bytes_raw()).encode() + b"\n")
        else:
            files.write(self._file, key.private_bytes_raw())
        return public

    def private(self) -> X25519PrivateKey | None:
        """What opens; None when there is none, or the keyring does not give it now.

        raises OSError: a file cannot be read.
        """
        if (key := self._in_file()) is not None:
            return key
        public = self.public()
        if public is None:
            return None
        try:
            key = X25519PrivateKey.from_private_bytes(base64.b64decode(self._asked(_reading(public))))
        except ValueError:
            return None
        return key if key.public_key() == public else None

    def _in_file(self) -> X25519PrivateKey | None:
        try:
            return X25519PrivateKey.from_private_bytes(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            log.error("%s is no key", self._file)
            return None

    def _kept(self, key: X25519PrivateKey) -> bool:
        """Does the keyring have it now? Some take everything and keep nothing."""
        text = _text(key.private_bytes_raw())
        name = _name(key.public_key())

        def keep() -> str:
            import keyring  # 150 ms that only this needs

            keyring.set_password(SERVICE, name, text)
            return keyring.get_password(SERVICE, name) or ""

        return self._asked(keep) == text

    def _asked(self, question: Callable[[], str]) -> str:
        """The keyring's answer; empty when it has none, or none in time."""
        answers: SimpleQueue[str] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(question())
            except Exception as problem:
                # Keyrings are plugins over D-Bus, COM and more, and fail in as many ways.
                log.info("the keyring does not answer: %r", problem)
                answers.put("")

        threading.Thread(target=ask, name="keyring", daemon=True).start()
        try:
            return answers.get(timeout=self._answer_s)
        except Empty:
            log.warning("the keyring does not answer within %g s", self._answer_s)
            return ""


def _reading(public: X25519PublicKey) -> Callable[[], str]:
    def read() -> str:
        import keyring  # as above

        return keyring.get_password(SERVICE, _name(public)) or ""

    return read


def _name(public: X25519PublicKey) -> str:
    return f"key {sealed.key_id(public).hex()}"


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
