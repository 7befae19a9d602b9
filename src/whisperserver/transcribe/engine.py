"""The speech engine: faster-whisper, loaded once, one call after the other, one side at a time.

It must lose no word that faster-whisper alone would hear. Both sides of a call are heard apart, each
without its silences, so that who speaks is known from the channel and never guessed. The language is chosen
once for a call, by what both sides speak. What the model is not sure of it hears a second time (doubt.py).
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.vad import VadOptions, get_speech_timestamps

from whisperagent import settings, wire
from whisperagent.errors import SpeechUnavailable
from whisperagent.i18n import _
from whisperserver.transcribe import doubt, guards, models, pauses
from whisperserver.transcribe.decode import Sound
from whisperserver.transcribe.merge import Side, Utterance, merge
from whisperserver.transcribe.pauses import Pause, Stretch

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
    ends: where a window may end, in seconds of `samples`.
    """

    speaker: wire.Speaker
    kept: tuple[Stretch, ...]
    ends: list[Pause]
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
        rows = zip(_speakers(sound), sound.samples, strict=True)
        voices = [voice for voice in (_voice(speaker, row) for speaker, row in rows) if len(voice.samples)]
        if not voices:
            tell(1.0)
            return Heard("", ())
        total = sum(len(voice.samples) for voice in voices)
        begun = [self._begin(voice.samples, voice.ends) for voice in voices]
        language = self._language(begun)
        heard: list[list[Utterance]] = []
        done = 0
        for voice, one in zip(voices, begun, strict=True):
            side = []
            for utterance in self._hear(one, language):
                side.append(utterance)
                tell(min(1.0, (done + utterance.end_s * wire.SAMPLE_RATE) / total))
            done += len(voice.samples)
            heard.append(side)
        self._hear_again(voices, heard, language)
        tell(1.0)
        sides = [Side(voice.speaker, voice.kept, side) for voice, side in zip(voices, heard, strict=True)]
        return Heard(language, merge(sides, sound.duration_s))

    def _begin(self, samples: "NDArray[np.float32]", ends: list[Pause]) -> "_Begun":
        windows = pauses.windows(ends, self._whisper.window_s)
        return self._whisper.begin(samples, windows, self._languages[0], self._beam_size)

    def _language(self, begun: list["_Begun"]) -> str:
        """The language of the call: of those allowed, the likeliest over all that is said."""
        if len(self._languages) == 1:
            return self._languages[0]
        votes = dict.fromkeys(self._languages, 0.0)
        for voice in begun:
            for code, probability in self._whisper.languages(voice):
                if code in votes:
                    votes[code] += probability * voice.features.shape[-1]
        return max(votes, key=lambda code: votes[code])

    def _hear_again(self, voices: list[_Voice], heard: list[list[Utterance]], language: str) -> None:
        """Hear what is doubtful of `heard` once more, and put the surer text in its place.

        The pieces of both sides lie one after the other here, so that they take few windows.
        """
        spoken_s = sum(len(voice.samples) for voice in voices) / wire.SAMPLE_RATE
        firsts = doubt.doubtful(
            (
                piece
                for side, voice in enumerate(voices)
                for piece in doubt.pieces(side, heard[side], voice.ends)
            ),
            max(self._whisper.window_s, doubt.SHARE * spoken_s),
        )
        if not firsts:
            return
        samples = [_between(voices[piece.side].samples, piece.start_s, piece.end_s) for piece in firsts]
        bounds = list(accumulate((len(each) / wire.SAMPLE_RATE for each in samples), initial=0.0))
        ends = [Pause(end_s, pauses.SILENCE_S) for end_s in bounds[1:]]
        again = {
            piece.start_s: piece
            for piece in doubt.pieces(
                0, self._hear(self._begin(np.concatenate(samples), ends), language), ends
            )
        }
        for first, (start_s, end_s) in zip(firsts, pairwise(bounds), strict=True):
            second = again.get(start_s)
            # One that speaks on into the next piece is of no use.
            if second is not None and second.end_s == end_s and doubt.surer(first, second):
                side = heard[first.side]
                at = side.index(first.said[0])
                side[at : at + len(first.said)] = [
                    each.later(first.start_s - start_s) for each in second.said
                ]

    def _hear(self, begun: "_Begun", language: str) -> Iterator[Utterance]:
        for segment in self._whisper.hear(begun, language):
            if guards.invented(
                segment.text, segment.end - segment.start, segment.no_speech_prob, segment.avg_logprob
            ):
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


