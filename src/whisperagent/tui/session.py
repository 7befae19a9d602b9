"""What all screens share: one client, one review channel, what lies on this PC, the clock.

`follow` listens to the channel and gathers its events until `flush`, so that a burst (a replay after a
night, a long transcription) becomes one `Changes`. Events are hints: who gets one asks the server again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from textual.dom import DOMNode
from textual.signal import Signal

from whisperagent import wire
from whisperagent.client import Client
from whisperagent.errors import WhisperError
from whisperagent.settings import Loaded, token
from whisperagent.tui.drafts import Drafts
from whisperagent.tui.observed import Pc
from whisperagent.tui.own_calls import OwnCalls


@dataclass(frozen=True)
class Link:
    """The connection to the server; `none` where none is named. error: why there is none, when known."""

    state: Literal["connecting", "connected", "offline", "refused", "none"] = "connecting"
    error: WhisperError | None = None


@dataclass(frozen=True)
class Changes:
    """calls: ids of calls that are not what they were. all: anything may have changed."""

    calls: frozenset[str] = frozenset()
    all: bool = False

    def touch(self, call_id: str) -> bool:
        return self.all or call_id in self.calls


class Session:
    """What a screen knows, and whom it asks.

    pulse: published once a second, when `pc` or `link` may be new. changes: published when the server says
    so. order: ids of the list seen last, for previous and next. progress: 0..1 of transcriptions, by call id.
    """

    def __init__(self, owner: DOMNode, loaded: Loaded, now: Callable[[], datetime]) -> None:
        settings = loaded.settings
        self.extension = settings.agent.extension
        self.url = settings.server.url
        self.paths = loaded.paths
        self.client = Client(self.url, self.extension, token(), settings.server.timeout_s)
        self.channel = self.client.channel()
        self.drafts = Drafts(loaded.paths.home / "drafts")
        self.own = OwnCalls(loaded.paths)
        self.now = now
        self.pulse: Signal[None] = Signal(owner, "pulse")
        self.changes: Signal[Changes] = Signal(owner, "changes")
        self.link = Link() if self.url else Link("none")
        self.pc = Pc()
        self.order: Sequence[str] = ()
        self.progress: dict[str, float] = {}
        self._changed: set[str] = set()
        self._progressed = False

    async def follow(self) -> None:
        """Gather the channel's events, for ever; without a server there are none.

        raises WhisperError: the server refuses us.
        """
        if not self.url:
            return
        async for event in self.channel.events():
            if event.kind == "call.progress":
                self._note_progress(event)
            else:
                self.progress.pop(event.call_id, None)
                self._changed.add(event.call_id)

    def check_link(self) -> None:
        """Notice that the channel came up or went down; its coming up may have changed anything."""
        connected = self.channel.connected
        if connected and self.link.state != "connected":
            self.link = Link("connected")
            self.changes.publish(Changes(all=True))
        elif not connected and self.link.state == "connected":
            self.link = Link("offline")

    def lost(self, error: WhisperError) -> None:
        """A request failed: that is known before the channel notices."""
        if self.url and not self.channel.connected:
            self.link = Link("offline", error)

    def flush(self) -> None:
        """Tell the screens what has changed since the last time."""
        if self._changed:
            changes = Changes(frozenset(self._changed))
            self._changed.clear()
            self.changes.publish(changes)
        if self._progressed:
            self._progressed = False
            self.pulse.publish(None)

    def _note_progress(self, event: wire.Event) -> None:
        value = event.data.get("progress")
        if isinstance(value, int | float):
            self.progress[event.call_id] = min(1.0, max(0.0, float(value)))
            self._progressed = True
