"""Which words of a transcript a person should look at first.

The speech engine gives every word a probability. Below `LIMIT` it guessed; what must be exact, such as a
number, an address or a serial, is held to `EXACT_LIMIT`, since one wrong digit makes it worthless.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from whisperagent.wire import Segment

LIMIT = 0.5
EXACT_LIMIT = 0.85
SIGN = "(?)"
"""Written after a doubtful word, so that nobody has to see the colour."""


@dataclass(frozen=True)
class Piece:
    """A run of a segment's text, all of it doubtful or none of it."""

    text: str
    doubtful: bool


def pieces(segment: Segment) -> list[Piece]:
    """The segment's text, cut at its doubtful words; joined again it is the text.

    Words that a person has changed since are no longer found in the text, and no longer doubted. Without
    words, the probability of the whole segment decides.
    """
    if not segment.words:
        return [Piece(segment.text, segment.probability < LIMIT)]
    found: list[Piece] = []
    begin = 0
    for start, end in _places(segment):
        found += [Piece(segment.text[begin:start], False), Piece(segment.text[start:end], True)]
        begin = end
    found.append(Piece(segment.text[begin:], False))
    return [piece for piece in found if piece.text]


def doubtful(segment: Segment) -> bool:
    """Is there anything to check?"""
    return any(piece.doubtful for piece in pieces(segment))


def _places(segment: Segment) -> Iterator[tuple[int, int]]:
    """Start and end of each doubtful word in the text."""
    at = 0
    for word in segment.words:
        text = word.text.strip()
        start = segment.text.find(text, at) if text else -1
        if start < 0:
            continue
        at = start + len(text)
        if word.probability < (EXACT_LIMIT if _exact(text) else LIMIT):
            yield start, at


def _exact(text: str) -> bool:
    return any(letter.isdigit() or letter == "@" for letter in text)
