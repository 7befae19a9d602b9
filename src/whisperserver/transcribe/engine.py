"""The speech engine: faster-whisper, loaded once, one call after the other, one side at a time.

It must lose no word that faster-whisper alone would hear. Both sides of a call are heard apart, each
without its silences, so that who speaks is known from the channel and never guessed. The language is chosen
once for a call, by what both sides speak.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps

from whisperagent import settings, wire
from whisperagent.errors import SpeechUnavailable
from whisperagent.i18n import _
from whisperserver.transcribe import guards, models, pauses
from whisperserver.transcribe.decode import Sound
from whisperserver.transcribe.merge import Side, Utterance, merge
from whisperserver.transcribe.pauses import Stretch

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEECH = VadOptions(min_silence_duration_ms=round(pauses.PAUSE_S * 1000), speech_pad_ms=0)


@dataclass(frozen=True)
class Heard:
    """language: ISO 639-1 code, empty where nobody spoke."""

    language: str
    segments: tuple[wire.Segment, ...]


@dataclass(frozen=True)
class _Voice:
    """What is said on one channel.

    kept: the stretches that the model hears. samples: float32, 16 kHz, those one after the other.
    windows: start and end of each piece that it hears at once, in seconds of `samples`.
    """

    speaker: wire.Speaker
    kept: tuple[Stretch, ...]
    windows: list[float]
    samples: "NDArray[np.float32]"


class Engine:
    """One loaded model. model: its name, as transcripts and tickets show it. One call at a time."""

    def __init__(self, speech: settings.Speech, models_folder: Path) -> None:
        """Load the model that `speech` names; `models_folder` is where pulled ones lie. Fetches nothing.

        raises SpeechUnavailable: no such model, a broken one, a device this machine lacks, or a language the
        model does not know.
        """
        where = models.folder(speech.model, models_folder)
        self.model = models.DEMO if speech.model == models.DEMO else where.name.replace("--", "/", 1)
        self._beam_size = speech.beam_size
        self._whisper = _load(speech, where)
        self._languages = _languages(speech, self._whisper)

    def transcribe(self, sound: Sound, tell: Callable[[float], None] = lambda _share: None) -> Heard:
        """Who said what, when.

        sound: two rows are agent and caller; one row is `unknown`.
        tell: is given the share of the work that is done, 0..1, rising.
        """
        voices = [
            _voice(speaker, row, self._whisper.window_s)
            for speaker, row in zip(_speakers(sound), sound.samples, strict=True)
        ]
        total = sum(len(voice.samples) for voice in voices)
        if total == 0:
            tell(1.0)
            return Heard("", ())
        language = self._language(voices)
        sides = []
        done = 0
        for voice in voices:
            heard = []
            for utterance in self._hear(voice, language):
                heard.append(utterance)
                tell(min(1.0, (done + utterance.end_s * wire.SAMPLE_RATE) / total))
            done += len(voice.samples)
            sides.append(Side(voice.speaker, voice.kept, heard))
        tell(1.0)
        return Heard(language, merge(sides, sound.duration_s))

    def _language(self, voices: list[_Voice]) -> str:
        """The language of the call: of those allowed, the likeliest over all that is said."""
        if len(self._languages) == 1:
            return self._languages[0]
        votes = dict.fromkeys(self._languages, 0.0)
        for voice in voices:
            if len(voice.samples) == 0:
                continue
            _best, _probability, all_of_them = self._whisper.detect_language(voice.samples)
            for code, probability in all_of_them:
                if code in votes:
                    votes[code] += probability * len(voice.samples)
        return max(votes, key=lambda code: votes[code])

    def _hear(self, voice: _Voice, language: str) -> Iterator[Utterance]:
        if len(voice.samples) == 0:
            return
        for segment in self._whisper.hear(voice.samples, voice.windows, language, self._beam_size):
            if guards.invented(segment.text, segment.no_speech_prob, segment.avg_logprob):
                continue
            words = tuple(
                wire.Word(float(word["start"]), float(word["end"]), word["word"], float(word["probability"]))
                for word in segment.words
            )
            yield Utterance(
                segment.start,
                segment.end,
                segment.text,
                # The model's own figure is of the whole window, its words' are of this segment.
                sum(word.probability for word in words) / len(words)
                if words
                else math.exp(segment.avg_logprob),
                words,
            )


class _Whisper(WhisperModel):  # type: ignore[misc]  # faster-whisper has no types
    """faster-whisper, with word times that leave the text alone.

    There, the end of the last word decides where the next window begins. Word times are rough, so a window
    may then begin within a word, and asking for word times costs words. Here they are laid aside, and the
    window goes by the time stamps of the text, as it does when no word times are asked for.
    """

    @property
    def window_s(self) -> float:
        """How much the model hears at once: 30 s, 10 s for the demo's."""
        return float(self.feature_extractor.n_samples) / wire.SAMPLE_RATE

    def hear(
        self, samples: "NDArray[np.float32]", windows: list[float], language: str, beam_size: int
    ) -> Iterator[Any]:
        """The segments of faster-whisper; their words as dictionaries."""
        self._aside: dict[tuple[int, float], list[dict[str, Any]]] = {}
        self._last_word_s = 0.0
        segments, _info = self.transcribe(
            samples,
            language=language,
            beam_size=beam_size,
            # One wrong sentence would otherwise lead the next ones astray.
            condition_on_previous_text=False,
            word_timestamps=True,
            clip_timestamps=windows,
        )
        for segment in segments:
            segment.words = self._aside.pop((segment.seek, segment.start), [])
            yield segment

    def add_word_timestamps(self, segments: list[list[dict[str, Any]]], *rest: Any, **named: Any) -> float:
        aligned = [[dict(segment) for segment in window] for window in segments]
        named["last_speech_timestamp"] = self._last_word_s
        self._last_word_s = super().add_word_timestamps(aligned, *rest, **named)
        for window, aligned_window in zip(segments, aligned, strict=True):
            for segment, with_words in zip(window, aligned_window, strict=True):
                self._aside[segment["seek"], segment["start"]] = with_words["words"]
                segment["words"] = []
        return self._last_word_s


