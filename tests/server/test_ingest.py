"""Ingest: what is stored, what is refused in which words, and that nothing is left of what was refused."""

import asyncio
import hashlib
import io
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.ingest_fixtures import (
    BOUNDARY,
    CALL,
    CALLER,
    FORM,
    MAX_BYTES,
    STARTED_AT,
    Place,
    form,
    noise,
    opened,
    part,
    pieces,
    said,
    srec,
    upload,
    wav,
)
from whisperagent import wire
from whisperagent.errors import NoRoom, WhisperError
from whisperserver import refusals
from whisperserver.auth import Caller
from whisperserver.refusals import BadRequest, Conflict, Forbidden, Gone, Lying, TooLarge, WrongKind
from whisperserver.store import calls

pytestmark = pytest.mark.anyio

SOUND = noise(64_000 * 3)
"""Three seconds, both sides."""
OTHER_CALL = "01980f2e-7a3b-7c41-9d52-3f6a8b1c2d4f"


def named(value: object) -> str:
    """Tests are named by the words, not by the bytes."""
    return value if isinstance(value, str) else ""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    await place.database.close()


async def refused(place: Place, kind: type[WhisperError], body: bytes, words: str) -> WhisperError:
    """The upload is refused in these words, and leaves nothing."""
    before = place.files(), place.rows("SELECT * FROM parts")
    with pytest.raises(kind) as caught:
        await place.receive(body)
    assert words in f"{caught.value.what}; {caught.value.why}; {caught.value.fix}"
    assert (place.files(), place.rows("SELECT * FROM parts")) == before
    return caught.value


def sound(samples: bytes, channels: int, form: str, subtype: str | None = None) -> bytes:
    """Encoded by another library than the one that reads it here."""
    sink = io.BytesIO()
    data = np.frombuffer(samples, "<i2").reshape(-1, channels)
    soundfile.write(sink, data, wire.SAMPLE_RATE, format=form, subtype=subtype)
    return sink.getvalue()


# What is stored


async def test_a_wav_is_stored_sealed_and_whole(place: Place) -> None:
    recording = wav(SOUND)
    received = await place.receive(upload(recording))
    assert received.fresh
    assert received.answer == wire.UploadAnswer(
        call_id=CALL,
        part=1,
        state=wire.CallState.RECEIVED,
        sha256=hashlib.sha256(recording).hexdigest(),
        size=len(recording),
        status_url=f"/api/transcription-status/{CALL}",
    )
    assert opened(place.stored(), place.key) == recording
    assert place.files() == [f"{CALL}/1.srec"]


async def test_no_sound_lies_on_the_disk_in_clear(place: Place) -> None:
    await place.receive(upload(wav(SOUND)))
    pieces = [SOUND[at : at + 16] for at in range(0, len(SOUND) - 16, 5_003)]
    written = b"".join(path.read_bytes() for path in place.root.rglob("*") if path.is_file())
    assert len(written) > len(SOUND)
    assert not [piece for piece in pieces if piece in written]


async def test_a_sealed_recording_is_stored_as_it_came(place: Place) -> None:
    recording = srec(SOUND, place.key)
    received = await place.receive(
        upload(recording, sha256=hashlib.sha256(recording).hexdigest(), size=len(recording))
    )
    assert received.answer.sha256 == hashlib.sha256(place.stored()).hexdigest()
    assert place.stored() == recording


@pytest.mark.parametrize("size", [1, 7, 4_096, 1 << 22])
async def test_it_does_not_matter_how_the_bytes_come(place: Place, size: int) -> None:
    recording = wav(SOUND[:9_000])
    body = form(("note", b"ignored"), ("recording", recording), ("metadata", said()))
    await place.ingest().receive(CALLER, FORM, pieces(body, size))
    assert opened(place.stored(), place.key) == recording


async def test_a_byte_order_mark_before_the_metadata_is_no_trouble(place: Place) -> None:
    body = form(("metadata", b"\xef\xbb\xbf" + said()), ("recording", wav(SOUND)))
    assert (await place.receive(body)).fresh


