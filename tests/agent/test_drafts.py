"""Offline mode: which calls are drafted on this PC, when, and what is left on the disk."""

import asyncio
import base64
import json
import math
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import drafting, sealed, wire
from whisperagent.drafting import AGAIN_S, TRIES, Drafter
from whisperagent.drafts import OwnDraft, OwnDrafts
from whisperagent.errors import WhisperError
from whisperagent.hosts import process_exists
from whisperagent.keys import Keys
from whisperagent.settings import Offline
from whisperagent.spool import Entry, Item, Spool
from whisperagent.wire import CallMetadata, Segment, SpoolState, UploadAnswer

CHILD = Path(__file__).with_name("drafting_child.py")
PATIENCE_S = 20.0
SEGMENTS = (
    Segment(id=0, start_s=0.0, end_s=1.0, speaker="agent", text="Bonjour."),
    Segment(id=1, start_s=1.0, end_s=2.0, speaker="caller", text="L'imprimante."),
)


class Pc:
    """A PC in offline mode. away_s, idle, now: what its agent says. told: what was told."""

    def __init__(self, home: Path, notes: Path) -> None:
        self.away_s = math.inf
        self.idle = True
        self.now = 0.0
        self.told: list[tuple[str, str]] = []
        self.notes = notes
        self.spool = Spool(home / "spool")
        self.keys = Keys(home, own=True)
        self.drafts = OwnDrafts(home)
        self.drafter = Drafter(
            self.drafts,
            self.spool,
            self.keys,
            Offline(enabled=True, model="tiny", threads=3),
            away_s=lambda: self.away_s,
            idle=lambda: self.idle,
            tell=lambda event, call_id, **_details: self.told.append((event, call_id)),
            program=[sys.executable, str(CHILD), str(notes)],
            clock=lambda: self.now,
        )

    def look(self) -> None:
        asyncio.run(self.drafter.look())

    def look_while(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Look, and do that when the child is at work."""

        async def both() -> None:
            looking = asyncio.create_task(self.drafter.look())
            runs = len(self.runs())
            end = time.monotonic() + PATIENCE_S
            while len(self.runs()) == runs:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            await meanwhile()
            await looking

        asyncio.run(both())

    def child_is_to(self, what: str) -> None:
        (self.notes / "do").write_text(what)

    def runs(self) -> list[dict[str, Any]]:
        """What each child was given."""
        there = self.notes / "runs"
        return [json.loads(line) for line in there.read_text().splitlines()] if there.exists() else []

    def recorded(
        self, text: str = "words", call_id: str = "", part: int = 1, *, last: bool = True, mine: bool = True
    ) -> Item:
        """A part of a call waits for the server. mine: sealed to the key of this PC as well."""
        metadata = CallMetadata(
            call_id=call_id or wire.new_call_id(),
            extension="201",
            started_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
            duration_s=1.0,
            part=part,
            last=last,
        )
        file = self.spool.create(metadata)
        recipients = self.keys.recipients() if mine else [X25519PrivateKey.generate().public_key()]
        writer = sealed.Writer(
            file, recipients, uuid.UUID(metadata.call_id).bytes, msgspec.json.encode(metadata)
        )
        writer.write(text.encode())
        writer.finish()
        file.close()
        return self.spool.queue(Entry(metadata=metadata))

    def sent(self, item: Item) -> None:
        receipt = UploadAnswer(
            call_id=item.call_id,
            part=item.part,
            state=wire.CallState.RECEIVED,
            sha256="0" * 64,
            size=item.size,
            status_url="/",
        )
        self.spool.done(item, receipt)

    def words(self, call_id: str) -> list[str] | None:
        draft = self.drafts.load(call_id)
        return [segment.text for segment in draft.segments] if draft else None


@pytest.fixture
def pc(home: Path, tmp_path: Path) -> Pc:
    notes = tmp_path / "notes"
    notes.mkdir()
    return Pc(home, notes)


# When, and which


def test_a_call_that_waits_is_drafted_and_told(pc: Pc) -> None:
    item = pc.recorded("the printer is on fire")
    pc.look()
    assert pc.words(item.call_id) == ["the printer is on fire"]
    assert pc.told == [("drafted", item.call_id)]
    assert [it.state for it in pc.spool.items()] == [SpoolState.QUEUED]


def test_nothing_is_drafted_while_the_server_takes_calls(pc: Pc) -> None:
    item = pc.recorded()
    pc.away_s = 599.0
    pc.look()
    assert pc.words(item.call_id) is None
    pc.away_s = 600.0
    pc.look()
    assert pc.words(item.call_id) == ["words"]


def test_nothing_is_drafted_while_a_call_is_up(pc: Pc) -> None:
    pc.recorded()
    pc.idle = False
    pc.look()
    assert pc.runs() == []


def test_the_newest_call_comes_first_and_one_at_a_time(pc: Pc) -> None:
    old, new = pc.recorded("old"), pc.recorded("new")
    pc.look()
    assert pc.told == [("drafted", new.call_id)]
    pc.look()
    assert pc.told == [("drafted", new.call_id), ("drafted", old.call_id)]
    pc.look()
    assert len(pc.runs()) == 2


def test_a_call_whose_end_is_missing_waits_for_it(pc: Pc) -> None:
    first = pc.recorded("begins", last=False)
    pc.look()
    assert pc.runs() == []
    pc.recorded("ends", first.call_id, 2)
    pc.look()
    assert pc.words(first.call_id) == ["begins", "ends"]


def test_a_call_whose_beginning_is_missing_is_left_to_the_server(pc: Pc) -> None:
    pc.recorded("ends", part=2)
    pc.look()
    assert pc.runs() == []


def test_parts_that_the_server_has_already_belong_to_the_draft(pc: Pc) -> None:
    first = pc.recorded("begins", last=False)
    pc.sent(first)
    pc.recorded("ends", first.call_id, 2)
    pc.look()
    assert pc.words(first.call_id) == ["begins", "ends"]


def test_a_call_that_is_sent_is_not_drafted(pc: Pc) -> None:
    pc.sent(pc.recorded())
    pc.look()
    assert pc.runs() == []


def test_a_call_from_before_offline_mode_is_left_without_a_word(pc: Pc) -> None:
    closed = pc.recorded("closed", mine=False)
    pc.look()
    pc.look()
    assert (pc.runs(), pc.told, pc.drafter.problem) == ([], [], None)
    newer = pc.recorded("newer")
    pc.look()
    assert pc.told == [("drafted", newer.call_id)]
    assert pc.words(closed.call_id) is None


# The child


def test_the_child_is_given_names_and_on_its_stdin_the_keys_and_nothing_secret_besides(
    pc: Pc, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WA_TOKEN", "for the server alone")
    item = pc.recorded()
    pc.look()
    [run] = pc.runs()
    assert run["arguments"] == ["--model", "tiny", str(item.path)]
    assert (run["token"], run["threads"]) == (None, "3")
    assert run["stdin open"]


def test_a_call_that_comes_ends_the_child_and_it_is_begun_anew_afterwards(pc: Pc) -> None:
    item = pc.recorded()
    pc.child_is_to("wait")

    async def a_call_comes() -> None:
        pc.idle = False

    pc.look_while(a_call_comes)
    [run] = pc.runs()
    assert not process_exists(run["pid"])
    assert pc.told == []
    pc.idle = True
    pc.child_is_to("")
    pc.look()
    assert pc.told == [("drafted", item.call_id)]


def test_the_child_ends_with_the_agent(pc: Pc) -> None:
    pc.recorded()
    pc.child_is_to("wait")

    async def stop() -> None:
        running = asyncio.create_task(pc.drafter.run())
        end = time.monotonic() + PATIENCE_S
        while not pc.runs():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(stop())
    assert not process_exists(pc.runs()[0]["pid"])


def test_a_call_that_is_destroyed_meanwhile_leaves_no_words(pc: Pc, home: Path) -> None:
    item = pc.recorded()
    pc.child_is_to("wait")

    async def it_was_private() -> None:
        pc.spool.destroy(item.call_id)

    pc.look_while(it_was_private)
    assert not process_exists(pc.runs()[0]["pid"])
    assert pc.drafts.call_ids() == set()


def test_a_call_that_is_sent_meanwhile_is_drafted_to_the_end(pc: Pc) -> None:
    item = pc.recorded()

    async def it_is_sent() -> None:
        pc.sent(item)

    pc.look_while(it_is_sent)
    assert pc.words(item.call_id) == ["words"]


def test_a_child_that_takes_too_long_is_ended_and_counted(pc: Pc) -> None:
    item = pc.recorded()
    pc.child_is_to("wait")

    async def hours_pass() -> None:
        pc.now += 7200.0

    for _try in range(TRIES):
        pc.look_while(hours_pass)
        pc.now += 7200.0
    assert pc.told == [("undrafted", item.call_id)]
    assert not any(process_exists(run["pid"]) for run in pc.runs())


@pytest.mark.parametrize("does", ["exit 1", "say no JSON", "say {}"])
def test_a_call_that_cannot_be_drafted_is_tried_later_but_not_for_ever(pc: Pc, does: str) -> None:
    item = pc.recorded()
    pc.child_is_to(does)
    for tries, wait_s in enumerate((AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S), 1):
        pc.look()
        assert len(pc.runs()) == tries
        pc.now += wait_s - 1
        pc.look()
        assert len(pc.runs()) == tries
        pc.now += 1
    pc.look()
    assert len(pc.runs()) == TRIES
    assert pc.told == [("undrafted", item.call_id)]
    assert pc.drafter.problem is None


def test_another_call_is_drafted_while_one_waits_for_its_next_try(pc: Pc) -> None:
    older = pc.recorded("older")
    pc.recorded("newer")
    pc.child_is_to("exit 1")
    pc.look()
    pc.child_is_to("")
    pc.look()
    assert pc.told == [("drafted", older.call_id)]


def test_where_no_call_can_be_drafted_it_says_why_and_counts_no_try(pc: Pc) -> None:
    item = pc.recorded()
    pc.child_is_to("exit 2")
    for _time in range(TRIES + 1):
        pc.look()
        problem = pc.drafter.problem
        assert problem is not None
        assert problem.why == "error: this is what went wrong; because"
        pc.look()
        pc.now += AGAIN_S
    assert len(pc.runs()) == TRIES + 1
    pc.child_is_to("")
    pc.look()
    assert pc.told == [("drafted", item.call_id)]
    assert pc.drafter.problem is None


def test_what_is_in_the_way_of_drafts_is_no_trouble_while_the_server_takes_calls(pc: Pc) -> None:
    pc.recorded()
    pc.child_is_to("exit 2")
    pc.look()
    pc.away_s = 0.0
    assert pc.drafter.problem is None


def test_without_the_key_of_this_pc_nothing_is_drafted_and_it_is_said(pc: Pc, home: Path) -> None:
    item = pc.recorded()
    key = home / "own.key"
    kept = key.read_bytes()
    (home / "own.pub").write_bytes(_public(kept))  # it is in a keyring that is locked
    key.unlink()
    pc.look()
    assert pc.drafter.problem is not None
    assert "key of this PC" in pc.drafter.problem.what
    assert pc.runs() == []
    key.write_bytes(kept)
    pc.now += AGAIN_S
    pc.look()
    assert pc.told == [("drafted", item.call_id)]


def _public(private: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private).public_key()
    return base64.b64encode(key.public_bytes_raw())


def test_where_the_extra_is_missing_it_says_which_one_to_install() -> None:
    program = "import sys; sys.modules['faster_whisper'] = None; from whisperagent import drafting; "
    done = subprocess.run(
        [sys.executable, "-c", program + "print(drafting.missing().in_words())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "faster_whisper is not installed" in done.stdout
    assert 'pip install "whisperagent[offline]"' in done.stdout
    assert drafting.missing() is None


# What is left


def test_neither_words_nor_keys_lie_in_the_home_in_clear(pc: Pc, home: Path) -> None:
    item = pc.recorded("a very secret printer")
    pc.look()
    assert pc.words(item.call_id) == ["a very secret printer"]
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"secret printer" not in everything
    [draft] = (home / "drafts").iterdir()
    assert draft.stat().st_mode & 0o077 == 0


def test_a_draft_goes_with_the_recordings_of_its_call(pc: Pc) -> None:
    items = [pc.recorded() for _call in range(3)]
    for _item in items:
        pc.look()
    sent, dropped, stays = items
    pc.sent(sent)
    pc.spool.destroy(dropped.call_id)
    pc.now += 60.0
    pc.look()
    assert pc.drafts.call_ids() == {sent.call_id, stays.call_id}
    # Its days are over: the receipt stays, the recording goes.
    pc.spool.path(SpoolState.DONE, sent.call_id, 1).unlink()
    pc.now += 60.0
    pc.look()
    assert pc.drafts.call_ids() == {stays.call_id}


# A draft


def draft_of(call_id: str) -> OwnDraft:
    return OwnDraft(
        call_id=call_id,
        made_at=datetime.now(UTC),
        model="tiny",
        language="fr",
        duration_s=2.0,
        segments=SEGMENTS,
    )


def test_a_correction_is_kept_and_the_words_of_the_model_with_it(pc: Pc) -> None:
    call_id = wire.new_call_id()
    pc.drafts.keep(draft_of(call_id))
    pc.drafts.correct(call_id, 1, "L'imprimante du second.")
    draft = pc.drafts.load(call_id)
    assert draft is not None
    assert [segment.text for segment in draft.as_corrected()] == ["Bonjour.", "L'imprimante du second."]
    assert draft.segments == SEGMENTS
    pc.drafts.correct(call_id, 1, "L'imprimante.")
    assert pc.drafts.load(call_id) == msgspec.structs.replace(draft, corrected={})


def test_a_segment_without_any_text_is_gone(pc: Pc) -> None:
    call_id = wire.new_call_id()
    pc.drafts.keep(draft_of(call_id))
    pc.drafts.correct(call_id, 0, "")
    draft = pc.drafts.load(call_id)
    assert draft is not None
    assert [segment.id for segment in draft.as_corrected()] == [1]


def test_a_draft_that_is_damaged_or_another_calls_is_told_and_not_shown(pc: Pc, home: Path) -> None:
    one, other = wire.new_call_id(), wire.new_call_id()
    pc.drafts.keep(draft_of(one))
    path = home / "drafts" / f"{one}.srec"
    path.replace(home / "drafts" / f"{other}.srec")
    with pytest.raises(WhisperError, match="cannot be opened"):
        pc.drafts.load(other)
    path.write_bytes(b"\x89SREC")
    with pytest.raises(WhisperError, match="cannot be opened"):
        pc.drafts.load(one)
    assert pc.drafts.load(wire.new_call_id()) is None
