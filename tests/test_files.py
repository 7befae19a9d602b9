"""Files that are there whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from whisperagent import files
from whisperagent.errors import NoRoom


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(home: Path) -> None:
    where = home / "state.json"
    files.write(where, b"old")
    files.write(where, b"new", durable=False)
    assert where.read_bytes() == b"new"
    assert list(home.iterdir()) == [where]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no file modes")
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write(home / "secret", b"")
        files.write(home / "shared", b"", mode=0o640)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert modes == {"secret": 0o600, "shared": 0o640}


def test_a_failed_replacement_leaves_the_old_and_no_litter(home: Path) -> None:
    where = home / "taken"
    (where / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        files.write(where, b"new")
    assert list(home.iterdir()) == [where]


def test_a_recording_only_grows_and_is_never_begun_twice(home: Path) -> None:
    where = home / "call.srec"
    growing = files.Appending(where)
    growing.write(b"one")
    growing.write(b"two")
    assert (where.read_bytes(), growing.size) == (b"onetwo", 6)
    growing.close()
    with pytest.raises(FileExistsError):
        files.Appending(where)


def test_a_write_that_fails_leaves_no_trace(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = files.Appending(home / "call.srec")
    growing.write(b"one")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(NoRoom, match="cannot write the recording") as caught:
            growing.write(b"two")
    assert caught.value.why == "No space left on device"
    assert growing.path.read_bytes() == b"one"
    growing.write(b"three")
    assert (growing.path.read_bytes(), growing.size) == (b"onethree", 8)
    growing.close()
