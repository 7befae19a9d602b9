"""Uploads that are not finished: a file of sealed bytes for each, and a description, in `.unfinished`.

No row of the database knows of them. The length of the file is the offset, so bytes and offset cannot
disagree after a crash; what lies there is sealed, so what a power cut spoils is seen when it is opened.

* An upload exists while its description does, which is written last and removed first.
* The file leaves by `Recordings.keep`, in the transaction that makes its row; what is left of the upload then
  says nothing any more, because a stored part is always asked for first.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from whisperagent import files, wire
from whisperserver.store.blobs import Unbuffered, destroy

SEALED = ".srec"
DESCRIPTION = ".json"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """said: what was last said of the recording. length: of its sealed bytes, None while nobody knows it."""

    said: wire.CallMetadata
    length: int | None = None


@dataclass(frozen=True)
class Usage:
    """uploads: how many are not finished. size: their bytes."""

    uploads: int
    size: int


class Unfinished:
    """The uploads under way, by name: `<call_id>.<part>`. All of it blocks.

    root: of the recordings. keep: how long after its last byte an upload waits for the next.
    """

    def __init__(self, root: Path, keep: timedelta) -> None:
        self.folder = root / ".unfinished"
        self._keep = keep
        self.folder.mkdir(exist_ok=True)

    def describe(self, name: str, description: Description) -> None:
        """Begin an upload, or say something else of it; its bytes stay."""
        self._file(name).touch(mode=0o600)
        files.write(self._description(name), msgspec.json.encode(description))

    def described(self, name: str) -> Description | None:
        """What is known of an upload; None if there is none, or it was left for too long."""
        try:
            found = msgspec.json.decode(self._description(name).read_bytes(), type=Description)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return None if self.expires(name) < datetime.now(UTC) else found

    def expires(self, name: str) -> datetime:
        """When the upload is forgotten, if no byte of it comes."""
        return max(self._touched(self._file(name)), self._touched(self._description(name))) + self._keep

    def open(self, name: str) -> Unbuffered:
        """Its bytes, to read and to append to; made anew where a crash left only a description."""
        path = self._file(name)
        path.touch(mode=0o600)
        return Unbuffered(path, "r+")

    def size(self, name: str) -> int:
        try:
            return self._file(name).stat().st_size
        except FileNotFoundError:
            return 0

    def cut(self, name: str, size: int) -> None:
        """Take back all but the first `size` bytes."""
        with self.open(name) as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Forget an upload and destroy what came of it."""
        self._description(name).unlink(missing_ok=True)
        files.sync_folder(self.folder)
        destroy(self._file(name))

    def names(self) -> list[str]:
        return sorted(path.name.removesuffix(DESCRIPTION) for path in self.folder.glob(f"*{DESCRIPTION}"))

    def sweep(self) -> None:
        """Remove what is no upload: a stopped server was making or removing it."""
        names = set(self.names())
        for path in self.folder.iterdir():
            if path.suffix == SEALED and path.name.removesuffix(SEALED) not in names:
                destroy(path)
            elif path.suffix == files.TEMPORARY:
                path.unlink()

    def usage(self, extension: str = "") -> Usage:
        """extension: whose uploads; empty: all of them."""
        sizes = [
            self._claimed(name, one) for name, one in self._all() if extension in ("", one.said.extension)
        ]
        return Usage(len(sizes), sum(sizes))

    def _all(self) -> Iterator[tuple[str, Description]]:
        for name in self.names():
            if found := self.described(name):
                yield name, found

    def _claimed(self, name: str, description: Description) -> int:
        return max(self.size(name), description.length or 0)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}{SEALED}"

    def _description(self, name: str) -> Path:
        return self.folder / f"{name}{DESCRIPTION}"

    def _touched(self, path: Path) -> datetime:
        try:
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except FileNotFoundError:
            return datetime.fromtimestamp(0, UTC)
