"""The ticket as the server would write it: extracted from the call, nothing made up.

draft_for gives the reviewer a first text and delivery.py the one that is sent. The same call always gives the
same draft. Rules:

* Language: a ticket is read by the helpdesk that took the call, so it is written in the language of the call
  (the transcript's, French or English); for a call without words or in another language, in the server's own
  (`ui.language`). That is why phrases.py is a table of both languages and not gettext messages.
* Times are the server's local time, with its distance from UTC, so that nobody has to guess.
* Plain text: what a caller says or shows as a name becomes neither markup, nor a link, nor a line of its own
  (`inert`).
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import dropwhile

from msgspec.structs import replace

from whisperagent import i18n, settings, wire
from whisperserver.tickets.phrases import LANGUAGES, Words

SUBJECT_MAX = 200
BODY_MAX = 60_000
"""Characters: the limits of `wire.TicketDraft`."""

ENOUGH_WORDS = 3
"""From this many words on, a sentence says something."""


def draft_for(call: wire.Call, tickets: settings.Tickets) -> wire.TicketDraft:
    """The ticket of a call: what the caller wants in the subject, the whole transcript in the body.

    Its last line is `rec:<call_id>`; with a review, the line before says who read the transcript and when.
    """
    words = _words_of(call)
    footer = [*_provenance(call, words), f"rec:{call.summary.call_id}"]
    room = BODY_MAX - sum(len(line) + 1 for line in footer) - len(words.cut) - 2
    lines = [*_header(call, words), "", words.transcript, *_transcript(call, words)]
    kept = _fitting(lines, room)
    if len(kept) < len(lines):
        kept.append(words.cut)
    return wire.TicketDraft(
        subject=_subject(call, words), body="\n".join([*kept, "", *footer]), tags=tickets.tags
    )


def as_approved(draft: wire.TicketDraft, call: wire.Call) -> wire.TicketDraft:
    """A text that a person approved, perhaps after writing in it: it now says who read the call, and when.

    call: with its review. Where the person took the line about it out, nothing is put back.
    """
    words = _words_of(call)
    [unread], [read] = (_provenance(one, words) or [""] for one in (replace(call, review=None), call))
    before, found, after = draft.body.rpartition(f"\n{unread}\n")
    body = f"{before}\n{read}\n{after}" if found else draft.body
    return replace(draft, body=body) if len(body) <= BODY_MAX else draft


def inert(text: str) -> str:
    """`text` on one line, unable to be anything but text in whatever shows the ticket.

    Control, format and bidirectional characters go; angle brackets become quotation marks of the same shape;
    a dot or `://` that would make an address becomes `[.]`, `[:]//`: read by people, not linked by software.
    """
    visible = "".join(_visible(letter) for letter in text)
    visible = " ".join(visible.split()).replace("<", "‹").replace(">", "›")
    return re.sub(r"(?<=[^\W\d])\.(?=\w)|(?<=\d)\.(?=[^\W\d])", "[.]", visible.replace("://", "[:]//"))


def _visible(letter: str) -> str:
    category = unicodedata.category(letter)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Co", "Cs") else letter


def _words_of(call: wire.Call) -> Words:
    language = call.transcript.language[:2].lower() if call.transcript else ""
    return LANGUAGES.get(language) or LANGUAGES[i18n.spoken()]


def _subject(call: wire.Call, words: Words) -> str:
    about = _about(call, words)
    subject = f"[{words.call}] {_party(call, words)}{' - ' if about else ''}{about}"
    return _cut(subject, SUBJECT_MAX)


def _about(call: wire.Call, words: Words) -> str:
    """The first sentence of the caller that says what the call is about, without its `hello, yes, well`.

    A sentence that only gives a name is the second choice. On a mono recording, everybody's sentences count.
    """
    second_choice = ""
    for sentence in _caller_sentences(call):
        rest = _without_pleasantries(sentence, words)
        if len(rest.split()) < ENOUGH_WORDS:
            continue
        if not words.introduction.match(rest):
            return rest
        second_choice = second_choice or rest
    return second_choice


def _caller_sentences(call: wire.Call) -> Iterator[str]:
    segments = call.transcript.segments if call.transcript else ()
    for segment in segments:
        if segment.speaker != "agent":
            yield from re.split(r"(?<=[.!?…])\s+", inert(segment.text))


def _without_pleasantries(sentence: str, words: Words) -> str:
    tokens = sentence.split()
    said = dropwhile(lambda token: token.strip(",.;:!?…").lower() in words.pleasantries, tokens)
    return " ".join(said)


def _header(call: wire.Call, words: Words) -> list[str]:
    summary = call.summary
    agent = f"{summary.extension} ({inert(summary.agent_name)})" if summary.agent_name else summary.extension
    direction = words.directions.get(summary.direction, "")
    spoken = call.transcript.language if call.transcript else ""
    fields = [
        (words.call, _local(summary.started_at).strftime(words.at) + f" ({_zone(summary.started_at)})"),
        (words.extension, agent),
        (words.party, _party(call, words) + (f" ({direction})" if direction else "")),
        (words.duration, _duration(summary.duration_s)),
        (words.language, words.languages.get(spoken, inert(spoken))),
    ]
    lines = [f"{name}{words.colon} {value}" for name, value in fields if value]
    if not all(part.metadata.complete for part in call.parts):
        lines.append(words.interrupted)
    return lines


def _transcript(call: wire.Call, words: Words) -> list[str]:
    segments = call.transcript.segments if call.transcript else ()
    who = {"agent": f"{words.agent}{words.colon} ", "caller": f"{words.party}{words.colon} ", "unknown": ""}
    lines = [
        f"[{_clock(segment.start_s)}] {who[segment.speaker]}{text}"
        for segment in segments
        if (text := inert(segment.text))
    ]
    return lines or [words.silence]


def _provenance(call: wire.Call, words: Words) -> list[str]:
    if call.transcript is None:
        return []
    line = words.automatic.format(model=call.transcript.model)
    if call.review:
        time = _local(call.review.at).strftime("%H:%M")
        line += words.reviewed.format(reviewer=inert(call.review.reviewer), time=time)
    return [f"{line}."]


def _party(call: wire.Call, words: Words) -> str:
    return inert(call.summary.remote_party) or words.unknown_party


def _fitting(lines: list[str], room: int) -> list[str]:
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def _cut(text: str, most: int) -> str:
    """`text` in at most `most` characters, cut between two words."""
    if len(text) <= most:
        return text
    whole_words, _space, _rest = text[:most].rpartition(" ")
    return f"{(whole_words or text)[: most - 1].rstrip(' ,;:-')}…"


def _local(moment: datetime) -> datetime:
    return moment.astimezone()


def _zone(moment: datetime) -> str:
    offset = _local(moment).utcoffset()
    return str(timezone(offset)) if offset is not None else "UTC"


def _clock(at_s: float) -> str:
    minutes, seconds = divmod(int(at_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _duration(length_s: float) -> str:
    minutes, seconds = divmod(round(length_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min {seconds:02} s"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
