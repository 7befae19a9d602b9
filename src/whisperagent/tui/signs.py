"""For a terminal that cannot write our signs: every line as ASCII, borders and bars included.

The last thing that happens to a line before it is drawn, so that no widget has to know. Each character keeps
its width, else the columns would slip.
"""

import sys
import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from whisperagent.tui.words import ASCII

BORDERS = {"│": "|", "┃": "|", "║": "|", "▎": "|", "▊": "|", "▌": "|", "▐": "|", "━": "=", "═": "="}


class Ascii(LineFilter):
    """Draws with ASCII alone."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(plain(text), style, control) for text, style, control in segments]


def needed() -> bool:
    """Is the terminal that Textual draws on one that cannot write our signs?"""
    encoding = getattr(sys.__stderr__, "encoding", None) or "ascii"
    try:
        "".join(ASCII).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def plain(text: str) -> str:
    """`text` in ASCII, as many columns wide."""
    return text if text.isascii() else "".join(map(_plain, text))


@lru_cache(2048)
def _plain(letter: str) -> str:
    if letter.isascii():
        return letter
    width = cell_len(letter)
    if found := ASCII.get(letter) or BORDERS.get(letter):
        return found.ljust(width)
    if "BOX DRAWINGS" in unicodedata.name(letter, ""):
        return "-" if "VERTICAL" not in unicodedata.name(letter) else "+"
    if "BLOCK" in unicodedata.name(letter, "") or "SHADE" in unicodedata.name(letter, ""):
        return "#"
    # An é is an e; what has no letter at all of its own is a question mark.
    base = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return (base[:width] or "?" * width).ljust(width)
