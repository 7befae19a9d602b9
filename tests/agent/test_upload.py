"""The spool is drained: in order, for ever, and forgotten only against a receipt."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_server import FakeServer, key_of
from tests.agent.fakes import until
from whisperagent import sealed, wire
from whisperagent.client import Client
from whisperagent.errors import NotAuthenticated
from whisperagent.keys import KeyChanged, Keys
from whisperagent.settings import Upload
from whisperagent.spool import Entry, Item, Spool
from whisperagent.upload import Uploader
from whisperagent.wire import CallMetadata, SpoolState

QUICK = Upload(retry_s=0.1, retry_max_s=0.3)


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


def queue(spool: Spool, keys: Keys, seconds: int = 1) -> Item:
    metadata = CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=datetime.now(UTC))
    file = spool.create(metadata)
    writer = sealed.Writer(file, keys.recipients(), bytes(16))
    writer.write(bytes(64_000 * seconds))
    writer.finish()
    file.close()
    return spool.queue(Entry(metadata=metadata))


async def upload_until(
    spool: Spool,
    server: FakeServer,
    keys: Keys,
    over: Callable[[Uploader], bool],
    *,
    rules: Upload = QUICK,
    meanwhile: Callable[[Uploader], None] = lambda _uploader: None,
) -> list[tuple[str, str]]:
    """Run an uploader until `over` is true; gives what it told, as (event, call_id)."""
    told: list[tuple[str, str]] = []
    async with Client(server.url, "201") as client:
        uploader = Uploader(
            spool, client, keys, rules, lambda event, item: told.append((event, item.call_id))
        )
        running = asyncio.create_task(uploader.run())

        def is_over() -> bool:
            meanwhile(uploader)
            return running.done() or over(uploader)

        await until(is_over)
        assert not running.done(), running.exception()
        running.cancel()
    return told


def drained(spool: Spool) -> Callable[[Uploader], bool]:
    return lambda _uploader: not spool.waiting()


def test_what_waits_is_sent_oldest_first(home: Path, spool: Spool, server: FakeServer) -> None:
    keys = Keys(home)
    calls = [queue(spool, keys).call_id for _number in range(3)]
    server.start()
    told = asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert told == [("uploaded", call_id) for call_id in calls]
    assert [item.state for item in spool.items()] == [SpoolState.DONE] * 3


def test_a_recording_sealed_before_the_server_was_known_is_wrapped_for_it(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home)
    item = queue(spool, keys)
    server.start()
    asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert server.pcm(item.call_id) == bytes(64_000)


def test_a_recording_that_the_server_refuses_is_set_aside_with_its_words(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home)
    bad, good = queue(spool, keys), queue(spool, keys)
    answer = (422, {"type": "about:blank", "title": "no such codec", "status": 422})
    server.fail = lambda metadata: answer if metadata.call_id == bad.call_id else None
    server.start()
    told = asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert told == [("refused", bad.call_id), ("uploaded", good.call_id)]
    assert spool.find(bad.call_id)[0].error == "no such codec"


def test_one_recording_that_the_server_stumbles_over_holds_nobody_up(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home)
    bad, good = queue(spool, keys), queue(spool, keys)
    problem = {"type": "about:blank", "title": "a bug", "status": 500}
    server.fail = lambda metadata: (500, problem) if metadata.call_id == bad.call_id else None
    server.start()
    told = asyncio.run(upload_until(spool, server, keys, lambda _uploader: len(server.asked) >= 4))
    assert told == [("uploaded", good.call_id)]
    [left] = spool.waiting()
    assert (left.call_id, left.error) == (bad.call_id, "a bug")
    assert left.attempts >= 2


def test_a_receipt_for_other_bytes_is_not_believed(home: Path, spool: Spool, server: FakeServer) -> None:
    keys = Keys(home)
    item = queue(spool, keys)
    lie = wire.UploadAnswer(
        call_id=item.call_id,
        part=1,
        state=wire.CallState.RECEIVED,
        sha256="0" * 64,
        size=item.size,
        status_url="",
    )
    server.fail = lambda _metadata: (202, lie) if len(server.asked) == 1 else None
    server.start()
    asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert len(server.asked) >= 2
    assert spool.items()[0].entry.receipt != lie


def test_a_server_that_does_not_know_us_keeps_everything_here(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home)
    item = queue(spool, keys)
    server.fail = lambda _metadata: (401, {"title": "who are you"})
    server.start()
    asyncio.run(upload_until(spool, server, keys, lambda up: isinstance(up.problem, NotAuthenticated)))
    assert [left.call_id for left in spool.waiting()] == [item.call_id]


def test_another_key_than_the_pinned_one_stops_sending_until_a_person_decides(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home)
    pinned = key_of(X25519PrivateKey.generate())
    keys.meet(pinned)
    queue(spool, keys)
    server.start()
    asyncio.run(upload_until(spool, server, keys, lambda up: isinstance(up.problem, KeyChanged)))
    assert server.asked == []
    assert len(spool.waiting()) == 1
    assert sealed.key_id(keys.recipients()[0]).hex() == pinned.kid


def test_a_server_that_changed_its_key_is_followed_and_what_waited_is_sent_as_it_is(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home)
    keys.meet(key_of(server.key))
    item = queue(spool, keys)
    waited = item.path.read_bytes()
    server.older_keys, server.key = (server.key,), X25519PrivateKey.generate()
    server.start()
    asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert server.stored[item.call_id, 1][0] == waited
    assert len(server.pcm(item.call_id)) == 64_000
    for following in (keys, Keys(home)):
        assert [key.public_bytes_raw() for key in following.recipients()] == [raw(server.key)]


def test_a_key_in_the_settings_is_sealed_to_until_a_person_changes_it_and_its_recordings_are_sent(
    home: Path, spool: Spool, server: FakeServer
) -> None:
    keys = Keys(home, key_of(server.key).public_key)
    item = queue(spool, keys)
    server.older_keys, server.key = (server.key,), X25519PrivateKey.generate()
    server.start()
    asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert len(server.pcm(item.call_id)) == 64_000
    assert [key.public_bytes_raw() for key in keys.recipients()] == [raw(server.older_keys[0])]
    assert not (home / "server.key").exists()


def test_the_server_seen_again_ends_a_long_wait(home: Path, spool: Spool, server: FakeServer) -> None:
    keys = Keys(home)
    queue(spool, keys)
    patient = Upload(retry_s=3600, retry_max_s=3600)
    heard: list[FakeServer] = []

    def appear(uploader: Uploader) -> None:
        if uploader.problem is not None and not heard:
            heard.append(server.start())
            uploader.server_seen()

    asyncio.run(upload_until(spool, server, keys, drained(spool), rules=patient, meanwhile=appear))


def test_a_retry_by_another_process_is_noticed(home: Path, spool: Spool, server: FakeServer) -> None:
    keys = Keys(home)
    item = queue(spool, keys)
    spool.reject(spool.waiting()[0], "no")
    server.start()
    asked: list[int] = []

    def ask(uploader: Uploader) -> None:
        if uploader.server_seen_at is not None and not asked:
            asked.append(Spool(spool.root).retry(spool.find(item.call_id)))

    def sent(_uploader: Uploader) -> bool:
        return spool.items()[0].state is SpoolState.DONE

    patient = Upload(retry_s=3600, retry_max_s=3600)
    asyncio.run(upload_until(spool, server, keys, sent, rules=patient, meanwhile=ask))


def test_the_same_recording_sent_twice_is_stored_once(home: Path, spool: Spool, server: FakeServer) -> None:
    """The answer was lost: the server has it, the PC does not know."""
    keys = Keys(home)
    item = queue(spool, keys)
    server.start()

    async def lose_the_answer() -> None:
        async with Client(server.url, "201") as client:
            keys.meet(await client.server_key())
            uploader = Uploader(spool, client, keys, QUICK, lambda _event, _item: None)
            await client.upload(item.path, uploader._prepare(item))

    asyncio.run(lose_the_answer())
    asyncio.run(upload_until(spool, server, keys, drained(spool)))
    assert len(server.asked) == 2
    assert len(server.stored) == 1


def raw(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()
