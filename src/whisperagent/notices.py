"""What is said on the desktop: a transcript that is ready, and what needs the person there.

agent.py gives every event; few become a notice, and several of a kind within a second become one: after a
night without the server there may be many.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from whisperagent.i18n import _, ngettext

GATHER_S = 1.0


class Notice(NamedTuple):
    title: str
    body: str


class Notices:
    """send: shows a title and a text on the desktop, and gives whether it could; may block, never raises."""

    def __init__(self, send: Callable[[str, str], bool]) -> None:
        self._send = send
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue()

    def add(self, notice: Notice | None) -> None:
        if notice is not None:
            self._waiting.put_nowait(notice)

    async def show(self, notice: Notice) -> bool:
        """Show it now; False: it could not be shown."""
        return await asyncio.to_thread(self._send, notice.title, notice.body)

    async def run(self) -> None:
        """Show what was added, until cancelled."""
        while True:
            gathered = [await self._waiting.get()]
            await asyncio.sleep(GATHER_S)
            while not self._waiting.empty():
                gathered.append(self._waiting.get_nowait())
            for notice in _together(gathered):
                await self.show(notice)


def notice_of(event: str, party: Callable[[], str], details: Mapping[str, Any]) -> Notice | None:
    """What to say of an event of the agent (agent.Moment); None: nothing. party: tells who the caller is."""
    reason = str(details.get("reason", ""))
    match event:
        case "transcribed":
            return Notice(
                _("A transcript is ready"), _("{who}: `wa review` opens it").format(who=_who(party))
            )
        case "drafted":
            return Notice(_("A draft is ready"), _("{who}: `wa review` opens it").format(who=_who(party)))
        case "silent":
            what = (
                _("The caller is not heard")
                if details.get("side") == "caller"
                else _("Your microphone is not heard")
            )
            silent_s = details.get("seconds", 0)
            return Notice(what, _("silent for {seconds} s of this call").format(seconds=silent_s))
        case "unrecorded":
            return Notice(_("This call is NOT recorded"), reason)
        case "refused":
            return Notice(
                _("The server refused a recording"), _("{who}: `wa queue list`").format(who=_who(party))
            )
        case "late":
            days = int(details.get("days", 0))
            since = ngettext("for {count} day", "for {count} days", days).format(count=days)
            return Notice(
                _("A recording still waits for the server"),
                _("{who}, {since}: `wa queue list`").format(who=_who(party), since=since),
            )
        case "expired":
            return Notice(_("A recording was deleted unsent"), _("`wa queue list` shows which"))
        case "cramped":
            return Notice(_("The disk of this PC is too full"), reason)
        case "overdue":
            return Notice(
                _("A recording waits for very long"), _("{who}: `wa queue list`").format(who=_who(party))
            )
        case "failed":
            return Notice(_("A call could not be transcribed"), _who(party))
        case "trouble":
            return Notice(_("Calls may not be recorded well"), reason)
        case "stuck":
            return Notice(_("Recordings cannot be sent"), reason)
    return None


def notice_of_deletion(count: int) -> Notice:
    """What to say a day before so many recordings are deleted unsent."""
    return Notice(
        _("Recordings that were never sent will be deleted tomorrow"),
        ngettext(
            "{count} recording: `wa queue list`, `wa queue retry`",
            "{count} recordings: `wa queue list`, `wa queue retry`",
            count,
        ).format(count=count),
    )


def _who(party: Callable[[], str]) -> str:
    return party() or _("unknown caller")


def _together(gathered: list[Notice]) -> list[Notice]:
    """One notice a title, in their order."""
    counts = Counter(notice.title for notice in gathered)
    shown: dict[str, Notice] = {}
    for notice in gathered:
        count = counts[notice.title]
        many = ngettext("{count} call", "{count} calls", count).format(count=count)
        shown.setdefault(notice.title, notice if count == 1 else notice._replace(body=many))
    return list(shown.values())
