"""Files that survive a power cut: whole or not at all.

spool.py, keys.py and agent.py write through these. A state is replaced, never edited: temporary file in
the same folder, fsync, `os.replace`, fsync of the folder. Recordings are appended to, segment by segment.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from whisperagent.errors import NoRoom
from whisperagent.i18n import _

TEMPORARY = ".tmp"
BUSY_ON_WINDOWS = (5, 32, 33)
"""Access denied, sharing violation, lock violation: an antivirus or an indexer has the file for a moment."""
BUSY_WAITS_S = (0.05, 0.1, 0.2, 0.4, 0.8)
FULL = (errno.ENOSPC, errno.EDQUOT)
"""No room on the disk, or none for this person."""


def write(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one.

    mode: who may read and write it, whatever the umask; Windows has no such thing.
    durable: synced before this returns; without, a power cut may bring the old content back.
    raises OSError: as the system says; the old file is then untouched.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        replace(temporary, path, durable=durable)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def replace(source: Path, target: Path, *, durable: bool = True) -> None:
    """`os.replace`, patient with other programs that hold the file for a moment, then synced."""
    patiently(lambda: source.replace(target))
    if durable:
        sync_folder(target.parent)
        if source.parent != target.parent:
            sync_folder(source.parent)


def remove(path: Path) -> None:
    """Delete a file that may be gone already, as patient as `replace`; not synced."""
    patiently(lambda: path.unlink(missing_ok=True))


def patiently(step: Callable[[], object], waits_s: Sequence[float] = BUSY_WAITS_S) -> None:
    """Do `step` again while another program on Windows has the file; after the last wait it must work.

    raises OSError: of `step`, at once when waiting would not help.
    """
    for wait_s in waits_s:
        try:
            step()
        except PermissionError as problem:
            if getattr(problem, "winerror", None) not in BUSY_ON_WINDOWS:
                raise
            time.sleep(wait_s)
        else:
            return
    step()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can; Windows has no such call."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Appending:
    """A new file that only grows; each `write` is whole and synced, or leaves no trace.

    A sync takes milliseconds, so whoever records can wait for it where it is.

    make_room: called when the disk is full; True when it is worth another try.
    raises FileExistsError: there is one already. NoRoom: the disk is full.
    """

    def __init__(self, path: Path, make_room: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self.size = 0
        self._make_room = make_room
        # Unbuffered: a buffered file keeps the bytes that failed and writes them again when it is closed.
        self._file = path.open("xb", buffering=0)
        self._name_synced = False

    def write(self, data: bytes, /) -> None:
        try:
            try:
                self._append(data)
            except OSError as problem:
                if problem.errno not in FULL or not self._make_room():
                    raise
                self._append(data)
        except OSError as problem:
            raise NoRoom(
                _("cannot write the recording"),
                why=problem.strerror or str(problem),
                fix=_("free some space on the disk of {folder}").format(folder=self.path.parent),
            ) from problem
        self.size += len(data)

    def close(self) -> None:
        self._file.close()

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            # A failed write has moved on: from there, the next one would leave a hole of zeros before it.
            self._file.seek(self.size)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
            if not self._name_synced:
                sync_folder(self.path.parent)
                self._name_synced = True
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self.size)
            raise
