"""What a log may show of a person: enough to recognise a call, not enough to ring them up."""

import re

NUMBER = re.compile(r"\+?\d(?:[ .()-]{0,2}\d){5,}")
HIDDEN = "•••••"


def masked(text: str) -> str:
    """`text` with every telephone number cut to its ends: `+33 6 12 34 56 78` is `+33•••••678`."""
    return NUMBER.sub(_ends, text)


def _ends(found: re.Match[str]) -> str:
    digits = re.sub(r"[^+\d]", "", found[0])
    return f"{digits[:3]}{HIDDEN}{digits[-3:]}"
