"""The engine on real speech: the demo's calls, and calls that nobody has heard before."""

from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from faster_whisper import WhisperModel

from tests.speech.conftest import CALLS, MakeCall
from whisperagent import wire
from whisperagent.settings import Speech
from whisperserver.transcribe import score
from whisperserver.transcribe.decode import Sound, decode
from whisperserver.transcribe.engine import Engine
from whisperserver.transcribe.models import folder

pytestmark = pytest.mark.slow

SPEAKERS: tuple[wire.Speaker, ...] = ("agent", "caller")


def sound(wav: Path) -> Sound:
    return decode([wav.read_bytes()], "wav", channels=0, max_hours=1.0)


@pytest.mark.parametrize(("name", "language"), [("french", "fr"), ("english", "en"), ("noisy", "fr")])
def test_the_calls_of_the_demo_are_understood(engine: Engine, name: str, language: str) -> None:
    truth = score.truth(CALLS / f"{name}.json")
    heard = engine.transcribe(sound(CALLS / f"{name}.wav"))
    assert heard.language == language
    assert score.word_error_rate(truth, heard.segments) <= 0.05
    assert score.speaker_accuracy(truth, heard.segments) >= 0.99


@pytest.mark.parametrize("language", ["fr", "en"])
def test_other_calls_are_understood_no_worse_than_by_faster_whisper_alone(
    engine: Engine, make_call: MakeCall, language: str
) -> None:
    alone = WhisperModel(str(folder("demo", Path())), device="cpu", compute_type="auto")
    ours, theirs = [], []
    for seed in (1001, 1002, 1003):
        wav = make_call(language, seed)
        call, truth = sound(wav), score.truth(wav.with_suffix(".json"))
        heard = engine.transcribe(call)
        assert heard.language == language
        assert score.speaker_accuracy(truth, heard.segments) >= 0.99
        ours.append(score.word_error_rate(truth, heard.segments))
        theirs.append(score.word_error_rate(truth, heard_alone(alone, call, language)))
    assert mean(ours) <= min(0.05, mean(theirs))


@pytest.mark.parametrize(
    ("language", "seed"),
    [
        pytest.param("en", 3002, id="a window that ended within a sentence"),
        pytest.param("en", 1012, id="a sentence that its window led astray"),
        pytest.param("fr", 1006, id="a number without an end, and the same words again and again"),
    ],
)
def test_a_call_that_once_went_wrong_is_understood(
    engine: Engine, make_call: MakeCall, language: str, seed: int
) -> None:
    wav = make_call(language, seed)
    heard = engine.transcribe(sound(wav))
    assert score.word_error_rate(score.truth(wav.with_suffix(".json")), heard.segments) <= 0.03


def heard_alone(whisper: WhisperModel, call: Sound, language: str) -> list[wire.Segment]:
    return [
        wire.Segment(id=0, start_s=each.start, end_s=each.end, speaker=speaker, text=each.text)
        for speaker, row in zip(SPEAKERS, call.samples, strict=True)
        for each in whisper.transcribe(
            row.astype(np.float32) / 32768,
            language=language,
            vad_filter=True,
            condition_on_previous_text=False,
        )[0]
    ]


def test_every_segment_has_its_words_in_its_time(engine: Engine) -> None:
    call = sound(CALLS / "english.wav")
    heard = engine.transcribe(call)
    assert [segment.id for segment in heard.segments] == list(range(len(heard.segments)))
    last_s = 0.0
    for segment in heard.segments:
        assert last_s <= segment.start_s <= segment.end_s <= call.duration_s
        last_s = segment.start_s
        assert " ".join(word.text for word in segment.words) == segment.text
        for word in segment.words:
            assert segment.start_s <= word.start_s <= word.end_s <= segment.end_s
            assert 0 < word.probability <= 1
        assert 0 < segment.probability <= 1


def test_segments_stand_where_they_were_said(engine: Engine) -> None:
    heard = engine.transcribe(sound(CALLS / "french.wav"))
    truth = score.truth(CALLS / "french.json")
    assert [segment.speaker for segment in heard.segments] == [turn.speaker for turn in truth]
    for segment, turn in zip(heard.segments, truth, strict=True):
        assert segment.start_s == pytest.approx(turn.start_s, abs=0.3)


def test_a_mono_recording_has_one_unknown_speaker(engine: Engine, make_call: MakeCall) -> None:
    wav = make_call("fr", 1004, layout="mono")
    heard = engine.transcribe(sound(wav))
    assert {segment.speaker for segment in heard.segments} == {"unknown"}
    assert score.word_error_rate(score.truth(wav.with_suffix(".json")), heard.segments) <= 0.1


@pytest.mark.parametrize("level", [0, 30, 300], ids=["nothing at all", "a quiet line", "a noisy line"])
def test_silence_has_no_words(engine: Engine, level: int) -> None:
    noise = np.random.default_rng(1).normal(0, 1, (2, 16_000 * 20)) * level
    heard = engine.transcribe(Sound(noise.astype(np.int16)))
    assert heard.segments == ()


def test_one_silent_side_does_not_silence_the_other(engine: Engine) -> None:
    samples = sound(CALLS / "english.wav").samples.copy()
    samples[0] = 0
    heard = engine.transcribe(Sound(samples))
    assert heard.language == "en"
    assert {segment.speaker for segment in heard.segments} == {"caller"}
    assert len(heard.segments) >= 5


def test_a_sound_of_a_few_samples_is_no_trouble(engine: Engine) -> None:
    for frames in (1, 100, 511, 513):
        assert engine.transcribe(Sound(np.ones((2, frames), np.int16))).segments == ()


def test_progress_rises_to_the_end(engine: Engine) -> None:
    told: list[float] = []
    engine.transcribe(sound(CALLS / "french.wav"), told.append)
    assert told == sorted(told)
    assert 0 < told[0] < 0.5
    assert told[-1] == 1.0


def test_the_same_call_gives_the_same_transcript(engine: Engine) -> None:
    """A job may run twice."""
    call = sound(CALLS / "noisy.wav")
    assert engine.transcribe(call) == engine.transcribe(call)


def test_a_language_that_is_not_allowed_is_not_found() -> None:
    english = Engine(Speech(model="demo", languages=("en",)), Path())
    assert english.transcribe(sound(CALLS / "french.wav")).language == "en"


def test_a_long_pause_puts_the_answer_between_the_two_halves(engine: Engine) -> None:
    """The engine hears a side without its pauses; the time line must have them back."""
    rows = sound(CALLS / "english.wav").samples
    pause = np.zeros((2, 16_000 * 30), np.int16)
    heard = engine.transcribe(Sound(np.concatenate([rows, pause, rows], axis=1)))
    late_s = rows.shape[1] / 16_000 + 30
    starts = [segment.start_s for segment in heard.segments]
    first, second = [s for s in starts if s < late_s], [s for s in starts if s >= late_s]
    assert len(first) == len(second)
    assert second == pytest.approx([start_s + late_s for start_s in first], abs=0.3)
