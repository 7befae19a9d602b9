"""Merge: what was heard on each side, on the time line of the call.

The engine hears a side without its silences, so its times are those of the speech that was kept. Here every
segment goes back to its place in the call; one that runs on over a silence is cut there, since the other side
may have answered in it. Pure: numbers and words in, segments out.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from whisperagent import wire
from whisperserver.transcribe.guards import has_words
from whisperserver.transcribe.pauses import Stretch


@dataclass(frozen=True)
class Utterance:
    """A segment as it was heard, in seconds of the kept speech. words: with the spaces around them."""

    start_s: float
    end_s: float
    text: str
    probability: float
    words: tuple[wire.Word, ...] = ()

    def later(self, by_s: float) -> "Utterance":
        """The same, `by_s` seconds on, words and all."""
        words = tuple(
            wire.Word(word.start_s + by_s, word.end_s + by_s, word.text, word.probability)
            for word in self.words
        )
        return replace(self, start_s=self.start_s + by_s, end_s=self.end_s + by_s, words=words)


@dataclass(frozen=True)
class Side:
    """One channel: who speaks on it, when, and what was heard there."""

    speaker: wire.Speaker
    kept: Sequence[Stretch]
    heard: Sequence[Utterance]


def merge(sides: Iterable[Side], duration_s: float) -> tuple[wire.Segment, ...]:
    """All that was said, by its start; where two start together, in the order of `sides`. Overlaps stay.

    duration_s: of the call, which no time exceeds.
    """
    placed = [
        (side.speaker, piece) for side in sides for said in side.heard for piece in _placed(said, side.kept)
    ]
    placed.sort(key=lambda pair: pair[1].start_s)
    return tuple(
        _segment(number, speaker, piece, duration_s) for number, (speaker, piece) in enumerate(placed)
    )


def _placed(said: Utterance, kept: Sequence[Stretch]) -> list[Utterance]:
    """The utterance in seconds of the call: in one piece, or one for each stretch that has words of it."""
    line = _Line(kept)
    # An end on the cut is the end of the stretch before it; the model tells times to 0.02 s.
    first = line.stretch(said.start_s)
    last = line.stretch(max(said.start_s, said.end_s - 0.01))
    if first == last or not said.words:
        start_s, end_s = line.at(said.start_s, first), line.at(said.end_s, last)
        words = [
            _within(_moved(word, line, line.stretch(_middle(word))), start_s, end_s) for word in said.words
        ]
        return [replace(said, start_s=start_s, end_s=end_s, words=tuple(words))]
    pieces = []
    for number, group in groupby(
        said.words, key=lambda word: min(max(line.stretch(_middle(word)), first), last)
    ):
        start_s = line.at(said.start_s, number)
        end_s = line.at(said.end_s, number)
        words = [_within(_moved(word, line, number), start_s, end_s) for word in group]
        # What the cut takes off is silence: the words say where the piece begins and ends.
        pieces.append(
            Utterance(
                start_s if number == first else words[0].start_s,
                end_s if number == last else words[-1].end_s,
                "".join(word.text for word in words),
                said.probability,
                tuple(words),
            )
        )
    return pieces


class _Line:
    """From seconds of the kept speech to seconds of the call."""

    def __init__(self, kept: Sequence[Stretch]) -> None:
        self._kept = kept
        self._begins: list[float] = []
        at_s = 0.0
        for stretch in kept:
            self._begins.append(at_s)
            at_s += stretch.end_s - stretch.start_s

    def stretch(self, kept_s: float) -> int:
        """The number of the stretch that the time is in."""
        return max(0, bisect_right(self._begins, kept_s) - 1)

    def at(self, kept_s: float, number: int) -> float:
        """The time in the call, held within the stretch of that number."""
        stretch = self._kept[number]
        return min(max(stretch.start_s, stretch.start_s + kept_s - self._begins[number]), stretch.end_s)


def _moved(word: wire.Word, line: _Line, number: int) -> wire.Word:
    return wire.Word(line.at(word.start_s, number), line.at(word.end_s, number), word.text, word.probability)


def _within(word: wire.Word, start_s: float, end_s: float) -> wire.Word:
    """Word times are rough: none may stick out of its segment."""
    begin_s = min(max(word.start_s, start_s), end_s)
    return wire.Word(begin_s, min(max(word.end_s, begin_s), end_s), word.text, word.probability)


def _middle(word: wire.Word) -> float:
    return (word.start_s + word.end_s) / 2


def _segment(number: int, speaker: wire.Speaker, said: Utterance, duration_s: float) -> wire.Segment:
    start_s = _rounded(said.start_s, duration_s)
    return wire.Segment(
        id=number,
        start_s=start_s,
        end_s=max(start_s, _rounded(said.end_s, duration_s)),
        speaker=speaker,
        text=_plain(said.text),
        words=tuple(
            wire.Word(
                _rounded(word.start_s, duration_s),
                _rounded(word.end_s, duration_s),
                _plain(word.text),
                round(word.probability, 3),
            )
            for word in _whole(said.words)
        ),
        probability=round(said.probability, 3),
    )


def _whole(words: Iterable[wire.Word]) -> list[wire.Word]:
    """French puts a space before `?`: such a mark belongs to the word before it."""
    whole: list[wire.Word] = []
    for word in words:
        if whole and not has_words(word.text):
            last = whole.pop()
            word = wire.Word(last.start_s, word.end_s, last.text + word.text, last.probability)
        whole.append(word)
    return whole


def _rounded(seconds: float, duration_s: float) -> float:
    return round(min(max(seconds, 0.0), duration_s), 3)


def _plain(text: str) -> str:
    """One line, without what a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
