"""Files that are there whole or not at all."""

import errno
import itertools
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


@pytest.mark.parametrize("winerror", files.BUSY_ON_WINDOWS)
def test_a_file_that_an_antivirus_holds_for_a_moment_is_tried_again(home: Path, winerror: int) -> None:
    tries = itertools.count(1)

    def step() -> None:
        if next(tries) < 3:
            raise busy(winerror)

    files.patiently(step, waits_s=(0.0,) * 5)
    assert next(tries) == 4


def test_it_is_not_waited_for_without_end() -> None:
    tries = itertools.count(1)

    def step() -> None:
        next(tries)
        raise busy(32)

    with pytest.raises(PermissionError):
        files.patiently(step, waits_s=(0.0,) * 5)
    assert next(tries) == 7
    assert sum(files.BUSY_WAITS_S) < 2


@pytest.mark.parametrize("problem", [PermissionError(errno.EACCES, "no"), OSError(errno.EIO, "broken")])
def test_what_waiting_does_not_help_is_told_at_once(problem: OSError) -> None:
    tries = itertools.count(1)

    def step() -> None:
        next(tries)
        raise problem

    with pytest.raises(type(problem)):
        files.patiently(step, waits_s=(0.0,) * 5)
    assert next(tries) == 2


def test_on_windows_no_folder_is_synced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no such call: there the system opens no folder at all."""
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    real = os.open

    def opened(path: Path, *how: int) -> int:
        assert not Path(path).is_dir()
        return real(path, *how)

    monkeypatch.setattr(os, "open", opened)
    files.write(home / "state", b"new")
    assert (home / "state").read_bytes() == b"new"


def test_room_that_is_made_on_a_full_disk_saves_what_is_being_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []

    def make_room() -> bool:
        made.append(True)
        return True

    growing = files.Appending(home / "call.srec", make_room)
    real = os.fsync

    def full(handle: int) -> None:
        if not made:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    growing.write(b"one")
    assert (growing.path.read_bytes(), growing.size, len(made)) == (b"one", 3, 1)
    growing.close()


def busy(winerror: int) -> PermissionError:
    """What Windows says when somebody else has the file."""
    problem = PermissionError(errno.EACCES, "the process cannot access the file")
    problem.winerror = winerror  # type: ignore[attr-defined]  # only Windows has it
    return problem
