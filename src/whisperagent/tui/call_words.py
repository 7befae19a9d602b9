"""One call in words: its headline, what matters about it now, its transcript as text."""

from collections.abc import Sequence
from datetime import datetime

from whisperagent import wire
from whisperagent.drafts import OwnDraft
from whisperagent.i18n import _, ngettext
from whisperagent.tui import difference, words
from whisperagent.tui.difference import Line
from whisperagent.wire import CallState


def facts(summary: wire.CallSummary, now: datetime) -> str:
    """When, how long, with whom, whose, in which language."""
    found = (
        words.when(summary.started_at, now),
        words.clock(summary.duration_s),
        words.clean(summary.remote_party) or _("unknown caller"),
        _("ext. {extension}").format(extension=words.clean(summary.extension)),
        words.clean(summary.language),
    )
    return " · ".join(fact for fact in found if fact)


def notice(call: wire.Call, extension: str) -> str:
    """What whoever opens this call must know first; nothing when it can simply be reviewed.

    extension: the reader's own.
    """
    summary = call.summary
    if summary.claimed_by and summary.claimed_by != extension:
        return _("Being reviewed by {extension}.").format(extension=words.clean(summary.claimed_by))
    if summary.state in (CallState.RECEIVED, CallState.TRANSCRIBING):
        return _("It is being transcribed; the words show here by themselves.")
    if call.ticket is not None and call.ticket.error:
        return _("No ticket yet: {why}").format(why=words.clean(call.ticket.error))
    if summary.state is CallState.APPROVED:
        return _("Approved; the ticket is on its way.") if call.ticket else _("Approved; it makes no ticket.")
    return words.clean(summary.error)


def draft_notice(draft: OwnDraft, now: datetime) -> str:
    """What whoever reads a draft of this PC must know."""
    return _(
        "Draft, made on this PC by {model}, {time}. It can be corrected, not approved: the server's "
        "transcript takes its place."
    ).format(model=words.clean(draft.model), time=words.when(draft.made_at, now))


def differs(lines: Sequence[Line], key: str) -> str:
    """What whoever opens a call must know that this PC had drafted. key: that shows the difference."""
    words_apart = max(difference.count(lines))
    if not words_apart:
        return _("This PC had drafted it, with the same words.")
    return ngettext(
        "This PC had drafted it, and {count} word differs: {key} shows it.",
        "This PC had drafted it, and {count} words differ: {key} shows them.",
        words_apart,
    ).format(count=words_apart, key=key)


def reviewable(call: wire.Call) -> bool:
    return call.summary.state is CallState.TRANSCRIBED


def transcript(call: wire.Call) -> str:
    """`00:12 caller: …`, a line for each segment."""
    return "\n".join(map(spoken, call.transcript.segments)) if call.transcript else ""


def spoken(segment: wire.Segment, text: str = "") -> str:
    """One segment as a line. text: to show instead of its own."""
    return _("{time} {speaker}: {text}").format(
        time=words.clock(segment.start_s),
        speaker=words.speaker(segment.speaker),
        text=text or words.clean(segment.text),
    )


def ticket_number(call: wire.Call) -> str:
    return words.clean((call.ticket.id if call.ticket else "") or call.summary.ticket_id)
