"""English and French, by gettext.

Messages are written in English in the code, inside `_()`. The language is, in this order: `use()`
(the setting `ui.language`), `WA_UI__LANGUAGE`, `LC_ALL`, `LC_MESSAGES`, `LANG`, the system's own
locale. `scripts/check` fails when `locale/` is behind the code; `scripts/messages` brings it up to date.
"""

import gettext as _gettext
import os
from pathlib import Path

LANGUAGES = ("en", "fr")
DOMAIN = "whisperagent"
_LOCALE = Path(__file__).parent / "locale"
_catalogue: _gettext.NullTranslations | None = None
_spoken: str | None = None


def language() -> str:
    """The language that the environment asks for: one of `LANGUAGES`, `en` when it asks for none of them."""
    for name in ("WA_UI__LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if (value := os.environ.get(name, "")) and value != "auto":
            return _known(value)
    return _known(_system_locale())


def use(name: str) -> None:
    """Speak `name` (`en`, `fr`, or `auto`: what the environment asks for) from now on."""
    global _catalogue, _spoken
    _spoken = language() if name == "auto" else _known(name)
    _catalogue = _gettext.translation(DOMAIN, _LOCALE, [_spoken], fallback=True)


def spoken() -> str:
    """The language that `_` speaks: one of `LANGUAGES`."""
    return _spoken or language()


def _(message: str) -> str:
    """`message` in the reader's language."""
    if _catalogue is None:
        use("auto")
    assert _catalogue is not None  # noqa: S101 - for the type checker: `use` has just set it
    return _catalogue.gettext(message)


def deferred(message: str) -> str:
    """`message` as it is, known to the catalogue: for class attributes, given to `_` when they are shown."""
    return message


def ngettext(one: str, many: str, count: int) -> str:
    """`one` or `many`, as the reader's grammar has it for `count`."""
    if _catalogue is None:
        use("auto")
    assert _catalogue is not None  # noqa: S101 - for the type checker: `use` has just set it
    return _catalogue.ngettext(one, many, count)


def _known(value: str) -> str:
    # "fr_CA.UTF-8", "fr" and Windows' "French_France" are all French.
    return "fr" if value.lower().startswith("fr") else "en"


def _system_locale() -> str:
    import locale  # not at the top: it costs start-up time and most systems set LANG

    return locale.getlocale()[0] or "en"
