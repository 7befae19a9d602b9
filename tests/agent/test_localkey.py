"""The key of this PC, `recording.local_key`: where it lies, and what it opens."""

import io
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from tests.agent.fake_server import key_of
from whisperagent import sealed, settings
from whisperagent.doctor import pc
from whisperagent.keys import Keys
from whisperagent.localkey import SERVICE, LocalKey

SERVER = X25519PrivateKey.generate()
SOUND = b"sound" * 5000


class Safe(KeyringBackend):
    """A keyring in memory. open: set while it answers; a locked one waits for a person."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[tuple[str, str], str] = {}
        self.open = threading.Event()
        self.open.set()

    def get_password(self, service: str, username: str) -> str | None:
        self.open.wait()
        return self.content.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.open.wait()
        self.content[service, username] = password


@pytest.fixture
def safe() -> Iterator[Safe]:
    """The keyring of this PC."""
    before = keyring.get_keyring()
    safe = Safe()
    keyring.set_keyring(safe)
    yield safe
    safe.open.set()
    keyring.set_keyring(before)


@pytest.fixture(params=[fail.Keyring, null.Keyring], ids=["none", "one that forgets"])
def no_safe(request: pytest.FixtureRequest) -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(request.param())
    yield
    keyring.set_keyring(before)


def record(keys: Keys) -> bytes:
    sink = io.BytesIO()
    writer = sealed.Writer(sink, keys.recipients(), bytes(16), segment_log2=12)
    writer.write(SOUND)
    writer.finish()
    return sink.getvalue()


def heard(recording: bytes, key: sealed.PrivateKey | None) -> bytes:
    assert key is not None
    return b"".join(sealed.Reader(io.BytesIO(recording), key).segments())


def test_a_recording_is_opened_by_the_server_and_by_this_pc(home: Path, safe: Safe) -> None:
    recording = record(Keys(home, key_of(SERVER).public_key, own=True))
    assert heard(recording, SERVER) == heard(recording, Keys(home).mine()) == SOUND
    assert {service for service, _name in safe.content} == {SERVICE}
    assert not (home / "own.key").exists()


def test_unless_it_is_wished_no_key_of_this_pc_opens_what_is_sealed_to_a_server(
    home: Path, safe: Safe
) -> None:
    keys = Keys(home, key_of(SERVER).public_key)
    assert sealed.recipients(io.BytesIO(record(keys))) == [sealed.key_id(SERVER.public_key())]
    assert keys.mine() is None
    assert safe.content == {}


@pytest.mark.usefixtures("no_safe")
def test_where_there_is_no_keyring_it_is_a_file_for_its_owner_only(home: Path) -> None:
    recording = record(Keys(home, key_of(SERVER).public_key, own=True))
    assert heard(recording, Keys(home).mine()) == SOUND
    assert stat.S_IMODE((home / "own.key").stat().st_mode) == 0o600
    assert record(Keys(home, key_of(SERVER).public_key, own=True))[66:77] == recording[66:77]


def test_a_folder_that_takes_no_key_keeps_nothing_from_being_recorded(tmp_path: Path, safe: Safe) -> None:
    (tmp_path / "own.pub").mkdir()
    keys = Keys(tmp_path, key_of(SERVER).public_key, own=True)
    assert keys.recipients() == [SERVER.public_key()]


def test_the_doctor_tells_whether_the_key_can_be_had(home: Path, safe: Safe) -> None:
    where = settings.paths()
    assert pc.local_key(where).result == "ok"
    assert LocalKey(home).public() is None
    LocalKey(home).make()
    assert pc.local_key(where).result == "ok"
    safe.content.clear()
    assert pc.local_key(where).result == "warning"
    assert str(home / "own.pub") in pc.local_key(where).fix


def test_one_key_is_made_and_used_ever_after(home: Path, safe: Safe) -> None:
    first, second = LocalKey(home), LocalKey(home)
    made = first.make()
    assert first.public() == second.public() == made
    assert len(safe.content) == 1


def test_a_locked_keyring_keeps_nothing_from_being_recorded(home: Path, safe: Safe) -> None:
    made = LocalKey(home).make()
    safe.open.clear()
    assert Keys(home, key_of(SERVER).public_key, own=True).recipients() == [SERVER.public_key(), made]
    assert LocalKey(home, answer_s=0.05).private() is None


def test_a_keyring_that_is_locked_from_the_first_day_is_done_without(home: Path, safe: Safe) -> None:
    safe.open.clear()
    own = LocalKey(home, answer_s=0.05)
    made = own.make()
    private = own.private()
    assert private is not None
    assert private.public_key() == made


def test_a_key_that_the_keyring_has_lost_opens_nothing(home: Path, safe: Safe) -> None:
    LocalKey(home).make()
    safe.content.clear()
    assert LocalKey(home).private() is None
    assert Keys(home).mine() is None


@pytest.mark.parametrize("name", ["own.pub", "own.key"])
def test_a_damaged_key_is_replaced_and_keeps_no_call_from_being_recorded(
    home: Path, safe: Safe, name: str
) -> None:
    (home / name).write_bytes(b"not a key")
    keys = Keys(home, key_of(SERVER).public_key, own=True)
    assert heard(record(keys), keys.mine()) == SOUND


def test_what_was_recorded_before_a_server_was_seen_stays_open_to_this_pc(home: Path, safe: Safe) -> None:
    keys = Keys(home, own=True)
    recording = home / "call.srec"
    recording.write_bytes(record(keys))
    assert heard(recording.read_bytes(), keys.mine()) == SOUND
    keys.meet(key_of(SERVER))
    keys.wrap_for_server(recording)
    with recording.open("rb") as file:
        own = LocalKey(home).public()
        assert own is not None
        assert sealed.recipients(file) == [sealed.key_id(SERVER.public_key()), sealed.key_id(own)]
    assert heard(recording.read_bytes(), SERVER) == heard(recording.read_bytes(), keys.mine()) == SOUND
