"""The draft that this PC made of a call beside the server's transcript: what differs, word by word."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Resize
from textual.widgets import Static
from textual.widgets.option_list import Option

from whisperagent.i18n import _, deferred
from whisperagent.tui import difference, words
from whisperagent.tui.base import Page
from whisperagent.tui.difference import Line, Run
from whisperagent.tui.rows import MOVES, Lines
from whisperagent.tui.session import Session
from whisperagent.tui.transcript import MARGIN

STYLES = {"same": "", "removed": "strike $text-error", "added": "bold $text-success"}


class Compared(Lines):
    """The lines; those that differ carry signs."""

    BINDINGS = [
        *MOVES,
        Binding(
            "n",
            "difference(1)",
            deferred("Next difference"),
            id="next_difference",
            tooltip=deferred("Next line that is not the same in both"),
        ),
        Binding(
            "N",
            "difference(-1)",
            deferred("Previous difference"),
            show=False,
            id="previous_difference",
            tooltip=deferred("Previous line that is not the same in both"),
        ),
    ]

    def __init__(self, lines: list[Line]) -> None:
        super().__init__(*(Option("") for _line in lines), markup=False, id="compared")
        self._lines_shown = lines

    def on_resize(self, _event: Resize) -> None:
        for place, line in enumerate(self._lines_shown):
            self.replace_option_prompt_at_index(place, self._drawn(line))

    def action_difference(self, step: int) -> None:
        """Round the end."""
        places = [place for place, line in enumerate(self._lines_shown) if line.differs]
        if not places:
            self.notify(_("Nothing differs."))
            return
        here = -1 if self.highlighted is None else self.highlighted
        ahead = [place for place in places if (place - here) * step > 0] or places
        self.highlighted = ahead[0] if step > 0 else ahead[-1]

    def _drawn(self, line: Line) -> Content:
        name = words.speaker(line.speaker)
        column = max(len(words.speaker(known)) for known in ("agent", "caller", "unknown"))
        clock = len(words.clock(self._lines_shown[-1].start_s))
        head = Content.assemble(
            (words.clock(line.start_s).rjust(clock), "$text-muted"),
            "  ",
            (name.ljust(column), "$text-muted"),
            "  ",
        )
        text = Content(" ").join(map(_marked, line.runs))
        width = max(16, self.size.width - MARGIN - head.cell_length)
        indent = Content(" " * head.cell_length)
        rows = text.wrap(width)
        return Content("\n").join([(indent if number else head) + row for number, row in enumerate(rows)])


class Compare(Page):
    """Only to be read: what is right is corrected in the review."""

    BINDINGS = [
        Binding("escape", "back", deferred("Back"), id="back", tooltip=deferred("Back to the review")),
    ]

    def __init__(self, session: Session, lines: list[Line], model: str) -> None:
        super().__init__(session)
        self._lines_compared = lines
        self._model = model

    def body(self) -> ComposeResult:
        yield Static(markup=False, id="notice")
        yield Compared(self._lines_compared)

    def help_text(self) -> str:
        return _(
            "What this PC had written down while the server was away, and what the server heard. Only the "
            "draft has [-…-], only the server's transcript has {+…+}. Punctuation is not "
            "compared."
        )

    def on_mount(self) -> None:
        compared = self.query_one(Compared)
        compared.border_title = _("Draft and transcript")
        compared.focus()
        self.query_one("#notice", Static).update(
            Content(difference.summary(self._lines_compared, self._model))
        )

    def action_back(self) -> None:
        self.post_message(self.Leave())


def _marked(run: Run) -> Content:
    return Content.styled(words.clean(str(run)), STYLES[run.kind])
