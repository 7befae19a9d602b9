"""What every screen and every dialog of ours has: its bar, its keys in the reader's language, its help."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

from whisperagent.i18n import _, deferred
from whisperagent.tui import words
from whisperagent.tui.session import Session

T = TypeVar("T")

if TYPE_CHECKING:
    _Mixed = Screen[Any]
else:
    _Mixed = object

WIDE = 100
"""From this many columns on, two panes fit side by side."""


QUIT = Binding("q", "app.leave", deferred("Quit"), id="quit", tooltip=deferred("Close the screens"))
"""For lists; where somebody may be writing, ctrl+q and esc are enough."""


class Translated(_Mixed):
    """Bindings are class attributes, made before the language is known: translated when they are shown."""

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        return {key: _translated(active) for key, active in super().active_bindings.items()}


class TitleBar(Static):
    """The top line: our name, the server in words, what the agent does."""

    def show(self, session: Session) -> None:
        self.update(
            Content("   ").join([Content.styled(" WhisperAgent", "bold"), _link(session), _agent(session)])
        )


class Page(Translated, Screen[None]):
    """A whole screen. Subclasses yield their content in `body`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]
    TITLE = ""

    @dataclass
    class OpenCall(Message):
        """Somebody wants to review this call."""

        call_id: str

    @dataclass
    class Leave(Message):
        """Back to the screen before this one."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def compose(self) -> ComposeResult:
        yield TitleBar(markup=False)
        yield from self.body()
        yield Footer(compact=True, show_command_palette=False)

    def body(self) -> ComposeResult:
        yield from ()

    def help_text(self) -> str:
        """A few sentences on what this screen is for, shown above its keys."""
        return ""

    def on_mount(self) -> None:
        self.session.pulse.subscribe(self, lambda _none: self.pulse())
        self.pulse()

    def pulse(self) -> None:
        """Something about this PC or the connection may be new."""
        self.query_one(TitleBar).show(self.session)


class Dialog(Translated, ModalScreen[T]):
    """A question over the screen; what it gives back is None when it was left."""


def _translated(active: ActiveBinding) -> ActiveBinding:
    binding = active.binding
    tooltip = _(binding.tooltip) if binding.tooltip else ""
    description = _(binding.description) if binding.description else ""
    return active._replace(
        binding=replace(binding, description=description, tooltip=tooltip), tooltip=tooltip
    )


def _link(session: Session) -> Content:
    server = words.clean(session.url.partition("://")[2].rpartition(":")[0] or session.url)
    glyph, text, style = {
        "connecting": ("○", _("connecting to {server}"), "$text-muted"),
        "connected": ("●", _("connected to {server}"), "$text-success"),
        "offline": ("○", _("offline: no answer from {server}"), "$text-warning"),
        "refused": ("✗", _("{server} refuses us"), "$text-error"),
        "none": ("○", _("no server is named"), "$text-muted"),
    }[session.link.state]
    return Content.styled(f"{glyph} {text.format(server=server)}", style)


def _agent(session: Session) -> Content:
    status = session.pc.status
    if status is None or not session.pc.alive:
        return Content.styled("○ " + _("no agent on this PC"), "$text-muted")
    if status.private:
        return Content.styled("○ " + _("private call"), "bold $text-error")
    if status.paused_until is not None:
        return Content.styled("○ " + _("paused"), "bold $text-error")
    if status.call is not None:
        return Content.styled(f"● REC {words.clock(status.call.recorded_s)}", "bold $text-error")
    return Content.styled("● " + _("agent waits for a call"), "$text-success")
