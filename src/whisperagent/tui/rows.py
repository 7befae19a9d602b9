"""A table whose rows are known by key: it changes in place, and the cursor stays on its call."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from whisperagent.i18n import deferred
from whisperagent.tui.base import WIDE

GAP = 2
STATE_WIDTH = 21
"""Of the longest state there is: `◐ transcribing 100 %`, and one more in French."""
MARGIN = 3
"""Padding on both sides and the scroll bar."""
NEAR_THE_END = 5
"""This many rows before the last one, the next page is asked for."""

MOVES: list[BindingType] = [
    Binding("j", "cursor_down", deferred("Down"), show=False, id="down", tooltip=deferred("Next line")),
    Binding("k", "cursor_up", deferred("Up"), show=False, id="up", tooltip=deferred("Previous line")),
    Binding("g", "first", deferred("First"), show=False, id="first", tooltip=deferred("First line")),
    Binding("G", "last", deferred("Last"), show=False, id="last", tooltip=deferred("Last line")),
]


@dataclass(frozen=True)
class Column:
    """width: in cells; 0 takes what the others leave. wide_only: left out on a narrow terminal."""

    title: str
    width: int = 0
    wide_only: bool = False


@dataclass(frozen=True)
class Row:
    """One cell for each column, wide ones included."""

    key: str
    cells: tuple[Content, ...]


class Lines(OptionList):
    """The rows; a list that is moved in with the letters of vi as well."""

    BINDINGS = MOVES


class Rows(Vertical):
    """Columns with titles. A row is drawn again only when its cells are others."""

    rows: reactive[tuple[Row, ...]] = reactive((), init=False)

    @dataclass
    class Chosen(Message):
        """Enter, or a click."""

        key: str

    @dataclass
    class Highlighted(Message):
        key: str

    @dataclass
    class NearEnd(Message):
        """The cursor comes to the end: there may be more to load."""

    def __init__(self, columns: Sequence[Column], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._columns = columns

    def compose(self) -> ComposeResult:
        yield Static(markup=False, classes="titles")
        yield Lines(markup=False)

    @property
    def lines(self) -> Lines:
        return self.query_one(Lines)

    @property
    def key(self) -> str:
        """Of the row under the cursor; empty when there is none."""
        option = self.lines.highlighted_option
        return (option.id if option else None) or ""

    def on_resize(self, _event: Resize) -> None:
        self._draw_titles()
        for row in self.rows:
            self.lines.replace_option_prompt(row.key, self._draw(row.cells))

    def watch_rows(self, old: tuple[Row, ...], new: tuple[Row, ...]) -> None:
        lines = self.lines
        known = {row.key: row for row in old}
        if [row.key for row in old] != [row.key for row in new[: len(old)]]:
            self._replace_all(new)
            return
        for row in new[: len(old)]:
            if row != known[row.key]:
                lines.replace_option_prompt(row.key, self._draw(row.cells))
        lines.add_options(Option(self._draw(row.cells), id=row.key) for row in new[len(old) :])
        if new and lines.highlighted is None:
            lines.highlighted = 0

    def move_to(self, key: str) -> None:
        """Put the cursor on that row, if it is there."""
        keys = [row.key for row in self.rows]
        if key in keys:
            self.lines.highlighted = keys.index(key)

    def _replace_all(self, new: tuple[Row, ...]) -> None:
        lines = self.lines
        key, place = self.key, lines.highlighted or 0
        lines.set_options(Option(self._draw(row.cells), id=row.key) for row in new)
        keys = [row.key for row in new]
        if keys:
            lines.highlighted = keys.index(key) if key in keys else min(place, len(keys) - 1)

    def _draw_titles(self) -> None:
        titles = tuple(Content.styled(column.title, "$text-muted") for column in self._columns)
        self.query_one(".titles", Static).update(self._draw(titles))

    def _draw(self, cells: Sequence[Content]) -> Content:
        """The cells as one line, each cut or filled to its column."""
        wide = self.size.width >= WIDE - MARGIN
        shown = [
            (column, cell)
            for column, cell in zip(self._columns, cells, strict=True)
            if wide or not column.wide_only
        ]
        fixed = sum(column.width + GAP for column, _cell in shown)
        rest = max(8, self.size.width - fixed - MARGIN)
        drawn = [cell.truncate(column.width or rest, ellipsis=True, pad=True) for column, cell in shown]
        return Content(" " * GAP).join(drawn)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Chosen(event.option_id or ""))

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.post_message(self.Highlighted(event.option_id or ""))
        if event.option_index >= len(self.rows) - NEAR_THE_END:
            self.post_message(self.NearEnd())
