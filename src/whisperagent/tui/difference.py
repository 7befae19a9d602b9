"""What differs between the draft of a call and the server's transcript, word by word. Pure.

Each side is compared with itself, for who spoke first is heard a little differently by two models. Case and
punctuation make no difference.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal, NamedTuple

from whisperagent.i18n import _
from whisperagent.tui import words
from whisperagent.wire import Segment

Kind = Literal["same", "added", "removed"]
SIGNS = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
"""Around the words, as `wdiff` and `git diff --word-diff` write them: the colour is not needed."""


@dataclass(frozen=True)
class Run:
    """A few words. removed: only the draft has them; added: only the transcript."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        before, after = SIGNS[self.kind]
        return f"{before}{self.text}{after}"


@dataclass(frozen=True)
class Line:
    """One segment of the transcript, or one of the draft of which nothing is left."""

    start_s: float
    speaker: str
    runs: tuple[Run, ...]

    @property
    def differs(self) -> bool:
        return any(run.kind != "same" for run in self.runs)


class _Word(NamedTuple):
    """place: of its segment. key: what is compared."""

    place: int
    text: str
    key: str


@dataclass
class _Side:
    """lines: what goes on which line, by the place of a segment. lost: places of the draft that are gone."""

    lines: dict[int, list[tuple[Kind, str]]] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)


def difference(draft: Sequence[Segment], transcript: Sequence[Segment]) -> list[Line]:
    """All that is said, in order of time, with what differs marked."""
    lines = []
    for speaker in dict.fromkeys(segment.speaker for segment in (*transcript, *draft)):
        before = [segment for segment in draft if segment.speaker == speaker]
        after = [segment for segment in transcript if segment.speaker == speaker]
        side = _compared(list(_words(before)), list(_words(after)))
        lines += [
            Line(after[place].start_s, speaker, tuple(_runs(told))) for place, told in side.lines.items()
        ]
        lines += [
            Line(before[place].start_s, speaker, (Run("removed", " ".join(before[place].text.split())),))
            for place in side.lost
        ]
    return sorted(lines, key=lambda line: line.start_s)


def count(lines: Iterable[Line]) -> tuple[int, int]:
    """How many words only the draft has, and how many only the transcript."""
    runs = [run for line in lines for run in line.runs]
    removed, added = (
        sum(len(run.text.split()) for run in runs if run.kind == kind) for kind in ("removed", "added")
    )
    return removed, added


def summary(lines: Sequence[Line], model: str) -> str:
    """How much differs. model: that made the draft."""
    removed, added = count(lines)
    if not removed and not added:
        return _("The draft by {model} and the transcript have the same words.").format(
            model=words.clean(model)
        )
    return _(
        "Words only in the draft by {model}: {removed} [-…-]; only in the transcript: {added} {{+…+}}"
    ).format(model=words.clean(model), removed=removed, added=added)


def _words(segments: Sequence[Segment]) -> Iterator[_Word]:
    """A sign that stands alone, as before a French question mark, belongs to the word before it."""
    for place, segment in enumerate(segments):
        word = ""
        for text in segment.text.split():
            key = _key(text)
            if key and word:
                yield _Word(place, word, _key(word))
                word = text
            else:
                word = f"{word} {text}".lstrip()
        if word:
            yield _Word(place, word, _key(word))


def _key(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _compared(before: Sequence[_Word], after: Sequence[_Word]) -> _Side:
    side = _Side()
    lengths = {place: len(list(group)) for place, group in groupby(before, lambda word: word.place)}
    matcher = SequenceMatcher(None, [word.key for word in before], [word.key for word in after])
    for kind, begin, end, first, last in matcher.get_opcodes():
        if kind != "equal":
            for place, group in groupby(before[begin:end], lambda word: word.place):
                lost = list(group)
                if kind == "delete" and len(lost) == lengths[place]:
                    side.lost.append(place)
                else:
                    line = after[min(first, len(after) - 1)].place
                    side.lines.setdefault(line, []).extend(("removed", word.text) for word in lost)
        for word in after[first:last]:
            said: Kind = "same" if kind == "equal" else "added"
            side.lines.setdefault(word.place, []).append((said, word.text))
    return side


def _runs(told: Iterable[tuple[Kind, str]]) -> Iterator[Run]:
    for kind, group in groupby(told, lambda word: word[0]):
        yield Run(kind, " ".join(text for _kind, text in group))
