"""Is a call up? A pure step from what the softphone shows to what that means.

hosts/ gives the signals, watch.py acts on the events. The proof of a call is the softphone's own audio
streams: capture (3 votes) and render (2). A title, or the system's word that the microphone is in use, adds
one, a line of its log two, and the telephone system itself five; it alone may also say no. Which window has
the focus does not matter, nor does a bare number in a title.

    idle -> tentative -> call <-> held
                           \\-> ending -> idle, or back to call

Recording begins tentatively at the first capture, so that no word is missing, and goes on while the call
is `ending`, so that a return loses nothing. The weights are those that proved themselves in other recorders.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperagent.settings import Account, Detection

CAPTURE_VOTES = 3
RENDER_VOTES = 2
TITLE_VOTES = 1
MICROPHONE_VOTES = 1
HOOK_VOTES = 5
LOG_VOTES = 2
CALL_VOTES = 4
PARTY_LIMIT = 200


@dataclass(frozen=True)
class Signals:
    """What is seen of the softphone at one moment.

    process: it runs. capture, render: it has an active stream of that kind. titles: of all its windows.
    streams: the system can tell capture and render; False where it cannot. microphone: the system says that
    the softphone uses the microphone. browser: it is a browser, perhaps with the web client in it.
    hook: what the telephone system itself says of this extension; hook_call: its name for the call that is
    connected. log: what the softphone's log said last. account: which of several accounts, as far as a hook
    or a program tells. remote_party, direction: from a hook. silent_s: how long both sides have delivered
    nothing but zeros.
    """

    process: bool = False
    capture: bool = False
    render: bool = False
    titles: tuple[str, ...] = ()
    streams: bool = True
    microphone: bool = False
    browser: bool = False
    hook: Literal["", "ringing", "connected", "ended"] = ""
    hook_call: str = ""
    log: Literal["", "connected", "ended"] = ""
    account: str = ""
    remote_party: str = ""
    direction: Literal["unknown", "inbound", "outbound"] = "unknown"
    silent_s: float = 0.0

    @property
    def ringing(self) -> bool:
        """It rings, or makes another sound, and nobody has answered; what a browser plays may be anything."""
        plays = self.render and not self.browser
        return self.process and not self.capture and (plays or self.hook == "ringing")


class Phase(StrEnum):
    IDLE = "idle"
    TENTATIVE = "tentative"
    CALL = "call"
    HELD = "held"
    ENDING = "ending"


@dataclass(frozen=True)
class State:
    """Where detection stands; times are the host's clock.

    since: this phase began. agreed_since: enough votes since then. quiet_since: no stream since then.
    rings_since: after the end, something plays since then. remote_party: as the hook or the title names it.
    hook_call: this call, as the telephone system names it. browser: it began in one. unheard: votes that
    what is captured now had when it was found to be no call; it must end, or gain more, to count again.
    """

    phase: Phase = Phase.IDLE
    since: float = 0.0
    agreed_since: float | None = None
    quiet_since: float | None = None
    rings_since: float | None = None
    remote_party: str = ""
    hook_call: str = ""
    browser: bool = False
    unheard: int = 0


@dataclass(frozen=True)
class Event:
    """at: the host's clock."""

    at: float


class CallSuspected(Event):
    """Record, tentatively."""


class CallConfirmed(Event):
    """It is a call, since it was suspected."""


class CallDropped(Event):
    """It was none: what was recorded is deleted unheard."""


class CallHeld(Event):
    """The softphone let go of the microphone, and still plays."""


class CallResumed(Event):
    """It is the same call again, after a hold or a short end."""


class CallEnded(Event):
    """at: when the last stream was seen."""


@dataclass(frozen=True)
class PartyNamed(Event):
    """The other party, or another one after a transfer."""

    remote_party: str


@dataclass(frozen=True)
class _Seen:
    """What the signals amount to.

    talks: the softphone has the microphone. plays: it makes a sound. votes: for a call.
    """

    process: bool
    browser: bool
    talks: bool
    plays: bool
    votes: int
    party: str
    hook: str
    hook_call: str
    silent_s: float


def step(state: State, signals: Signals, now: float, rules: Detection) -> tuple[State, list[Event]]:
    """What `signals`, seen at `now`, mean after `state`."""
    seen = _seen(state, signals, rules)
    match state.phase:
        case Phase.IDLE:
            return _idle(state, seen, now)
        case Phase.TENTATIVE:
            return _known(*_tentative(state, seen, now, rules), seen, now)
        case _:
            if seen.talks and _next_call(state, seen, now, rules):
                ended = now if state.quiet_since is None else state.quiet_since
                return _suspect(now, seen, before=[CallEnded(ended)])
            return _known(*_up(state, seen, now, rules), seen, now)


