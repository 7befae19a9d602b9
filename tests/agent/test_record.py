"""A call becomes sealed files in the spool."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_server import key_of
from tests.agent.fakes import ScriptedHost, pcm, side, sound
from tests.agent.runaway import RunawayDevice, marked
from whisperagent import sealed, wire
from whisperagent.errors import NoRoom
from whisperagent.hosts import Block
from whisperagent.keys import Keys
from whisperagent.record import Recorder, level_dbfs
from whisperagent.settings import Recording
from whisperagent.spool import Item, Spool
from whisperagent.wire import SAMPLE_RATE, CallMetadata, SpoolState

BEGAN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SERVER = X25519PrivateKey.generate()


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


@pytest.fixture
def keys(home: Path) -> Keys:
    return Keys(home, key_of(SERVER).public_key)


def metadata(**more: object) -> CallMetadata:
    first = CallMetadata(call_id=wire.new_call_id(), extension="201", started_at=BEGAN)
    return msgspec.structs.replace(first, **more)


def record(
    spool: Spool,
    keys: Keys,
    seconds: float,
    rules: Recording | None = None,
    first: CallMetadata | None = None,
) -> tuple[Recorder, list[Item]]:
    """Feed a recorder `seconds` of sound, as it comes, and leave it open; gives the parts it closed."""
    first = first or metadata()
    recorder = Recorder(spool, keys, rules or Recording(free_mib=0), 0.0, first)
    recorder.confirm()
    host = ScriptedHost([])
    source, closed = host.open(), []
    for tenth in range(round(seconds * 10)):
        host.now = (tenth + 1) / 10
        while block := source.read():
            recorder.feed(block)
        closed += recorder.advance(host.now)
    return recorder, closed


def go_on(recorder: Recorder, begins: float, ends: float) -> None:
    """More of the same sound."""
    host = ScriptedHost([])
    host.now = begins
    source = host.open()
    host.now = ends
    while block := source.read():
        recorder.feed(block)
    recorder.advance(ends)


def test_a_recorded_call_is_queued_with_what_is_known_of_it(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    recorder.name("+33 6 12 34 56 78", 1.0)
    recorder.mark("held", 2.0)
    item = recorder.close()
    assert item is not None
    assert [waiting.call_id for waiting in spool.waiting()] == [item.call_id]
    known = spool.waiting()[0].entry.metadata
    assert (known.duration_s, known.last, known.complete) == (6.0, True, True)
    assert (known.remote_party, known.marks) == ("+33 6 12 34 56 78", (wire.Mark(at_s=2.0, kind="held"),))


def test_what_was_sealed_is_what_was_heard(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    item = recorder.close()
    assert item is not None
    heard = pcm(item.path, SERVER)
    assert side(heard, 0).tobytes() == sound(0, 0, 6 * SAMPLE_RATE)
    assert side(heard, 1).tobytes() == sound(1, 0, 6 * SAMPLE_RATE)


def test_the_header_names_the_call_for_whoever_finds_the_file_alone(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    item = recorder.close()
    assert item is not None
    with item.path.open("rb") as file:
        reader = sealed.Reader(file, SERVER)
        inside = msgspec.json.decode(reader.metadata, type=CallMetadata)
    assert (inside.call_id, inside.extension) == (item.call_id, "201")


def test_a_mono_recording_has_one_channel(spool: Spool, keys: Keys) -> None:
    rules = Recording(layout="mono", free_mib=0)
    recorder, _closed = record(spool, keys, 6.0, rules, metadata(layout="mono"))
    item = recorder.close()
    assert item is not None
    assert len(pcm(item.path, SERVER)) == 2 * 6 * SAMPLE_RATE


@pytest.mark.parametrize("layout", ["split", "mono"])
def test_a_recording_that_is_cut_has_lost_less_than_a_second(spool: Spool, keys: Keys, layout: str) -> None:
    recorder, _closed = record(spool, keys, 6.0, first=metadata(layout=layout))
    path = spool.path(SpoolState.RECORDING, recorder.metadata.call_id, 1)
    frame_bytes = 4 if layout == "split" else 2
    assert len(pcm(path, SERVER)) / frame_bytes / SAMPLE_RATE > 6.0 - 0.5
    recorder.abandon()


def test_a_call_that_is_too_short_is_deleted(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 3.0)
    assert recorder.close() is None
    assert spool.items() == []
    assert not list(spool.root.rglob("*.srec"))


def test_what_was_no_call_is_deleted_unheard(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    recorder.drop()
    assert not list(spool.root.rglob("*.*"))


def test_a_long_call_is_closed_in_parts_that_follow_each_other(spool: Spool, keys: Keys) -> None:
    recorder, closed = record(spool, keys, 44.0, Recording(part_mib=1, free_mib=0))
    last = recorder.close()
    assert last is not None
    parts = [*closed, last]
    assert len(parts) == 3
    assert all(item.size <= 1 << 20 for item in parts)
    assert [(item.part, item.entry.metadata.last) for item in parts] == [(1, False), (2, False), (3, True)]
    assert {item.call_id for item in parts} == {last.call_id}
    heard = b"".join(pcm(item.path, SERVER) for item in parts)
    assert side(heard, 0).tobytes() == sound(0, 0, 44 * SAMPLE_RATE)
    for before, after in itertools.pairwise(parts):
        begins = before.started_at + timedelta(seconds=before.duration_s)
        assert abs(after.started_at - begins) < timedelta(milliseconds=1)


def test_what_is_heard_after_the_streams_have_gone_is_forgotten(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    recorder.quiet(6.0)
    go_on(recorder, 6.0, 12.0)
    item = recorder.close()
    assert item is not None
    assert item.duration_s == 6.5


def test_a_call_that_comes_back_has_lost_nothing(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    recorder.quiet(6.0)
    go_on(recorder, 6.0, 12.0)
    recorder.quiet(None)
    recorder.advance(12.0)
    item = recorder.close()
    assert item is not None
    assert side(pcm(item.path, SERVER), 0).tobytes() == sound(0, 0, 12 * SAMPLE_RATE)


def test_a_disk_that_is_too_full_is_an_error_with_words_and_leaves_no_file(spool: Spool, keys: Keys) -> None:
    with pytest.raises(NoRoom) as error:
        Recorder(spool, keys, Recording(free_mib=1 << 40), 0.0, metadata())
    assert "MiB" in error.value.why
    assert not list(spool.root.rglob("*.*"))


def test_a_disk_that_fills_up_leaves_a_recording_that_can_be_read_to_its_last_segment(
    spool: Spool, keys: Keys
) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX can limit the size of files")
    recorder, _closed = record(spool, keys, 3.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    for number in (0, 1):
        recorder.feed(Block(number, sound(number, 3 * SAMPLE_RATE, 10 * SAMPLE_RATE), 3.0))
    try:
        with pytest.raises(NoRoom):
            recorder.advance(10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    recorder.abandon()
    heard = pcm(spool.path(SpoolState.RECORDING, recorder.metadata.call_id, 1), SERVER)
    assert len(heard) > 4 * 4 * SAMPLE_RATE
    assert side(heard, 0).tobytes() in sound(0, 0, 10 * SAMPLE_RATE)


def test_levels_and_silence_are_known_by_side(spool: Spool, keys: Keys) -> None:
    recorder = Recorder(spool, keys, Recording(free_mib=0), 0.0, metadata())
    host = ScriptedHost([], side_missing=1)
    source = host.open()
    host.now = 4.0
    while block := source.read():
        recorder.feed(block)
    recorder.advance(4.0)
    assert recorder.levels["agent"] > -20
    assert recorder.levels["caller"] == -96.0
    assert recorder.silent_s() == {"agent": 4.0, "caller": 4.0}
    recorder.drop()


def test_ten_minutes_of_devices_whose_clocks_run_apart_end_with_no_skew(spool: Spool, keys: Keys) -> None:
    """+200 and -200 ppm: 240 ms apart at the end, if nobody corrected it."""
    minutes = 10
    recorder = Recorder(spool, keys, Recording(free_mib=0), 0.0, metadata())
    recorder.confirm()
    devices = (RunawayDevice(200, 2000, 0.02), RunawayDevice(-200, 2000, 0.02))
    for tenth in range(1, minutes * 600 + 1):
        for number, device in enumerate(devices):
            recorder.feed(device.block(number, tenth / 10))
        recorder.advance(tenth / 10)
    item = recorder.close()
    assert item is not None
    heard = pcm(item.path, SERVER)
    agent, caller = (marked(side(heard, number)) for number in (0, 1))
    seconds = minutes * 60 - 1
    assert len(agent) >= seconds
    assert len(caller) >= seconds
    skew_ms = [1000 * (one - other) for one, other in zip(agent, caller, strict=False)]
    assert max(map(abs, skew_ms)) < 20
    assert abs(agent[seconds - 1] - (seconds - 0.5)) < 0.020
    assert item.entry.metadata.marks == ()


def test_marks_and_the_way_a_side_is_heard_survive_kill_9(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    recorder.mark("device lost", 2.0, "caller: Headset")
    recorder.mark("note", 3.0, "l'imprimante")
    recorder.heard_by(wire.Capture(agent="pulse-microphone", caller="pulse-monitor"))
    recorder.abandon()
    [item] = spool.items([SpoolState.RECORDING])
    known = item.entry.metadata
    assert [(mark.at_s, mark.kind, mark.note) for mark in known.marks] == [
        (2.0, "device lost", "caller: Headset"),
        (3.0, "note", "l'imprimante"),
    ]
    assert known.capture == wire.Capture(agent="pulse-microphone", caller="pulse-monitor")


def test_a_device_that_gives_nothing_in_silence_leaves_room_for_a_persons_marks(
    spool: Spool, keys: Keys
) -> None:
    recorder, _closed = record(spool, keys, 0.1)
    for second in range(2, 1200, 2):
        recorder.feed(Block(1, sound(1, 0, 160), float(second)))
    recorder.mark("note", 1200.0, "still here")
    kinds = [mark.kind for mark in recorder.metadata.marks]
    assert set(kinds[:-1]) == {"gap"}
    assert kinds[-1] == "note"
    recorder.drop()


def test_a_pause_is_silence_on_both_sides_with_marks_around_it(spool: Spool, keys: Keys) -> None:
    recorder, _closed = record(spool, keys, 6.0)
    recorder.pause(6.0)
    go_on(recorder, 6.0, 8.0)
    recorder.unpause(8.0)
    go_on(recorder, 8.0, 9.0)
    item = recorder.close()
    assert item is not None
    for number in (0, 1):
        heard = side(pcm(item.path, SERVER), number)
        assert heard[: 6 * SAMPLE_RATE].tobytes() == sound(number, 0, 6 * SAMPLE_RATE)
        assert not any(heard[6 * SAMPLE_RATE : 8 * SAMPLE_RATE])
        assert heard[8 * SAMPLE_RATE :].tobytes() == sound(number, 8 * SAMPLE_RATE, 9 * SAMPLE_RATE)
    marks = item.entry.metadata.marks
    assert [(mark.kind, mark.at_s) for mark in marks] == [("paused", 6.0), ("pause over", 8.0)]


def test_a_side_that_has_been_silent_for_too_long_is_an_alarm(spool: Spool, keys: Keys) -> None:
    recorder = Recorder(spool, keys, Recording(free_mib=0), 0.0, metadata())
    host = ScriptedHost([], side_missing=1)
    source = host.open()
    host.now = 25.0
    while block := source.read():
        recorder.feed(block)
    recorder.advance(25.0)
    assert recorder.alarms(20, 0.0) == ("caller",)
    assert recorder.alarms(30, 0.0) == ()
    assert recorder.alarms(20, 10.0) == ()
    recorder.drop()


def test_a_technician_who_listens_is_no_alarm_but_a_dead_microphone_is(spool: Spool, keys: Keys) -> None:
    for spoke, alarms in ((True, ()), (False, ("agent",))):
        recorder = Recorder(spool, keys, Recording(free_mib=0), 0.0, metadata())
        if spoke:
            recorder.feed(Block(0, sound(0, 0, SAMPLE_RATE), 0.0))
        recorder.feed(Block(1, sound(1, 0, 30 * SAMPLE_RATE), 0.0))
        recorder.feed(Block(1, sound(1, 30 * SAMPLE_RATE, 31 * SAMPLE_RATE), 30.0))
        recorder.advance(31.0)
        assert recorder.alarms(20, 0.0) == alarms
        recorder.drop()


def test_a_level_is_measured_against_full_scale() -> None:
    assert level_dbfs(b"\x00\x80" * 160) == 0.0
    assert level_dbfs(bytes(320)) == -96.0
    assert level_dbfs(b"") == -96.0


def test_a_description_that_cannot_be_written_now_costs_no_sound_and_is_written_later(
    spool: Spool, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an antivirus holds it for longer than we wait."""
    recorder, _closed = record(spool, keys, 6.0)
    real = Path.replace

    def held(path: Path, target: Path) -> Path:
        if target.name.endswith(".json"):
            raise PermissionError(13, "in use")
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", held)
        recorder.name("Ada", 6.0)
        go_on(recorder, 6.0, 7.0)
    assert recorder.recorded_s == 7.0
    [known] = spool.items()
    assert known.remote_party == ""
    recorder.mark("held", 7.0)
    [known] = spool.items()
    assert (known.remote_party, len(known.entry.metadata.marks)) == ("Ada", 1)
    item = recorder.close()
    assert item is not None
    assert len(pcm(item.path, SERVER)) == 7 * 4 * SAMPLE_RATE
