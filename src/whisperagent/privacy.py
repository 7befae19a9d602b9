"""What a log may show of a person: enough to recognise a call, not enough to ring them up."""

import re

NUMBER = re.compile(r"\+?\d(?:[ .()-]{0,2}\d){5,}")
HIDDEN = "•••••"
HIDDEN_DIGITS = 4
"""At least so many are hidden: of a short number, less is shown."""


def masked(text: str) -> str:
    """`text` with every telephone number cut to its ends: `+33 6 12 34 56 78` is `+33•••••678`."""
    return NUMBER.sub(_ends, text)


def _ends(found: re.Match[str]) -> str:
    digits = re.sub(r"[^+\d]", "", found[0])
    shown = min(3, (len(digits) - HIDDEN_DIGITS) // 2)
    return f"{digits[:shown]}{HIDDEN}{digits[-shown:]}"
