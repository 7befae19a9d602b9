"""The time line: where the parts of a call lie, and that what is heard is what was recorded."""

import io
import wave
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.server.ingest_fixtures import CALL, STARTED_AT, Place, noise, srec, upload, wav
from whisperagent import wire
from whisperagent.errors import AudioError, SealedError
from whisperserver.store import calls
from whisperserver.store.models import PartRow
from whisperserver.timeline import Wav, sound
from whisperserver.transcribe.parts import GAP_MAX_S, place

pytestmark = pytest.mark.anyio

MAX_HOURS = 0.01
"""36 s."""
SECOND = 64_000
"""Bytes, both sides."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Place]:
    server = Place(tmp_path)
    yield server
    await server.database.close()


async def stored(server: Place, *recordings: tuple[bytes, float, str]) -> list[PartRow]:
    """Parts of one call: (recording, started so many seconds after the first, codec)."""
    for number, (recording, at_s, codec) in enumerate(recordings, 1):
        started_at = STARTED_AT + timedelta(seconds=at_s)
        last = number == len(recordings)
        await server.receive(upload(recording, part=number, started_at=started_at, last=last, codec=codec))
    return await rows(server)


async def rows(server: Place) -> list[PartRow]:
    async with server.database.reading() as session:
        return list(await calls.parts(session, CALL))


def raw(server: Place, pcm: bytes, part: int = 1, layout: str = "split") -> bytes:
    return srec(pcm, server.key, part=part, layout=layout)


def opened(server: Place, parts: list[PartRow]) -> Wav:
    return Wav(server.recordings, server.key, parts, MAX_HOURS)


def heard(server: Place, parts: list[PartRow]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int16]]":
    return sound(server.recordings, server.key, parts, MAX_HOURS).samples


def samples(pcm: bytes, channels: int = 2) -> "np.ndarray[tuple[int, ...], np.dtype[np.int16]]":
    return np.frombuffer(pcm, "<i2").reshape(-1, channels).T


def played(file: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.int16]]":
    """A WAV as another program reads it."""
    with wave.open(io.BytesIO(file)) as reader:
        assert (reader.getframerate(), reader.getsampwidth()) == (wire.SAMPLE_RATE, 2)
        frames = reader.readframes(reader.getnframes())
        return samples(frames, reader.getnchannels())


# Places


def placed(times: Sequence[tuple[float, float]]) -> list[float]:
    """times: when a part begins by the PC's clock, and its length."""
    return place([STARTED_AT + timedelta(seconds=at_s) for at_s, _length in times], [it for _at, it in times])


@pytest.mark.parametrize(
    ("times", "places"),
    [
        ([], []),
        ([(0, 5)], [0]),
        ([(0, 5), (5, 5)], [0, 5]),
        ([(0, 5), (8, 5), (20, 1)], [0, 8, 20]),
        ([(0, 5), (4, 5)], [0, 5]),  # they would overlap
        ([(0, 5), (-3600, 5), (-3590, 5)], [0, 5, 15]),  # the clock was set back, then ran on
        ([(0, 5), (86_400, 5), (86_407, 5)], [0, 5, 12]),  # set forward
        ([(0, 5), (5 + GAP_MAX_S, 5)], [0, 5 + GAP_MAX_S]),
    ],
)
def test_parts_lie_where_their_times_say_unless_a_clock_jumped(
    times: list[tuple[float, float]], places: list[float]
) -> None:
    assert placed(times) == places


@given(st.lists(st.tuples(st.integers(-100_000, 100_000), st.integers(0, 4_000)), max_size=8))
def test_parts_never_overlap_and_keep_their_order(times: list[tuple[int, int]]) -> None:
    end = 0.0
    for begin, (_at, length) in zip(placed(times), times, strict=True):
        assert end <= begin <= end + GAP_MAX_S
        end = begin + length


# Sound


async def test_one_part_sounds_as_it_was_recorded(server: Place) -> None:
    pcm = noise(3 * SECOND)
    parts = await stored(server, (raw(server, pcm), 0, "pcm"))
    assert np.array_equal(heard(server, parts), samples(pcm))


async def test_between_two_parts_there_is_silence_as_long_as_nothing_was_recorded(server: Place) -> None:
    one, two = noise(2 * SECOND, 1), noise(SECOND, 2)
    parts = await stored(server, (raw(server, one), 0, "pcm"), (wav(two), 3.5, "wav"))
    silence = np.zeros((2, round(1.5 * wire.SAMPLE_RATE)), np.int16)
    expected = np.hstack([samples(one), silence, samples(two)])
    assert np.array_equal(heard(server, parts), expected)


async def test_the_sound_of_an_interrupted_part_is_followed_by_the_next(server: Place) -> None:
    one, two = noise(2 * SECOND, 1), noise(SECOND, 2)
    await server.receive(upload(raw(server, one)[:-20_000], complete=False, last=False))
    started_at = STARTED_AT + timedelta(seconds=2)
    await server.receive(upload(raw(server, two, 2), part=2, started_at=started_at))
    samples_heard = heard(server, await rows(server))
    assert samples_heard.shape == (2, 3 * wire.SAMPLE_RATE)
    assert np.array_equal(samples_heard[:, 2 * wire.SAMPLE_RATE :], samples(two))


