"""How `wa` talks: stdout is data, stderr is talk.

`print_json` and `print_data` write results; `say`, `error` and `progress` write to people. Colour is
`--color` > `NO_COLOR` > `FORCE_COLOR` > is this stream a terminal, asked of each stream by itself.
Colour never carries a meaning alone: every state has a word and a glyph.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import msgspec

from whisperagent.errors import WhisperError
from whisperagent.i18n import _

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
PROGRESS_AFTER_S = 0.5
"""What is over sooner needs no bar."""

_color = "auto"
_quiet = False


def set_up(color: str = "auto", quiet: bool = False) -> None:
    """color: `auto`, `always` or `never`. quiet: `say` and `progress` keep silent, errors do not."""
    global _color, _quiet
    _color, _quiet = color, quiet


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """`text` in one of `STYLES`, where `stream` (stdout) shows colour; else as it is."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if _colorful(stream or sys.stdout) else text


def glyph(symbol: str, plain: str, stream: TextIO | None = None) -> str:
    """`symbol` where `stream` (stdout) can write it, else its ASCII stand-in."""
    encoding = (stream or sys.stdout).encoding or "ascii"
    try:
        symbol.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return symbol


def print_data(text: str = "") -> None:
    """A line of a result, on stdout."""
    print(text)  # noqa: T201


def print_json(value: Any) -> None:
    """One JSON document on stdout: stable keys, UTC times, never coloured."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Columns as wide as their content, on stdout; `empty` goes to stderr when there is no row."""
    lines = [tuple(row) for row in rows]
    if not lines:
        say(empty)
        return
    widths = [max(len(line[column]) for line in [tuple(headings), *lines]) for column in range(len(headings))]

    def padded(line: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

    print_data(styled(padded(headings), "bold"))
    for line in lines:
        print_data(padded(line))


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr; nothing under `--quiet`."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def error(problem: WhisperError) -> None:
    """`wa: error: what`, then why, then what to do, on stderr."""
    write = sys.stderr.write
    write(f"wa: {styled(_('error'), 'red', sys.stderr)}: {problem.what}\n")
    if problem.why:
        write(f"    {problem.why}\n")
    if problem.fix:
        write(f"    {styled(_('try'), 'cyan', sys.stderr)}: {problem.fix}\n")
    sys.stderr.flush()


class Progress:
    """A bar on stderr that appears after half a second, and only on a terminal."""

    def __init__(self, label: str, total: float) -> None:
        self.label = label
        self.total = total
        self._begun = time.monotonic()
        self._shown = False

    def update(self, done: float) -> None:
        """done: how much of `total`, in its unit."""
        if _quiet or not sys.stderr.isatty() or time.monotonic() - self._begun < PROGRESS_AFTER_S:
            return
        share = min(1.0, done / self.total) if self.total else 0.0
        full, empty = glyph("█", "#", sys.stderr), glyph("░", "-", sys.stderr)
        filled = round(share * 30)
        sys.stderr.write(f"\r{self.label}  {full * filled}{empty * (30 - filled)} {share:4.0%}")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def progress(label: str, total: float) -> Iterator[Progress]:
    """A `Progress` that leaves no trace on the terminal when the work is over."""
    bar = Progress(label, total)
    try:
        yield bar
    finally:
        bar.clear()


def interactive() -> bool:
    """Is a person there to answer a question?"""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _colorful(stream: TextIO) -> bool:
    if _color != "auto":
        return _color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()
