"""Whom recordings are sealed to, from the first day on."""

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_server import key_of
from whisperagent.errors import ConfigError, WhisperError
from whisperagent.keys import KeyChanged, Keys
from whisperagent.wire import ServerKey

SERVER = X25519PrivateKey.generate()


def raw(keys: Keys) -> bytes:
    """The one key that a recording would be sealed to now."""
    [key] = keys.recipients()
    return key.public_bytes_raw()


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


def test_another_key_than_the_one_in_the_settings_is_settled_in_the_settings(home: Path) -> None:
    keys = Keys(home, key_of(SERVER).public_key)
    with pytest.raises(KeyChanged) as error:
        keys.meet(key_of(X25519PrivateKey.generate()))
    assert "`server.key`" in error.value.fix


def test_a_damaged_key_of_this_pc_is_kept_and_keeps_no_call_from_being_recorded(home: Path) -> None:
    (home / "local.key").write_bytes(b"not 32 bytes")
    own = raw(Keys(home))
    assert raw(Keys(home)) == own
    assert (home / "local.key.damaged").read_bytes() == b"not 32 bytes"


def test_a_server_that_shows_no_key_is_an_error_and_pins_nothing(home: Path) -> None:
    keys = Keys(home)
    for nonsense in ("nonsense", base64.b64encode(bytes(32)).decode()):
        with pytest.raises(WhisperError):
            keys.meet(ServerKey(kid="", public_key=nonsense))
    assert not (home / "server.key").exists()


@pytest.mark.parametrize("text", ["not base64", "AAAA", "é", base64.b64encode(bytes(32)).decode()])
def test_a_key_that_is_none_is_an_error_in_words(home: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        Keys(home, text)