def parties(titles: Sequence[str], rules: Detection) -> list[str]:
    """Whom the titles of calls name: what follows the pattern, e.g. `+33 6 12 34 56 78`; may be empty."""
    found = []
    for title in titles:
        if match := _first_match(rules.titles, title):
            rest = re.split(r"\s[-–—|]\s", title[match.end() :])[0]
            found.append(rest.strip(" :-–—|\t\r\n")[:PARTY_LIMIT])
    return found


def account(signals: Signals, rules: Detection, accounts: Sequence[Account]) -> str:
    """Which account a call belongs to, e.g. `305 Contoso`; empty: none of these.

    What the telephone system says comes first, then the title of the call, then the one account that any
    title shows: with windows of several accounts open, a title tells nothing.
    """
    for one in accounts:
        if signals.account and signals.account in (one.extension, one.name):
            return str(one)
    of_calls = [title for title in signals.titles if _first_match(rules.titles, title)]
    if shown := _shown(of_calls, accounts):
        return str(shown[0])
    shown = _shown(signals.titles, accounts)
    return str(shown[0]) if len(shown) == 1 else ""


def check(rules: Detection, accounts: Sequence[Account] = ()) -> None:
    """raises ConfigError: a pattern that is not a regular expression."""
    patterns = {
        "detection.processes": rules.processes,
        "detection.titles": rules.titles,
        "detection.browsers": rules.browsers,
        "detection.log_connected": [rules.log_connected],
        "detection.log_ended": [rules.log_ended],
        "accounts.patterns": [pattern for one in accounts for pattern in one.patterns],
    }
    for key, written in patterns.items():
        for pattern in written:
            try:
                re.compile(pattern)
            except re.error as problem:
                raise ConfigError(
                    _("wrong value for `{key}`").format(key=key),
                    why=_("{pattern} is not a regular expression: {problem}").format(
                        pattern=pattern, problem=problem
                    ),
                    fix=_("mend that line"),
                ) from None


def _seen(state: State, signals: Signals, rules: Detection) -> _Seen:
    if not signals.process:
        signals = Signals()
    connected = signals.hook == "connected"
    talks = signals.capture
    # A log that says the call is over is right about a sound that lingers.
    plays = signals.render and signals.log != "ended"
    if signals.browser:
        # A capture that began with the web client in sight is a call, whatever tab is looked at later; any
        # other may be a meeting, also one beside a softphone's call, and what it merely plays is anything.
        going_on = state.browser and state.quiet_since is None
        may_begin = (state.browser or state.phase is Phase.IDLE) and _shows(rules.pbx, signals.titles)
        talks = talks and (going_on or may_begin)
        plays = plays and talks
    named = parties(signals.titles, rules)
    votes = RENDER_VOTES * plays + TITLE_VOTES * bool(named) + HOOK_VOTES * connected
    votes += LOG_VOTES * (signals.log == "connected")
    if talks:
        votes += CAPTURE_VOTES
    elif signals.microphone and not signals.browser:
        # That the microphone is in use is the same sign as capture, seen less well: it is not counted twice.
        votes += MICROPHONE_VOTES if signals.streams else CAPTURE_VOTES
        talks = not signals.streams or votes >= CALL_VOTES
    # Where nothing on this PC can tell, the telephone system's word is enough.
    talks = talks or (connected and not signals.streams and not signals.browser)
    if connected and signals.remote_party:
        named = [signals.remote_party[:PARTY_LIMIT]]
    # With several windows, keep to the one that named the party first: focus changes their order.
    party = state.remote_party if state.remote_party in named else next(filter(None, named), "")
    hook_call = signals.hook_call if connected else ""
    return _Seen(
        process=signals.process,
        browser=signals.browser,
        talks=talks,
        plays=plays,
        votes=votes,
        party=party,
        hook=signals.hook,
        hook_call=hook_call,
        silent_s=signals.silent_s,
    )


def _idle(state: State, seen: _Seen, now: float) -> tuple[State, list[Event]]:
    if not seen.talks:
        return replace(state, unheard=0), []
    if seen.hook == "ended" or (state.unheard and seen.votes <= state.unheard):
        return state, []
    return _suspect(now, seen)


def _suspect(now: float, seen: _Seen, before: Sequence[Event] = ()) -> tuple[State, list[Event]]:
    agreed_since = now if _agreed(seen) else None
    events = [*before, CallSuspected(now)]
    return _known(State(Phase.TENTATIVE, now, agreed_since, browser=seen.browser), events, seen, now)