async def test_who_sent_it_is_written_down(place: Place) -> None:
    await place.receive(upload(wav(SOUND)))
    assert place.rows("SELECT who, action, call_id FROM audit") == [("201", "received", CALL)]


async def test_a_whole_call_waits_to_be_transcribed(place: Place) -> None:
    await place.receive(upload(wav(SOUND)))
    assert place.rows("SELECT task_key, status FROM queue_task") == [(f"transcribe:{CALL}", "pending")]


async def test_a_call_whose_first_part_is_missing_waits_for_it(place: Place) -> None:
    await place.receive(upload(srec(SOUND, place.key, part=2), part=2))
    assert place.rows("SELECT 1 FROM queue_task") == []
    await place.receive(upload(srec(SOUND, place.key, part=1), part=1, last=False))
    assert len(place.rows("SELECT 1 FROM queue_task")) == 1


async def shown(place: Place) -> wire.CallMetadata:
    async with place.database.reading() as session:
        (row,) = await calls.parts(session, CALL)
    return row.metadata_json


async def test_channels_rate_and_length_are_those_of_the_sound(place: Place) -> None:
    await place.receive(upload(wav(SOUND[:40_000], channels=1, rate=8_000)))
    stored = await shown(place)
    assert (stored.layout, stored.sample_rate, stored.duration_s) == ("mono", 8_000, 2.5)
    assert stored.codec == "wav"


async def test_a_wav_that_does_not_know_its_length_has_that_of_its_bytes(place: Place) -> None:
    await place.receive(upload(wav(SOUND, length=0xFFFF_FFFF)))
    assert (await shown(place)).duration_s == 3.0


async def test_the_layout_that_the_recorder_sealed_is_believed(place: Place) -> None:
    # The description beside the file was lost, and made anew with today's settings.
    await place.receive(upload(srec(SOUND, place.key, layout="mono"), layout="split"))
    stored = await shown(place)
    assert (stored.layout, stored.duration_s) == ("mono", 6.0)


@pytest.mark.parametrize(("form", "subtype", "codec"), [("FLAC", None, "flac"), ("OGG", "OPUS", "opus")])
@pytest.mark.parametrize("channels", [1, 2])
async def test_flac_and_opus_are_known_by_their_bytes(
    place: Place, form: str, subtype: str | None, codec: str, channels: int
) -> None:
    recording = sound(SOUND, channels, form, subtype)
    await place.receive(upload(recording))
    stored = await shown(place)
    assert (stored.codec, stored.layout) == (codec, ("mono", "split")[channels - 1])
    assert stored.duration_s == pytest.approx(6.0 / channels, abs=0.03)
    assert opened(place.stored(), place.key) == recording


async def test_a_sealed_flac_is_taken_as_what_it_is(place: Place) -> None:
    recording = sound(SOUND, 2, "FLAC")
    await place.receive(upload(srec(recording, place.key, codec="flac"), codec="flac"))
    assert (await shown(place)).duration_s == 3.0


async def test_what_is_sealed_tells_of_what_kind_it_is(place: Place) -> None:
    """A PC that lost what it knew of a recording says only what was not said otherwise."""
    await place.receive(upload(srec(sound(SOUND, 2, "FLAC"), place.key, codec="flac")))
    assert (await shown(place)).duration_s == 3.0


async def test_a_recording_of_another_recorder_needs_no_sealed_metadata(place: Place) -> None:
    assert (await place.receive(upload(srec(SOUND, place.key, inside=b"")))).fresh


# Again


async def test_the_same_upload_again_changes_nothing(place: Place) -> None:
    first = await place.receive(upload(wav(SOUND)))
    stored, rows = place.stored(), place.rows("SELECT * FROM events")
    again = await place.receive(upload(wav(SOUND)))
    assert not again.fresh
    assert again.answer == first.answer
    assert (place.stored(), place.rows("SELECT * FROM events")) == (stored, rows)
    assert place.files() == [f"{CALL}/1.srec"]


async def test_other_bytes_under_the_same_id_are_refused(place: Place) -> None:
    await place.receive(upload(wav(SOUND)))
    stored = place.stored()
    await refused(place, Conflict, upload(wav(SOUND[:-4])), "with other bytes")
    assert place.stored() == stored


