"""The words of a call: one entry a segment, with its time and speaker; doubtful words carry a sign."""

from collections.abc import Iterable

from textual.binding import Binding
from textual.content import Content
from textual.events import Resize
from textual.reactive import reactive
from textual.widgets.option_list import Option

from whisperagent.i18n import _, deferred
from whisperagent.tui import doubts, words
from whisperagent.tui.rows import MOVES, Lines
from whisperagent.wire import Segment

DOUBT_STYLE = "underline $text-warning"
UNSAVED_STYLE = "bold $text-warning"
MARGIN = 3
"""Padding on both sides and the scroll bar."""


class Transcript(Lines):
    """Segments to move through. unsaved: texts that only this PC has, by segment id."""

    BINDINGS = [
        *MOVES,
        Binding(
            "n",
            "doubt(1)",
            deferred("Next doubt"),
            id="next_doubt",
            tooltip=deferred("Next word or number that the speech engine was not sure of"),
        ),
        Binding(
            "N",
            "doubt(-1)",
            deferred("Previous doubt"),
            show=False,
            id="previous_doubt",
            tooltip=deferred("Previous word or number that the speech engine was not sure of"),
        ),
    ]

    segments: reactive[tuple[Segment, ...]] = reactive((), init=False)
    unsaved: reactive[frozenset[int]] = reactive(frozenset(), init=False)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(markup=False, id=id)

    @property
    def current(self) -> Segment | None:
        """The segment under the cursor."""
        return self.segments[self.highlighted] if self.segments and self.highlighted is not None else None

    @property
    def doubts(self) -> list[int]:
        """Places in the list that somebody should look at."""
        return [place for place, segment in enumerate(self.segments) if doubts.doubtful(segment)]

    def watch_segments(self, old: tuple[Segment, ...], new: tuple[Segment, ...]) -> None:
        if [segment.id for segment in old] == [segment.id for segment in new]:
            changed = [place for place, segment in enumerate(new) if segment != old[place]]
            self._redraw(changed)
            return
        place = self.highlighted or 0
        self.set_options(Option(self._draw(segment)) for segment in new)
        if new:
            self.highlighted = min(place, len(new) - 1)

    def watch_unsaved(self, old: frozenset[int], new: frozenset[int]) -> None:
        self._redraw(place for place, segment in enumerate(self.segments) if segment.id in old ^ new)

    def on_resize(self, _event: Resize) -> None:
        self._redraw(range(len(self.segments)))

    def action_doubt(self, step: int) -> None:
        """Go to the next or previous doubtful segment, round the end."""
        places = self.doubts
        if not places:
            self.notify(_("The speech engine was sure of every word."))
            return
        here = self.highlighted or 0
        ahead = [place for place in places if (place - here) * step > 0]
        ordered = ahead or places
        self.highlighted = ordered[0] if step > 0 else ordered[-1]

    def _redraw(self, places: Iterable[int]) -> None:
        for place in places:
            self.replace_option_prompt_at_index(place, self._draw(self.segments[place]))

    def _draw(self, segment: Segment) -> Content:
        """Time and speaker in a column of their own, the text hanging beside them."""
        name = words.speaker(segment.speaker)
        column = max(len(words.speaker(known)) for known in ("agent", "caller", "unknown"))
        clock = len(words.clock(self.segments[-1].start_s))
        head = Content.assemble(
            (words.clock(segment.start_s).rjust(clock), "$text-muted"),
            "  ",
            (name.ljust(column), "bold" if segment.speaker == "caller" else "$text-muted"),
            "  ",
        )
        width = max(16, self.size.width - MARGIN - head.cell_length)
        lines = self._text(segment).wrap(width)
        indent = Content(" " * head.cell_length)
        return Content("\n").join([(indent if number else head) + line for number, line in enumerate(lines)])

    def _text(self, segment: Segment) -> Content:
        # First, since at the end of a line its words could be torn apart.
        unsaved = segment.id in self.unsaved
        parts: list[str | tuple[str, str]] = [("✎ " + _("not saved"), UNSAVED_STYLE), " "] if unsaved else []
        for piece in doubts.pieces(segment):
            text = words.clean(piece.text)
            parts += [(text, DOUBT_STYLE), (doubts.SIGN, "$text-warning")] if piece.doubtful else [text]
        return Content.assemble(*parts)
