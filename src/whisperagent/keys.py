"""Whom this PC seals its recordings to.

The server's key: `[server] key` in the settings, else the one the server showed at first contact, pinned
in `server.key`. Until a server was ever seen: a key of this PC (`local.key`), whose recordings are wrapped
anew for the server's before they are sent, so that a server that is down at start changes nothing in
recording. A key that differs later is a matter for a person: recording goes on to the pinned one, and
nothing is sent.
"""

import base64
import logging
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from whisperagent import files, sealed
from whisperagent.errors import ConfigError, WhisperError
from whisperagent.i18n import _
from whisperagent.wire import ServerKey

log = logging.getLogger(__name__)


class KeyChanged(WhisperError):
    """The server shows another key than the one that is pinned."""


class Keys:
    """home: where `server.key` and `local.key` lie. configured: `[server] key`, base64, may be empty.

    raises ConfigError: the configured or the pinned key is not an X25519 public key in base64.
    """

    def __init__(self, home: Path, configured: str = "") -> None:
        self._pin = home / "server.key"
        self._local = home / "local.key"
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

    def recipient(self) -> X25519PublicKey:
        """Whom to seal a recording to that begins now."""
        return self._server or self._local_key().public_key()

    def meet(self, shown: ServerKey) -> None:
        """Compare the key that the server shows with the pinned one; the first one seen is pinned.

        raises KeyChanged: it is another one.
        """
        try:
            key = _from_base64(shown.public_key)
        except ValueError as problem:
            raise WhisperError(_("the server shows a key that is none"), why=str(problem)) from None
        if self._server is None:
            files.write(self._pin, base64.b64encode(key.public_bytes_raw()) + b"\n")
            self._server = key
        elif key.public_bytes_raw() != self._server.public_bytes_raw():
            raise KeyChanged(
                _("the server shows another key than before"),
                why=_("pinned is {ours}, shown is {theirs}; until this is settled nothing is sent").format(
                    ours=sealed.key_id(self._server).hex(), theirs=sealed.key_id(key).hex()
                ),
                fix=self._cure,
            )

    def wrap_for_server(self, recording: Path) -> None:
        """Wrap a recording that was sealed to this PC's key for the server's; any other stays as it is.

        raises SealedError: it is damaged, or not a recording. OSError: as the system says.
        """
        if self._server is None or not self._local.exists():
            return
        local = self._local_key()
        temporary = recording.with_name(recording.name + files.TEMPORARY)
        with recording.open("rb") as source:
            if sealed.recipients(source) != [sealed.key_id(local.public_key())]:
                return
            source.seek(0)
            with temporary.open("wb") as sink:
                sealed.rewrap(source, sink, local, [self._server])
                sink.flush()
                os.fsync(sink.fileno())
        files.replace(temporary, recording)

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


def _from_base64(text: str) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))


def _public_key(text: str, key: str, origin: str) -> X25519PublicKey:
    try:
        return _from_base64(text)
    except ValueError as problem:
        raise ConfigError(
            _("wrong value for `{key}` in {origin}").format(key=key, origin=origin),
            why=_("it is not an X25519 public key in base64: {problem}").format(problem=problem),
            fix=_("ask whoever runs the server for its key"),
        ) from None
