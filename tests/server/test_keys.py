"""The server's own keys: one is current, those before it still open, and none is made beside old calls."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.server.conftest import running
from tests.server.ingest_fixtures import noise, srec
from whisperagent import settings, succession, wire
from whisperagent.client import Client
from whisperagent.errors import ConfigError
from whisperagent.keys import KeyChanged, Keys
from whisperagent.sealed import Keyring
from whisperserver import keys

pytestmark = pytest.mark.anyio


def test_programs_that_start_side_by_side_have_one_key(home: Path) -> None:
    """A server and a worker at the first start of the machine: what one seals, the other opens."""
    together = threading.Barrier(8)

    def load(_number: int) -> bytes:
        together.wait()
        return keys.load_or_make(settings.paths(), home / "calls.db").current.private_bytes_raw()

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


def test_a_rotated_key_is_new_and_the_one_before_is_kept_for_its_owner_only(home: Path) -> None:
    first = keys.load_or_make(settings.paths(), home / "calls.db").current.private_bytes_raw()
    (home / "calls.db").touch()
    second = keys.rotate(settings.paths(), home / "calls.db")
    third = keys.rotate(settings.paths(), home / "calls.db")
    assert len({first, second.current.private_bytes_raw(), third.current.private_bytes_raw()}) == 3
    older = {key.private_bytes_raw() for key in third.older}
    assert older == {first, second.current.private_bytes_raw()}
    folder = keys.old_keys(settings.paths())
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o600"}


def test_a_rotation_that_could_not_keep_the_key_before_changes_nothing(home: Path) -> None:
    first = keys.load_or_make(settings.paths(), home / "calls.db").current.private_bytes_raw()
    keys.old_keys(settings.paths()).write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        keys.rotate(settings.paths(), home / "calls.db")
    assert keys.path(settings.paths()).read_bytes() == first


def test_an_old_key_that_is_damaged_is_told_of_before_a_recording_needs_it(home: Path) -> None:
    keys.rotate(settings.paths(), home / "calls.db")
    [old] = keys.old_keys(settings.paths()).iterdir()
    old.write_bytes(b"short")
    with pytest.raises(ConfigError) as refused:
        keys.load_or_make(settings.paths(), home / "calls.db")
    assert str(old) in refused.value.what


def test_after_a_rotation_old_recordings_open_and_waiting_ones_are_taken_as_they_are(tmp_path: Path) -> None:
    before, waiting, after = noise(64_000, 1), noise(64_000, 2), noise(64_000, 3)
    with running(tmp_path / "server-home") as server:
        old = server.services.key
        stored = server.received(before)
        paths = server.loaded.paths
    keys.rotate(paths, paths.server / "calls.db")
    with running(tmp_path / "server-home") as server, server.http() as http:
        new = server.services.key.current
        calls = {stored: before}
        for pcm, key in ((waiting, old.current), (after, new)):
            call_id = wire.new_call_id()
            answer = server.upload(call_id, recording=srec(pcm, key, call_id=call_id))
            assert answer.status_code == 202, answer.text
            calls[call_id] = pcm
        for call_id, pcm in calls.items():
            assert http.get(f"{wire.CALLS}/{call_id}/audio").content.endswith(pcm)
    assert new.private_bytes_raw() != old.current.private_bytes_raw()


def test_the_server_proves_to_a_pc_that_it_holds_the_key_before(tmp_path: Path) -> None:
    with running(tmp_path / "server-home") as server:
        pinned = server.services.key.public_key()
        paths = server.loaded.paths
    keys.rotate(paths, paths.server / "calls.db")
    with running(tmp_path / "server-home") as server, server.http() as http:
        current = server.services.key.public_key()
        assert proved(http, pinned, current)
        assert not proved(http, pinned, pinned)
        assert not proved(http, X25519PrivateKey.generate().public_key(), current)


async def test_a_pc_follows_the_server_from_key_to_key(home: Path, tmp_path: Path) -> None:
    pc = Keys(home)
    met = []
    for _rotation in range(3):
        with running(tmp_path / "server-home") as server:
            async with Client(server.url, "201") as client:
                await pc.greet(await client.server_key(), client.server_key)
            assert pc.recipients() == [server.services.key.public_key()]
            met += pc.recipients()
            paths = server.loaded.paths
        keys.rotate(paths, paths.server / "calls.db")
    assert len({key.public_bytes_raw() for key in met}) == 3


async def test_a_pc_does_not_follow_a_server_that_has_lost_its_key(home: Path, tmp_path: Path) -> None:
    pc = Keys(home)
    pc.meet(keys.shown(Keyring(X25519PrivateKey.generate())))
    pinned = pc.recipients()
    with running(tmp_path / "server-home") as server:
        async with Client(server.url, "201") as client:
            with pytest.raises(KeyChanged):
                await pc.greet(await client.server_key(), client.server_key)
    assert pc.recipients() == pinned


@pytest.mark.parametrize("challenge", ["x", "é", "A" * 120, "AAAA"])
def test_a_challenge_that_is_none_is_answered_with_the_key_and_no_proof(home: Path, challenge: str) -> None:
    ring = keys.load_or_make(settings.paths(), home / "calls.db")
    shown = keys.shown(ring, challenge)
    assert (shown.public_key, shown.proof) == (keys.shown(ring).public_key, "")


def proved(http: httpx.Client, pinned: X25519PublicKey, shown: X25519PublicKey) -> bool:
    """Does the server, which is challenged by who has pinned this key, vouch for that one?"""
    challenge = succession.Challenge(pinned)
    answer = http.get(wire.SERVER_KEY, params={"challenge": challenge.text})
    assert answer.status_code == 200
    return challenge.met(msgspec.json.decode(answer.content, type=wire.ServerKey).proof, shown)
