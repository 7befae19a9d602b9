"""The server's X25519 key: made at the first start, read ever after. Whoever has it hears every recording.

`server/key`: 32 raw bytes, readable by the server's user alone. Back it up apart from the recordings.
"""

import base64
import os
from pathlib import Path

import filelock
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import files, sealed
from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperagent.settings import Paths
from whisperagent.wire import ServerKey


def path(paths: Paths) -> Path:
    return paths.server / "key"


def load_or_make(paths: Paths, calls: Path) -> X25519PrivateKey:
    """The server's key. calls: the database, of whose recordings none can be opened without it.

    raises ConfigError: the file is not one, others on this machine can read it, or it is gone.
    """
    where = path(paths)
    if not where.exists():
        where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of two programs that start side by side, one would seal to a key that the other has just replaced.
        with filelock.FileLock(where.with_name("key.lock")):
            if not where.exists():
                _refuse_to_lose_recordings(where, calls)
                files.write(where, X25519PrivateKey.generate().private_bytes_raw())
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


def shown(key: X25519PrivateKey) -> ServerKey:
    """What the PCs are told."""
    public = key.public_key()
    return ServerKey(
        kid=sealed.key_id(public).hex(), public_key=base64.b64encode(public.public_bytes_raw()).decode()
    )


def _refuse_to_lose_recordings(where: Path, calls: Path) -> None:
    # A fresh key beside old calls would start a server that can open none of them, and no PC would trust it.
    if calls.exists():
        raise ConfigError(
            _("the server's key is gone: {path}").format(path=where),
            why=_("there are calls in {path} that only this key opens").format(path=calls),
            fix=_("bring the key back from its backup, or move the calls away to begin anew"),
        )
