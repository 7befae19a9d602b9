"""The review of one call: its words beside the ticket they become.

Corrections are sent one by one, each with the version it was made on; what cannot be sent stays on this PC
(drafts.py) and is shown as not saved. The ticket is ours alone until the call is approved. While the server
has no words, those that this PC has drafted by itself are shown (own_calls.py).
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.content import Content
from textual.widgets import OptionList, Static

from whisperagent import wire
from whisperagent.drafts import OwnDraft
from whisperagent.errors import ServerRefused, WhisperError
from whisperagent.i18n import _, deferred, ngettext
from whisperagent.tui import call_words, words
from whisperagent.tui.base import Page
from whisperagent.tui.compare import Compare
from whisperagent.tui.dialogs import Approve, Discard
from whisperagent.tui.difference import difference
from whisperagent.tui.drafts import Draft, TicketText
from whisperagent.tui.editor import Edited, Editor
from whisperagent.tui.own_calls import with_draft
from whisperagent.tui.session import Changes, Session
from whisperagent.tui.ticket import TicketPanel
from whisperagent.tui.transcript import Transcript
from whisperagent.wire import CallState

CONFLICT = 409
"""Somebody else was first."""


class Review(Page):
    """One call, from the server; open while it is read, corrected and decided on."""

    BINDINGS = [
        Binding(
            "a",
            "approve",
            deferred("Approve"),
            id="approve",
            tooltip=deferred("See the ticket as it will be, then send it"),
        ),
        Binding(
            "e", "edit", deferred("Edit"), id="edit", tooltip=deferred("Correct the segment under the cursor")
        ),
        Binding(
            "s",
            "speaker",
            deferred("Speaker"),
            show=False,
            id="speaker",
            tooltip=deferred("The other side said it"),
        ),
        Binding(
            "t",
            "ticket",
            deferred("Ticket"),
            id="ticket",
            tooltip=deferred("Write the ticket; esc comes back"),
        ),
        Binding(
            "d", "discard", deferred("Discard"), id="discard", tooltip=deferred("Make no ticket of this call")
        ),
        Binding(
            "v",
            "compare",
            deferred("Compare"),
            id="compare",
            tooltip=deferred("What differs between this PC's draft and the transcript"),
        ),
        Binding(
            "y", "copy", deferred("Copy"), show=False, id="copy", tooltip=deferred("Copy the transcript")
        ),
        Binding(
            "left_square_bracket",
            "neighbour(-1)",
            deferred("Previous call"),
            show=False,
            id="previous_call",
            tooltip=deferred("The call before this one in the list"),
        ),
        Binding(
            "right_square_bracket",
            "neighbour(1)",
            deferred("Next call"),
            show=False,
            id="next_call",
            tooltip=deferred("The call after this one in the list"),
        ),
        Binding(
            "r",
            "reload",
            deferred("Retry"),
            show=False,
            id="reload",
            tooltip=deferred("Ask the server again, now"),
        ),
        Binding(
            "ctrl+s",
            "keep",
            deferred("Keep draft"),
            show=False,
            id="keep",
            tooltip=deferred("Keep the ticket on this PC; it is kept by itself as well"),
        ),
        Binding(
            "escape",
            "back",
            deferred("Back"),
            id="back",
            tooltip=deferred("From the ticket to the words, from there to the list"),
        ),
    ]

    def __init__(self, session: Session, call_id: str) -> None:
        super().__init__(session)
        self.call_id = call_id
        self.call: wire.Call | None = None
        self._draft = Draft()
        self._own: OwnDraft | None = None
        self._drafted = False
        self._problem: WhisperError | None = None
        self._claimed = False
        self._sending = asyncio.Lock()

    def body(self) -> ComposeResult:
        yield Static(markup=False, id="call")
        yield Static(markup=False, id="notice")
        with Container(id="panes"):
            yield Transcript(id="transcript")
            yield TicketPanel(id="ticket")

    def help_text(self) -> str:
        return _(
            "Read what was said, correct it, and approve it as a ticket. Words with {sign} are those the "
            "speech engine was not sure of; n goes from one to the next. What you write is kept on this PC "
            "at once, and sent when you save or approve."
        ).format(sign="(?)")

    def on_mount(self) -> None:
        self.query_one("#transcript").border_title = _("What was said")
        self.query_one(Transcript).focus()
        self.session.changes.subscribe(self, self._changed)
        self.action_reload()

    async def on_unmount(self) -> None:
        if self._claimed:
            await self.session.channel.release(self.call_id)

    # The call as the server has it

    @work(exclusive=True, group="load")
    async def action_reload(self) -> None:
        own = await asyncio.to_thread(self.session.own.find, self.call_id)
        self._own = own.draft if own else None
        try:
            call = await self.session.client.call(self.call_id)
        except WhisperError as problem:
            self.session.lost(problem)
            if own is not None and own.draft is not None and (self.call is None or self._drafted):
                self._take(own.call, drafted=True)
            self._problem = problem
            self._show_notice()
            return
        if call.transcript is None and self._own is not None:
            self._take(with_draft(call, self._own), drafted=True)
            return
        self._take(call)
        await self._claim()

    async def _claim(self) -> None:
        if self.call and self.call.summary.claimed_by == "" and self._open_for_review:
            self._claimed = True
            await self.session.channel.claim(self.call_id)

    def _changed(self, changes: Changes) -> None:
        if changes.touch(self.call_id):
            self.action_reload()

    def _take(self, call: wire.Call, *, drafted: bool = False) -> None:
        """Show `call`, with what this PC has of its own on top. drafted: its words are this PC's draft."""
        before, self.call, self._problem, self._drafted = self.call, call, None, drafted
        # What was written over the server's words does not belong to those of a draft.
        kept = Draft() if drafted else self.session.drafts.load(self.call_id)
        self._draft = self._without_what_is_saved(kept)
        transcript = self.query_one(Transcript)
        transcript.segments = call.transcript.segments if call.transcript else ()
        transcript.unsaved = frozenset(self._draft.texts)
        count = len(transcript.doubts)
        transcript.border_subtitle = Content(
            ngettext("{count} doubt", "{count} doubts", count).format(count=count)
            if transcript.segments
            else ""
        )
        self._show_ticket(call)
        self._show_call(call)
        self._show_notice()
        self.refresh_bindings()
        if (
            before
            and before.summary.state is not CallState.TICKETED
            and call.summary.state is CallState.TICKETED
        ):
            self._tell_ticket(call)

    def _without_what_is_saved(self, draft: Draft) -> Draft:
        """A text that the server has by now is no draft any more."""
        texts = {segment.id: segment.text for segment in self._segments}
        unsaved = {number: text for number, text in draft.texts.items() if texts.get(number) != text}
        return msgspec.structs.replace(draft, texts=unsaved)

    @property
    def _segments(self) -> Sequence[wire.Segment]:
        return self.call.transcript.segments if self.call and self.call.transcript else ()

    @property
    def _open_for_review(self) -> bool:
        return self.call is not None and not self._drafted and call_words.reviewable(self.call)

    # What is shown

    def _show_call(self, call: wire.Call) -> None:
        state = (
            words.own_draft()
            if self._drafted
            else words.call_state(call.summary.state, self.session.progress.get(self.call_id))
        )
        facts = call_words.facts(call.summary, self.session.now())
        self.query_one("#call", Static).update(Content.assemble((f"{state}  ", f"bold {state.style}"), facts))

    def _show_ticket(self, call: wire.Call) -> None:
        panel = self.query_one(TicketPanel)
        ours = self._draft.ticket if self._open_for_review else None
        draft = (call.ticket.draft if call.ticket else None) or call.draft
        if not panel.has_focus_within or not self._open_for_review:
            panel.text = ours or (TicketText.of(draft) if draft else TicketText())
        panel.locked = not self._open_for_review
        panel.display = not self._drafted
        panel.show(call.ticket)

    def _show_notice(self) -> None:
        text = self._notice()
        notice = self.query_one("#notice", Static)
        notice.display = bool(text)
        notice.update(Content(text))

    def _notice(self) -> str:
        if self._drafted and self._own is not None:
            return call_words.draft_notice(self._own, self.session.now())
        if self._problem is not None:
            again = _("r asks again; what you have written is kept on this PC.")
            return f"{words.problem(self._problem)}\n{again}"
        if self.call is None:
            return _("Asking the server…")
        return call_words.notice(self.call, self.session.extension) or self._draft_differs()

    def _draft_differs(self) -> str:
        if self._own is None or not self._segments:
            return ""
        return call_words.differs(difference(self._own.as_corrected(), self._segments), "v")

    def pulse(self) -> None:
        super().pulse()
        if self.call is not None:
            self._show_call(self.call)

    def _tell_ticket(self, call: wire.Call) -> None:
        made = _("Ticket {number} is made.").format(number=call_words.ticket_number(call))
        self.notify(made, title=_("Ticket"), markup=False)

    def _complain(self, problem: WhisperError) -> None:
        self.notify(words.problem(problem), title=_("Not saved"), severity="error", timeout=20, markup=False)

    def _warn_draft(self, problem: OSError) -> None:
        text = _("What you write cannot be kept on this PC: {why}").format(why=problem.strerror or problem)
        self.notify(text, severity="error", timeout=20, markup=False)

    # Correcting

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a call that waits for review can be changed; the keys that do are not shown otherwise."""
        if action == "compare":
            return self._own is not None and not self._drafted and bool(self._segments)
        if self._drafted and action in ("edit", "ticket", "keep"):
            return action == "edit"
        if action in ("approve", "edit", "speaker", "discard"):
            return self._open_for_review
        return True

    def action_edit(self) -> None:
        segment = self.query_one(Transcript).current
        if segment is not None and self._drafted:
            self._open_draft_editor(segment)
        elif segment is not None:
            self._open_editor(segment, self._draft.texts.get(segment.id, segment.text), theirs=False)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if self._open_for_review or self._drafted:
            self.action_edit()

    def _open_draft_editor(self, segment: wire.Segment) -> None:
        """A draft is this PC's own: what is written is kept in it, and there is nobody to send it to."""

        def keep(text: str) -> None:
            try:
                self.session.own.correct(self.call_id, segment.id, text)
            except WhisperError as problem:
                self._complain(problem)
            except OSError as problem:
                self._warn_draft(problem)

        def left(edited: Edited | None) -> None:
            if edited is not None:
                keep(edited.text)
            self.action_reload()

        self.app.push_screen(Editor(segment, segment.text, theirs=False, keep=keep), left)

    def _open_editor(self, segment: wire.Segment, text: str, *, theirs: bool) -> None:
        def keep(written: str) -> None:
            self._keep_text(segment, written)

        def left(edited: Edited | None) -> None:
            if edited is None:
                return
            keep(edited.text)
            if edited.save and edited.text != segment.text:
                self._send(wire.SegmentEdit(id=segment.id, text=edited.text))

        self.app.push_screen(Editor(segment, text, theirs=theirs, keep=keep), left)

    def _keep_text(self, segment: wire.Segment, text: str) -> None:
        try:
            self.session.drafts.keep_text(self.call_id, segment.id, text if text != segment.text else None)
        except OSError as problem:
            self._warn_draft(problem)
        self._draft = self.session.drafts.load(self.call_id)
        self.query_one(Transcript).unsaved = frozenset(self._draft.texts)

    def action_speaker(self) -> None:
        if segment := self.query_one(Transcript).current:
            self._send(
                wire.SegmentEdit(id=segment.id, speaker="caller" if segment.speaker == "agent" else "agent")
            )

    @work(group="send")
    async def _send(self, edit: wire.SegmentEdit) -> None:
        """Send one correction; they queue, since each makes a new version."""
        async with self._sending:
            if self.call is None or self.call.transcript is None:
                return
            body = wire.TranscriptEdit(version=self.call.transcript.version, segments=(edit,))
            try:
                transcript = await self.session.client.edit(self.call_id, body)
            except ServerRefused as problem:
                if problem.status != CONFLICT:
                    self._complain(problem)
                    return
                await self._settle(edit)
            except WhisperError as problem:
                self.session.lost(problem)
                self._complain(problem)
            else:
                self._saved(edit, transcript)

    def _saved(self, edit: wire.SegmentEdit, transcript: wire.Transcript) -> None:
        if self.call is None:
            return
        if edit.text is not None:
            self._forget_text(edit.id)
        self._take(msgspec.structs.replace(self.call, transcript=transcript))

    async def _settle(self, edit: wire.SegmentEdit) -> None:
        """Somebody else was first: show their words, keep ours, and let the person decide."""
        try:
            call = await self.session.client.call(self.call_id)
        except WhisperError as problem:
            self._complain(problem)
            return
        self._take(call)
        theirs = next((segment for segment in self._segments if segment.id == edit.id), None)
        if edit.text is None or theirs is None:
            self.notify(
                _("Somebody else has changed this call; it is shown as it is now."), severity="warning"
            )
        elif theirs.text != edit.text:
            self._open_editor(theirs, edit.text, theirs=True)

    def _forget_text(self, segment_id: int) -> None:
        try:
            self.session.drafts.keep_text(self.call_id, segment_id, None)
        except OSError as problem:
            self._warn_draft(problem)

    # The ticket

    def action_ticket(self) -> None:
        self.query_one(TicketPanel).begin()

    @on(TicketPanel.Changed)
    def _ticket_written(self, event: TicketPanel.Changed) -> None:
        self._keep_ticket(event.text)

    def action_keep(self) -> None:
        self._keep_ticket(self.query_one(TicketPanel).written)
        self.notify(_("The ticket is kept on this PC until you approve."), markup=False)

    def _keep_ticket(self, text: TicketText | None) -> None:
        try:
            self.session.drafts.keep_ticket(self.call_id, text)
        except OSError as problem:
            self._warn_draft(problem)
        self._draft = msgspec.structs.replace(self._draft, ticket=text)

    # Deciding

    def action_approve(self) -> None:
        """Show the ticket as it will be; nothing is sent before the answer."""
        if self._draft.texts:
            count = len(self._draft.texts)
            text = ngettext(
                "{count} correction is not saved: e opens it, enter saves it.",
                "{count} corrections are not saved: e opens them, enter saves them.",
                count,
            ).format(count=count)
            self.notify(text, title=_("Not yet"), severity="warning", markup=False)
            return
        ticket = self._ticket_to_send()
        if ticket is not None and not ticket.subject.strip():
            self.notify(_("The ticket needs a subject: t writes it."), title=_("Not yet"), severity="warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._decide("approved", ticket.draft() if ticket else None, "")

        self.app.push_screen(Approve(ticket), answered)

    def _ticket_to_send(self) -> TicketText | None:
        """None when the server wants no ticket and nobody has written one."""
        written = self.query_one(TicketPanel).written
        wanted = self.call is not None and self.call.draft is not None
        return written if wanted or written != TicketText() else None

    def action_discard(self) -> None:
        question = Discard()

        def answered(yes: bool | None) -> None:
            if yes:
                self._decide("rejected", None, question.note)

        self.app.push_screen(question, answered)

    @work(group="send")
    async def _decide(
        self, decision: Literal["approved", "rejected"], ticket: wire.TicketDraft | None, note: str
    ) -> None:
        async with self._sending:
            if self.call is None or self.call.transcript is None:
                return
            version = self.call.transcript.version
            body = wire.ReviewDecision(version=version, decision=decision, ticket=ticket, note=note)
            try:
                call = await self.session.client.review(self.call_id, body)
            except ServerRefused as problem:
                self._complain(problem)
                if problem.status == CONFLICT:
                    self.action_reload()
            except WhisperError as problem:
                self.session.lost(problem)
                self._complain(problem)
            else:
                self._keep_ticket(None)
                self._take(call)

    # Going elsewhere

    def action_compare(self) -> None:
        """The draft is of before; the transcript is as it stands now, corrections included."""
        if self._own is not None and not self._drafted:
            lines = difference(self._own.as_corrected(), self._segments)
            self.app.push_screen(Compare(self.session, lines, self._own.model))

    def action_copy(self) -> None:
        if self.call is not None:
            self.app.copy_to_clipboard(call_words.transcript(self.call))
            self.notify(_("The transcript is copied."), markup=False)

    def action_neighbour(self, step: int) -> None:
        order = list(self.session.order)
        place = order.index(self.call_id) + step if self.call_id in order else -1
        if 0 <= place < len(order):
            self.post_message(self.OpenCall(order[place]))
        else:
            self.notify(_("No further call in the list."), markup=False)

    def action_back(self) -> None:
        if self.query_one(TicketPanel).has_focus_within:
            self.query_one(Transcript).focus()
        else:
            self.post_message(self.Leave())
