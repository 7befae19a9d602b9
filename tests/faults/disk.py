"""Disks that fail and clocks that jump, for the processes of the tests: disk.c built, loaded and steered."""

import atexit
import contextlib
import ctypes
import functools
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

FIELDS = (
    "end",
    "at",
    "moment",
    "rate",
    "no_sync",
    "clock_s",
    "seed",
    "events",
    "enospc",
    "eio",
    "ended",
    "bytes_lost",
    "names_lost",
    # Of the telephone (pc.py), in frames of its clock: where somebody began to listen, and where it is now.
    "opened",
    "clock",
    # How often the agent said that it cannot record.
    "unrecorded",
)
NONE, KILL, POWER_CUT = 0, 1, 2
PLACE = slice(21 * 8, 21 * 8 + 512)
"""Where the page names the file at which the end came."""


@functools.cache
def library() -> Path:
    """disk.c, compiled."""
    folder = Path(tempfile.mkdtemp(prefix="wa-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", target, source], check=True)
    return target


class Control:
    """The control page of one process (see `struct control` in disk.c): a field is one of FIELDS.

    Made by the test; the process maps the same file. What is set here it obeys at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._fields = memoryview(self._page).cast("q")

    def __getitem__(self, name: str) -> int:
        return self._fields[FIELDS.index(name)]

    def __setitem__(self, name: str, value: int) -> None:
        self._fields[FIELDS.index(name)] = value

    @property
    def place(self) -> str:
        """The folder, or the file of the database, at which the end came."""
        path = Path(self._page[PLACE].split(b"\0")[0].decode())
        return path.name if path.name.startswith("calls.db") else path.parent.name

    def arm(self, folder: Path, kept: Path) -> Self:
        """In the process itself: watch `folder` from now on. kept: on the same disk, for what a power cut
        brings back."""
        kept.mkdir(exist_ok=True)
        arm = ctypes.CDLL(os.environ["LD_PRELOAD"]).faults_arm
        arm(os.fsencode(self.path), os.fsencode(folder), os.fsencode(kept))
        return self


class SmallDisk:
    """A disk of its own at a folder, until the block ends. mounted: False where nobody here may mount one."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self.mounted = self._mount(f"size={size_mib}m")

    def grow(self, size_mib: int) -> None:
        """Somebody has freed some space."""
        if self.mounted:
            self._mount(f"remount,size={size_mib}m")

    def _mount(self, options: str) -> bool:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, size_mib)
    try:
        yield disk
    finally:
        if disk.mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
