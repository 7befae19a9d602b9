"""The ballast: a file that is only there to be deleted when the disk is full.

house.py lays it, spool.py throws it off: what it takes is what a running call needs to end properly, and
what a description needs to be written at all. It has no content; the file system only keeps its place.
"""

import os
import shutil
from pathlib import Path

from whisperagent import files

NAME = "ballast"
MIB = 1 << 20


class Ballast:
    """In `folder`, on the disk of the recordings. thrown: this process deleted it, and it is not back yet."""

    def __init__(self, folder: Path) -> None:
        self.thrown = False
        self._path = folder / NAME

    def lay(self, mib: int, floor_mib: int) -> bool:
        """Have one of this size, if `floor_mib` stay free beside it; False: there is no room for it.

        0 MiB: have none.
        """
        if not mib:
            files.remove(self._path)
            self.thrown = False
        elif self._size() != mib * MIB:
            files.remove(self._path)
            if free_mib(self._path.parent) < floor_mib + mib:
                return False
            self._make(mib * MIB)
        self.thrown = False
        return True

    def throw(self) -> bool:
        """Delete it; False when there was none."""
        if not self._size():
            return False
        self.thrown = True
        files.remove(self._path)
        return True

    def _make(self, size: int) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # Without holes, or it would keep no place; on Windows a file that is made longer has none.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)
            else:
                os.ftruncate(handle, size)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, 0)
            raise
        finally:
            os.close(handle)

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def free_mib(folder: Path) -> int:
    """What is free on the disk of `folder`."""
    return shutil.disk_usage(folder).free // MIB
