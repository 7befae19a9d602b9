"""The same review in lines of text: for screen readers, for SSH, for scripts that pipe their answers in.

One command a line, in words; no box, no colour, no glyph that means something. What was asked for goes to
stdout, the talk to stderr. At a terminal a mistake is said and the next line is read; in a script it ends
the run with the error's exit code.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from whisperagent import console, wire
from whisperagent.client import Client
from whisperagent.drafts import OwnDraft
from whisperagent.errors import ServerRefused, UsageError, WhisperError
from whisperagent.i18n import _, ngettext
from whisperagent.tui import call_words, difference, doubts, words
from whisperagent.tui.difference import Line
from whisperagent.tui.drafts import Drafts, TicketText
from whisperagent.tui.own_calls import OwnCalls, with_draft
from whisperagent.wire import CallState

T = TypeVar("T")
TICKET_S = 20.0
"""How long to wait for the number of a ticket after approving."""
POLL_S = 0.25
PRIORITIES: tuple[Literal["NONE", "LOW", "MEDIUM", "HIGH"], ...] = ("NONE", "LOW", "MEDIUM", "HIGH")
LISTED = 20
COLOURS = {"removed": "red", "added": "green"}


def review(client: Client, drafts: Drafts, own: OwnCalls, call_id: str = "") -> None:
    """Read commands from stdin until `quit` or its end.

    call_id: to open at once; `latest` is the newest call to review; empty shows the list.
    raises WhisperError: the server cannot be reached at the start and this PC has no call, or, in a script,
    anything went wrong.
    """
    with asyncio.Runner() as runner:
        try:
            PlainReview(client, drafts, own, runner.run).run(call_id)
        finally:
            runner.run(client.__aexit__(None, None, None))


def compare(client: Client, own: OwnCalls, call_id: str, *, json: bool) -> None:
    """Print what differs between this PC's draft of a call and the server's transcript.

    raises UsageError: one of them is not there. WhisperError: as `Client.call`; the draft cannot be opened.
    """
    draft = own.draft(call_id)
    with asyncio.Runner() as runner:
        try:
            call = runner.run(client.call(call_id))
        finally:
            runner.run(client.__aexit__(None, None, None))
    lines = _compared(draft, call.transcript)
    if not json:
        _print_difference(lines, draft.model if draft else "", colours=True)
        return
    removed, added = difference.count(lines)
    console.print_json(
        {
            "call_id": call_id,
            "draft_model": draft.model if draft else "",
            "model": call.transcript.model if call.transcript else "",
            "removed": removed,
            "added": added,
            "lines": lines,
        }
    )


class PlainReview:
    """wait: runs one request to its end."""

    def __init__(
        self,
        client: Client,
        drafts: Drafts,
        own: OwnCalls,
        wait: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        self._client = client
        self._drafts = drafts
        self._own = own
        self._own_draft: OwnDraft | None = None
        self._drafted = False
        self._wait = wait
        self._listed: tuple[wire.CallSummary, ...] = ()
        self._call: wire.Call | None = None
        self._place = -1
        self._ticket = TicketText()
        self._commands: dict[str, Callable[[str], None]] = {
            "list": self.list,
            "open": self.open,
            "next": self.next,
            "back": self.back,
            "read": self.read,
            "doubts": self.doubts,
            "edit": self.edit,
            "save": self.save,
            "speaker": self.speaker,
            "ticket": self.ticket,
            "subject": self.subject,
            "body": self.body,
            "priority": self.priority,
            "approve": self.approve,
            "reject": self.reject,
            "compare": self.compare,
            "help": self.help,
        }

    def run(self, call_id: str) -> None:
        if call_id:
            self.open(call_id)
        else:
            self.list("")
        while (line := _asked("> ")) is not None:
            if line in ("quit", "exit"):
                return
            try:
                self._obey(line)
            except WhisperError as problem:
                if not console.interactive():
                    raise
                console.error(problem)

    def _obey(self, line: str) -> None:
        name, _space, rest = line.partition(" ")
        command = self._commands.get(name.lower() or "next")
        if command is None:
            raise UsageError(
                _("there is no command `{name}`").format(name=words.clean(name)), fix=_("`help` lists all")
            )
        command(rest.strip())

    # Calls

    def list(self, _rest: str) -> None:
        """The calls to review, numbered."""
        try:
            self._listed = self._ask(self._client.calls(state=CallState.TRANSCRIBED, limit=LISTED)).items
        except WhisperError as problem:
            own = self._own.look(self._own.items())
            if not own:
                raise
            console.say(problem.in_words())
            console.say(_("these calls are on this PC; what can be read of them are drafts"))
            self._listed = tuple(one.call.summary for one in own)
        if not self._listed:
            console.say(_("nothing to review"))
        for number, call in enumerate(self._listed, 1):
            facts = call_words.facts(call, words.now()).replace(" · ", ", ")
            snippet = words.clean(call.snippet)
            console.print_data(_("{what}: {why}").format(what=f"{number}. {facts}", why=snippet))
        console.say(_("`open 1` opens the first one, `help` lists all commands"))

    def open(self, which: str) -> None:
        """A call by its number in the list, by its id, or `latest`."""
        if which == "latest":
            newest = self._ask(self._client.calls(state=CallState.TRANSCRIBED, limit=1)).items
            if not newest:
                raise UsageError(_("nothing to review"))
            which = newest[0].call_id
        elif which.isdigit() and 1 <= int(which) <= len(self._listed):
            which = self._listed[int(which) - 1].call_id
        elif not wire.is_call_id(which):
            raise UsageError(
                _("no call `{which}`").format(which=words.clean(which)),
                fix=_("give its number in the list, its whole id, or `latest`"),
            )
        self._load(which)
        self._place = -1
        self._introduce()

    def _load(self, call_id: str) -> None:
        own = self._own.find(call_id)
        self._own_draft, self._drafted = own.draft if own else None, False
        try:
            call = self._ask(self._client.call(call_id))
        except WhisperError:
            if own is None or own.draft is None:
                raise
            call, self._drafted = own.call, True
        if call.transcript is None and self._own_draft is not None:
            call, self._drafted = with_draft(call, self._own_draft), True
        kept = self._drafts.load(call_id).ticket
        self._call = call
        self._ticket = kept or (TicketText.of(call.draft) if call.draft else TicketText())

    def _introduce(self) -> None:
        call = self._opened
        state = (words.own_draft() if self._drafted else words.call_state(call.summary.state)).text
        facts = call_words.facts(call.summary, words.now()).replace(" · ", ", ")
        console.print_data(_("{what}: {why}").format(what=state, why=facts))
        if self._drafted and self._own_draft is not None:
            console.print_data(call_words.draft_notice(self._own_draft, words.now()))
        elif notice := call_words.notice(call, self._client.headers[wire.EXTENSION_HEADER]):
            console.print_data(notice)
        elif self._own_draft is not None and call.transcript is not None:
            lines = difference.difference(self._own_draft.as_corrected(), call.transcript.segments)
            console.print_data(call_words.differs(lines, "`compare`"))
        doubtful = sum(map(doubts.doubtful, self._segments))
        count = len(self._segments)
        console.print_data(
            ngettext(
                "{count} segment, with doubts: {doubtful}", "{count} segments, with doubts: {doubtful}", count
            ).format(count=count, doubtful=doubtful)
        )
        for number, text in self._unsaved().items():
            console.print_data(_("not saved yet, segment {number}: {text}").format(number=number, text=text))
        console.say(_("`next` reads the next segment, `read` reads all, `help` lists all commands"))

    @property
    def _opened(self) -> wire.Call:
        if self._call is None:
            raise UsageError(_("no call is open"), fix=_("`open 1` opens the first call of the list"))
        return self._call

    @property
    def _segments(self) -> tuple[wire.Segment, ...]:
        return self._call.transcript.segments if self._call and self._call.transcript else ()

    # Reading

    def next(self, _rest: str) -> None:
        """The next segment."""
        self._move(1)

    def back(self, _rest: str) -> None:
        """The previous segment."""
        self._move(-1)

    def _move(self, step: int) -> None:
        _call = self._opened
        place = self._place + step
        if 0 <= place < len(self._segments):
            self._place = place
            self._read(self._segments[place], place + 1)
        else:
            console.say(_("no further segment; `approve`, `reject` or `edit NUMBER`"))

    def read(self, rest: str) -> None:
        """All segments, or one by its number."""
        _call = self._opened
        if rest:
            segment, number = self._segment(rest)
            self._read(segment, number)
            return
        for number, segment in enumerate(self._segments, 1):
            self._read(segment, number)

    def doubts(self, _rest: str) -> None:
        """The segments with words that the speech engine was not sure of."""
        _call = self._opened
        for number, segment in enumerate(self._segments, 1):
            if doubts.doubtful(segment):
                self._read(segment, number)

    def _read(self, segment: wire.Segment, number: int) -> None:
        text = "".join(
            words.clean(piece.text) + (doubts.SIGN if piece.doubtful else "")
            for piece in doubts.pieces(segment)
        )
        console.print_data(f"{number}. {call_words.spoken(segment, text)}")

    def _segment(self, number: str) -> tuple[wire.Segment, int]:
        """By its number; the one read last when there is none."""
        if not number and self._place >= 0:
            return self._segments[self._place], self._place + 1
        if not number.isdigit() or not 1 <= int(number) <= len(self._segments):
            raise UsageError(
                _("no segment `{number}`").format(number=words.clean(number)),
                fix=_("give a number from 1 to {count}").format(count=len(self._segments)),
            )
        return self._segments[int(number) - 1], int(number)

    # Correcting

    def edit(self, rest: str) -> None:
        """`edit 3` asks for the text, `edit 3 the text` has it."""
        if not self._drafted:
            self._must_wait_for_review()
        number, _space, text = rest.partition(" ")
        segment, place = self._segment(number)
        if not text:
            self._read(segment, place)
            text = _asked(_("new text: ")) or ""
        if self._drafted:
            self._own.correct(self._opened.summary.call_id, segment.id, text or segment.text)
            self._load(self._opened.summary.call_id)
            self._read(self._segments[place - 1], place)
        elif text and text != segment.text:
            self._drafts.keep_text(self._opened.summary.call_id, segment.id, text)
            self._correct(wire.SegmentEdit(id=segment.id, text=text))

    def save(self, _rest: str) -> None:
        """Send the corrections that could not be sent before."""
        self._must_wait_for_review()
        for segment_id, text in self._drafts.load(self._opened.summary.call_id).texts.items():
            self._correct(wire.SegmentEdit(id=segment_id, text=text))

    def speaker(self, rest: str) -> None:
        """The other side said it."""
        self._must_wait_for_review()
        segment, _number = self._segment(rest)
        other: wire.Speaker = "caller" if segment.speaker == "agent" else "agent"
        self._correct(wire.SegmentEdit(id=segment.id, speaker=other))

    def _correct(self, edit: wire.SegmentEdit) -> None:
        call = self._opened
        assert call.transcript is not None  # noqa: S101 - a call that can be corrected has words
        body = wire.TranscriptEdit(version=call.transcript.version, segments=(edit,))
        call_id = call.summary.call_id
        try:
            transcript = self._ask(self._client.edit(call_id, body))
        except ServerRefused as problem:
            self._load(call_id)
            problem.fix = problem.fix or _("read it again; `save` sends your text over theirs")
            raise
        if edit.text is not None:
            self._drafts.keep_text(call_id, edit.id, None)
        self._call = msgspec.structs.replace(call, transcript=transcript)
        for number, segment in enumerate(self._segments, 1):
            if segment.id == edit.id:
                self._read(segment, number)

    def _unsaved(self) -> dict[int, str]:
        """Number of the segment -> the text that only this PC has, over the server's."""
        if self._drafted:
            return {}
        kept = self._drafts.load(self._opened.summary.call_id).texts
        return {
            number: words.clean(kept[segment.id])
            for number, segment in enumerate(self._segments, 1)
            if segment.id in kept and kept[segment.id] != segment.text
        }

    def _must_wait_for_review(self) -> None:
        if self._drafted:
            raise UsageError(
                _("this is a draft"), why=_("what is approved is the transcript that the server will make")
            )
        if not call_words.reviewable(self._opened):
            state = words.call_state(self._opened.summary.state).text
            raise UsageError(_("this call cannot be changed: {state}").format(state=state))

    def compare(self, _rest: str) -> None:
        """What differs between the draft and the server's transcript."""
        transcript = None if self._drafted else self._opened.transcript
        lines = _compared(self._own_draft, transcript)
        _print_difference(lines, self._own_draft.model if self._own_draft else "", colours=False)

    # The ticket

    def ticket(self, _rest: str) -> None:
        """The ticket as it will be."""
        _call = self._opened
        ticket = self._ticket
        console.print_data(_("subject: {text}").format(text=words.clean(ticket.subject)))
        console.print_data(_("priority: {text}").format(text=words.priority(ticket.priority)))
        console.print_data(words.clean(ticket.body, lines=True))

    def subject(self, text: str) -> None:
        self._write(msgspec.structs.replace(self._ticket, subject=text[:200]))

    def body(self, _rest: str) -> None:
        """Lines until one with a single dot."""
        lines: list[str] = []
        while (line := _asked("")) not in (None, "."):
            lines.append(line or "")
        self._write(msgspec.structs.replace(self._ticket, body="\n".join(lines)))

    def priority(self, name: str) -> None:
        """In the reader's words; a script may say it in English whatever the language is."""
        wanted = name.casefold()
        for level in PRIORITIES:
            if wanted in (words.priority(level).casefold(), level.casefold()):
                self._write(msgspec.structs.replace(self._ticket, priority=level))
                return
        names = ", ".join(words.priority(level) for level in PRIORITIES)
        raise UsageError(
            _("no priority `{name}`").format(name=words.clean(name)),
            fix=_("one of: {names}").format(names=names),
        )

    def _write(self, ticket: TicketText) -> None:
        self._must_wait_for_review()
        self._ticket = ticket
        self._drafts.keep_ticket(self._opened.summary.call_id, ticket)
        self.ticket("")

    # Deciding

    def approve(self, rest: str) -> None:
        """Show the ticket, and send it when the answer is yes; `approve yes` does not ask."""
        self._must_wait_for_review()
        if unsaved := self._unsaved():
            numbers = ", ".join(map(str, unsaved))
            raise UsageError(
                ngettext(
                    "the correction of segment {numbers} is not saved",
                    "the corrections of segments {numbers} are not saved",
                    len(unsaved),
                ).format(numbers=numbers),
                fix=_("`save` sends them"),
            )
        wanted = self._opened.draft is not None or self._ticket != TicketText()
        if wanted and not self._ticket.subject.strip():
            raise UsageError(_("the ticket needs a subject"), fix=_("`subject TEXT`"))
        if wanted:
            self.ticket("")
        if _sure(rest, _("send this ticket? yes or no: ") if wanted else _("approve? yes or no: ")):
            self._decide("approved", self._ticket.draft() if wanted else None, "")
            self._wait_for_ticket()

    def reject(self, note: str) -> None:
        """Make no ticket of this call; what follows the word is kept as the reason."""
        self._must_wait_for_review()
        if _sure("", _("discard this call? yes or no: ")):
            self._decide("rejected", None, note)
            console.print_data(_("discarded"))

    def _decide(
        self, decision: Literal["approved", "rejected"], ticket: wire.TicketDraft | None, note: str
    ) -> None:
        call = self._opened
        assert call.transcript is not None  # noqa: S101 - a call that waits for review has words
        body = wire.ReviewDecision(
            version=call.transcript.version, decision=decision, ticket=ticket, note=note
        )
        self._call = self._ask(self._client.review(call.summary.call_id, body))
        self._drafts.keep_ticket(call.summary.call_id, None)

    def _wait_for_ticket(self) -> None:
        """Say the ticket's number as soon as there is one, and what it waits for when there is none yet."""
        console.print_data(_("approved"))
        end = time.monotonic() + TICKET_S
        told = False
        while self._opened.ticket is not None and not _settled(self._opened) and time.monotonic() < end:
            if not told:
                console.say(_("waiting for the ticket system"))
                told = True
            time.sleep(POLL_S)
            self._call = self._ask(self._client.call(self._opened.summary.call_id))
        call = self._opened
        if number := call_words.ticket_number(call):
            url = words.clean(call.ticket.url) if call.ticket else ""
            console.print_data(f"{_('ticket {number}').format(number=number)} {url}".rstrip())
        elif call.ticket is not None:
            state = words.ticket_state(call.ticket.state).text
            console.print_data(_("no ticket yet: {why}").format(why=words.clean(call.ticket.error) or state))

    def help(self, _rest: str) -> None:
        for line in (
            _("list: the calls to review; open NUMBER, open ID, open latest: one of them"),
            _("next, back: one segment further or back; read, read NUMBER: all, or one"),
            _("doubts: segments with a word marked {sign}, which the speech engine guessed").format(
                sign=doubts.SIGN
            ),
            _("edit NUMBER, edit NUMBER TEXT: correct a segment; speaker NUMBER: the other side said it"),
            _("save: send corrections that could not be sent"),
            _("ticket: as it will be; subject TEXT; body: lines until a single dot; priority low"),
            _("compare: what differs between a draft of this PC and the transcript"),
            _("approve: send the ticket; reject WHY: make none; quit"),
        ):
            console.print_data(line)

    def _ask(self, request: Coroutine[Any, Any, T]) -> T:
        answer: T = self._wait(request)
        return answer


