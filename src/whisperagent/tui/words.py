"""How the screens say things: states, speakers, times, and other people's text made safe to show.

Used by the Textual screens and by `wa review --plain`; nothing here needs Textual. A state is a glyph, a
word and a style, so that colour never carries a meaning alone.
"""

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

from whisperagent.errors import WhisperError
from whisperagent.i18n import _
from whisperagent.wire import CallState, SpoolState, TicketState

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ASCII = {
    "●": "*",
    "○": "o",
    "◐": "~",
    "✓": "+",
    "✗": "x",
    "↑": "^",
    "⚠": "!",
    "✎": "*",
    "–": "-",
    "·": "-",
    "…": "~",
    "█": "#",
    "░": ".",
    "⏎": "<",
    "▼": "v",
}
"""What stands for our signs where a terminal cannot write them."""


@dataclass(frozen=True)
class Word:
    """style: a theme variable of Textual."""

    glyph: str
    text: str
    style: str = "$foreground"

    def __str__(self) -> str:
        return f"{self.glyph} {self.text}"


def now() -> datetime:
    return datetime.now(UTC)


def clean(text: str, *, lines: bool = False) -> str:
    """`text` from a caller, a transcript or a server, without what a terminal would obey.

    Control characters, ESC above all, become spaces; marks that reverse the order of reading go.
    lines: keep line ends and make tabs spaces, for text of several lines.
    """
    if lines:
        return "\n".join(clean(line) for line in text.replace("\r\n", "\n").split("\n"))
    kept = (" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in text)
    return "".join(letter for letter in kept if letter not in BIDI_CONTROLS)


def clock(seconds: float) -> str:
    """A length as `12:34` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def when(at: datetime, today: datetime) -> str:
    """Local time in the reader's own order: `14:05` today, with the day this year, before that the date."""
    local, current = at.astimezone(), today.astimezone()
    if local.date() == current.date():
        return f"{local:%H:%M}"
    if local.year == current.year:
        # Month and day, as `strftime` knows them; French turns them round.
        return _("{at:%m-%d %H:%M}").format(at=local)
    return _("{at:%Y-%m-%d}").format(at=local)


def speaker(name: str) -> str:
    """`agent` is the person at this PC, whichever title they have."""
    return {"agent": _("technician"), "caller": _("caller")}.get(name, _("unknown"))


def call_state(state: CallState, progress: float | None = None) -> Word:
    """Where a call is on the server. progress: 0..1 of the transcription, None when nobody said."""
    if state is CallState.TRANSCRIBING and progress is not None:
        return Word("◐", _("transcribing {percent} %").format(percent=round(progress * 100)), "$text-accent")
    words = {
        CallState.RECEIVED: Word("○", _("received"), "$text-muted"),
        CallState.TRANSCRIBING: Word("◐", _("transcribing"), "$text-accent"),
        CallState.TRANSCRIBED: Word("●", _("to review"), "$text-warning"),
        CallState.APPROVED: Word("✓", _("approved"), "$text-success"),
        CallState.TICKETED: Word("✓", _("ticket made"), "$text-success"),
        CallState.FAILED: Word("✗", _("failed"), "$text-error"),
        CallState.REJECTED: Word("–", _("discarded"), "$text-muted"),
        CallState.ERASED: Word("–", _("erased"), "$text-muted"),
        CallState.QUARANTINED: Word("!", _("quarantined"), "$text-error"),
    }
    return words[state]


def spool_state(state: SpoolState) -> Word:
    """Where a recording is on this PC."""
    words = {
        SpoolState.RECORDING: Word("●", _("recording"), "$text-error"),
        SpoolState.QUEUED: Word("↑", _("waiting"), "$text-accent"),
        SpoolState.OVERDUE: Word("!", _("overdue"), "$text-warning"),
        SpoolState.REJECTED: Word("✗", _("refused"), "$text-error"),
        SpoolState.DONE: Word("✓", _("sent"), "$text-success"),
        SpoolState.DROPPED: Word("–", _("deleted"), "$text-muted"),
    }
    return words[state]


def own_draft() -> Word:
    """A call of this PC that the server cannot show, and this PC has written down."""
    return Word("✎", _("draft"), "$text-accent")


def ticket_state(state: TicketState) -> Word:
    words = {
        TicketState.DRAFT: Word("○", _("draft"), "$text-muted"),
        TicketState.SENDING: Word("◐", _("being made"), "$text-accent"),
        TicketState.UNKNOWN: Word("?", _("not sure whether it was made"), "$text-warning"),
        TicketState.CREATED: Word("✓", _("made"), "$text-success"),
        TicketState.FAILED: Word("✗", _("failed"), "$text-error"),
    }
    return words[state]


def priority(name: str) -> str:
    return {"LOW": _("low"), "MEDIUM": _("medium"), "HIGH": _("high")}.get(name, _("none"))


def problem(error: WhisperError) -> str:
    """What, why and what to do, each on its own line."""
    return "\n".join(clean(part) for part in (error.what, error.why, error.fix) if part)