async def test_two_equal_uploads_at_the_same_time_are_stored_once(place: Place) -> None:
    both = await asyncio.gather(*[place.receive(upload(wav(SOUND))) for _number in range(4)])
    assert sorted(one.fresh for one in both) == [False, False, False, True]
    assert len({one.answer for one in both}) == 1
    assert place.files() == [f"{CALL}/1.srec"]
    assert len(place.rows("SELECT 1 FROM audit")) == 1


async def test_of_two_different_uploads_at_the_same_time_one_is_stored(place: Place) -> None:
    recordings = [wav(noise(len(SOUND), seed)) for seed in range(4)]
    results = await asyncio.gather(
        *[place.receive(upload(recording)) for recording in recordings], return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in results) == ["Conflict", "Conflict", "Conflict", "Received"]
    (row,) = place.rows("SELECT sha256 FROM parts")
    assert hashlib.sha256(opened(place.stored(), place.key)).hexdigest() == row[0]
    assert place.files() == [f"{CALL}/1.srec"]


async def test_a_call_of_another_extension_is_not_added_to(place: Place) -> None:
    await place.receive(upload(wav(SOUND)))
    with pytest.raises(Forbidden, match="another extension"):
        await place.receive(upload(wav(SOUND), extension="999", part=2), Caller("999"))


async def test_an_erased_call_does_not_come_back(place: Place) -> None:
    await place.receive(upload(wav(SOUND)))
    place.change("UPDATE calls SET state = 'erased'")
    await refused(place, Gone, upload(wav(SOUND)), "was erased")


# What happens in between


async def test_a_crash_between_file_and_row_is_mended_by_the_next_upload(place: Place) -> None:
    place.change("CREATE TRIGGER crash BEFORE INSERT ON parts BEGIN SELECT RAISE(ABORT, 'crash'); END")
    with pytest.raises(Exception, match="crash"):
        await place.receive(upload(wav(SOUND)))
    assert place.files() == [f"{CALL}/1.srec"]
    assert place.rows("SELECT 1 FROM calls UNION ALL SELECT 1 FROM queue_task") == []
    place.change("DROP TRIGGER crash")
    # What comes then may even be sealed anew, to other bytes.
    recording = srec(SOUND, place.key)
    assert (await place.receive(upload(recording))).fresh
    assert place.stored() == recording


async def test_a_crash_before_the_commit_leaves_no_answer_and_no_job(place: Place) -> None:
    place.change("CREATE TRIGGER crash BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'crash'); END")
    with pytest.raises(Exception, match="crash"):
        await place.receive(upload(wav(SOUND)))
    assert place.rows("SELECT 1 FROM parts UNION ALL SELECT 1 FROM queue_task") == []


