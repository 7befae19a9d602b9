"""What differs between a draft and a transcript, word by word."""

from hypothesis import given
from hypothesis import strategies as st

from whisperagent.tui.difference import Line, count, difference, summary
from whisperagent.wire import Segment, Speaker


def said(*turns: tuple[float, Speaker, str]) -> tuple[Segment, ...]:
    return tuple(
        Segment(id=number, start_s=start_s, end_s=start_s + 1, speaker=speaker, text=text)
        for number, (start_s, speaker, text) in enumerate(turns)
    )


def shown(lines: list[Line]) -> list[str]:
    return [f"{line.start_s:g} {line.speaker}: {' '.join(map(str, line.runs))}" for line in lines]


def test_a_word_that_was_heard_differently_is_shown_with_both_readings() -> None:
    draft = said((1, "caller", "Le voyant est rose."))
    transcript = said((1, "caller", "Le voyant est rouge."))
    assert shown(difference(draft, transcript)) == ["1 caller: Le voyant est [-rose.-] {+rouge.+}"]


def test_words_that_only_one_of_them_has_are_marked_where_they_were_said() -> None:
    draft = said((1, "agent", "Bonjour, ici ici Thomas."))
    transcript = said((1, "agent", "Bonjour, ici Thomas, du support."))
    lines = difference(draft, transcript)
    assert count(lines) == (1, 2)
    assert "[-ici-]" in shown(lines)[0]
    assert shown(lines)[0].endswith("{+du support.+}")


def test_case_and_punctuation_are_no_difference_and_the_transcripts_are_shown() -> None:
    draft = said((1, "agent", "comment puis-je vous aider"))
    transcript = said((1, "agent", "Comment puis-je vous aider ?"))
    lines = difference(draft, transcript)
    assert shown(lines) == ["1 agent: Comment puis-je vous aider ?"]
    assert not lines[0].differs


def test_the_same_words_cut_into_other_segments_are_no_difference() -> None:
    draft = said((1, "caller", "My printer. It is on fire."), (9, "caller", "Help me."))
    transcript = said((1.2, "caller", "My printer."), (3, "caller", "It is on fire. Help me."))
    assert count(difference(draft, transcript)) == (0, 0)


def test_who_speaks_first_is_no_difference_and_each_side_is_compared_with_itself() -> None:
    draft = said((1, "agent", "yes"), (1.1, "caller", "no"), (2, "caller", "yes"))
    transcript = said((1, "caller", "no"), (1.1, "agent", "yes"), (2, "caller", "yes"))
    lines = difference(draft, transcript)
    assert count(lines) == (0, 0)
    assert [line.speaker for line in lines] == ["caller", "agent", "caller"]


def test_what_only_the_draft_has_is_a_line_of_its_own_in_its_place() -> None:
    draft = said(
        (1, "caller", "Hello there."), (5, "caller", "Thank you for watching."), (9, "caller", "Bye.")
    )
    transcript = said((1, "caller", "Hello there."), (9, "caller", "Bye."))
    assert shown(difference(draft, transcript)) == [
        "1 caller: Hello there.",
        "5 caller: [-Thank you for watching.-]",
        "9 caller: Bye.",
    ]


def test_a_side_that_only_one_of_them_heard_is_shown() -> None:
    assert shown(difference(said((1, "agent", "one two")), ())) == ["1 agent: [-one two-]"]
    assert shown(difference((), said((1, "agent", "one two")))) == ["1 agent: {+one two+}"]
    assert difference((), ()) == []


def test_how_much_differs_is_said() -> None:
    lines = difference(said((1, "agent", "one two")), said((1, "agent", "one three four")))
    assert "1 [-…-]" in summary(lines, "small")
    assert "2 {+…+}" in summary(lines, "small")
    same = difference(said((1, "agent", "one")), said((1, "agent", "one")))
    assert "the same words" in summary(same, "small")


WORDS = st.lists(st.sampled_from(["le", "la", "voyant", "rouge", "ne", "marche", "pas", "?"]), max_size=12)
SPEAKERS: tuple[Speaker, ...] = ("agent", "caller")
TURNS = st.lists(st.tuples(st.sampled_from(SPEAKERS), WORDS.map(" ".join)), max_size=8).map(
    lambda turns: said(*((float(at), who, text) for at, (who, text) in enumerate(turns)))
)


@given(TURNS, TURNS)
def test_no_word_of_either_is_lost_or_made_up(
    draft: tuple[Segment, ...], transcript: tuple[Segment, ...]
) -> None:
    lines = difference(draft, transcript)
    for side in SPEAKERS:
        runs = [run for line in lines if line.speaker == side for run in line.runs]
        heard = [word for it in transcript if it.speaker == side for word in it.text.split()]
        shown = [word for run in runs if run.kind != "removed" for word in run.text.split()]
        assert shown == heard
        drafted = [word for it in draft if it.speaker == side for word in it.text.split()]
        known = [word for run in runs if run.kind != "added" for word in run.text.split()]
        assert sorted(word for word in known if word != "?") == sorted(
            word for word in drafted if word != "?"
        )
