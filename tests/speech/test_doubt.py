"""What is heard again, and which of two texts stays."""

import pytest

from whisperagent import wire
from whisperserver.transcribe.doubt import Piece, doubtful, pieces, surer
from whisperserver.transcribe.merge import Utterance
from whisperserver.transcribe.pauses import Pause

PAUSES = [Pause(at_s, 0.5) for at_s in (3.0, 6.0, 9.0)]


def said(start_s: float, end_s: float, text: str = "one two three", probability: float = 0.5) -> Utterance:
    words = tuple(wire.Word(start_s, end_s, word, probability) for word in text.split())
    return Utterance(start_s, end_s, text, probability, words)


def piece(start_s: float, end_s: float, probability: float, text: str = "one two three") -> Piece:
    return Piece(0, start_s, end_s, (said(start_s, end_s, text, probability),))


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        pytest.param([(0.4, 2.6), (3.4, 5.6), (6.4, 8.6)], [(0, 3), (3, 6), (6, 9)], id="at every pause"),
        pytest.param([(0.4, 2.6), (3.4, 8.6)], [(0, 3), (3, 9)], id="but not where one speaks on"),
        pytest.param([(0.4, 3.06), (3.02, 8.6)], [(0, 3), (3, 9)], id="times are rough"),
        pytest.param(
            [(0.4, 1.0), (1.2, 2.6), (6.4, 8.6)], [(0, 3), (3, 6), (6, 9)], id="two in one, one in none"
        ),
    ],
)
def test_a_side_is_cut_in_its_pauses(
    heard: list[tuple[float, float]], expected: list[tuple[float, float]]
) -> None:
    utterances = [said(*each) for each in heard]
    cut = pieces(0, utterances, PAUSES)
    assert [(each.start_s, each.end_s) for each in cut] == expected
    assert [each for part in cut for each in part.said] == utterances


def test_only_what_the_model_was_unsure_of_is_heard_again_and_in_order() -> None:
    sure, unsure, doubted = piece(0, 3, 0.97), piece(3, 6, 0.8), piece(6, 9, 0.5)
    assert doubtful([doubted, sure, unsure], most_s=20.0) == [unsure, doubted]


def test_the_least_sure_comes_first_where_not_all_can_be_heard_again() -> None:
    unsure, doubted = piece(3, 6, 0.8), piece(6, 9, 0.5)
    assert doubtful([unsure, doubted], most_s=5.0) == [doubted]


def test_a_model_that_heard_nothing_is_not_asked_again() -> None:
    assert doubtful([Piece(0, 0.0, 3.0, ())], most_s=20.0) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (piece(0, 3, 0.8), piece(0, 3, 0.9), True),
        (piece(0, 3, 0.8), piece(0, 3, 0.7), False),
        (piece(0, 3, 0.8), piece(0, 3, 0.9, "one"), False),
        (piece(0, 3, 0.8), Piece(0, 0.0, 3.0, ()), False),
    ],
    ids=["surer", "less sure", "surer of one word of three", "nothing heard"],
)
def test_the_surer_text_stays_unless_words_are_missing(first: Piece, second: Piece, expected: bool) -> None:
    assert surer(first, second) is expected