def _compared(draft: OwnDraft | None, transcript: wire.Transcript | None) -> Sequence[Line]:
    """raises UsageError: one of them is not there."""
    if draft is None:
        raise UsageError(_("this PC has no draft of this call"), fix=_("`wa queue list` shows its calls"))
    if transcript is None:
        raise UsageError(_("the server has not transcribed this call yet"))
    return difference.difference(draft.as_corrected(), transcript.segments)


def _print_difference(lines: Sequence[Line], model: str, *, colours: bool) -> None:
    console.print_data(difference.summary(lines, model))
    for line in lines:
        runs = [words.clean(str(run)) for run in line.runs]
        if colours:
            runs = [
                console.styled(text, COLOURS[run.kind]) if run.kind in COLOURS else text
                for run, text in zip(line.runs, runs, strict=True)
            ]
        console.print_data(
            _("{time} {speaker}: {text}").format(
                time=words.clock(line.start_s), speaker=words.speaker(line.speaker), text=" ".join(runs)
            )
        )


def _settled(call: wire.Call) -> bool:
    states = (wire.TicketState.CREATED, wire.TicketState.FAILED, wire.TicketState.UNKNOWN)
    return call.ticket is not None and call.ticket.state in states


def _asked(prompt: str) -> str | None:
    """A line from stdin without its end; None when there are no more. prompt: only at a terminal."""
    if console.interactive():
        sys.stderr.write(prompt)
        sys.stderr.flush()
    line = sys.stdin.readline()
    return line.strip() if line else None


def _sure(given: str, question: str) -> bool:
    answer = given or _asked(question) or ""
    return answer.lower() in ("y", "yes", "o", "oui")
