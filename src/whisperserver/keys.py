"""The server's X25519 keys. The first one is made at the first start; whoever has them hears every recording.

`server/key`: the current one, 32 raw bytes, readable by the server's user alone. `rotate` puts a new one in
its place; the one before goes to `server/old-keys/` and opens what was sealed to it, for ever. Back both up
apart from the recordings.
"""

import base64
import os
from pathlib import Path

import filelock
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import files, sealed, succession
from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperagent.sealed import Keyring
from whisperagent.settings import Paths
from whisperagent.wire import ServerKey


def path(paths: Paths) -> Path:
    return paths.server / "key"


def old_keys(paths: Paths) -> Path:
    """The folder of the keys before, each named by its `key_id`."""
    return paths.server / "old-keys"


def load_or_make(paths: Paths, calls: Path) -> Keyring:
    """The server's keys. calls: the database, of whose recordings none can be opened without them.

    raises ConfigError: a file is not one, others on this machine can read it, or the current one is gone.
    """
    where = path(paths)
    if not where.exists():
        where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of two programs that start side by side, one would seal to a key that the other has just replaced.
        with _locked(where):
            if not where.exists():
                _refuse_to_lose_recordings(where, calls)
                files.write(where, X25519PrivateKey.generate().private_bytes_raw())
    # The current one first: one that is rotated away in between is then read twice instead of never.
    current = _read(where)
    older = [_read(old) for old in sorted(old_keys(paths).glob("*")) if old.suffix != files.TEMPORARY]
    return Keyring(current, tuple(older))


def rotate(paths: Paths, calls: Path) -> Keyring:
    """Make a new key the current one and keep the one before; a running server shows it when it starts again.

    raises ConfigError: as `load_or_make`. OSError: it cannot be written; the current one then stays.
    """
    load_or_make(paths, calls)
    where = path(paths)
    with _locked(where):
        before = _read(where)
        old_keys(paths).mkdir(mode=0o700, exist_ok=True)
        kept = old_keys(paths) / sealed.key_id(before.public_key()).hex()
        # In this order: a crash in between leaves the current one twice, and nothing that cannot be opened.
        files.write(kept, before.private_bytes_raw())
        files.sync_folder(where.parent)
        files.write(where, X25519PrivateKey.generate().private_bytes_raw())
    return load_or_make(paths, calls)


def shown(keys: Keyring, challenge: str = "") -> ServerKey:
    """What the PCs are told. challenge: of one that has pinned a key before, see succession.py."""
    public = keys.public_key()
    return ServerKey(
        kid=sealed.key_id(public).hex(),
        public_key=base64.b64encode(public.public_bytes_raw()).decode(),
        proof=succession.answer(challenge, keys) if challenge else "",
    )


def _locked(where: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(where.with_name("key.lock"))


def _read(where: Path) -> X25519PrivateKey:
    content = where.read_bytes()
    if os.name == "posix" and where.stat().st_mode & 0o077:
        raise ConfigError(
            _("others on this machine can read {path}").format(path=where),
            why=_("it opens every recording"),
            fix=_("`chmod 600 {path}`").format(path=where),
        )
    if len(content) != 32:
        raise ConfigError(
            _("{path} is not the server's key").format(path=where),
            why=_("it has {count} bytes instead of 32").format(count=len(content)),
            fix=_("bring it back from its backup; without it no recording can be opened"),
        )
    return X25519PrivateKey.from_private_bytes(content)


def _refuse_to_lose_recordings(where: Path, calls: Path) -> None:
    # A fresh key beside old calls would start a server that can open none of them, and no PC would trust it.
    if calls.exists():
        raise ConfigError(
            _("the server's key is gone: {path}").format(path=where),
            why=_("there are calls in {path} that only this key opens").format(path=calls),
            fix=_("bring the key back from its backup, or move the calls away to begin anew"),
        )