async def test_a_part_without_sound_takes_no_room(server: Place) -> None:
    one = noise(SECOND)
    empty = srec(b"", server.key, part=2)
    parts = await stored(server, (raw(server, one), 0, "pcm"), (empty, 1, "pcm"))
    assert np.array_equal(heard(server, parts), samples(one))
    assert opened(server, parts).length == 44 + len(one)
    assert heard(server, parts[1:]).shape == (1, 0)
    assert opened(server, parts[1:]).length == 44


async def test_a_call_with_a_mono_part_is_mono_as_a_whole(server: Place) -> None:
    one, two = noise(SECOND, 1), noise(SECOND // 2, 2)
    parts = await stored(server, (raw(server, one), 0, "pcm"), (raw(server, two, 2, "mono"), 1, "pcm"))
    mixed = (samples(one).sum(axis=0, dtype=np.int32) // 2).astype(np.int16)
    expected = np.concatenate([mixed, samples(two, 1)[0]])[np.newaxis]
    assert np.array_equal(heard(server, parts), expected)
    assert np.array_equal(played(opened(server, parts).read(0, 1 << 30)), expected)


async def test_a_call_longer_than_is_allowed_is_refused_part_by_part_and_together(server: Place) -> None:
    parts = await stored(
        server, (raw(server, noise(20 * SECOND)), 0, "pcm"), (wav(noise(20 * SECOND)), 20, "wav")
    )
    for read in (heard, opened):
        with pytest.raises(AudioError, match="longer than"):
            read(server, parts)


async def test_a_recording_that_has_gone_from_the_disk_is_missed(server: Place) -> None:
    parts = await stored(server, (wav(noise(SECOND)), 0, "wav"))
    (server.root / "recordings" / CALL / "1.srec").unlink()
    for read in (heard, opened):
        with pytest.raises(SealedError, match="missing"):
            read(server, parts)


async def test_a_recording_that_was_changed_on_the_disk_is_not_played(server: Place) -> None:
    parts = await stored(server, (wav(noise(3 * SECOND)), 0, "wav"))
    path = server.root / "recordings" / CALL / "1.srec"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SealedError, match="damaged"):
        heard(server, parts)
    with pytest.raises(SealedError, match="damaged"):
        opened(server, parts).read(0, 1 << 30)


# One WAV


async def test_the_wav_of_a_call_is_its_sound(server: Place) -> None:
    one, two = noise(2 * SECOND, 1), noise(SECOND, 2)
    parts = await stored(server, (raw(server, one), 0, "pcm"), (wav(two), 3.5, "wav"))
    file = opened(server, parts)
    whole = file.read(0, file.length)
    assert len(whole) == file.length
    assert np.array_equal(played(whole), heard(server, parts))


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 44), (43, 2), (44, 1), (45, 3), (64_044, 70_001), (128_040, 200_000), (0, 10**9)],
)
async def test_a_piece_of_the_wav_is_that_piece_of_the_whole(server: Place, offset: int, length: int) -> None:
    parts = await stored(
        server, (raw(server, noise(2 * SECOND, 1)), 0, "pcm"), (wav(noise(SECOND, 2)), 3.5, "wav")
    )
    file = opened(server, parts)
    whole = file.read(0, file.length)
    assert file.read(offset, length) == whole[offset : offset + length]


async def test_beyond_the_wav_there_is_nothing(server: Place) -> None:
    file = opened(server, await stored(server, (wav(noise(SECOND)), 0, "wav")))
    assert file.read(file.length, 10) == b""
    assert file.read(10, 0) == b""


async def test_what_is_read_is_all_that_is_opened(server: Place) -> None:
    parts = await stored(server, (wav(noise(9 * SECOND)), 0, "wav"))
    file = opened(server, parts)
    path = server.root / "recordings" / CALL / "1.srec"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert len(file.read(0, SECOND)) == SECOND  # far from the damage


@pytest.mark.slow  # starts a decoder
@pytest.mark.parametrize(("form", "subtype", "codec"), [("FLAC", None, "flac"), ("OGG", "OPUS", "opus")])
async def test_compressed_parts_are_decoded_for_the_model_and_for_people(
    server: Place, form: str, subtype: str | None, codec: str
) -> None:
    pcm = noise(2 * SECOND)
    sink = io.BytesIO()
    soundfile.write(sink, samples(pcm).T, wire.SAMPLE_RATE, format=form, subtype=subtype)
    parts = await stored(server, (sink.getvalue(), 0, codec), (raw(server, pcm, 2), 3, "pcm"))
    sounding = heard(server, parts)
    file = opened(server, parts)
    assert np.array_equal(played(file.read(0, file.length)), sounding)
    assert np.array_equal(sounding[:, 3 * wire.SAMPLE_RATE :], samples(pcm))
    if codec == "flac":
        assert np.array_equal(sounding[:, : 2 * wire.SAMPLE_RATE], samples(pcm))


@pytest.mark.slow  # starts a decoder
async def test_a_wav_of_another_rate_is_brought_to_that_of_the_call(server: Place) -> None:
    recording = wav(noise(32_000), channels=2, rate=8_000)
    parts = await stored(server, (recording, 0, "wav"))
    sounding = heard(server, parts)
    assert sounding.shape == (2, pytest.approx(wire.SAMPLE_RATE, abs=50))
    file = opened(server, parts)
    assert np.array_equal(played(file.read(0, file.length)), sounding)
