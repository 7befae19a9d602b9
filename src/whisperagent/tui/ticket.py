"""The ticket beside the transcript: written while the words are in sight."""

from dataclasses import dataclass
from typing import Literal, get_args

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Input, Label, Select, Static, TextArea

from whisperagent.i18n import _
from whisperagent.tui import words
from whisperagent.tui.drafts import TicketText
from whisperagent.wire import Ticket

Priority = Literal["NONE", "LOW", "MEDIUM", "HIGH"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
SUBJECT_LIMIT = 200


class TicketPanel(Vertical):
    """text: what the fields show, set from outside. locked: there is nothing left to write."""

    text: reactive[TicketText] = reactive(TicketText(), init=False)
    locked: reactive[bool] = reactive(True)

    @dataclass
    class Changed(Message):
        """A person has written."""

        text: TicketText

    def compose(self) -> ComposeResult:
        yield Static(markup=False, id="ticket-state")
        with Horizontal(classes="field"):
            yield Label(_("Subject"), markup=False)
            yield Input(id="subject", max_length=SUBJECT_LIMIT, compact=True)
        with Horizontal(classes="field"):
            yield Label(_("Priority"), markup=False)
            yield Select(
                [(Content(words.priority(name)), name) for name in PRIORITIES],
                id="priority",
                allow_blank=False,
                compact=True,
            )
        yield TextArea(id="body", compact=True, show_line_numbers=False, highlight_cursor_line=False)

    def on_mount(self) -> None:
        self.border_title = _("Ticket")

    def watch_text(self, new: TicketText) -> None:
        if new == self.written:
            return
        with self.prevent(Input.Changed, TextArea.Changed, Select.Changed):
            self.query_one("#subject", Input).value = new.subject
            self.query_one("#body", TextArea).text = new.body
            self.query_one("#priority", Select).value = new.priority

    def watch_locked(self, locked: bool) -> None:
        self.query_one("#subject", Input).disabled = locked
        self.query_one("#priority", Select).disabled = locked
        self.query_one("#body", TextArea).read_only = locked

    def show(self, ticket: Ticket | None) -> None:
        """Say how far the ticket is; None: it is still only ours."""
        line = self.query_one("#ticket-state", Static)
        line.display = ticket is not None
        if ticket is not None:
            state = words.ticket_state(ticket.state)
            rest = " · ".join(words.clean(part) for part in (ticket.id, ticket.url, ticket.error) if part)
            line.update(Content.assemble((str(state), state.style), "  ", rest))

    @property
    def written(self) -> TicketText:
        """What the fields say now."""
        priority = self.query_one("#priority", Select).value
        return TicketText(
            subject=self.query_one("#subject", Input).value,
            body=self.query_one("#body", TextArea).text,
            priority=next((name for name in PRIORITIES if name == priority), "NONE"),
            tags=self.text.tags,
        )

    def begin(self) -> None:
        """Put the cursor where writing begins."""
        self.query_one("#body" if self.locked else "#subject").focus()

    @on(Input.Changed)
    @on(TextArea.Changed)
    @on(Select.Changed)
    def _changed(self, event: Message) -> None:
        event.stop()
        written = self.written
        if written != self.text:
            self.set_reactive(TicketPanel.text, written)
            self.post_message(self.Changed(written))