async def test_a_sender_who_goes_away_leaves_nothing(place: Place) -> None:
    async def breaking_off() -> AsyncIterator[bytes]:
        async for piece in pieces(upload(noise_wav := wav(noise(2_000_000)))[: len(noise_wav) // 2]):
            yield piece
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await place.ingest().receive(CALLER, FORM, breaking_off())
    assert place.is_untouched()


async def test_an_upload_that_is_cancelled_leaves_nothing(place: Place) -> None:
    reached = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield upload(wav(noise(2_000_000)))[:1_000_000]
        reached.set()
        await asyncio.Event().wait()

    receiving = asyncio.create_task(place.ingest().receive(CALLER, FORM, stalling()))
    await reached.wait()
    assert len(place.files()) == 1
    receiving.cancel()
    await asyncio.wait([receiving])
    assert receiving.cancelled()
    assert place.is_untouched()


# Forms


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (form(("recording", wav(SOUND))), "no part `metadata`"),
        (form(("metadata", said())), "no part `recording`"),
        (form(), "no part `recording`"),
        (form(("recording", b""), ("metadata", said())), "recording is empty"),
        (upload(wav(b"")), "no sound in it"),
        (form(("metadata", said()), ("metadata", said()), ("recording", wav(SOUND))), "two parts `metadata`"),
        (form(("recording", wav(SOUND)), ("metadata", said()), ("recording", b"")), "two parts `recording`"),
        (upload(wav(SOUND))[:-200], "cut short"),
        (upload(wav(SOUND)).replace(BOUNDARY.encode(), b"another"), "broken"),
        (b"", "cut short"),
        (b"\r\n".join([b"--" + BOUNDARY.encode(), b"no header", b"", b"x"]), "broken"),
        (form(*[(f"p{number}", b"") for number in range(17)]), "broken"),
        (form(("metadata", b"\xff\xfe{"), ("recording", wav(SOUND))), "not UTF-8"),
        (form(("metadata", b"{"), ("recording", wav(SOUND))), "cannot be understood"),
        (form(("metadata", b"[]"), ("recording", wav(SOUND))), "Expected `object`"),
        (form(("metadata", b"{}"), ("recording", wav(SOUND))), "missing required field `call_id`"),
        (form(("metadata", said(part=0)), ("recording", wav(SOUND))), "`$.part`"),
        (form(("metadata", said().replace(b"Z", b"")), ("recording", wav(SOUND))), "no time zone"),
        (upload(wav(SOUND), started_at=STARTED_AT.replace(year=9999)), "out of range"),
        (upload(wav(SOUND), duration_s=1e300), "out of range"),
        (form(("metadata", b" " * 65_537), ("recording", wav(SOUND))), "more than 65536 bytes"),
    ],
    ids=named,
)
async def test_a_form_that_cannot_be_understood_is_refused(place: Place, body: bytes, words: str) -> None:
    await refused(place, BadRequest, body, words)
    assert place.is_untouched()


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("", WrongKind),
        ("audio/wav", WrongKind),
        ("application/json", WrongKind),
        ("multipart/form-data", BadRequest),
        ('multipart/form-data; boundary=""', BadRequest),
    ],
)
async def test_what_is_no_form_is_refused(place: Place, content_type: str, kind: type[WhisperError]) -> None:
    with pytest.raises(kind):
        await place.receive(upload(wav(SOUND)), content_type=content_type)


async def test_a_call_in_anothers_name_is_refused_before_its_sound_comes(place: Place) -> None:
    came = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal came
        async for piece in pieces(upload(wav(noise(1_000_000)), extension="999"), 1_000):
            came += len(piece)
            yield piece

    with pytest.raises(Forbidden, match="in the name of extension 999"):
        await place.ingest().receive(CALLER, FORM, counted())
    assert came < 10_000
    assert place.is_untouched()


# Sizes


async def test_a_recording_of_the_largest_size_is_taken_and_a_larger_one_is_not(place: Place) -> None:
    recording = wav(SOUND)
    taking = place.ingest(max_bytes=len(recording))
    with pytest.raises(TooLarge, match="too large"):
        await taking.receive(CALLER, FORM, pieces(upload(recording + b"\0")))
    assert place.is_untouched()
    assert (await taking.receive(CALLER, FORM, pieces(upload(recording)))).fresh


async def test_a_length_that_says_too_much_is_refused_before_anything_comes(place: Place) -> None:
    async def nothing_to_read() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    with pytest.raises(TooLarge):
        await place.ingest().receive(CALLER, FORM, nothing_to_read(), length=MAX_BYTES + (1 << 21))


