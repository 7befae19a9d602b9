"""Is a call up? A pure step from what the softphone shows to what that means.

hosts/ gives the signals, watch.py acts on the events. The proof of a call is the softphone's own audio
streams: capture (3 votes) and render (2); a title (1) may confirm, and names the other party, but is never
a call and never ends one. Which window has the focus does not matter, nor does a bare number in a title.

    idle -> tentative -> call <-> held
                           \\-> ending -> idle, or back to call

Recording begins tentatively at the first capture, so that no word is missing, and goes on while the call
is `ending`, so that a return loses nothing. The weights are those that proved themselves in other recorders.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperagent.settings import Detection

CAPTURE_VOTES = 3
RENDER_VOTES = 2
TITLE_VOTES = 1
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
    or a program tells. remote_party: the other party, from a hook.
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
    remote_party: as the title names it. unheard: this capture was dropped as no call; it must end, or
    another sign join it, before it counts again.
    """

    phase: Phase = Phase.IDLE
    since: float = 0.0
    agreed_since: float | None = None
    quiet_since: float | None = None
    remote_party: str = ""
    unheard: bool = False


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
    """A title names the other party, or another one after a transfer."""

    remote_party: str


def step(state: State, signals: Signals, now: float, rules: Detection) -> tuple[State, list[Event]]:
    """What `signals`, seen at `now`, mean after `state`."""
    if not signals.process:
        signals = Signals()
    named = parties(signals.titles, rules)
    votes = CAPTURE_VOTES * signals.capture + RENDER_VOTES * signals.render + TITLE_VOTES * bool(named)
    # With several windows, keep to the one that named the party first: focus changes their order.
    party = state.remote_party if state.remote_party in named else next(filter(None, named), "")
    match state.phase:
        case Phase.IDLE:
            return _idle(state, signals, votes, party, now)
        case Phase.TENTATIVE:
            return _named(*_tentative(state, signals, votes, now, rules), party, now)
        case _:
            if signals.capture and state.quiet_since is not None and _another(party, state.remote_party):
                # Somebody else, after a silence: not a call resumed but the next one.
                return _suspect(now, votes, party, before=[CallEnded(state.quiet_since)])
            return _named(*_up(state, signals, now, rules), party, now)


def parties(titles: tuple[str, ...], rules: Detection) -> list[str]:
    """Whom the titles of calls name: what follows the pattern, e.g. `+33 6 12 34 56 78`; may be empty."""
    found = []
    for title in titles:
        matches = (re.search(pattern, title, re.IGNORECASE) for pattern in rules.titles)
        if match := next(filter(None, matches), None):
            rest = re.split(r"\s[-–—|]\s", title[match.end() :])[0]
            found.append(rest.strip(" :-–—|\t\r\n")[:PARTY_LIMIT])
    return found


def check(rules: Detection) -> None:
    """raises ConfigError: a pattern that is not a regular expression."""
    for key in ("processes", "titles"):
        for pattern in getattr(rules, key):
            try:
                re.compile(pattern)
            except re.error as problem:
                raise ConfigError(
                    _("wrong value for `detection.{key}`").format(key=key),
                    why=_("{pattern} is not a regular expression: {problem}").format(
                        pattern=pattern, problem=problem
                    ),
                    fix=_("mend that line"),
                ) from None


def _idle(state: State, signals: Signals, votes: int, party: str, now: float) -> tuple[State, list[Event]]:
    if not signals.capture:
        return replace(state, unheard=False), []
    if state.unheard and votes < CALL_VOTES:
        return state, []
    return _suspect(now, votes, party)


def _suspect(
    now: float, votes: int, party: str, before: list[Event] | None = None
) -> tuple[State, list[Event]]:
    agreed_since = now if votes >= CALL_VOTES else None
    events: list[Event] = [*(before or []), CallSuspected(now)]
    return _named(State(Phase.TENTATIVE, now, agreed_since), events, party, now)


def _tentative(
    state: State, signals: Signals, votes: int, now: float, rules: Detection
) -> tuple[State, list[Event]]:
    if not signals.capture:
        return State(), [CallDropped(now)]
    if votes < CALL_VOTES:
        # A capture that nothing joins, such as a microphone test, is not recorded for ever.
        if now - state.since >= rules.hold_limit_s:
            return State(since=now, unheard=True), [CallDropped(now)]
        return replace(state, agreed_since=None), []
    agreed_since = now if state.agreed_since is None else state.agreed_since
    if now - agreed_since >= rules.confirm_s:
        return State(Phase.CALL, now, remote_party=state.remote_party), [CallConfirmed(now)]
    return replace(state, agreed_since=agreed_since), []


def _up(state: State, signals: Signals, now: float, rules: Detection) -> tuple[State, list[Event]]:
    """A call that was confirmed: `call`, `held` or `ending`."""
    if signals.capture:
        back = [CallResumed(now)] if state.phase is not Phase.CALL else []
        since = now if back else state.since
        return replace(state, phase=Phase.CALL, since=since, quiet_since=None), [*back]
    if state.phase is Phase.ENDING:
        # A sound alone, perhaps the next call ringing, does not bring a call back.
        if now - state.since >= rules.resume_s:
            return State(since=now), [CallEnded(now if state.quiet_since is None else state.quiet_since)]
        return state, []
    if signals.render:
        return _held(state, now, rules)
    quiet_since = now if state.quiet_since is None else state.quiet_since
    if not signals.process or now - quiet_since >= rules.end_s:
        return replace(state, phase=Phase.ENDING, since=now, quiet_since=quiet_since), []
    return replace(state, quiet_since=quiet_since), []


def _held(state: State, now: float, rules: Detection) -> tuple[State, list[Event]]:
    if state.phase is Phase.CALL:
        return replace(state, phase=Phase.HELD, since=now, quiet_since=None), [CallHeld(now)]
    if now - state.since >= rules.hold_limit_s:
        return State(since=now), [CallEnded(now)]
    return replace(state, quiet_since=None), []


def _named(state: State, events: list[Event], party: str, now: float) -> tuple[State, list[Event]]:
    if not party or party == state.remote_party or state.phase is Phase.IDLE:
        return state, events
    return replace(state, remote_party=party), [*events, PartyNamed(now, party)]


def _another(party: str, known: str) -> bool:
    return bool(party) and bool(known) and party != known
