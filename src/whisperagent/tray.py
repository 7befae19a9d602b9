"""An icon beside the clock: what the agent does, pause and private, and the screens.

`wa agent tray` runs in a process of its own. It reads `agent.json` as the screens do and gives orders as
`wa agent pause` does, so the agent knows nothing of it. Needs the extra `tray`.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from whisperagent import console, control, status
from whisperagent.control import Action
from whisperagent.errors import HostUnavailable, NotInstalled, WhisperError
from whisperagent.hosts import notify, terminal
from whisperagent.i18n import _
from whisperagent.settings import Loaded, Paths
from whisperagent.wire import AgentStatus

if TYPE_CHECKING:
    from PIL.Image import Image

LOOK_S = 1.0
SIZE = 64
COLORS = {"off": "#8a8a8a", "idle": "#3f8f4f", "recording": "#d0302f", "paused": "#e09a1a"}


@dataclass(frozen=True)
class Seen:
    """What the icon shows. look: one of `COLORS`, and a shape of its own. words: for its tip and menu."""

    look: str
    words: str
    running: bool = False
    paused: bool = False
    in_call: bool = False


def seen(found: AgentStatus | None, now: datetime) -> Seen:
    """`agent.json` as an icon."""
    if found is None or not status.runs(found, now):
        return Seen("off", _("no agent runs: calls are not recorded"))
    in_call = found.call is not None
    if found.paused_until is not None:
        until = f"{found.paused_until.astimezone():%H:%M}"
        return Seen(
            "paused", _("paused until {time}").format(time=until), running=True, paused=True, in_call=in_call
        )
    if found.private:
        return Seen("paused", _("private call: not recorded"), running=True)
    if found.call is not None:
        who = found.call.remote_party or _("unknown caller")
        words = _("records: {who}").format(who=who)
        if "caller" in found.call.alarms:
            words = _("the caller is not heard")
        return Seen("recording", words, running=True, in_call=True)
    return Seen("idle", _("waits for a call"), running=True)


class Tray:
    """The icon's model: what it shows, and what a choice does. tell: shows a title and a text.

    open_screen: starts `wa` with these arguments where a person sees it.
    """

    def __init__(
        self,
        paths: Paths,
        tell: Callable[[str, str], object] = notify.send,
        open_screen: Callable[..., None] | None = None,
    ) -> None:
        self.seen = Seen("off", "")
        self._paths = paths
        self._tell = tell
        self._open = open_screen or terminal.run_wa

    def look(self) -> bool:
        """Read what the agent says now; True when the icon is to change."""
        try:
            found = status.read(self._paths.status)
        except WhisperError:
            found = None
        before, self.seen = self.seen, seen(found, datetime.now(UTC))
        return self.seen != before

    def pause(self) -> None:
        self._order("resume" if self.seen.paused else "pause")

    def private(self) -> None:
        self._order("private")

    def review(self) -> None:
        self._open("review")

    def dashboard(self) -> None:
        self._open()

    def _order(self, action: Action) -> None:
        try:
            control.give(self._paths, action)
        except WhisperError as problem:
            self._tell(problem.what, problem.fix)
        self.look()


def run(loaded: Loaded) -> None:
    """Show the icon until it is closed.

    raises NotInstalled: the extra is not there. HostUnavailable: this session has no desktop.
    """
    try:
        import pystray  # only who has the icon needs these; without a desktop the import itself fails
    except ImportError as missing:
        raise NotInstalled(
            _("the icon needs more than the agent: {module} is not installed").format(
                module=missing.name or "pystray"
            ),
            fix='pip install "whisperagent[tray]"',
        ) from None
    except Exception as problem:
        # What the desktop's own libraries raise when there is none; pystray does not wrap it.
        raise HostUnavailable(
            _("the icon cannot be shown"),
            why=str(problem) or type(problem).__name__,
            fix=_("run it in a desktop session; `wa agent status` tells the same"),
        ) from None
    quiet = logging.getLogger("pystray")
    quiet.propagate = False
    quiet.addHandler(_NoPlace())
    tray = Tray(loaded.paths)
    tray.look()
    icon = pystray.Icon("whisperagent", picture(tray.seen.look), "WhisperAgent", menu(pystray, tray))
    closed = threading.Event()

    def follow(shown: Any) -> None:
        shown.visible = True
        while not closed.wait(LOOK_S):
            if tray.look():
                show(shown, tray.seen)

    show(icon, tray.seen)
    try:
        icon.run(follow)
    finally:
        closed.set()


class _NoPlace(logging.Handler):
    """pystray logs a traceback for every try to show an icon where the desktop has no place for one."""

    told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.told and record.levelno >= logging.ERROR:
            self.told = True
            console.say(_("this desktop does not show the icon: {why}").format(why=record.getMessage()))


def show(icon: Any, now: Seen) -> None:
    icon.icon = picture(now.look)
    icon.title = f"WhisperAgent: {now.words}"[:127]  # Windows takes no more
    icon.update_menu()


def menu(pystray: Any, tray: Tray) -> Any:
    """The icon's menu; its texts follow `tray.seen`."""
    item = pystray.MenuItem
    return pystray.Menu(
        item(lambda _item: tray.seen.words, None, enabled=False),
        pystray.Menu.SEPARATOR,
        item(
            lambda _item: _("Record again") if tray.seen.paused else _("Pause (card numbers)"),
            lambda _icon, _item: tray.pause(),
            enabled=lambda _item: tray.seen.running,
        ),
        # Behind a menu of its own: one click too many must not destroy a recording.
        item(
            _("This call is private"),
            pystray.Menu(item(_("Destroy its recording"), lambda _icon, _item: tray.private())),
            enabled=lambda _item: tray.seen.in_call,
        ),
        pystray.Menu.SEPARATOR,
        item(_("Review calls"), lambda _icon, _item: tray.review(), default=True),
        item(_("Overview"), lambda _icon, _item: tray.dashboard()),
        item(_("Close this icon"), lambda icon, _item: icon.stop()),
    )


def picture(look: str) -> "Image":
    """A ring while it waits, a disc while it records, two bars while it is paused, a struck ring when off."""
    from PIL import Image, ImageDraw  # comes with the extra

    image = Image.new("RGBA", (SIZE, SIZE))
    draw = ImageDraw.Draw(image)
    color, edge = COLORS[look], SIZE // 8
    if look == "recording":
        draw.ellipse((edge, edge, SIZE - edge, SIZE - edge), fill=color)
    elif look == "paused":
        draw.rectangle((edge * 2, edge, edge * 3, SIZE - edge), fill=color)
        draw.rectangle((edge * 5, edge, edge * 6, SIZE - edge), fill=color)
    else:
        draw.ellipse((edge, edge, SIZE - edge, SIZE - edge), outline=color, width=edge)
    if look == "off":
        draw.line((edge, SIZE - edge, SIZE - edge, edge), fill=color, width=edge)
    return image
