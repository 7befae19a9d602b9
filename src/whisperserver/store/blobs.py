"""Recordings at rest, each one sealed to this server's key and complete: `<call_id>/<part>.srec`.

A recording arrives in `.incoming`, or piece by piece in `.unfinished` (unfinished.py), is synced, and takes
its name in one step. obstore keeps what is kept; its local store neither syncs a file nor its folder, so the
way in is ours.
"""

import contextlib
import io
import os
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any, BinaryIO

import obstore
from obstore.store import LocalStore

from whisperagent import files
from whisperagent.errors import ConfigError, NoRoom, SealedError
from whisperagent.i18n import _
from whisperagent.sealed import HEADER_LIMIT
from whisperagent.settings import Paths, Settings

READ_AHEAD = 1 << 20


def location(settings: Settings, paths: Paths) -> Path:
    """The folder of the recordings. raises ConfigError: `serve.storage` is not a folder's name."""
    given = settings.serve.storage
    if "://" in given:
        raise ConfigError(
            _("`serve.storage` is not a folder"),
            why=_("this version keeps recordings in a local folder only"),
            fix=_("give the path of a folder, or leave it empty"),
        )
    return Path(given).expanduser().absolute() if given else paths.server / "recordings"


class Recordings:
    """root: made when it is not there. free_mib: the floor of free disk below which nothing is taken in."""

    def __init__(self, root: Path, free_mib: int) -> None:
        self.root = root
        self._free_mib = free_mib
        self._incoming = root / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        self._store = LocalStore(root)

    def check_room(self, coming: int = 0) -> None:
        """raises NoRoom: after `coming` bytes, less than the floor would be free."""
        free_mib = (shutil.disk_usage(self.root).free - coming) >> 20
        if free_mib < self._free_mib:
            raise NoRoom(
                _("the server's disk is too full to take a recording"),
                why=_("{free} MiB would be left, {floor} are kept free (`serve.free_mib`)").format(
                    free=max(0, free_mib), floor=self._free_mib
                ),
                fix=_("free some space on the server; the recording stays queued on the PC"),
            )

    def incoming(self) -> BinaryIO:
        """A new file to write a recording to; then `keep` it or `discard` it."""
        return Unbuffered(self._incoming / str(uuid.uuid4()), "x+")

    def keep(self, arrived: BinaryIO, name: str) -> None:
        """Give a synced file its name, durably. It replaces what has that name: the caller knows it may."""
        target = self.root / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        arrived.close()
        files.replace(Path(arrived.name), target)
        files.sync_folder(self.root)

    def discard(self, arrived: BinaryIO) -> None:
        arrived.close()
        Path(arrived.name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a stopped server left half received; nobody was told that we have it."""
        for left in self._incoming.iterdir():
            left.unlink()

    def open(self, name: str) -> BinaryIO:
        """A kept recording, to read and seek. raises SealedError: it is gone."""
        try:
            return io.BufferedReader(_Object(obstore.open_reader(self._store, name)), READ_AHEAD)
        except FileNotFoundError:
            raise SealedError(
                _("a stored recording is missing"),
                why=name,
                fix=_("bring it back from a backup of the server's recordings"),
            ) from None

    def erase(self, name: str) -> None:
        """Destroy the file key, which only the header holds, then the bytes. On media that copy on write, an
        old copy of the header can outlive this; there the disk itself has to be encrypted."""
        path = self.root / name
        destroy(path)
        with contextlib.suppress(OSError):  # other parts are in it, or it was erased before
            path.parent.rmdir()
        files.sync_folder(self.root)


def destroy(path: Path) -> None:
    """Overwrite the header of a sealed recording, then remove it; nothing happens where there is none."""
    try:
        with path.open("r+b") as file:
            file.write(bytes(min(HEADER_LIMIT, path.stat().st_size)))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        return  # destroyed before, or by somebody else just now
    files.sync_folder(path.parent)


class Unbuffered(io.FileIO):
    """A file that has all that was written to it. A buffer would keep what the disk did not take, and write
    it again when it is closed."""

    def __init__(self, path: Path, mode: str) -> None:
        # A sender who goes away has it closed while a thread still writes; the number of the file may by then
        # be another one's.
        self._lock = threading.Lock()
        super().__init__(path, mode)

    def write(self, data: Any, /) -> int:
        """Write all of it, or raise."""
        rest = memoryview(data)
        with self._lock:
            while rest:
                rest = rest[super().write(rest) :]
        return len(data)

    def close(self) -> None:
        with self._lock:
            super().close()


class _Object(io.RawIOBase):
    """obstore's reader, as Python's io wants it."""

    def __init__(self, reader: "obstore.ReadableFile") -> None:  # a name of its type stubs only
        self._reader = reader

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self._reader.read(len(buffer))
        buffer[: len(data)] = bytes(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