def _load(speech: settings.Speech, where: Path) -> _Whisper:
    try:
        return _Whisper(
            str(where),
            device=speech.device,
            compute_type=speech.compute_type,
            # 0: CTranslate2's own choice. More threads than cores only get in each other's way.
            cpu_threads=min(speech.threads, os.cpu_count() or 1),
            local_files_only=True,
        )
    except (
        Exception
    ) as problem:  # CTranslate2 raises RuntimeError and ValueError, tokenizers a bare Exception
        raise SpeechUnavailable(
            _("cannot load the speech model in {folder}").format(folder=where),
            why=str(problem).partition("\n")[0][:300],
            fix=_fix(speech),
        ) from None


def _fix(speech: settings.Speech) -> str:
    if speech.device == "cuda" and ctranslate2.get_cuda_device_count() == 0:
        return _('set `device = "cpu"` under [speech] in config.toml, or install the driver of the GPU')
    if speech.compute_type not in ("auto", "default"):
        return _('set `compute_type = "auto"` under [speech] in config.toml')
    return _("delete the folder and pull the model again: `wa server model pull NAME`")


def _languages(speech: settings.Speech, whisper: _Whisper) -> tuple[str, ...]:
    """Those the settings allow; all that the model knows where they allow any."""
    known = tuple(whisper.supported_languages)
    if not whisper.model.is_multilingual:
        return known
    if strange := [code for code in speech.languages if code not in known]:
        raise SpeechUnavailable(
            _("the speech model knows no language `{code}`").format(code=strange[0]),
            fix=_('mend `languages` under [speech] in config.toml, for instance ["fr", "en"]'),
        )
    return speech.languages or known


def _speakers(sound: Sound) -> tuple[wire.Speaker, ...]:
    return ("agent", "caller") if len(sound.samples) == 2 else ("unknown",)


def _voice(speaker: wire.Speaker, row: "NDArray[np.int16]", window_s: float) -> _Voice:
    """A channel without its silences."""
    samples = row.astype(np.float32) / np.float32(32768)
    speech = [
        Stretch(said["start"] / wire.SAMPLE_RATE, said["end"] / wire.SAMPLE_RATE)
        for said in get_speech_timestamps(samples, SPEECH)
    ]
    kept = pauses.kept(speech, len(samples) / wire.SAMPLE_RATE)
    pieces = [
        samples[round(each.start_s * wire.SAMPLE_RATE) : round(each.end_s * wire.SAMPLE_RATE)]
        for each in kept
    ]
    return _Voice(
        speaker,
        kept,
        pauses.windows(speech, kept, window_s),
        np.concatenate(pieces) if pieces else samples[:0],
    )
