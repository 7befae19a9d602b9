"""The application: screens over one session, and the agent when it runs in this process.

The screens tell by messages where to go; the app holds what outlives them: the connection, the agent, the
theme, the user's keys. Whatever breaks becomes words here, never a traceback over somebody's transcript.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Literal, Protocol

from textual import on, work
from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.filter import LineFilter
from textual.screen import Screen
from textual.worker import Worker, WorkerCancelled, WorkerFailed

from whisperagent import wire
from whisperagent.errors import ConfigError, WhisperError
from whisperagent.i18n import _, deferred
from whisperagent.settings import Loaded
from whisperagent.tui import signs, words
from whisperagent.tui.base import Page
from whisperagent.tui.calls import Calls
from whisperagent.tui.compare import Compare, Compared
from whisperagent.tui.dashboard import Dashboard
from whisperagent.tui.dialogs import Approve, Confirm, Help, Key
from whisperagent.tui.editor import Editor
from whisperagent.tui.observed import Observer
from whisperagent.tui.review import Review
from whisperagent.tui.session import Link, Session
from whisperagent.tui.transcript import Transcript

LATEST = "latest"
"""Instead of a call id: the newest call that waits for review."""
LOOK_S = 1.0
GATHER_S = 0.3
"""Events of the server are gathered so long before the screens hear of them."""
GRACE_S = 1.5
"""A connection may take so long before we say that there is none."""

log = logging.getLogger(__name__)


class Runnable(Protocol):
    """An agent. `run` goes on until cancelled, and then closes what it is recording."""

    async def run(self) -> None: ...


class WaApp(App[None]):
    """The screens of one person. agent: run in this process while they are open.

    open_call: the id of a call to review at once, or `latest`. plain: draw with ASCII alone; None: if the
    terminal needs it. now: the clock, for tests.
    raises ConfigError: a theme or a key binding that does not exist.
    """

    CSS_PATH = "app.tcss"
    TITLE = "WhisperAgent"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [
        Binding(
            "question_mark,f1",
            "help",
            deferred("Help"),
            id="help",
            tooltip=deferred("The keys that act here"),
        ),
        Binding(
            "ctrl+q",
            "leave",
            deferred("Quit"),
            show=False,
            priority=True,
            id="quit_anywhere",
            tooltip=deferred("Close the screens, from anywhere"),
        ),
        Binding(
            "ctrl+p",
            "command_palette",
            deferred("Commands"),
            show=False,
            priority=True,
            id="palette",
            tooltip=deferred("Every action and every theme, by name"),
        ),
    ]

    def __init__(
        self,
        loaded: Loaded,
        agent: Runnable | None = None,
        open_call: str = "",
        start: Literal["dashboard", "calls"] = "dashboard",
        now: Callable[[], datetime] = words.now,
        *,
        plain: bool | None = None,
    ) -> None:
        super().__init__()
        self._ascii = signs.Ascii(enabled=signs.needed() if plain is None else plain)
        self._agent = agent
        self._agent_worker: Worker[None] | None = None
        self._first_call = open_call
        self._start = start
        self._observer = Observer(loaded.paths)
        self._warned: set[str] = set()
        ui = loaded.settings.ui
        if ui.theme:
            _known(ui.theme, self.available_themes, "ui.theme")
            self.theme = ui.theme
        for name in ui.keymap:
            _known(name, binding_ids(), "ui.keymap")
        self.set_keymap(ui.keymap)
        self.session = Session(self, loaded, now)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), *([self._ascii] if self._ascii.enabled else [])]

    # Life

    def on_mount(self) -> None:
        for name in ("SIGTERM", "SIGHUP"):
            self._close_on(name)
        if self._start == "dashboard":
            self.push_screen(Dashboard(self.session))
        if self._start == "calls" or self._first_call:
            self.push_screen(Calls(self.session))
        if self._first_call == LATEST:
            self.open_latest()
        elif self._first_call:
            self.push_screen(Review(self.session, self._first_call))
        self.set_interval(LOOK_S, self.look)
        self.set_interval(GATHER_S, self._gather)
        self.set_timer(GRACE_S, self._give_up_connecting)
        self.look()
        self.follow_server()
        if self._agent is not None:
            self._agent_worker = self.run_agent(self._agent)

    async def on_unmount(self) -> None:
        if self._agent_worker is not None:
            self._agent_worker.cancel()
            # The agent closes its recording now: whoever waits here loses no second of the call.
            with contextlib.suppress(WorkerCancelled, WorkerFailed):
                await self._agent_worker.wait()
        await self.session.client.__aexit__(None, None, None)

    def _close_on(self, name: str) -> None:
        """Leave the terminal as it was when the system ends us; exit code 128 + signal."""
        number = getattr(signal, name, None)
        if number is not None:
            # Windows' event loop has no signal handlers; there the console's own ending is all there is.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(number, self._end_by, number)

    def _end_by(self, number: int) -> None:
        self.exit(return_code=128 + number)

    # Work

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """See what the agent says; in a thread, since a slow disk must not freeze the screen."""
        self.session.pc = await asyncio.to_thread(self._observer.look, self.session.now())
        self.session.pulse.publish(None)

    @work(exclusive=True, group="server")
    async def follow_server(self) -> None:
        try:
            await self.session.follow()
        except WhisperError as problem:
            self.session.link = Link("refused", problem)
            self.session.pulse.publish(None)

    @work(exclusive=True, group="latest")
    async def open_latest(self) -> None:
        """Without an answer or a call the list stays, and says why it is empty."""
        try:
            page = await self.session.client.calls(state=wire.CallState.TRANSCRIBED, limit=1)
        except WhisperError as problem:
            self.session.lost(problem)
            return
        if page.items:
            self.push_screen(Review(self.session, page.items[0].call_id))

    def _gather(self) -> None:
        before = self.session.link
        self.session.check_link()
        self.session.flush()
        if self.session.link is not before:
            self.session.pulse.publish(None)

    def _give_up_connecting(self) -> None:
        if self.session.link.state == "connecting":
            self.session.link = Link("offline")
            self.session.pulse.publish(None)

    @work(exclusive=True, group="agent", exit_on_error=False)
    async def run_agent(self, agent: Runnable) -> None:
        """The agent, beside the screens: its end does not end them, but is said plainly."""
        try:
            await agent.run()
        except Exception as problem:
            log.exception("the agent stopped")
            self._tell_agent_stopped(_first_cause(problem))

    def _tell_agent_stopped(self, problem: BaseException) -> None:
        text = (
            words.problem(problem)
            if isinstance(problem, WhisperError)
            else f"{type(problem).__name__}: {problem}"
        )
        self.notify(
            words.clean(text, lines=True),
            title=_("The agent has stopped: calls are not recorded"),
            severity="error",
            timeout=3600,
            markup=False,
        )

    # Going about

    @on(Page.OpenCall)
    def _open_call(self, event: Page.OpenCall) -> None:
        review = Review(self.session, event.call_id)
        if isinstance(self.screen, Review):
            self.switch_screen(review)
        else:
            self.push_screen(review)

    @on(Page.Leave)
    def _leave_page(self) -> None:
        # Below our own screens lies Textual's empty one.
        if len(self.screen_stack) > 2:
            self.pop_screen()

    def action_calls(self) -> None:
        self._show(Calls)

    def action_overview(self) -> None:
        self._show(Dashboard)

    def _show(self, kind: type[Page]) -> None:
        """Go back to the screen of that kind, or open one."""
        if any(isinstance(screen, kind) for screen in self.screen_stack):
            while not isinstance(self.screen, kind):
                self.pop_screen()
        else:
            self.push_screen(kind(self.session))

    def action_help(self) -> None:
        if isinstance(self.screen, Page):
            self.push_screen(Help(self.screen.help_text(), self._keys(self.screen)))

    def _keys(self, screen: Page) -> list[Key]:
        """The keys that act now, one line an action; what the screen is for comes first."""
        lines: dict[str, Key] = {}
        for active in sorted(screen.active_bindings.values(), key=lambda active: active.node is not screen):
            binding = active.binding
            if binding.id is None:
                continue
            shown = self.get_key_display(binding)
            known = lines.get(binding.action)
            key = f"{known.key} {shown}" if known else shown
            lines[binding.action] = Key(key, binding.description, active.tooltip)
        return list(lines.values())

    async def action_leave(self) -> None:
        """Quit; with a call being recorded here, only when that is meant."""
        if self._agent is None or not self.session.pc.recording:
            self.exit()
            return
        self.push_screen(
            Confirm(
                _("Quit during a call?"),
                _("The recording of this call ends here; what is recorded is kept and sent."),
                _("Quit"),
            ),
            lambda yes: self.exit() if yes else None,
        )

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action that has a key here, and what has none."""
        with_keys = {
            active.binding.action: active
            for active in screen.active_bindings.values()
            if active.binding.id and active.enabled and active.binding.action != "command_palette"
        }
        for action, active in with_keys.items():
            yield SystemCommand(
                active.binding.description,
                active.tooltip,
                lambda action=action, active=active: self.run_action(action, active.node),
            )
        yield SystemCommand(_("Theme"), _("Choose other colours"), self.action_change_theme)
        yield SystemCommand(_("Reconnect"), _("Connect to the server again, now"), self.follow_server)
        yield SystemCommand(
            _("Screenshot"), _("Save a picture of this screen (SVG)"), self.deliver_screenshot
        )

    # What goes wrong

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: object) -> None:
        fresh = {binding.id or binding.action for binding in clashed_bindings} - self._warned
        self._warned |= fresh
        for name in sorted(fresh):
            text = _("Another key of [ui.keymap] in config.toml has taken the key of `{name}`.").format(
                name=name
            )
            self.call_next(self.notify, text, severity="warning", markup=False)

    def _fatal_error(self) -> None:
        """A bug of ours. Textual would print local variables, and those hold what people have said."""
        log.exception("the screens broke")
        if os.environ.get("WA_DEBUG"):
            super()._fatal_error()
            return
        self.bell()
        self.panic(_("wa: error: the screens broke; what you wrote is kept. Show why with `wa --debug`."))


def binding_ids() -> list[str]:
    """Every id that `[ui.keymap]` may name."""
    classes = (WaApp, Dashboard, Calls, Review, Transcript, Compare, Compared, Editor, Approve, Confirm, Help)
    return sorted(
        {
            binding.id
            for kind in classes
            for binding in kind.BINDINGS
            if isinstance(binding, Binding) and binding.id
        }
    )


def _known(name: str, names: Iterable[str], key: str) -> None:
    known = list(names)
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    raise ConfigError(
        _("wrong value for `{key}` in {origin}").format(key=key, origin="config.toml"),
        why=_("there is no `{name}`").format(name=name),
        fix=_("did you mean `{near}`?").format(near=near[0])
        if near
        else _("one of: {names}").format(names=", ".join(known)),
    )


def _first_cause(problem: BaseException) -> BaseException:
    """What a TaskGroup wraps."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem
