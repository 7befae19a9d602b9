"""Doubt: what the model was not sure of is heard again, away from its neighbours; the surer text stays.

A Whisper model writes a window as one text, so a sentence that leads it astray spoils those around it, and it
shows: the words get improbable. The same sound in other company often comes out right. Only pieces between
two pauses are heard again, and only for a small share of the time. Pure: utterances in, utterances out.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from whisperserver.transcribe.merge import Utterance
from whisperserver.transcribe.pauses import Pause

SURE = 0.9
"""Mean probability of the words from which on a piece is believed."""

SHARE = 0.05
"""Of what is said in a call may be heard again; one window at least, since the model takes no less."""

FEWER = 2 / 3
"""A second text with a smaller share of the words has left some out, and that is no way to be sure."""

ROUGH_S = 0.1
"""By so much an utterance may stick out over a pause that it does not speak across."""


@dataclass(frozen=True)
class Piece:
    """What lies between two pauses of one side, in seconds of its kept speech."""

    side: int
    start_s: float
    end_s: float
    said: tuple[Utterance, ...]

    @property
    def probability(self) -> float:
        """Mean over the words; 0 where nothing was heard."""
        weights = [max(1, len(each.words)) for each in self.said]
        sure = sum(each.probability * weight for each, weight in zip(self.said, weights, strict=True))
        return sure / sum(weights) if weights else 0.0


def pieces(side: int, heard: Iterable[Utterance], pauses: Iterable[Pause]) -> list[Piece]:
    """`heard`, in order, cut at every pause that no utterance speaks across."""
    ahead = deque(heard)
    cut = []
    said: list[Utterance] = []
    start_s = 0.0
    for pause in pauses:
        while ahead and ahead[0].start_s < pause.at_s - ROUGH_S:
            said.append(ahead.popleft())
        if said and said[-1].end_s > pause.at_s + ROUGH_S:
            continue
        cut.append(Piece(side, start_s, pause.at_s, tuple(said)))
        start_s, said = pause.at_s, []
    return cut


def doubtful(heard: Iterable[Piece], most_s: float) -> list[Piece]:
    """What to hear again, in order: the least sure of `heard`, `most_s` seconds of it at most.

    Where nothing was heard at all the model took the sound for none, and would only invent when asked again.
    """
    chosen = []
    for piece in sorted(heard, key=lambda piece: piece.probability):
        length_s = piece.end_s - piece.start_s
        if piece.said and piece.probability < SURE and length_s <= most_s:
            chosen.append(piece)
            most_s -= length_s
    return sorted(chosen, key=lambda piece: (piece.side, piece.start_s))


def surer(first: Piece, second: Piece) -> bool:
    """Is what was heard the second time to be believed instead?"""
    return second.probability > first.probability and _words(second) >= FEWER * _words(first)


def _words(piece: Piece) -> int:
    return sum(len(each.text.split()) for each in piece.said)