@dataclass
class _Begun:
    """Sound that is ready to be heard, as faster-whisper keeps it.

    features: (bins, frames). first: what the encoder has made of the first window already, if it has.
    """

    features: "NDArray[np.float32]"
    tokenizer: Any
    options: Any
    first: Any = None


class _Whisper(WhisperModel):  # type: ignore[misc]  # faster-whisper has no types
    """faster-whisper, with word times that leave the text alone, and no window encoded twice.

    There, the end of the last word decides where the next window begins. Word times are rough, so a window
    may then begin within a word, and asking for word times costs words. Here they are laid aside, and the
    window goes by the time stamps of the text, as it does when no word times are asked for. And there, to
    find out the language is to encode a window and throw the result away: what is saved here pays for what
    is heard again.
    """

    @property
    def window_s(self) -> float:
        """How much the model hears at once: 30 s, 10 s for the demo's."""
        return float(self.feature_extractor.n_samples) / wire.SAMPLE_RATE

    def begin(
        self, samples: "NDArray[np.float32]", windows: list[float], language: str, beam_size: int
    ) -> _Begun:
        """Make ready what `hear` hears. language: any that the model knows, until `hear` is told."""
        begun, _info = self.transcribe(
            samples,
            language=language,
            beam_size=beam_size,
            # One wrong sentence would otherwise lead the next ones astray.
            condition_on_previous_text=False,
            word_timestamps=True,
            clip_timestamps=windows,
        )
        assert isinstance(begun, _Begun)  # noqa: S101 - for the type checker
        return begun

    def generate_segments(self, features: Any, tokenizer: Any, options: Any, *_rest: Any) -> _Begun:
        """The last step of `transcribe`: `hear` takes it, when the language is known."""
        return _Begun(features, tokenizer, options)

    def languages(self, begun: _Begun) -> list[tuple[str, float]]:
        """How likely each language is, by the first window."""
        end = round(begun.options.clip_timestamps[1] * self.frames_per_second)
        frames = min(end, begun.features.shape[-1] - 1, self.feature_extractor.nb_max_frames)
        begun.first = self.encode(pad_or_trim(begun.features[:, :frames]))
        return [
            (token.strip("<|>"), probability)
            for token, probability in self.model.detect_language(begun.first)[0]
        ]

    def hear(self, begun: _Begun, language: str) -> Iterator[Any]:
        """The segments of faster-whisper; their words as dictionaries."""
        self._aside: dict[tuple[int, float], list[dict[str, Any]]] = {}
        self._last_word_s = 0.0
        if self.model.is_multilingual:
            begun.tokenizer.language = begun.tokenizer.tokenizer.token_to_id(f"<|{language}|>")
            begun.tokenizer.language_code = language
        segments = super().generate_segments(
            begun.features, begun.tokenizer, begun.options, log_progress=False, encoder_output=begun.first
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


def _voice(speaker: wire.Speaker, row: "NDArray[np.int16]") -> _Voice:
    """A channel without its silences."""
    samples = row.astype(np.float32) / np.float32(32768)
    speech = [
        Stretch(said["start"] / wire.SAMPLE_RATE, said["end"] / wire.SAMPLE_RATE)
        for said in get_speech_timestamps(samples, SPEECH)
    ]
    kept = pauses.kept(speech, len(samples) / wire.SAMPLE_RATE)
    pieces = [_between(samples, each.start_s, each.end_s) for each in kept]
    return _Voice(
        speaker, kept, pauses.pauses(speech, kept), np.concatenate(pieces) if pieces else samples[:0]
    )


def _between(samples: "NDArray[np.float32]", start_s: float, end_s: float) -> "NDArray[np.float32]":
    return samples[round(start_s * wire.SAMPLE_RATE) : round(end_s * wire.SAMPLE_RATE)]