@pytest.mark.parametrize("start", [b"", part("other", b"")[:-2]])
async def test_an_endless_body_is_too_large_even_where_it_holds_no_recording(
    place: Place, start: bytes
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield start
        while True:
            yield bytes(1 << 16)

    with pytest.raises(TooLarge):
        await place.ingest(max_bytes=1_000).receive(CALLER, FORM, endless())


async def test_a_server_without_room_takes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, free_mib=1 << 40)
    with pytest.raises(NoRoom, match="too full"):
        await place.receive(upload(wav(SOUND)))
    assert place.is_untouched()
    await place.database.close()


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_disk_that_is_full_in_the_middle_is_said_so_and_leaves_nothing(
    place: Place, sealed: bool
) -> None:
    sound = noise(6_000_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
    try:
        with pytest.raises(NoRoom, match="too full"):
            await place.receive(upload(srec(sound, place.key) if sealed else wav(sound)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert place.is_untouched()


# Recordings


@pytest.mark.parametrize("garbage", [b"x", b"garbage" * 9_000, b"RIFF\0\0\0\0AVI ", b"\x89SREC", b"ID3" * 99])
async def test_bytes_of_no_known_kind_are_refused(place: Place, garbage: bytes) -> None:
    error = await refused(place, WrongKind, upload(garbage), "not a recording")
    assert "WAV" in error.fix


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (b"RIFF\0\0\0\0WAVE", "no chunk `data`"),
        (wav(SOUND)[:30], "no chunk `data`"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0\1\0\2\0", "no chunk `fmt `"),
        (wav(SOUND, rate=1), "1 samples a second"),
        (wav(SOUND, channels=3), "3 channels"),
        (wav(SOUND, channels=0), "0 channels"),
        (wav(SOUND).replace(b"\1\0\2\0", b"\x55\0\2\0", 1), "form 85"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 500, "no chunk `data`"),
        (b"fLaC", "FLAC file is broken"),
        (b"fLaC\0\0\0\x22" + bytes(34), "0 samples a second"),
        (b"OggS" + bytes(100), "not Opus"),
    ],
    ids=named,
)
async def test_a_broken_or_strange_file_is_refused(place: Place, recording: bytes, words: str) -> None:
    await refused(place, WrongKind, upload(recording), words)


async def test_the_recording_of_another_server_is_refused_and_both_keys_are_named(place: Place) -> None:
    error = await refused(
        place, WrongKind, upload(srec(SOUND, X25519PrivateKey.generate())), "another server"
    )
    assert "it names" in error.why
    assert "nothing is lost" in error.fix


@pytest.mark.parametrize("at", [20, 100, 400, 3_000, 100_000, -1])
async def test_a_damaged_recording_is_refused(place: Place, at: int) -> None:
    damaged = bytearray(srec(SOUND, place.key))
    damaged[at] ^= 1
    with pytest.raises((Lying, WrongKind)):
        await place.receive(upload(bytes(damaged)))
    assert place.is_untouched()


@pytest.mark.parametrize("cut", [1, 64, 16_000, 100_000])
async def test_a_cut_recording_is_not_passed_as_whole(place: Place, cut: int) -> None:
    error = await refused(place, Lying, upload(srec(SOUND, place.key, cut=cut)), "cut short")
    assert "`complete: false`" in error.fix


@pytest.mark.parametrize("cut", [1, 64, 16_000, 100_000])
async def test_a_call_cut_short_by_a_power_failure_is_kept_as_interrupted(place: Place, cut: int) -> None:
    recording = srec(SOUND, place.key, cut=cut)
    received = await place.receive(upload(recording, complete=False))
    assert received.answer.sha256 == hashlib.sha256(recording).hexdigest()  # the receipt is for what was sent
    heard = opened(place.stored(), place.key)
    assert heard == SOUND[: len(heard)]
    assert len(heard) > len(SOUND) - cut - (1 << 14)
    stored = await shown(place)
    assert (stored.complete, stored.duration_s) == (False, round(len(heard) / 64_000, 3))
    assert place.rows("SELECT interrupted FROM calls") == [(1,)]
    assert not (await place.receive(upload(recording, complete=False))).fresh


async def test_a_cut_recording_whose_tail_is_noughts_is_kept_up_to_there(place: Place) -> None:
    recording = bytearray(srec(SOUND, place.key))
    recording[-40_000:] = bytes(40_000)
    await place.receive(upload(bytes(recording), complete=False))
    heard = opened(place.stored(), place.key)
    assert SOUND.startswith(heard)
    assert len(heard) > 100_000


@pytest.mark.parametrize("codec", ["pcm", "flac", "opus"])
async def test_a_part_that_was_cut_before_its_first_sound_makes_its_call_whole_all_the_same(
    place: Place, codec: str
) -> None:
    await place.receive(upload(srec(SOUND, place.key, part=1), last=False))
    empty = srec(b"", place.key, part=2, codec=codec, cut=64)
    await place.receive(upload(empty, part=2, codec=codec, complete=False))
    assert place.rows("SELECT sound_bytes FROM parts WHERE part = 2") == [(0,)]
    assert len(place.rows("SELECT 1 FROM queue_task")) == 1


async def test_not_even_a_whole_header_is_nothing_to_keep(place: Place) -> None:
    recording = srec(SOUND, place.key)[:200]
    await refused(place, Lying, upload(recording, complete=False), "nothing of it can be opened")


async def test_a_wav_that_is_shorter_than_it_says_is_cut_short(place: Place) -> None:
    recording = wav(SOUND, length=len(SOUND) + 4_000)
    await refused(place, Lying, upload(recording), "cut short")
    await place.receive(upload(recording, complete=False))
    stored = await shown(place)
    assert (stored.complete, stored.duration_s) == (False, 3.0)


async def test_the_recording_of_another_call_is_refused(place: Place) -> None:
    recording = srec(SOUND, place.key, call_id=OTHER_CALL)
    await refused(place, Lying, upload(recording), "another call")


async def test_another_part_of_the_same_call_is_refused(place: Place) -> None:
    recording = srec(SOUND, place.key, part=1)
    await refused(place, Lying, upload(recording, part=2), "another part")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, "other bytes came"),
        ({"size": 5}, "announced are 5 bytes"),
        ({"codec": "flac"}, "another kind"),
        ({"codec": "opus"}, "another kind"),
    ],
    ids=str,
)
async def test_metadata_that_does_not_fit_the_bytes_is_refused(
    place: Place, changes: dict[str, object], words: str
) -> None:
    await refused(place, Lying, upload(wav(SOUND), **changes), words)
    inside = {name: value for name, value in changes.items() if name == "codec"}
    await refused(place, Lying, upload(srec(SOUND, place.key, **inside), **changes), words)


