"""Where a channel is cut: tables of what is said, in seconds."""

import pytest

from whisperserver.transcribe.pauses import Stretch, kept, pauses, windows

Pairs = list[tuple[float, float]]


@pytest.mark.parametrize(
    ("speech", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(5, 6)], [(4.6, 6.4)], id="one sentence, and some silence around it"),
        pytest.param([(0.1, 29.9)], [(0, 30)], id="not beyond the call"),
        pytest.param([(5, 6), (7.9, 9)], [(4.6, 9.4)], id="a pause stays"),
        pytest.param([(5, 6), (8, 9)], [(4.6, 6.4), (7.6, 9.4)], id="a silence goes"),
        pytest.param([(1, 2), (3, 4), (5, 6), (20, 21)], [(0.6, 6.4), (19.6, 21.4)], id="some of each"),
    ],
)
def test_silences_are_left_out(speech: Pairs, expected: Pairs) -> None:
    stretches = kept([Stretch(*said) for said in speech], 30.0)
    assert [(each.start_s, each.end_s) for each in stretches] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("speech", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(5, 6)], [0, 1.8], id="one sentence"),
        pytest.param([(1, 4), (5, 9)], [0, 8.8], id="all of it within a window"),
        pytest.param([(1, 4), (5, 9), (10, 14)], [0, 8.9, 8.9, 13.8], id="cut in the last pause that fits"),
        pytest.param([(1, 20), (21, 22)], [0, 19.9, 19.9, 21.8], id="a sentence longer than a window"),
        pytest.param([(1, 8), (20, 28)], [0, 7.8, 7.8, 16.6], id="cut where a silence was left out"),
        pytest.param(
            [(1, 8), (9, 9.5), (9.9, 16)],
            [0, 7.9, 7.9, 15.8],
            id="rather in a long pause than in a later one",
        ),
        pytest.param(
            [(1, 3), (4.5, 9.5), (9.9, 16)], [0, 9.1, 9.1, 15.8], id="but not so early that windows get many"
        ),
    ],
)
def test_a_window_ends_in_a_pause(speech: Pairs, expected: list[float]) -> None:
    said = [Stretch(*each) for each in speech]
    assert windows(pauses(said, kept(said, 30.0)), 10.0) == pytest.approx(expected)
