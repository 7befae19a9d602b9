"""Score: how well a transcript matches a call whose truth is known. For the demo and the tests.

Words are compared in lower case and without punctuation; a number is one word, however it is grouped.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from whisperagent import wire


@dataclass(frozen=True)
class Turn:
    """One sentence that was said. Seconds from the start of the call."""

    speaker: wire.Speaker
    start_s: float
    end_s: float
    text: str


def truth(path: Path) -> tuple[Turn, ...]:
    """The sentences of a call, in order, from the JSON that scripts/speech/make_call.py writes beside it."""
    turns = json.loads(path.read_text("utf-8"))["turns"]
    return tuple(Turn(turn["speaker"], turn["start"], turn["end"], turn["text"]) for turn in turns)


def word_error_rate(expected: Sequence[Turn] | str, heard: Sequence[wire.Segment] | str) -> float:
    """Wrong, missing and added words, over the words that were said; 0 is perfect, 1 may be exceeded.

    Two texts are compared as they are. A call is compared side by side: the errors of each speaker's text
    (fewest words to change, drop or add), summed, over all words; where the sides were not told apart
    (`unknown`), as one text.
    """
    sides = _sides(expected, heard)
    errors = sum(_table(said, written)[-1][-1] for said, written in sides)
    return errors / max(1, sum(len(said) for said, _written in sides))


def speaker_accuracy(expected: Sequence[Turn], heard: Sequence[wire.Segment]) -> float:
    """The share of the heard words that are with the right speaker; 1 is perfect.

    The words heard, in order of time, are aligned with the words that were said, in order of time, at the
    fewest changes; a word is right when the one it stands for was said by the speaker it is given to. Words
    that stand for none are errors of the text and not counted. By text and not by clock, so that a recording
    that began earlier than the truth counts the same.
    """
    said = [(word, turn.speaker) for turn in expected for word in words(turn.text)]
    written = [(word, segment.speaker) for segment in heard for word in words(segment.text)]
    pairs = _alignment([word for word, _who in said], [word for word, _who in written])
    right = sum(said[i][1] == written[j][1] for i, j in pairs)
    return right / len(pairs) if pairs else 0.0


def words(text: str) -> list[str]:
    plain = re.sub(r"[^\w' ]", " ", text.lower().replace("’", "'"))
    plain = re.sub(r"(?<=\d) +(?=\d)", "", plain)
    return [word for word in plain.split() if word.strip("'")]


def _sides(
    expected: Sequence[Turn] | str, heard: Sequence[wire.Segment] | str
) -> list[tuple[list[str], list[str]]]:
    """Pairs of the words said and the words heard, to be compared."""
    if (
        isinstance(expected, str)
        or isinstance(heard, str)
        or all(each.speaker == "unknown" for each in heard)
    ):
        return [(_words(expected), _words(heard))]
    return [
        (
            _words([turn for turn in expected if turn.speaker == speaker]),
            _words([segment for segment in heard if segment.speaker == speaker]),
        )
        for speaker in get_args(wire.Speaker)
    ]


def _words(source: Sequence[Turn] | Sequence[wire.Segment] | str) -> list[str]:
    return (
        words(source) if isinstance(source, str) else [word for each in source for word in words(each.text)]
    )


def _alignment(said: list[str], written: list[str]) -> list[tuple[int, int]]:
    """Pairs of places, one in each list, that stand for each other at the fewest changes."""
    table = _table(said, written)
    pairs = []
    i, j = len(said), len(written)
    while i and j:
        if table[i][j] == table[i - 1][j - 1] + (said[i - 1] != written[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i][j] == table[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _table(said: list[str], written: list[str]) -> list[list[int]]:
    """Levenshtein's: [i][j] is the changes from the first i words to the first j."""
    table = [list(range(len(written) + 1))]
    for i, word in enumerate(said, 1):
        row = [i]
        for j, other in enumerate(written, 1):
            row.append(min(table[-1][j] + 1, row[-1] + 1, table[-1][j - 1] + (word != other)))
        table.append(row)
    return table
