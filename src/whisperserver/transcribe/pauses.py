"""Pauses: which parts of a channel the model hears, and where one window of it ends.

Long silences are left out, since the model writes text of its own over them. A window ends in a pause where
there is one: left to itself, faster-whisper cuts every so many seconds, in the middle of a word as well, and
loses it. And it ends in a long pause rather than in a short one: the short are within sentences, and half a
sentence is misunderstood on both sides of the cut. Pure: seconds in, seconds out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

PAUSE_S = 0.3
"""From here on a silence is a pause between two sentences, and not within one."""

SILENCE_S = 2.0
"""From here on it is left out; faster-whisper's own figure, as the margin is."""

MARGIN_S = 0.4
"""How much of a silence stays at each end of what is said."""

LATE = 2 / 3
"""From this share of a window on its end is looked for: earlier ends make more windows, later ones worse."""


@dataclass(frozen=True)
class Stretch:
    """Seconds of the call."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Pause:
    """at_s: its middle, in seconds of the kept stretches, one after the other. length_s: in the call."""

    at_s: float
    length_s: float


def kept(speech: Sequence[Stretch], duration_s: float) -> tuple[Stretch, ...]:
    """What the model hears: `speech` (between pauses, in order) joined over everything short of a silence."""
    joined: list[Stretch] = []
    for said in speech:
        start_s, end_s = max(0.0, said.start_s - MARGIN_S), min(duration_s, said.end_s + MARGIN_S)
        if joined and said.start_s - (joined[-1].end_s - MARGIN_S) < SILENCE_S:
            start_s = joined.pop().start_s
        joined.append(Stretch(start_s, end_s))
    return tuple(joined)


def pauses(speech: Sequence[Stretch], stretches: Sequence[Stretch]) -> list[Pause]:
    """Every pause within the kept stretches, and every silence between them; the last is the end of all."""
    found = []
    begin_s = 0.0
    for stretch in stretches:
        here = [said for said in speech if stretch.start_s <= said.start_s < stretch.end_s]
        found += [
            Pause(begin_s + (a.end_s + b.start_s) / 2 - stretch.start_s, b.start_s - a.end_s)
            for a, b in pairwise(here)
        ]
        begin_s += stretch.end_s - stretch.start_s
        found.append(Pause(begin_s, SILENCE_S))
    return found


def windows(ends: Sequence[Pause], longest_s: float) -> list[float]:
    """Start, end, start, end, … of the windows that cut what is kept at some of `ends`.

    Each window begins where the one before it ends. It ends in the longest pause of its last part, or in the
    last pause before `longest_s`; where there is none, in the next one.
    """
    bounds = [0.0]
    while ahead := [pause for pause in ends if pause.at_s > bounds[-1]]:
        bounds.append(_end(ahead, bounds[-1], longest_s).at_s)
    return [bound for pair in pairwise(bounds) for bound in pair]


def _end(ahead: Sequence[Pause], start_s: float, longest_s: float) -> Pause:
    fit = [pause for pause in ahead if pause.at_s - start_s <= longest_s]
    if not fit:
        return ahead[0]
    if len(fit) == len(ahead):
        return ahead[-1]
    late = [pause for pause in fit if pause.at_s - start_s >= LATE * longest_s] or fit[-1:]
    return max(late, key=lambda pause: (pause.length_s, pause.at_s))
