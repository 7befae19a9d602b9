"""Messages: in the reader's language, and in English where there is no translation."""

from collections.abc import Iterator

import pytest

from whisperagent import i18n

NOBODY = "a sentence that no catalogue has"
Env = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    i18n.use("en")


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_message_without_translation_is_said_in_english(language: str) -> None:
    i18n.use(language)
    assert i18n._(NOBODY) == NOBODY
    assert i18n.ngettext("one call of nobody", "many calls of nobody", 2) == "many calls of nobody"
    assert i18n.deferred(NOBODY) == NOBODY


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"WA_UI__LANGUAGE": "fr", "LANG": "en_US.UTF-8"}, "fr"),
        ({"WA_UI__LANGUAGE": "auto", "LANG": "fr_CA.UTF-8"}, "fr"),
        ({"LC_ALL": "fr_FR.UTF-8", "LANG": "en_US.UTF-8"}, "fr"),
        ({"LC_ALL": "C", "LANG": "fr_FR.UTF-8"}, "en"),
        ({"LC_MESSAGES": "fr_BE", "LANG": "en_US.UTF-8"}, "fr"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_environment_chooses_the_language(
    monkeypatch: Env, variables: dict[str, str], language: str
) -> None:
    for name in ("WA_UI__LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    i18n.use("auto")
    assert (i18n.language(), i18n.spoken()) == (language, language)


def test_a_setting_chooses_before_the_environment(monkeypatch: Env) -> None:
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    i18n.use("fr")
    assert i18n.spoken() == "fr"
