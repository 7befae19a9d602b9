"""Whom recordings are sealed to, from the first day on."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_server import key_of
from whisperagent.errors import ConfigError
from whisperagent.keys import KeyChanged, Keys

SERVER = X25519PrivateKey.generate()


def raw(keys: Keys) -> bytes:
    return keys.recipient().public_bytes_raw()


def test_before_a_server_was_seen_the_recipient_is_this_pc(home: Path) -> None:
    own = raw(Keys(home))
    assert raw(Keys(home)) == own
    assert stat.S_IMODE((home / "local.key").stat().st_mode) == 0o600


def test_the_first_key_that_a_server_shows_is_pinned(home: Path) -> None:
    Keys(home).meet(key_of(SERVER))
    assert raw(Keys(home)) == SERVER.public_key().public_bytes_raw()


def test_another_key_later_changes_nothing_and_says_how_to_settle_it(home: Path) -> None:
    keys = Keys(home)
    keys.meet(key_of(SERVER))
    with pytest.raises(KeyChanged) as error:
        keys.meet(key_of(X25519PrivateKey.generate()))
    assert "server.key" in error.value.fix
    assert raw(keys) == SERVER.public_key().public_bytes_raw()


def test_a_key_in_the_settings_comes_before_the_pinned_one(home: Path) -> None:
    Keys(home).meet(key_of(X25519PrivateKey.generate()))
    keys = Keys(home, key_of(SERVER).public_key)
    assert raw(keys) == SERVER.public_key().public_bytes_raw()
    keys.meet(key_of(SERVER))


@pytest.mark.parametrize("text", ["not base64", "AAAA", "é"])
def test_a_key_that_is_none_is_an_error_in_words(home: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        Keys(home, text)
