"""The calls to review, newest first; one key away from those that are approved, and from all."""

import asyncio
from dataclasses import dataclass

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.widgets import Input, Static, Tab, Tabs

from whisperagent.errors import WhisperError
from whisperagent.i18n import _, deferred, ngettext
from whisperagent.tui import words
from whisperagent.tui.base import QUIT, Page
from whisperagent.tui.own_calls import OwnCall
from whisperagent.tui.rows import STATE_WIDTH, Column, Row, Rows
from whisperagent.tui.session import Changes, Session
from whisperagent.wire import CallState, CallSummary

TYPING_S = 0.2
"""A filter is asked for when typing pauses this long."""

VIEWS = {
    "review": (CallState.RECEIVED, CallState.TRANSCRIBING, CallState.TRANSCRIBED),
    "approved": (CallState.APPROVED, CallState.TICKETED),
    "all": (),
}
"""Which states a tab shows; () is all. Calls on their way to us belong to those to review."""


@dataclass(frozen=True)
class Loaded:
    """The pages loaded so far. cursor: of the next one, empty when there is none."""

    calls: tuple[CallSummary, ...] = ()
    cursor: str = ""


class Calls(Page):
    """A list that follows the server: rows change in place, new calls come in at the top."""

    BINDINGS = [
        Binding(
            "enter", "open", deferred("Open"), id="open", tooltip=deferred("Review the call under the cursor")
        ),
        Binding(
            "slash",
            "filter",
            deferred("Filter"),
            id="filter",
            tooltip=deferred("Find words in transcripts as you type"),
        ),
        Binding(
            "1",
            "view('review')",
            deferred("To review"),
            show=False,
            id="view_review",
            tooltip=deferred("Calls to review and on their way"),
        ),
        Binding(
            "2",
            "view('approved')",
            deferred("Approved"),
            show=False,
            id="view_approved",
            tooltip=deferred("Approved calls and their tickets"),
        ),
        Binding(
            "3",
            "view('all')",
            deferred("All"),
            show=False,
            id="view_all",
            tooltip=deferred("All calls, failed and discarded ones too"),
        ),
        Binding(
            "r", "refresh", deferred("Refresh"), id="refresh", tooltip=deferred("Ask the server again, now")
        ),
        Binding(
            "o",
            "app.overview",
            deferred("This PC"),
            id="overview",
            tooltip=deferred("What happens on this PC"),
        ),
        Binding(
            "escape",
            "back",
            deferred("Back"),
            show=False,
            id="back",
            tooltip=deferred("Leave the filter, or this list"),
        ),
        QUIT,
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._view = "review"
        self._shown: Loaded | None = None
        self._problem: WhisperError | None = None
        self._own: tuple[OwnCall, ...] = ()
        self._looking = False

    def body(self) -> ComposeResult:
        yield Tabs(
            Tab("1 " + _("To review"), id="review"),
            Tab("2 " + _("Approved"), id="approved"),
            Tab("3 " + _("All"), id="all"),
        )
        yield Input(
            placeholder=_("words to look for; enter goes to the list, esc leaves"), id="filter", compact=True
        )
        yield Rows(
            (
                Column(_("State"), STATE_WIDTH),
                Column(_("Time"), 11),
                Column(_("Ext."), 5, wide_only=True),
                Column(_("Other party"), 18),
                Column(_("Length"), 7),
                Column(_("Lang."), 5, wide_only=True),
                Column(_("Words")),
            ),
            id="calls",
        )
        yield Static(markup=False, id="empty")
        yield Static(markup=False, id="preview")

    def help_text(self) -> str:
        return _(
            "Calls that the server has. A call to review becomes a ticket when you have read and approved "
            "it. While the server cannot be asked, the calls of this PC are listed, and their drafts can be "
            "read."
        )

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.query_one(Tabs).can_focus = False
        self.session.changes.subscribe(self, self._changed)
        self.query_one(Rows).lines.focus()
        self.action_refresh()

    def pulse(self) -> None:
        super().pulse()
        if self._problem is not None and not self._calls:
            self.look_here()
        self._show()

    # Asking

    @work(group="own")
    async def look_here(self) -> None:
        """The server does not answer: show what this PC has. The system's keyring may take its time."""
        if self._looking:
            return
        self._looking = True
        try:
            self._own = tuple(await asyncio.to_thread(self.session.own.look, self.session.pc.items))
        finally:
            self._looking = False
        self._show()

    @work(exclusive=True, group="calls")
    async def action_refresh(self, after_s: float = 0.0) -> None:
        """Load again as many calls as are shown, from the newest on."""
        await asyncio.sleep(after_s)
        wanted = len(self._calls)
        try:
            fresh = await self._next_page(Loaded())
            while fresh.cursor and len(fresh.calls) < wanted:
                fresh = await self._next_page(fresh)
        except WhisperError as problem:
            self._failed(problem)
        else:
            self._loaded(fresh)

    @work(exclusive=True, group="calls")
    async def load_more(self, before: Loaded) -> None:
        try:
            fresh = await self._next_page(before)
        except WhisperError as problem:
            self._failed(problem)
        else:
            self._loaded(fresh)

    async def _next_page(self, before: Loaded) -> Loaded:
        page = await self.session.client.calls(
            q=self._asked, state=",".join(VIEWS[self._view]), cursor=before.cursor
        )
        known = {call.call_id for call in before.calls}
        fresh = tuple(call for call in page.items if call.call_id not in known)
        return Loaded(before.calls + fresh, page.next_cursor)

    def _loaded(self, fresh: Loaded) -> None:
        self._shown, self._problem = fresh, None
        self._show()

    def _failed(self, problem: WhisperError) -> None:
        self.session.lost(problem)
        self._problem = problem
        self._show()
        self.look_here()

    @property
    def _calls(self) -> tuple[CallSummary, ...]:
        return self._shown.calls if self._shown else ()

    def _changed(self, _changes: Changes) -> None:
        self.action_refresh()

    @on(Rows.NearEnd)
    def _near_end(self) -> None:
        if self._shown and self._shown.cursor:
            self.load_more(self._shown)

    # Showing

    def _show(self) -> None:
        calls = self._calls
        # What the server said last stays on the screen; where it has said nothing, this PC speaks.
        own = self._own if self._problem and not calls and not self._asked else ()
        self.session.order = [call.call_id for call in calls if call.state is not CallState.RECEIVED]
        self.session.order += [it.call.summary.call_id for it in own if it.draft]
        rows = self.query_one(Rows)
        rows.border_title = _("Calls on this PC, for the server cannot be asked") if own else _("Calls")
        rows.rows = tuple(self._row(call) for call in calls) + tuple(self._own_row(call) for call in own)
        rows.border_subtitle = Content(self._count(len(calls) + len(own)))
        empty = self.query_one("#empty", Static)
        rows.display, empty.display = bool(rows.rows), not rows.rows
        if not rows.rows:
            empty.update(Content(self._why_empty()))
        self._preview()

    def _row(self, call: CallSummary) -> Row:
        state = words.call_state(call.state, self.session.progress.get(call.call_id))
        return self._cells(call, state, self._remark(call))

    def _own_row(self, own: OwnCall) -> Row:
        return self._cells(own.call.summary, own.word, own.problem or own.call.summary.snippet)

    def _cells(self, call: CallSummary, state: words.Word, remark: str) -> Row:
        return Row(
            call.call_id,
            (
                Content.styled(str(state), state.style),
                Content(words.when(call.started_at, self.session.now())),
                Content(words.clean(call.extension)),
                Content(words.clean(call.remote_party) or "–"),
                Content(words.clock(call.duration_s)),
                Content(words.clean(call.language)),
                Content.styled(words.clean(remark), "$text-muted"),
            ),
        )

    def _remark(self, call: CallSummary) -> str:
        if call.claimed_by and call.claimed_by != self.session.extension:
            return _("with {extension}: {snippet}").format(extension=call.claimed_by, snippet=call.snippet)
        return call.error or call.snippet

    def _count(self, count: int) -> str:
        more = "+" if self._shown and self._shown.cursor else ""
        return ngettext("{count} call", "{count} calls", count).format(count=f"{count}{more}")

    def _why_empty(self) -> str:
        if self._problem:
            return (
                words.problem(self._problem) + "\n" + _("r asks again; what you have written is kept here.")
            )
        if self._shown is None:
            return _("Asking the server…")
        if self._asked:
            return _("No call has these words. esc shows all again.")
        return {
            "review": _(
                "Nothing to review. A call comes here when it is recorded and sent; 3 shows all calls."
            ),
            "approved": _(
                "No approved calls yet. A call comes here when you approve it; 1 shows those to review."
            ),
            "all": _("No calls yet. The first one comes when an agent has recorded and sent it."),
        }[self._view]

    def _preview(self) -> None:
        key = self.query_one(Rows).key
        remarks = {own.call.summary.call_id: own.problem or own.call.summary.snippet for own in self._own}
        remarks |= {call.call_id: self._remark(call) for call in self._calls}
        self.query_one("#preview", Static).update(words.clean(remarks.get(key, "")))

    # Moving

    def action_open(self) -> None:
        if key := self.query_one(Rows).key:
            self.post_message(self.OpenCall(key))

    @on(Rows.Chosen)
    def _chosen(self, event: Rows.Chosen) -> None:
        self.post_message(self.OpenCall(event.key))

    @on(Rows.Highlighted)
    def _highlighted(self) -> None:
        self._preview()

    def action_view(self, name: str) -> None:
        self.query_one(Tabs).active = name

    @on(Tabs.TabActivated)
    def _tab(self, event: Tabs.TabActivated) -> None:
        if event.tab.id and event.tab.id != self._view:
            self._view = event.tab.id
            self._shown = None
            self.action_refresh()

    # Filtering

    @property
    def _asked(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        self.action_refresh(TYPING_S)

    @on(Input.Submitted, "#filter")
    def _to_list(self) -> None:
        self.query_one("#filter").display = bool(self._asked)
        self.query_one(Rows).lines.focus()

    def action_back(self) -> None:
        field = self.query_one("#filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self.query_one(Rows).lines.focus()
        else:
            self.post_message(self.Leave())
