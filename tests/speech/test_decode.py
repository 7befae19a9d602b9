"""Decoding: every codec that an agent may send, whole, cut, damaged or harmful."""

import io
import struct
import time
from collections.abc import Iterator

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from whisperagent.errors import AudioError, SealedError
from whisperserver.transcribe import decode as decode_module
from whisperserver.transcribe.decode import Sound, codec_of, decode

RATE = 16_000


def two_tones(seconds: float = 2.0, rate: int = RATE) -> NDArray[np.int16]:
    """(frames, 2): 440 Hz for the agent, 1000 Hz for the caller."""
    at = np.arange(int(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * 440 * at), np.sin(2 * np.pi * 1000 * at)]
    return (np.stack(tones, axis=1) * 8000).astype(np.int16)


def encoded(samples: NDArray[np.int16], form: str, subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate, format=form, subtype=subtype)
    return sink.getvalue()


def heard(data: bytes, codec: str, channels: int = 1, max_hours: float = 1.0) -> Sound:
    return decode((data[at : at + 5000] for at in range(0, len(data), 5000)), codec, channels, max_hours)


def pitch(row: NDArray[np.int16]) -> float:
    return float(np.abs(np.fft.rfft(row)).argmax() * RATE / len(row))


def silence_as_flac(seconds: int) -> bytes:
    """A bomb: a minute of it is 11 kB."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        for second in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, RATE), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, second * RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sink.getvalue()


@pytest.mark.parametrize(
    ("form", "subtype", "codec"),
    [
        ("WAV", "PCM_16", "wav"),
        ("WAV", "PCM_24", "wav"),
        ("WAV", "ULAW", "wav"),
        ("WAVEX", "PCM_16", "wav"),
        ("RF64", "PCM_16", "wav"),
        ("FLAC", "PCM_16", "flac"),
        ("OGG", "OPUS", "opus"),
    ],
)
def test_every_codec_keeps_the_agent_left_and_the_caller_right(form: str, subtype: str, codec: str) -> None:
    data = encoded(two_tones(), form, subtype)
    assert codec_of(data[:64]) == codec
    sound = heard(data, codec)
    assert sound.samples.shape[0] == 2
    assert sound.samples.dtype == np.int16
    assert sound.duration_s == pytest.approx(2.0, abs=0.01)
    assert [pitch(row) for row in sound.samples] == pytest.approx([440, 1000], abs=2)


def test_lossless_codecs_give_the_very_samples() -> None:
    samples = two_tones()
    for form, codec in (("WAV", "wav"), ("FLAC", "flac")):
        assert np.array_equal(heard(encoded(samples, form), codec).samples, samples.T)
    assert np.array_equal(heard(samples.tobytes(), "pcm", channels=2).samples, samples.T)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_rate_becomes_16_khz(rate: int) -> None:
    sound = heard(encoded(two_tones(rate=rate), "WAV", rate=rate), "wav")
    assert sound.duration_s == pytest.approx(2.0, abs=0.01)
    assert [pitch(row) for row in sound.samples] == pytest.approx([440, 1000], abs=2)


def test_one_channel_is_one_row() -> None:
    assert heard(encoded(two_tones()[:, 0], "FLAC"), "flac").samples.shape == (1, 32_000)
    assert heard(two_tones()[:, 0].tobytes(), "pcm", channels=1).samples.shape == (1, 32_000)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_pcm_that_was_cut_within_a_frame_loses_that_frame(cut: int) -> None:
    samples = two_tones()
    sound = heard(samples.tobytes()[:-cut], "pcm", channels=2)
    assert np.array_equal(sound.samples, samples[:-1].T)


@pytest.mark.parametrize(("form", "codec"), [("WAV", "wav"), ("FLAC", "flac")])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_recording_that_was_cut_gives_what_it_holds(form: str, codec: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(-3000, 3000, (RATE * 5, 2), dtype=np.int16)
    data = encoded(noise, form)
    sound = heard(data[: int(len(data) * share) | 1], codec)
    assert sound.duration_s == pytest.approx(5 * share, abs=0.6)
    assert np.array_equal(sound.samples, noise[: sound.samples.shape[1]].T)


def test_a_wav_whose_header_was_never_completed_is_read_to_its_end() -> None:
    """A recorder that is killed leaves the sizes it wrote at the start: none."""
    samples = two_tones()
    data = bytearray(encoded(samples, "WAV"))
    data[4:8] = data[40:44] = struct.pack("<I", 0)
    assert np.array_equal(heard(bytes(data), "wav").samples, samples.T)


def test_damage_in_the_middle_costs_only_that_place() -> None:
    noise = np.random.default_rng(1).integers(-3000, 3000, (RATE * 5, 1), dtype=np.int16)
    data = bytearray(encoded(noise, "FLAC"))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    assert heard(bytes(data), "flac").duration_s > 4


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        pytest.param(b"", "wav", id="nothing as WAV"),
        pytest.param(b"", "flac", id="nothing as FLAC"),
        pytest.param(b"", "opus", id="nothing as Opus"),
        pytest.param(b"not a sound at all" * 1000, "wav", id="text"),
        pytest.param(np.random.default_rng(2).bytes(100_000), "flac", id="noise as FLAC"),
        pytest.param(np.random.default_rng(3).bytes(100_000), "opus", id="noise as Opus"),
        pytest.param(encoded(two_tones(), "WAV"), "flac", id="WAV as FLAC"),
        pytest.param(encoded(two_tones(), "FLAC"), "wav", id="FLAC as WAV"),
        pytest.param(encoded(two_tones(), "FLAC"), "opus", id="FLAC as Opus"),
        pytest.param(encoded(two_tones()[:, 0], "WAV", "IMA_ADPCM"), "wav", id="a codec that is not allowed"),
        pytest.param(encoded(two_tones(), "OGG", "VORBIS"), "opus", id="Vorbis as Opus"),
        pytest.param(encoded(two_tones(), "WAV", rate=1), "wav", id="one sample a second"),
    ],
)
def test_what_is_not_of_its_codec_is_one_error_with_words(data: bytes, codec: str) -> None:
    with pytest.raises(AudioError, match="cannot decode the recording as") as caught:
        heard(data, codec)
    assert caught.value.why
    assert caught.value.fix


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        (b"", "pcm"),
        (b"\x01", "pcm"),
        (encoded(two_tones(0), "WAV"), "wav"),
        (encoded(two_tones(), "FLAC")[:100], "flac"),
    ],
    ids=["nothing", "half a sample", "an empty WAV", "the head of a FLAC"],
)
def test_a_recording_without_sound_is_an_error(data: bytes, codec: str) -> None:
    with pytest.raises(AudioError, match="holds no sound"):
        heard(data, codec)


@pytest.mark.parametrize(("form", "codec"), [("WAV", "wav"), ("FLAC", "flac")])
def test_more_than_two_channels_are_refused(form: str, codec: str) -> None:
    with pytest.raises(AudioError) as caught:
        heard(encoded(np.zeros((1000, 3), np.int16), form), codec)
    assert caught.value.why == "it has more than two channels"


def test_a_codec_bomb_ends_as_soon_as_it_is_too_long() -> None:
    bomb = silence_as_flac(1200)
    assert len(bomb) < 300_000
    begun = time.monotonic()
    with pytest.raises(AudioError, match=r"longer than 0\.0167 hours"):
        heard(bomb, "flac", max_hours=1 / 60)
    assert time.monotonic() - begun < 10


def test_raw_pcm_that_is_too_long_is_refused_before_it_is_all_read() -> None:
    taken = 0

    def counted() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(RATE * 2)

    with pytest.raises(AudioError, match="longer than"):
        decode(counted(), "pcm", 1, 5 / 3600)
    assert taken == 6


def endless(head: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield bytes(64_000)


def test_a_stream_without_an_end_is_left_when_it_is_too_long() -> None:
    head = bytearray(encoded(two_tones(0), "WAV"))
    head[40:44] = struct.pack("<I", 0xFFFFFFFF)
    with pytest.raises(AudioError, match="longer than"):
        decode(endless(bytes(head)), "wav", 2, 10 / 3600)


def test_a_decoder_that_does_not_come_to_an_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it looks for another chunk of sound behind the only one, for ever."""
    monkeypatch.setattr(decode_module, "WALL_S", 1.0)
    with pytest.raises(AudioError) as caught:
        decode(endless(encoded(two_tones(), "WAV")), "wav", 2, 1.0)
    assert caught.value.why == "the decoder had not finished after 2 seconds"


def test_what_the_source_raises_is_not_taken_for_a_cut_recording() -> None:
    data = encoded(two_tones(), "FLAC")

    def torn() -> Iterator[bytes]:
        yield data[:20_000]
        raise SealedError("not authentic")

    with pytest.raises(SealedError):
        decode(torn(), "flac", 2, 1.0)


@pytest.mark.parametrize(
    "head", [b"", b"RIFF", b"RIFFxxxxAVI ", b"OggS" + bytes(60), b"ID3\x04", b"\x89SREC"]
)
def test_what_is_no_sound_of_ours_has_no_codec(head: bytes) -> None:
    assert codec_of(head) == ""
