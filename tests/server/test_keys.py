"""The server's own key: one, and never a fresh one beside old calls."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from whisperagent import settings
from whisperagent.errors import ConfigError
from whisperserver import keys


def test_programs_that_start_side_by_side_have_one_key(home: Path) -> None:
    """A server and a worker at the first start of the machine: what one seals, the other opens."""
    together = threading.Barrier(8)

    def load(_number: int) -> bytes:
        together.wait()
        return keys.load_or_make(settings.paths(), home / "calls.db").private_bytes_raw()

    with ThreadPoolExecutor(8) as pool:
        loaded = set(pool.map(load, range(8)))
    assert loaded == {keys.path(settings.paths()).read_bytes()}


def test_a_key_that_is_gone_is_not_replaced_wherever_the_calls_lie(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.touch()
    with pytest.raises(ConfigError) as refused:
        keys.load_or_make(settings.paths(), elsewhere)
    assert str(elsewhere) in refused.value.why
    assert not keys.path(settings.paths()).exists()


def test_a_key_that_others_can_read_is_refused(home: Path) -> None:
    keys.load_or_make(settings.paths(), home / "calls.db")
    keys.path(settings.paths()).chmod(0o640)
    with pytest.raises(ConfigError, match="others on this machine"):
        keys.load_or_make(settings.paths(), home / "calls.db")


def test_what_is_no_key_is_refused(home: Path) -> None:
    keys.load_or_make(settings.paths(), home / "calls.db")
    keys.path(settings.paths()).write_bytes(b"short")
    with pytest.raises(ConfigError) as refused:
        keys.load_or_make(settings.paths(), home / "calls.db")
    assert "5 bytes instead of 32" in refused.value.why
