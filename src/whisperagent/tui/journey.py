"""Where each call of this PC is on the line: recorded, waiting, sent, transcribed, reviewed, ticketed.

The spool knows the way to the server, the server the rest; here the two become one row a call.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from whisperagent.i18n import _, ngettext
from whisperagent.spool import Item
from whisperagent.tui import words
from whisperagent.wire import CallSummary, SpoolState

WORST_FIRST = (
    SpoolState.RECORDING,
    SpoolState.REJECTED,
    SpoolState.OVERDUE,
    SpoolState.QUEUED,
    SpoolState.DROPPED,
    SpoolState.DONE,
)


@dataclass(frozen=True)
class Journey:
    """note: what it waits for, or what went wrong. on_server: there is something to open."""

    call_id: str
    started_at: datetime
    duration_s: float
    remote_party: str
    state: words.Word
    note: str
    on_server: bool


def journeys(
    items: Iterable[Item], summaries: Mapping[str, CallSummary], progress: Mapping[str, float], now: datetime
) -> list[Journey]:
    """One for each call, newest first.

    summaries: what the server says, by call_id. progress: 0..1 of running transcriptions.
    """
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(item.call_id, []).append(item)
    found = [_here(group, summaries.get(call_id), progress, now) for call_id, group in parts.items()]
    found += [_there(call, progress) for call_id, call in summaries.items() if call_id not in parts]
    return sorted(found, key=lambda journey: journey.started_at, reverse=True)


def _here(
    parts: list[Item], call: CallSummary | None, progress: Mapping[str, float], now: datetime
) -> Journey:
    worst = min(parts, key=lambda item: WORST_FIRST.index(item.state))
    if worst.state is SpoolState.DONE and call is not None:
        return _there(call, progress)
    first = min(parts, key=lambda item: item.part)
    return Journey(
        call_id=first.call_id,
        started_at=first.started_at,
        duration_s=sum(item.duration_s for item in parts),
        remote_party=first.remote_party,
        state=words.spool_state(worst.state),
        note=_waiting(worst, now),
        on_server=worst.state is SpoolState.DONE,
    )


def _there(call: CallSummary, progress: Mapping[str, float]) -> Journey:
    note = _("ticket {number}").format(number=call.ticket_id) if call.ticket_id else call.error
    return Journey(
        call_id=call.call_id,
        started_at=call.started_at,
        duration_s=call.duration_s,
        remote_party=call.remote_party,
        state=words.call_state(call.state, progress.get(call.call_id)),
        note=note or call.snippet,
        on_server=True,
    )


def _waiting(item: Item, now: datetime) -> str:
    if item.state is SpoolState.REJECTED:
        return item.error
    if item.state is SpoolState.DROPPED:
        return item.entry.deleted.why if item.entry.deleted else ""
    if not item.attempts or item.state is SpoolState.DONE:
        return ""
    count = item.attempts
    if item.next_attempt_at is None:
        return ngettext("tried once", "tried {count} times", count).format(count=count)
    return ngettext("tried once, again at {time}", "tried {count} times, again at {time}", count).format(
        count=count, time=words.when(item.next_attempt_at, now)
    )
