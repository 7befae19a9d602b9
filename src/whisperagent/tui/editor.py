"""Correcting one segment: its text over the transcript, which stays in sight."""

from collections.abc import Callable
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Footer, Label, Static, TextArea

from whisperagent.i18n import _, deferred
from whisperagent.tui import words
from whisperagent.tui.base import Dialog
from whisperagent.wire import Segment


@dataclass(frozen=True)
class Edited:
    """save: send it to the server; else the editor was only left."""

    text: str
    save: bool


class Editor(Dialog[Edited]):
    """Gives back what was written, in any case.

    text: to begin with, when it is not the segment's own: an earlier draft. theirs: somebody else has
    corrected the segment meanwhile. keep: called with the text at every key.
    """

    BINDINGS = [
        Binding(
            "enter,ctrl+s",
            "leave(True)",
            deferred("Save"),
            id="save",
            priority=True,
            tooltip=deferred("Send the correction to the server"),
        ),
        Binding(
            "ctrl+o",
            "original",
            deferred("Original"),
            id="original",
            priority=True,
            tooltip=deferred("The text as the server has it"),
        ),
        Binding(
            "escape",
            "leave(False)",
            deferred("Leave"),
            id="leave",
            priority=True,
            tooltip=deferred("Leave; what is not saved stays on this PC as a draft"),
        ),
    ]

    def __init__(self, segment: Segment, text: str, *, theirs: bool, keep: Callable[[str], None]) -> None:
        super().__init__()
        self._segment = segment
        self._text = text
        self._theirs = theirs
        self._keep = keep

    def compose(self) -> ComposeResult:
        segment = self._segment
        head = _("Correct {time} {speaker}").format(
            time=words.clock(segment.start_s), speaker=words.speaker(segment.speaker)
        )
        with Vertical(classes="box bottom"):
            yield Label(head, markup=False, classes="question")
            if self._theirs:
                warning = _("Somebody else has corrected it meanwhile. Their text:")
                yield Static(
                    Content.assemble((warning, "$text-warning"), "\n", words.clean(segment.text)),
                    markup=False,
                )
            yield TextArea(words.clean(self._text), soft_wrap=True, show_line_numbers=False)
            yield Static(_("Without any text the segment is removed."), markup=False, classes="hint")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)
        area.focus()

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self._keep(self._written)

    def action_leave(self, save: bool) -> None:
        self.dismiss(Edited(self._written, save))

    def action_original(self) -> None:
        self.query_one(TextArea).text = words.clean(self._segment.text)

    @property
    def _written(self) -> str:
        return " ".join(self.query_one(TextArea).text.split("\n")).strip()
