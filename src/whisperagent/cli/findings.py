"""How findings look on a terminal: glyph, word, what; then why, and what to do."""

from whisperagent import console
from whisperagent.doctor import Finding
from whisperagent.i18n import _
from whisperagent.tui.words import clean


def show(finding: Finding) -> None:
    """One line; for what is not well, why and the cure below it. A reason for what is well is shown too."""
    symbol, plain, word, style = {
        "ok": ("✓", "+", _("ok"), "green"),
        "warning": ("!", "!", _("warning"), "yellow"),
        "failed": ("✗", "x", _("failed"), "red"),
        "not here": ("–", "-", _("not here"), "dim"),
    }[finding.result]
    width = max(len(text) for text in (_("ok"), _("warning"), _("failed"), _("not here")))
    sign = console.styled(f"{console.glyph(symbol, plain)} {word.ljust(width)}", style)
    console.print_data(f"{sign}  {clean(finding.what)}")
    indent = " " * (width + 4)
    if finding.why:
        console.print_data(indent + clean(finding.why))
    if finding.fix and finding.result != "ok":
        console.print_data(f"{indent}{console.styled(_('try'), 'cyan')}: {clean(finding.fix)}")