def _agreed(seen: _Seen) -> bool:
    """Enough votes; but an outgoing call has its streams while it still rings, as a hook can tell."""
    return seen.votes >= CALL_VOTES and seen.hook != "ringing"


def _tentative(state: State, seen: _Seen, now: float, rules: Detection) -> tuple[State, list[Event]]:
    if not seen.talks:
        return State(), [CallDropped(now)]
    if seen.hook == "ended":
        return State(since=now, unheard=seen.votes), [CallDropped(now)]
    if not _agreed(seen):
        # A capture that nothing joins, such as a microphone test, is not recorded for ever.
        if now - state.since >= rules.hold_limit_s:
            return State(since=now, unheard=seen.votes), [CallDropped(now)]
        return replace(state, agreed_since=None), []
    agreed_since = now if state.agreed_since is None else state.agreed_since
    if now - agreed_since >= rules.confirm_s:
        return replace(state, phase=Phase.CALL, since=now, agreed_since=None), [CallConfirmed(now)]
    return replace(state, agreed_since=agreed_since), []


def _up(state: State, seen: _Seen, now: float, rules: Detection) -> tuple[State, list[Event]]:
    """A call that was confirmed: `call`, `held` or `ending`."""
    ended_at = now if state.quiet_since is None else state.quiet_since
    forgotten = seen.silent_s >= rules.silence_limit_s and seen.hook != "connected"
    if seen.hook == "ended" or forgotten:
        return State(since=now, unheard=seen.votes if seen.talks else 0), [CallEnded(ended_at)]
    if seen.talks:
        back = [CallResumed(now)] if state.phase is not Phase.CALL else []
        since = now if back else state.since
        return replace(state, phase=Phase.CALL, since=since, quiet_since=None, rings_since=None), [*back]
    if state.phase is Phase.ENDING:
        if now - state.since >= rules.resume_s:
            return State(since=now), [CallEnded(ended_at)]
        return replace(state, rings_since=_rings_since(state, seen, now, rules)), []
    if seen.plays or seen.hook == "connected":
        return _held(state, now, rules)
    quiet_since = now if state.quiet_since is None else state.quiet_since
    if not seen.process or now - quiet_since >= rules.end_s:
        return replace(state, phase=Phase.ENDING, since=now, quiet_since=quiet_since), []
    return replace(state, quiet_since=quiet_since), []


def _held(state: State, now: float, rules: Detection) -> tuple[State, list[Event]]:
    if state.phase is Phase.CALL:
        return replace(state, phase=Phase.HELD, since=now, quiet_since=None), [CallHeld(now)]
    if now - state.since >= rules.hold_limit_s:
        return State(since=now), [CallEnded(now)]
    return replace(state, quiet_since=None), []


def _rings_since(state: State, seen: _Seen, now: float, rules: Detection) -> float | None:
    """After the end, a sound that lasts is the next call ringing; a beep is forgotten."""
    if seen.plays or seen.hook == "ringing":
        return now if state.rings_since is None else state.rings_since
    beep = state.rings_since is not None and now - state.rings_since <= rules.confirm_s
    return None if beep else state.rings_since


def _next_call(state: State, seen: _Seen, now: float, rules: Detection) -> bool:
    """Is what is captured now another call than the one that `state` knows?"""
    if state.hook_call and seen.hook_call:
        return state.hook_call != seen.hook_call
    if state.quiet_since is None:
        return False
    rang = state.rings_since is not None and now - state.rings_since >= rules.confirm_s
    return rang or (bool(seen.party and state.remote_party) and seen.party != state.remote_party)


def _known(state: State, events: list[Event], seen: _Seen, now: float) -> tuple[State, list[Event]]:
    """Add whom the call is with, and what the telephone system calls it; a title that comes while nobody
    talks may be the next call's."""
    if state.phase is Phase.IDLE or not seen.talks:
        return state, events
    state = replace(state, hook_call=state.hook_call or seen.hook_call)
    if not seen.party or seen.party == state.remote_party:
        return state, events
    return replace(state, remote_party=seen.party), [*events, PartyNamed(now, seen.party)]


def _first_match(patterns: Sequence[str], text: str) -> re.Match[str] | None:
    matches = (re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
    return next(filter(None, matches), None)


def _shown(titles: Sequence[str], accounts: Sequence[Account]) -> list[Account]:
    return [one for one in accounts if any(_first_match(one.patterns, title) for title in titles)]


def _shows(pbx: str, titles: Sequence[str]) -> bool:
    return bool(pbx) and any(pbx.casefold() in title.casefold() for title in titles)
