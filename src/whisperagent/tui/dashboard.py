"""What happens on this PC now: the call that is recorded, what waits, and where the last calls are."""

import asyncio
from dataclasses import replace

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.widgets import Static

from whisperagent import control
from whisperagent.control import Action
from whisperagent.errors import WhisperError
from whisperagent.i18n import _, deferred
from whisperagent.tui import words
from whisperagent.tui.base import QUIT, Page
from whisperagent.tui.dialogs import Confirm, Note
from whisperagent.tui.journey import Journey, journeys
from whisperagent.tui.meters import CurrentCallPanel
from whisperagent.tui.rows import STATE_WIDTH, Column, Row, Rows
from whisperagent.tui.session import Changes, Session
from whisperagent.wire import CallSummary, SpoolState

ASKED = 50
"""How many calls of the server are matched with the spool's."""


class Dashboard(Page):
    """Live call statistics. Data comes from the agent's files each second, and from the server's events."""

    BINDINGS = [
        Binding("c", "app.calls", deferred("Calls"), id="calls", tooltip=deferred("Calls to review")),
        Binding(
            "enter", "open", deferred("Open"), id="open", tooltip=deferred("Review the call under the cursor")
        ),
        Binding(
            "r", "refresh", deferred("Refresh"), id="refresh", tooltip=deferred("Ask the server again, now")
        ),
        Binding(
            "p",
            "pause",
            deferred("Pause"),
            id="pause",
            tooltip=deferred("Record silence while a card number is said; again: record"),
        ),
        Binding("n", "note", deferred("Note"), id="note", tooltip=deferred("Note this moment of the call")),
        Binding(
            "x",
            "private",
            deferred("Private"),
            id="private",
            tooltip=deferred("Do not record this call, and destroy what there is of it"),
        ),
        QUIT,
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._summaries: dict[str, CallSummary] = {}

    def body(self) -> ComposeResult:
        yield CurrentCallPanel()
        yield Static(markup=False, id="spool")
        yield Static(markup=False, id="server")
        yield Rows(
            (
                Column(_("State"), STATE_WIDTH),
                Column(_("Time"), 11),
                Column(_("Length"), 7, wide_only=True),
                Column(_("Other party"), 20),
                Column(""),
            ),
            id="recent",
        )
        yield Static(markup=False, id="empty")
        yield Static(markup=False, id="preview")

    def help_text(self) -> str:
        return _(
            "What the agent does on this PC, what still waits for the server, and where each call is on its "
            "way to a ticket. Nothing that waits is lost when the server is away or this PC is switched off."
        )

    def on_mount(self) -> None:
        self.query_one("#spool").border_title = _("On this PC")
        self.query_one("#server").border_title = _("Server")
        self.query_one("#recent").border_title = _("Last calls of this PC")
        self.session.changes.subscribe(self, self._changed)
        self.query_one(Rows).lines.focus()
        self.action_refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Orders are offered only where there is somebody to obey them."""
        if action == "pause":
            return self.session.pc.alive
        if action in ("note", "private"):
            return self.session.pc.recording
        return True

    def pulse(self) -> None:
        super().pulse()
        self.refresh_bindings()
        pc = self.session.pc
        self.query_one(CurrentCallPanel).pc = pc
        spool = self.query_one("#spool", Static)
        spool.update(self._spool())
        today = pc.status.calls_today if pc.status else 0
        spool.border_subtitle = Content(_("Calls today: {count}").format(count=today))
        self.query_one("#server", Static).update(self._server())
        self._show_recent()

    @work(exclusive=True, group="dashboard")
    async def action_refresh(self) -> None:
        """Ask the server for the last calls of this extension."""
        try:
            page = await self.session.client.calls(limit=ASKED)
        except WhisperError as problem:
            self.session.lost(problem)
            return
        ours = [call for call in page.items if call.extension == self.session.extension]
        self._summaries = {call.call_id: call for call in ours}
        self._show_recent()

    def action_open(self) -> None:
        self._open(self.query_one(Rows).key)

    @on(Rows.Chosen)
    def _chosen(self, event: Rows.Chosen) -> None:
        self._open(event.key)

    @on(Rows.Highlighted)
    def _preview(self) -> None:
        """What the row under the cursor has no room for."""
        found = self._under_cursor()
        self.query_one("#preview", Static).update(words.clean(found.note) if found else "")

    def action_pause(self) -> None:
        status = self.session.pc.status
        if status is not None and status.paused_until is not None:
            self._order("resume", _("Recorded again."))
        else:
            self._order("pause", _("Paused: until p, the end of the call, or 5 minutes."))

    def action_note(self) -> None:
        def leave(text: str | None) -> None:
            if text:
                self._order("note", _("Noted."), text=text)

        self.app.push_screen(Note(), leave)

    def action_private(self) -> None:
        def destroy(yes: bool | None) -> None:
            if yes:
                self._order("private", _("This call is not recorded."))

        self.app.push_screen(
            Confirm(
                _("Is this call private?"),
                _("Its recording is destroyed now, and no more of it is recorded. Nothing brings it back."),
                _("Destroy it"),
            ),
            destroy,
        )

    @work(group="orders")
    async def _order(self, action: Action, done: str, **details: str) -> None:
        """Have the agent do it, in whichever process it runs; waiting for it must not stop the screen."""
        try:
            await asyncio.to_thread(control.give, self.session.paths, action, **details)
        except WhisperError as problem:
            self.notify(words.clean(words.problem(problem)), severity="error", markup=False)
        else:
            self.notify(done, markup=False)

    def _under_cursor(self) -> Journey | None:
        key = self.query_one(Rows).key
        return next((journey for journey in self._journeys() if journey.call_id == key), None)

    def _open(self, call_id: str) -> None:
        found = {journey.call_id: journey for journey in self._journeys()}.get(call_id)
        if found is None:
            return
        if found.on_server or self.session.own.has_draft(call_id):
            self.post_message(self.OpenCall(call_id))
        else:
            self.notify(_("It can be read when the server has it and has transcribed it."), markup=False)

    def _changed(self, _changes: Changes) -> None:
        self.action_refresh()

    def _journeys(self) -> list[Journey]:
        session = self.session
        found = journeys(session.pc.items, self._summaries, session.progress, session.now())
        return [self._with_draft(journey) for journey in found]

    def _with_draft(self, journey: Journey) -> Journey:
        """What the server does not have may be read here."""
        if journey.on_server or not self.session.own.has_draft(journey.call_id):
            return journey
        return replace(journey, note=" · ".join(filter(None, [_("drafted here"), journey.note])))

    def _show_recent(self) -> None:
        found = self._journeys()
        now = self.session.now()
        self.query_one(Rows).rows = tuple(
            _row(journey, words.when(journey.started_at, now)) for journey in found
        )
        self.query_one(Rows).display = bool(found)
        self._preview()
        empty = self.query_one("#empty", Static)
        empty.display = not found
        empty.update(_("No calls yet. The first one shows here as soon as the softphone is in a call."))

    def _spool(self) -> Content:
        pc = self.session.pc
        if pc.problem:
            return Content.styled(
                _("The queue cannot be read: {why}").format(why=words.clean(pc.problem)), "$text-error"
            )
        parts: list[Content] = []
        for state in SpoolState:
            count, word = pc.counts.get(state, 0), words.spool_state(state)
            if state is SpoolState.DROPPED and not count:
                continue
            parts.append(
                Content.styled(f"{word.glyph} {count} {word.text}", word.style if count else "$text-muted")
            )
        return Content("   ").join(parts)

    def _server(self) -> Content:
        link, status = self.session.link, self.session.pc.status
        if link.error is not None:
            return Content.styled(words.problem(link.error), "$text-warning")
        lines = [
            {
                "connecting": _("Asking the server…"),
                "connected": _("Connected: changes show at once."),
                "offline": _("No answer. Recordings wait here; r asks again."),
                "refused": _("The server refuses us."),
                "none": _("No server is named: calls stay on this PC."),
            }[link.state]
        ]
        if status and status.server_seen_at and link.state != "none":
            lines.append(
                _("The agent reached it at {time}").format(
                    time=words.when(status.server_seen_at, self.session.now())
                )
            )
        if status and status.error:
            return Content("\n").join(
                [*map(Content, lines), Content.styled(words.clean(status.error), "$text-error")]
            )
        return Content("\n".join(lines))


def _row(journey: Journey, time: str) -> Row:
    return Row(
        journey.call_id,
        (
            Content.styled(str(journey.state), journey.state.style),
            Content(time),
            Content(words.clock(journey.duration_s)),
            Content(words.clean(journey.remote_party) or "–"),
            Content.styled(words.clean(journey.note), "$text-muted"),
        ),
    )
