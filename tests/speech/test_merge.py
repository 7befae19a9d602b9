"""The time line of a call: tables of what was heard on each side, and what becomes of it."""

import pytest

from whisperagent import wire
from whisperserver.transcribe.merge import Side, Utterance, merge
from whisperserver.transcribe.pauses import Stretch

WHOLE = (Stretch(0.0, 60.0),)


def said(start_s: float, end_s: float, text: str, *words: tuple[float, float, str]) -> Utterance:
    return Utterance(start_s, end_s, text, 0.9, tuple(wire.Word(*word, 0.9) for word in words))


def shown(segments: tuple[wire.Segment, ...]) -> list[tuple[str, float, float, str]]:
    return [(each.speaker, each.start_s, each.end_s, each.text) for each in segments]


@pytest.mark.parametrize(
    ("agent", "caller", "expected"),
    [
        pytest.param([], [], [], id="nobody speaks"),
        pytest.param(
            [said(0, 1, "a"), said(4, 5, "c")],
            [said(2, 3, "b")],
            [("agent", 0, 1, "a"), ("caller", 2, 3, "b"), ("agent", 4, 5, "c")],
            id="in turn",
        ),
        pytest.param(
            [said(0, 5, "a")],
            [said(2, 3, "b")],
            [("agent", 0, 5, "a"), ("caller", 2, 3, "b")],
            id="both at once",
        ),
        pytest.param(
            [said(1, 2, "a")],
            [said(1, 2, "b")],
            [("agent", 1, 2, "a"), ("caller", 1, 2, "b")],
            id="begun together: the agent first",
        ),
        pytest.param(
            [said(59, 61, "a"), said(60.5, 62, "b")],
            [],
            [("agent", 59, 60, "a"), ("agent", 60, 60, "b")],
            id="nothing after the end of the call",
        ),
        pytest.param(
            [said(1.00049, 2.0006, " a  b\x1b[2Jc ")],
            [],
            [("agent", 1.0, 2.001, "a b [2Jc")],
            id="milliseconds, and text that no terminal obeys",
        ),
    ],
)
def test_the_sides_stand_in_order_of_time(
    agent: list[Utterance], caller: list[Utterance], expected: list[tuple[str, float, float, str]]
) -> None:
    segments = merge([Side("agent", WHOLE, agent), Side("caller", WHOLE, caller)], 60.0)
    assert shown(segments) == expected
    assert [segment.id for segment in segments] == list(range(len(expected)))


KEPT = (Stretch(10.0, 12.0), Stretch(20.0, 23.0))
"""Two seconds of speech, a silence of eight, three seconds of speech."""


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        pytest.param(said(0.5, 1.5, "a"), [(10.5, 11.5, "a")], id="before the silence"),
        pytest.param(said(2.5, 4.0, "a"), [(20.5, 22.0, "a")], id="behind it"),
        pytest.param(said(0.5, 2.0, "a"), [(10.5, 12.0, "a")], id="up to it"),
        pytest.param(said(0.5, 3.0, "a"), [(10.5, 21.0, "a")], id="over it, where no word says more"),
        pytest.param(
            said(0.5, 3.0, " a b c", (0.5, 1.0, " a"), (1.0, 1.4, " b"), (2.5, 3.0, " c")),
            [(10.5, 11.4, "a b"), (20.5, 21.0, "c")],
            id="over it: cut there",
        ),
        pytest.param(
            said(0.5, 2.1, " a b", (0.5, 1.0, " a"), (1.0, 1.4, " b")),
            [(10.5, 11.4, "a b")],
            id="all words before it: it ends with them",
        ),
    ],
)
def test_times_are_those_of_the_call_and_not_of_the_speech_that_was_kept(
    heard: Utterance, expected: list[tuple[float, float, str]]
) -> None:
    segments = merge([Side("caller", KEPT, [heard])], 30.0)
    assert [(each.start_s, each.end_s, each.text) for each in segments] == expected


def test_no_word_sticks_out_of_its_segment() -> None:
    heard = said(1.0, 2.0, " a b c", (0.2, 0.6, " a"), (1.2, 1.4, " b"), (1.9, 2.8, " c"))
    (segment,) = merge([Side("agent", WHOLE, [heard])], 60.0)
    assert [(word.start_s, word.end_s) for word in segment.words] == [(1.0, 1.0), (1.2, 1.4), (1.9, 2.0)]


def test_a_mark_after_a_space_belongs_to_the_word_before_it() -> None:
    heard = said(1.0, 2.0, " Ça va ?", (1.0, 1.3, " Ça"), (1.3, 1.8, " va"), (1.8, 2.0, " ?"))
    (segment,) = merge([Side("agent", WHOLE, [heard])], 60.0)
    assert [(word.text, word.end_s) for word in segment.words] == [("Ça", 1.3), ("va ?", 2.0)]


def test_a_file_of_one_channel_has_one_unknown_speaker() -> None:
    (segment,) = merge([Side("unknown", WHOLE, [said(1, 2, "a")])], 60.0)
    assert segment.speaker == "unknown"
