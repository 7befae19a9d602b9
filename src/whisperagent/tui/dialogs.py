"""Questions over the screen: yes or no, the ticket as it will be, why a call is discarded, the keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Footer, Input, Label, Static

from whisperagent.i18n import _, deferred
from whisperagent.tui import words
from whisperagent.tui.base import Dialog
from whisperagent.tui.drafts import TicketText

CANCEL = Binding("escape", "dismiss", deferred("Cancel"), id="cancel", tooltip=deferred("Change nothing"))
YES = Binding("y", "answer(True)", deferred("Yes"), id="yes", tooltip=deferred("Do it"))
NO = Binding("n", "answer(False)", deferred("No"), id="no", tooltip=deferred("Do not"))


class Confirm(Dialog[bool]):
    """A question whose safe answer has the focus."""

    BINDINGS = [YES, NO, CANCEL]

    def __init__(self, question: str, explanation: str, yes: str) -> None:
        super().__init__()
        self._question = question
        self._explanation = explanation
        self._yes = yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(self._question, markup=False, classes="question")
            yield Static(self._explanation, markup=False)
            yield from self.fields()
            with Horizontal(classes="buttons"):
                yield Button(Content(self._yes), variant="error", id="answer-yes")
                yield Button(_("No"), id="answer-no")
        yield Footer(compact=True, show_command_palette=False)

    def fields(self) -> ComposeResult:
        """What else is asked, between the question and the buttons."""
        yield from ()

    def on_mount(self) -> None:
        self.query_one("#answer-no").focus()

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "answer-yes")


class Discard(Confirm):
    """Gives the note in `note` when the answer is yes."""

    def __init__(self) -> None:
        super().__init__(
            _("Discard this call?"),
            _("No ticket will be made. The recording and its words stay on the server."),
            _("Discard"),
        )
        self.note = ""

    def fields(self) -> ComposeResult:
        yield Input(placeholder=_("why, if you like"), max_length=1000, id="note")

    @on(Input.Changed)
    def _noted(self, event: Input.Changed) -> None:
        self.note = event.value

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.query_one("#answer-yes").focus()


class Note(Dialog[str]):
    """A few words for this moment of the call; gives them."""

    BINDINGS = [CANCEL]

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(_("Note in the recording"), markup=False, classes="question")
            yield Input(placeholder=_("what happens at this moment"), max_length=1000)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def _written(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())


class Approve(Dialog[bool]):
    """The ticket as it will be. ticket: None when approving makes no ticket."""

    BINDINGS = [
        Binding(
            "enter",
            "answer(True)",
            deferred("Send"),
            id="send",
            tooltip=deferred("Approve the call and send the ticket"),
        ),
        CANCEL,
    ]

    def __init__(self, ticket: TicketText | None) -> None:
        super().__init__()
        self._ticket = ticket

    def compose(self) -> ComposeResult:
        with Vertical(classes="box tall"):
            yield Label(_("Approve this call?"), markup=False, classes="question")
            with VerticalScroll(can_focus=True):
                yield Static(self._preview(), markup=False)
            with Horizontal(classes="buttons"):
                yield Button(_("Approve"), variant="success", id="answer-yes")
                yield Button(_("Cancel"), id="answer-no")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)

    def _preview(self) -> Content:
        ticket = self._ticket
        if ticket is None:
            return Content(_("The server makes no ticket for it: its transcript is kept as approved."))
        return Content.assemble(
            (_("Subject"), "$text-muted"),
            "  ",
            (words.clean(ticket.subject), "bold"),
            "\n",
            (_("Priority"), "$text-muted"),
            f"  {words.priority(ticket.priority)}\n",
            (_("Tags"), "$text-muted"),
            f"  {words.clean(', '.join(ticket.tags)) or '–'}\n\n",
            words.clean(ticket.body, lines=True),
        )

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "answer-yes")


@dataclass(frozen=True)
class Key:
    """A line of the help."""

    key: str
    name: str
    explanation: str


class Help(Dialog[None]):
    """The keys that act where the focus is, and what the screen is for."""

    BINDINGS = [
        Binding(
            "escape,question_mark,f1,q",
            "dismiss",
            deferred("Close"),
            id="close_help",
            tooltip=deferred("Close the help"),
        )
    ]

    def __init__(self, about: str, keys: Sequence[Key]) -> None:
        super().__init__()
        self._about = about
        self._keys = keys

    def compose(self) -> ComposeResult:
        with Vertical(classes="box tall"):
            yield Label(_("Help"), markup=False, classes="question")
            with VerticalScroll(can_focus=True):
                yield Static(self._about, markup=False, id="about")
                width = max((len(key.key) for key in self._keys), default=0) + 2
                for key in self._keys:
                    with Horizontal(classes="key"):
                        sign = Static(Content.styled(key.key, "bold $text-accent"), markup=False)
                        sign.styles.width = width
                        yield sign
                        yield Static(
                            Content.assemble((key.name, "bold"), "  ", (key.explanation, "$text-muted")),
                            markup=False,
                        )
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
