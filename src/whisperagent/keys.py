"""Whom this PC seals its recordings to.

The server's key: `[server] key` in the settings, else the one the server showed at first contact, pinned
in `server.key`. Until a server was ever seen: a key of this PC (`local.key`), whose recordings are wrapped
anew for the server's before they are sent, so that a server that is down at start changes nothing in
recording. A key that differs later is followed if the server proves that it holds the pinned one too
(succession.py); else it is a matter for a person: recording goes on to the pinned one, and nothing is sent.

With `recording.local_key` a key of this PC (localkey.py) opens each recording as well.
"""

import base64
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from whisperagent import files, sealed
from whisperagent.errors import ConfigError, ServerRefused, WhisperError
from whisperagent.i18n import _
from whisperagent.localkey import LocalKey
from whisperagent.sealed import Keyring
from whisperagent.succession import Challenge
from whisperagent.wire import ServerKey

log = logging.getLogger(__name__)

Ask = Callable[[str], Awaitable[ServerKey]]
"""`Client.server_key`: asks the server for its key, with a challenge."""


class KeyChanged(WhisperError):
    """The server shows another key than the one that is pinned."""


class Keys:
    """home: where `server.key` and `local.key` lie. configured: `[server] key`, base64, may be empty.

    own: seal to a key of this PC as well; it is made now if there is none.
    raises ConfigError: the configured or the pinned key is not an X25519 public key in base64.
    """

    def __init__(self, home: Path, configured: str = "", *, own: bool = False) -> None:
        self._pin = home / "server.key"
        self._local = home / "local.key"
        self._own = LocalKey(home)
        self._own_public = self._own_or_new() if own else None
        self._configured = bool(configured)
        self._told = ""
        self._server: X25519PublicKey | None = None
        self._cure = _("ask who runs the server; if the new key is right, delete {path} and restart").format(
            path=self._pin
        )
        if configured:
            self._cure = _("ask who runs the server; if the new key is right, set `server.key` to it")
            self._server = _public_key(configured, "server.key", "config.toml")
        elif self._pin.exists():
            self._server = _public_key(self._pin.read_text("ascii", "replace"), "server.key", str(self._pin))

    @property
    def pinned(self) -> bool:
        """Is the server's key known? Until then recordings are sealed to a key of this PC."""
        return self._server is not None

    def recipients(self) -> list[X25519PublicKey]:
        """Whom to seal a recording to that begins now."""
        first = self._server or self._local_key().public_key()
        return [first] if self._own_public is None else [first, self._own_public]

    def mine(self) -> Keyring | None:
        """What opens recordings on this PC; None when nothing does. It may wait for the system's keyring.

        raises OSError: a key cannot be read.
        """
        keys = [self._local_key()] if self._local.exists() else []
        if (own := self._own.private()) is not None:
            keys.append(own)
        return Keyring(keys[0], tuple(keys[1:])) if keys else None

    async def greet(self, shown: ServerKey, ask: Ask) -> None:
        """As `meet`, but a server that has a new key may prove that it holds the pinned one as well.

        The new key is then pinned. Where the pinned one is in the settings it stays: the server opens what is
        sealed to it. raises KeyChanged: it proves nothing. WhisperError: as `ask`.
        """
        try:
            self.meet(shown)
        except KeyChanged:
            vouched = await self.vouched(ask)
            if vouched is None:
                raise
            if vouched.kid != self._told:
                self._told = vouched.kid
                log.warning(
                    "the server has a new key, %s, and proved to hold the one before", vouched.public_key
                )
            if not self._configured:
                self._pin_to(_shown(vouched))

    async def vouched(self, ask: Ask) -> ServerKey | None:
        """The key that the server shows now, if it proves that it holds the pinned one as well."""
        if self._server is None:
            return None
        challenge = Challenge(self._server)
        try:
            answer = await ask(challenge.text)
        except ServerRefused:
            return None  # some other server, or one from before there were challenges
        return answer if challenge.met(answer.proof, _shown(answer)) else None

    def meet(self, shown: ServerKey) -> None:
        """Compare the key that the server shows with the pinned one; the first one seen is pinned.

        raises KeyChanged: it is another one.
        """
        key = _shown(shown)
        if self._server is None:
            self._pin_to(key)
        elif key.public_bytes_raw() != self._server.public_bytes_raw():
            raise KeyChanged(
                _("the server shows another key than before"),
                why=_("pinned is {ours}, shown is {theirs}; until this is settled nothing is sent").format(
                    ours=sealed.key_id(self._server).hex(), theirs=sealed.key_id(key).hex()
                ),
                fix=self._cure,
            )

    def wrap_for_server(self, recording: Path) -> None:
        """Wrap a recording that was made before a server was seen for the server; any other stays as it is.

        raises SealedError: it is damaged, or not a recording. OSError: as the system says.
        """
        if self._server is None or not self._local.exists():
            return
        local = self._local_key()
        temporary = recording.with_name(recording.name + files.TEMPORARY)
        with recording.open("rb") as source:
            named = sealed.recipients(source)
            if sealed.key_id(local.public_key()) not in named:
                return
            to = [self._server]
            if (own := self._own.public()) is not None and sealed.key_id(own) in named:
                to.append(own)
            source.seek(0)
            with temporary.open("wb") as sink:
                sealed.rewrap(source, sink, local, to)
                sink.flush()
                os.fsync(sink.fileno())
        files.replace(temporary, recording)

    def _own_or_new(self) -> X25519PublicKey | None:
        try:
            return self._own.public() or self._own.make()
        except OSError as problem:
            # Calls are recorded all the same, and the server opens them.
            log.error("there is no key of this PC: %s", problem)
            return None

    def _pin_to(self, key: X25519PublicKey) -> None:
        files.write(self._pin, base64.b64encode(key.public_bytes_raw()) + b"\n")
        self._server = key

    def _local_key(self) -> X25519PrivateKey:
        if not self._local.exists():
            files.write(self._local, X25519PrivateKey.generate().private_bytes_raw())
        try:
            return X25519PrivateKey.from_private_bytes(self._local.read_bytes())
        except ValueError:
            # A damaged key must not keep the next call from being recorded.
            damaged = self._local.with_name(f"{self._local.name}.damaged")
            log.error("%s is no key: it is kept as %s, and a new one is made", self._local, damaged)
            files.replace(self._local, damaged)
            return self._local_key()


def _shown(answer: ServerKey) -> X25519PublicKey:
    try:
        return _from_base64(answer.public_key)
    except ValueError as problem:
        raise WhisperError(_("the server shows a key that is none"), why=str(problem)) from None


def _from_base64(text: str) -> X25519PublicKey:
    """raises ValueError: it is no key, or one to which nothing can be sealed."""
    key = X25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))
    X25519PrivateKey.generate().exchange(key)  # raises for a point of low order
    return key


def _public_key(text: str, key: str, origin: str) -> X25519PublicKey:
    try:
        return _from_base64(text)
    except ValueError as problem:
        raise ConfigError(
            _("wrong value for `{key}` in {origin}").format(key=key, origin=origin),
            why=_("it is not an X25519 public key in base64: {problem}").format(problem=problem),
            fix=_("ask whoever runs the server for its key"),
        ) from None