async def test_a_sealed_flac_that_is_called_raw_sound_is_refused(place: Place) -> None:
    recording = srec(sound(SOUND, 2, "FLAC"), place.key)
    await refused(place, Lying, upload(recording), "found is `flac`")


async def test_raw_sound_of_another_rate_is_refused(place: Place) -> None:
    recording = srec(SOUND, place.key, sample_rate=8_000)
    await refused(place, WrongKind, upload(recording, sample_rate=8_000), "16000 samples")


# Anything

REFUSALS = tuple(
    kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, WhisperError)
)

TOKENS = st.sampled_from(
    [
        f"--{BOUNDARY}".encode(),
        f"--{BOUNDARY}--".encode(),
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b": ",
        b'Content-Disposition: form-data; name="recording"',
        b'Content-Disposition: form-data; name="metadata"; filename="\xff"',
        b"Content-Length: 5",
        b" folded",
        said(),
        wav(bytes(64)),
    ]
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("fuzzed"))


@given(body=st.lists(TOKENS | st.binary(max_size=9), max_size=25).map(b"".join), size=st.integers(1, 400))
@settings(max_examples=250, deadline=None)
def test_any_bytes_are_stored_or_refused(fuzzed: Place, body: bytes, size: int) -> None:
    _received_or_refused(fuzzed, body, size)


@given(
    at=st.integers(0, 1_200),
    insert=st.binary(max_size=6),
    cut=st.integers(0, 6),
    sealed=st.booleans(),
    complete=st.booleans(),
)
@settings(max_examples=250, deadline=None)
def test_an_upload_with_an_error_anywhere_is_stored_or_refused(
    fuzzed: Place, at: int, insert: bytes, cut: int, sealed: bool, complete: bool
) -> None:
    recording = srec(SOUND[:64], fuzzed.key) if sealed else wav(SOUND[:64])
    body = upload(recording, complete=complete)
    at %= len(body)
    _received_or_refused(fuzzed, body[:at] + insert + body[at + cut :], 100)


def _received_or_refused(place: Place, body: bytes, size: int) -> None:
    async def receive() -> None:
        with suppress(*REFUSALS):
            await place.ingest().receive(CALLER, FORM, pieces(body, size))
        await place.database.close()

    asyncio.run(receive())
    assert not list((place.recordings.root / ".incoming").iterdir())
    assert len(place.files()) == len(place.rows("SELECT 1 FROM parts"))
