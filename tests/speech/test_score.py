"""The figures of the demo: counted by hand here."""

import itertools
from typing import get_args

import pytest

from tests.speech.conftest import CALLS
from whisperagent import wire
from whisperserver.transcribe.score import Turn, speaker_accuracy, truth, word_error_rate

CALL = (
    Turn("agent", 0, 1, "Hello, help desk."),
    Turn("caller", 2, 3, "My number is 06 12 34 56 78."),
    Turn("agent", 4, 5, "Thank you."),
)


def heard(*lines: tuple[wire.Speaker, str]) -> list[wire.Segment]:
    return [
        wire.Segment(id=number, start_s=number, end_s=number + 0.5, speaker=speaker, text=text)
        for number, (speaker, text) in enumerate(lines)
    ]


PERFECT = heard(("agent", "hello help desk"), ("caller", "my number is 0612345678"), ("agent", "Thank you"))


@pytest.mark.parametrize(
    ("expected", "written", "rate"),
    [
        ("a b c d", "a b c d", 0),
        ("A, b. C? d!", "a b c d", 0),
        ("a b c d", "a x c d", 0.25),
        ("a b c d", "a c d", 0.25),
        ("a b c d", "a b b c d", 0.25),
        ("a b c d", "", 1),
        ("", "", 0),
        ("", "a", 1),
        ("J’ai dit 42 17", "j'ai dit 4217", 0),
    ],
)
def test_the_error_rate_of_a_text(expected: str, written: str, rate: float) -> None:
    assert word_error_rate(expected, written) == rate


@pytest.mark.parametrize(
    ("segments", "rate"),
    [
        (PERFECT, 0),
        (heard(), 1),
        (heard(("unknown", "hello help desk my number is 0612345678 thank you")), 0),
        # A sentence given to the wrong side is missing on one and too much on the other.
        (heard(("agent", "hello help desk"), ("caller", "my number is 0612345678 thank you")), 4 / 9),
    ],
    ids=["perfect", "nothing heard", "sides not told apart", "given to the other side"],
)
def test_the_error_rate_of_a_call_is_counted_side_by_side(segments: list[wire.Segment], rate: float) -> None:
    assert word_error_rate(CALL, segments) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("segments", "accuracy"),
    [
        (PERFECT, 1),
        (heard(), 0),
        (heard(("unknown", "hello help desk")), 0),
        (
            heard(
                ("caller", "hello help desk"), ("agent", "my number is 0612345678"), ("caller", "thank you")
            ),
            0,
        ),
        (heard(("agent", "hello help desk"), ("caller", "my number is 0612345678 thank you")), 7 / 9),
        # Wrong and added words are the error rate's business.
        (heard(("agent", "oh hello help disk"), ("caller", "my number is 0612345678")), 1),
    ],
    ids=["perfect", "nothing heard", "sides not told apart", "swapped", "the end swapped", "wrong words"],
)
def test_speaker_accuracy_is_the_share_of_words_on_the_right_side(
    segments: list[wire.Segment], accuracy: float
) -> None:
    assert speaker_accuracy(CALL, segments) == pytest.approx(accuracy)


@pytest.mark.parametrize("name", ["french", "english", "noisy"])
def test_every_call_of_the_demo_has_its_truth(name: str) -> None:
    turns = truth(CALLS / f"{name}.json")
    assert len(turns) >= 10
    assert {turn.speaker for turn in turns} == {"agent", "caller"} < set(get_args(wire.Speaker))
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(turns))
