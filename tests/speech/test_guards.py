"""What nobody said goes; what somebody may have said stays."""

import pytest

from whisperserver.transcribe.guards import invented


@pytest.mark.parametrize(
    "text",
    [
        ".",
        " … ",
        "?!",
        "Sous-titres réalisés para la communauté d'Amara.org",
        "Sous-titrage Société Radio-Canada",
        "Sous-titrage ST' 501",
        "Merci d’avoir regardé cette vidéo !",
        "Thanks for watching!",
        "Subtitles by the Amara.org community",
    ],
)
def test_marks_and_captions_of_films_are_invented(text: str) -> None:
    assert invented(text, duration_s=2.0, no_speech=0.0, mean_log_probability=-0.1)


@pytest.mark.parametrize(
    "text",
    [
        "Oui.",
        "7",
        "Merci d'avoir regardé mon ordinateur.",
        "Thanks for watching the printer for me.",
        "Les sous-titres ne marchent plus.",
    ],
)
def test_what_a_caller_may_say_stays(text: str) -> None:
    assert not invented(text, duration_s=2.0, no_speech=0.0, mean_log_probability=-0.1)


@pytest.mark.parametrize(
    ("no_speech", "mean_log_probability", "expected"),
    [(0.0, -0.2, False), (0.9, -0.2, False), (0.0, -0.9, False), (0.9, -0.9, True)],
    ids=["sure", "sure, over silence", "unsure, over speech", "unsure, over silence"],
)
def test_text_over_silence_must_be_sure(
    no_speech: float, mean_log_probability: float, expected: bool
) -> None:
    assert invented("Merci.", 0.5, no_speech, mean_log_probability) is expected


def test_a_sentence_that_goes_round_in_a_loop_is_invented_and_one_said_twice_is_not() -> None:
    sentence = "Est-ce que ça marche maintenant ? "
    assert invented(sentence * 8, duration_s=12.0, no_speech=0.0, mean_log_probability=-0.1)
    assert not invented(sentence * 2, duration_s=3.0, no_speech=0.0, mean_log_probability=-0.1)


@pytest.mark.parametrize(
    ("text", "duration_s", "expected"),
    [
        pytest.param(" Avez-vous vérifié votre", 0.08, True, id="a sentence in a moment"),
        pytest.param(" Avez-vous vérifié votre téléphone ?", 1.1, False, id="a sentence said fast"),
        pytest.param(" Oui.", 0.06, False, id="a word whose times are rough"),
    ],
)
def test_nobody_says_a_sentence_in_a_moment(text: str, duration_s: float, expected: bool) -> None:
    assert invented(text, duration_s, no_speech=0.0, mean_log_probability=-0.5) is expected
