"""The store by itself: its tables, its transactions, and the steps of a job that may be killed anywhere."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from advanced_alchemy.base import orm_registry
from msgspec.structs import replace
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.server.conftest import STARTED_AT
from whisperagent import settings, wire
from whisperagent.errors import ConfigError
from whisperagent.wire import CallState, TicketState
from whisperserver import jobs
from whisperserver.live import Live
from whisperserver.refusals import Conflict, Forbidden, Gone
from whisperserver.store import (
    blobs,
    calls,
    claims,
    database,
    events,
    figures,
    reviews,
    search,
    transcripts,
    workers,
)
from whisperserver.store.models import PartRow, WorkerRow
from whisperserver.sweep import Sweeper

T = TypeVar("T")

WRITTEN = transcripts.Written("fr", "demo", 4.0, (), 1.0)


@dataclass
class Store:
    """A database of its own, and short ways to use it."""

    path: Path

    def write(self, *steps: Callable[[AsyncSession], Awaitable[T]]) -> list[T]:
        """Each step in a transaction of its own."""

        async def run() -> list[T]:
            store = database.Database(self.path)
            try:
                results = []
                for step in steps:
                    async with store.writing() as session:
                        results.append(await step(session))
                return results
            finally:
                await store.close()

        return asyncio.run(run())

    def sweep(self, patience: timedelta = timedelta(minutes=10)) -> None:
        async def run() -> None:
            store = database.Database(self.path)
            await Sweeper(store, patience).sweep()
            await store.close()

        asyncio.run(run())

    def receive(self, call_id: str = "", **said: object) -> str:
        """One part of a call comes in, and its job with it."""
        metadata = wire.CallMetadata(
            call_id=call_id or wire.new_call_id(), extension="201", started_at=STARTED_AT, duration_s=4.0
        )
        metadata = replace(metadata, **said)

        async def step(session: AsyncSession) -> None:
            _call, ready = await calls.add_part(session, part_of(metadata))
            if ready:
                await jobs.enqueue_transcription(session, metadata.call_id)

        self.write(step)
        return metadata.call_id

    def state(self, call_id: str) -> tuple[str, str]:
        async def step(session: AsyncSession) -> tuple[str, str]:
            call = await calls.find(session, call_id)
            assert call is not None
            return call.state, call.error

        return self.write(step)[0]

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self.changing() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Do to the database what should not happen to it."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection


def part_of(metadata: wire.CallMetadata, sha256: str = "0" * 64) -> PartRow:
    return PartRow(
        call_id=metadata.call_id,
        part=metadata.part,
        metadata_json=metadata,
        sha256=sha256,
        size=100,
        codec="pcm",
        path=f"{metadata.call_id}/{metadata.part}.srec",
        recording_id=b"0" * 16,
        sound_bytes=64,
        interrupted=not metadata.complete,
        received_at=datetime.now(UTC),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    path = tmp_path / "calls.db"
    database.migrate(path)
    return Store(path)


# Tables


def test_the_migrations_make_the_tables_that_the_code_reads(store: Store) -> None:
    engine = create_engine(f"sqlite:///{store.path}")
    there = inspect(engine)
    names = [name for name in there.get_table_names() if name in orm_registry.metadata.tables]
    assert len(names) == 10
    for name in names:
        table = orm_registry.metadata.tables[name]
        assert {(column["name"], column["nullable"]) for column in there.get_columns(name)} == {
            (column.name, column.nullable) for column in table.columns
        }
        assert {index["name"] for index in there.get_indexes(name)} == {index.name for index in table.indexes}
    engine.dispose()


def test_what_is_asked_often_is_found_by_an_index(store: Store) -> None:
    """By the sweeper every two seconds, by Prometheus, by every list; there is one connection for all."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        asked.append((statement, values))

    async def run() -> None:
        async with database.opened(store.path) as mine:
            event.listen(mine.config.get_engine().sync_engine, "before_cursor_execute", note)
            await Sweeper(mine).sweep()
            async with mine.reading() as session:
                await calls.page(session)
                await calls.page(session, q="m")
                await figures.calls_by_state(session)
                await figures.tickets_by_state(session)
                await figures.transcriptions(session)
                await figures.newest_factor(session)
                await jobs.waiting(session, jobs.TRANSCRIBE)
                await jobs.position(session, "x")
                await events.since(session, 1, 100)

    asyncio.run(run())
    with store.changing() as connection:
        plans = [
            (line[3], statement)
            for statement, values in asked
            if statement.startswith(("SELECT", "UPDATE"))
            for line in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert len(plans) > 15
    scans = [plan for plan in plans if plan[0].startswith("SCAN") and "INDEX" not in plan[0]]
    assert scans == []
    joins = [plan for plan in plans if "SEARCH tickets" in plan[0] and "LEFT-JOIN" in plan[0]]
    assert len(joins) == 2
    assert all("call_id=?" in line for line, _statement in joins)


def test_a_database_is_only_brought_up_to_date_once(store: Store) -> None:
    call_id = store.receive()
    database.migrate(store.path)
    assert store.state(call_id)[0] == "received"
    assert store.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("table", ["calls", "parts", "tickets"])
def test_a_server_that_is_broken_off_while_it_makes_its_database_starts_again(
    tmp_path: Path, table: str
) -> None:
    def break_off(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if f"CREATE TABLE {table} " in statement:
            raise KeyboardInterrupt

    event.listen(Engine, "after_cursor_execute", break_off)
    try:
        with pytest.raises(KeyboardInterrupt):
            database.migrate(tmp_path / "calls.db")
    finally:
        event.remove(Engine, "after_cursor_execute", break_off)
    database.migrate(tmp_path / "calls.db")


@pytest.mark.parametrize(
    "content", [b"not a database, certainly not one of ours" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused_in_words_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        database.migrate(path)
    assert str(path) in refused.value.what
    assert path.read_bytes() == content


def test_a_database_of_a_newer_version_is_refused(store: Store) -> None:
    with store.changing() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError):
        database.migrate(store.path)


@pytest.mark.parametrize("name", ["database", "storage"])
def test_a_place_that_is_no_file_is_refused(name: str) -> None:
    values = settings.Settings(serve=settings.Serve(**{name: "s3://somewhere/else"}))
    where = settings.paths()
    with pytest.raises(ConfigError):
        database.location(values, where) if name == "database" else blobs.location(values, where)


# Transactions


def test_what_raises_leaves_no_trace(store: Store) -> None:
    async def step(session: AsyncSession) -> None:
        events.tell(session, "call.state", "x")
        await session.flush()
        raise KeyError

    with pytest.raises(KeyError):
        store.write(step)
    assert store.rows("SELECT count(*) FROM events") == [(0,)]


def test_two_processes_write_side_by_side(store: Store) -> None:
    """Each reads first and writes later, which SQLite refuses to whoever did not begin as a writer."""

    async def bump(name: str) -> None:
        mine = database.Database(store.path)
        for _time in range(20):
            async with mine.writing() as session:
                before = (await session.execute(text("SELECT count(*) FROM events"))).scalar_one()
                await asyncio.sleep(0)
                events.tell(session, name, "x", before=before)
        await mine.close()

    async def run() -> None:
        await asyncio.gather(bump("a"), bump("b"))

    asyncio.run(run())
    assert [
        row[0] for row in store.rows("SELECT json_extract(data, '$.before') FROM events ORDER BY seq")
    ] == list(range(40))


def test_what_was_found_out_is_kept_until_the_database_takes_it(store: Store) -> None:
    """It is full at first: what a job has found out is not thrown away for that."""

    async def run() -> int:
        tries = 0

        async def step(session: AsyncSession) -> int:
            nonlocal tries
            tries += 1
            pages = 1 if tries == 1 else 1_000_000
            await session.execute(text(f"PRAGMA max_page_count = {pages}"))
            events.tell(session, "call.state", "x", words="x" * 9000)
            return tries

        async with database.opened(store.path) as mine:
            return await mine.written(step)

    assert asyncio.run(run()) == 2
    assert store.rows("SELECT count(*) FROM events") == [(1,)]


def test_a_fault_is_not_tried_again(store: Store) -> None:
    async def step(session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO nowhere VALUES (1)"))

    async def run() -> None:
        async with database.opened(store.path) as mine:
            await mine.written(step)

    with pytest.raises(OperationalError, match="nowhere"):
        asyncio.run(run())


# Parts


def test_a_call_is_transcribed_when_its_last_part_is_there(store: Store) -> None:
    call_id = store.receive(part=1, last=False)
    assert store.rows("SELECT count(*) FROM queue_task") == [(0,)]
    store.receive(call_id, part=3, started_at=STARTED_AT + timedelta(seconds=20))
    assert store.rows("SELECT count(*) FROM queue_task") == [(0,)]
    store.receive(call_id, part=2, last=False, started_at=STARTED_AT + timedelta(seconds=10))
    assert store.rows("SELECT task_key FROM queue_task") == [(f"transcribe:{call_id}",)]
    assert store.rows("SELECT duration_s FROM calls") == [(24.0,)]


def test_a_part_that_never_comes_is_not_waited_for_for_ever(store: Store) -> None:
    call_id = store.receive(last=False)
    store.sweep()
    assert store.rows("SELECT count(*) FROM queue_task") == [(0,)]
    store.sweep(patience=timedelta(0))
    assert store.rows("SELECT task_key FROM queue_task") == [(f"transcribe:{call_id}",)]
    assert store.rows("SELECT interrupted FROM calls") == [(1,)]


def test_a_part_is_known_again_and_another_one_in_its_place_is_refused(store: Store) -> None:
    call_id = store.receive()
    metadata = wire.CallMetadata(call_id=call_id, extension="201", started_at=STARTED_AT)
    [found] = store.write(lambda session: calls.known_part(session, metadata, "0" * 64))
    assert found is not None
    with pytest.raises(Conflict):
        store.write(lambda session: calls.known_part(session, metadata, "1" * 64))
    stranger = wire.CallMetadata(call_id=call_id, extension="202", started_at=STARTED_AT)
    with pytest.raises(Forbidden):
        store.write(lambda session: calls.known_part(session, stranger, "0" * 64))


# A transcription that may be killed anywhere


def test_a_lost_job_is_made_again(store: Store) -> None:
    call_id = store.receive()
    with store.changing() as connection:
        connection.execute("DELETE FROM queue_task")
    store.sweep()
    assert store.rows("SELECT task_key FROM queue_task") == [(f"transcribe:{call_id}",)]


def test_a_job_has_one_life_at_a_time(store: Store) -> None:
    call_id = store.receive()
    store.write(*[lambda session: jobs.enqueue_transcription(session, call_id)] * 3)
    assert store.rows("SELECT count(*) FROM queue_task") == [(1,)]


def test_a_call_that_brings_its_worker_down_again_and_again_is_laid_aside(store: Store) -> None:
    call_id = store.receive()
    for _attempt in range(transcripts.ATTEMPTS_MAX):
        assert len(store.write(lambda session: transcripts.begin(session, call_id))[0]) == 1
    assert store.write(lambda session: transcripts.begin(session, call_id)) == [()]
    state, error = store.state(call_id)
    assert state == "quarantined"
    assert "3 attempts" in error


def test_a_worker_that_stops_in_order_costs_the_call_no_attempt(store: Store) -> None:
    call_id = store.receive()
    for _attempt in range(2 * transcripts.ATTEMPTS_MAX):
        store.write(
            lambda session: transcripts.begin(session, call_id),
            lambda session: transcripts.give_back(session, call_id),
        )
    assert store.state(call_id)[0] == "received"


def test_a_transcription_that_keeps_failing_ends_as_failed(store: Store) -> None:
    call_id = store.receive()
    for _attempt in range(transcripts.ATTEMPTS_MAX):
        store.write(
            lambda session: transcripts.begin(session, call_id),
            lambda session: transcripts.give_back(session, call_id, "no memory", counted=True),
        )
    assert store.state(call_id) == ("failed", "no memory")


def test_a_transcript_that_comes_too_late_changes_nothing(store: Store) -> None:
    call_id = store.receive()
    store.write(
        lambda session: transcripts.begin(session, call_id),
        lambda session: transcripts.save(session, call_id, WRITTEN, 1),
        lambda session: transcripts.save(session, call_id, WRITTEN, 1),
    )
    assert store.rows("SELECT version FROM transcripts") == [(1,)]


def test_a_part_that_came_meanwhile_sends_the_call_back(store: Store) -> None:
    call_id = store.receive()
    store.write(lambda session: transcripts.begin(session, call_id))
    store.receive(call_id, part=2)
    store.write(lambda session: transcripts.save(session, call_id, WRITTEN, 1))
    assert store.state(call_id)[0] == "received"
    store.sweep()
    assert store.rows("SELECT count(*) FROM queue_task WHERE status = 'pending'") == [(1,)]


def test_a_part_that_comes_after_a_correction_does_not_undo_it(store: Store) -> None:
    call_id = store.receive()
    segment = wire.Segment(id=0, start_s=0, end_s=1, speaker="agent", text="Un.")
    written = transcripts.Written("fr", "demo", 4.0, (segment,), 1.0)
    edit = wire.TranscriptEdit(version=1, segments=(wire.SegmentEdit(id=0, text="Deux."),))
    store.write(
        lambda session: transcripts.begin(session, call_id),
        lambda session: transcripts.save(session, call_id, written, 1),
    )
    store.write(lambda session: transcripts.edit(session, call_id, edit, "201"))
    store.receive(call_id, part=2)
    state, error = store.state(call_id)
    assert state == "transcribed"
    assert error.startswith("part 2 came after")


def test_a_part_that_announces_others_lets_no_call_be_forgotten(store: Store) -> None:
    """It went on without its last part; another one came while it was transcribed, and the worker died."""
    call_id = store.receive(last=False)
    store.sweep(patience=timedelta(0))
    store.write(lambda session: transcripts.begin(session, call_id))
    store.receive(call_id, part=2, last=False)
    assert store.write(lambda session: transcripts.begin(session, call_id)) == [()]
    assert store.state(call_id)[0] == "received"
    with store.changing() as connection:
        connection.execute("DELETE FROM queue_task")
    store.sweep(patience=timedelta(0))
    assert store.rows("SELECT task_key FROM queue_task") == [(f"transcribe:{call_id}",)]


def test_a_call_that_failed_waits_before_the_next_attempt(store: Store) -> None:
    """What failed it may be over by then: a graphics card that somebody else needed, a full memory."""
    call_id = store.receive()
    store.write(
        lambda session: jobs.take(session, jobs.TRANSCRIBE),
        lambda session: transcripts.begin(session, call_id),
        lambda session: transcripts.give_back(session, call_id, "no memory", counted=True),
    )
    with store.changing() as connection:
        connection.execute("DELETE FROM queue_task")
    store.sweep()
    assert store.rows("SELECT * FROM queue_task") == []
    with store.changing() as connection:
        connection.execute("UPDATE calls SET changed_at = '2020-01-01 00:00:00'")
    store.sweep()
    assert store.rows("SELECT task_key FROM queue_task") == [(f"transcribe:{call_id}",)]


def give_up(store: Store) -> str:
    call_id = store.receive()
    for _attempt in range(transcripts.ATTEMPTS_MAX + 1):
        store.write(lambda session: transcripts.begin(session, call_id))
    assert store.state(call_id)[0] == "quarantined"
    with store.changing() as connection:
        connection.execute("UPDATE queue_task SET status = 'completed'")
    return call_id


def test_a_call_that_was_given_up_is_begun_anew_when_a_person_says_so(store: Store) -> None:
    call_id = give_up(store)
    store.receive()
    assert store.write(lambda session: transcripts.retry(session, [])) == [[call_id]]
    assert store.state(call_id) == ("received", "")
    assert len(store.write(lambda session: transcripts.begin(session, call_id))[0]) == 1
    assert store.rows("SELECT who, action FROM audit") == [("(administrator)", "retried")]
    assert store.rows("SELECT count(*) FROM queue_task WHERE status = 'pending'") == [(2,)]


def test_a_call_that_was_not_given_up_is_not_begun_anew(store: Store) -> None:
    call_id = store.receive()
    with pytest.raises(Conflict, match="was not given up"):
        store.write(lambda session: transcripts.retry(session, [call_id]))


# Jobs, and the workers that had them


def taken_by(store: Store, worker: str, seen: timedelta = timedelta(0)) -> None:
    """A call whose job this worker has, and last beat for `seen` ago."""
    store.receive()
    store.write(lambda session: jobs.take(session, jobs.TRANSCRIBE))
    at = (datetime.now(UTC) - seen).strftime("%Y-%m-%d %H:%M:%S.%f")
    with store.changing() as connection:
        connection.execute("UPDATE queue_task SET worker_id = ?, heartbeat_at = ?", (worker, at))


def is_given_to_others(store: Store) -> bool:
    store.sweep()
    return store.rows("SELECT status FROM queue_task") == [("pending",)]


def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def test_the_job_of_a_process_that_is_gone_is_given_to_others_at_once(store: Store) -> None:
    node, _number, birth = jobs.worker_id().split(":")
    taken_by(store, f"{node}:{gone()}:{birth}")
    assert is_given_to_others(store)


def test_a_process_that_was_given_the_number_of_a_dead_one_does_not_keep_its_job(store: Store) -> None:
    """In a container every start gives the same numbers."""
    node, number, birth = jobs.worker_id().split(":")
    taken_by(store, f"{node}:{number}:{float(birth) - 100:.2f}")
    assert is_given_to_others(store)


@pytest.mark.parametrize("name", ["ours", "another machine's"])
def test_a_job_is_kept_as_long_as_somebody_beats_for_it(store: Store, name: str) -> None:
    worker = jobs.worker_id() if name == "ours" else "elsewhere:1:1.00"
    taken_by(store, worker, timedelta(seconds=jobs.STALE_S - 5))
    assert not is_given_to_others(store)


@pytest.mark.parametrize("name", ["ours", "another machine's"])
def test_a_job_that_nobody_beats_for_any_more_is_given_to_others(store: Store, name: str) -> None:
    worker = jobs.worker_id() if name == "ours" else "elsewhere:1:1.00"
    taken_by(store, worker, timedelta(seconds=jobs.STALE_S + 5))
    assert is_given_to_others(store)


def test_a_clock_that_is_set_kills_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    taken_by(store, jobs.worker_id())
    started_at = psutil.boot_time() + 3600
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: started_at)
    assert psutil.Process().create_time() > time.time(), "the clock is as it was"
    assert not is_given_to_others(store)


def test_a_late_word_of_an_earlier_taker_changes_nothing(store: Store) -> None:
    store.receive()
    [first] = store.write(lambda session: jobs.take(session, jobs.TRANSCRIBE))
    assert first is not None
    with store.changing() as connection:
        connection.execute("UPDATE queue_task SET heartbeat_at = '2020-01-01 00:00:00'")
    store.sweep()
    [second] = store.write(lambda session: jobs.take(session, jobs.TRANSCRIBE))
    assert second is not None
    assert second.run > first.run
    store.write(
        lambda session: jobs.end(session, first),
        lambda session: jobs.put_back(session, first),
    )
    assert store.rows("SELECT status FROM queue_task") == [("running",)]


# Tickets of erased calls, claims, workers


def test_an_erased_call_takes_no_ticket_back_in(store: Store) -> None:
    """Its delivery was under way; what the ticket says must not be stored again."""
    call_id = store.receive()
    draft = wire.TicketDraft(subject="Zygomatique")

    async def erase(session: AsyncSession) -> None:
        await calls.erase(session, await calls.get(session, call_id))

    store.write(erase)

    async def save() -> None:
        mine = database.Database(store.path)
        ticket = wire.Ticket(sink="ninjaone", state=TicketState.SENDING, draft=draft)
        try:
            await reviews.StoredTicket(mine, call_id, "ninjaone", draft).save(ticket)
        finally:
            await mine.close()

    with pytest.raises(Gone):
        asyncio.run(save())
    assert store.rows("SELECT count(*) FROM tickets") == [(0,)]


def test_an_erased_call_cannot_be_claimed(store: Store) -> None:
    call_id = store.receive()

    async def erase(session: AsyncSession) -> None:
        await calls.erase(session, await calls.get(session, call_id))

    store.write(erase)
    assert store.write(lambda session: claims.claim(session, call_id, "201")) == [False]


def test_a_worker_that_was_not_seen_for_long_does_not_count(store: Store) -> None:
    now = datetime.now(UTC)

    def seen(name: str, ago_s: float, error: str) -> Callable[[AsyncSession], Awaitable[object]]:
        row = WorkerRow(id=name, seen_at=now - timedelta(seconds=ago_s), speech_error=error)
        return lambda session: session.merge(row)

    trouble = workers.trouble
    store.write(seen("old", 60, ""))
    assert store.write(trouble) == ["no worker is running"]
    store.write(seen("broken", 1, "no model"))
    assert store.write(trouble) == ["no model"]
    store.write(seen("good", 1, ""))
    assert store.write(trouble) == [""]


# Events


def test_what_happens_before_the_first_look_is_told_too(store: Store) -> None:
    async def tell(session: AsyncSession) -> None:
        events.tell(session, "call.state", "x")

    async def run() -> int:
        async with database.opened(store.path) as mine:
            await mine.written(tell)
            live = Live(mine)
            await live.begin()
            with live.subscription() as subscription:
                await mine.written(tell)
                tailer = asyncio.create_task(live.run())
                async with asyncio.timeout(10):
                    heard = await subscription.next()
                tailer.cancel()
                await asyncio.gather(tailer, return_exceptions=True)
        return heard.seq

    assert asyncio.run(run()) == 2


def test_events_are_kept_for_a_while_and_their_numbers_never_come_back(store: Store) -> None:
    async def tell(session: AsyncSession) -> None:
        events.tell(session, "call.state", "x")

    store.write(tell, tell)
    with store.changing() as connection:
        connection.execute("UPDATE events SET at = '2020-01-01 00:00:00'")
    store.write(events.prune, tell)
    assert store.rows("SELECT seq FROM events") == [(3,)]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [("", ""), ("--", ""), ("l'été", '"l" "été"*'), ('a"b* OR c', '"a" "b" "OR" "c"*'), ("a_b", '"a" "b"*')],
)
def test_what_is_typed_becomes_words(typed: str, asked: str) -> None:
    assert search.expression(typed) == asked


def test_states_of_a_call_are_what_the_wire_says(store: Store) -> None:
    call_id = store.receive()
    assert CallState(store.state(call_id)[0]) is CallState.RECEIVED
