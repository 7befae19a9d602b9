"""Is a call up? The table of what is seen and what it means."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.agent.fakes import MIC_ONLY, OFF, READY, RINGING, TALKING, Script
from whisperagent import detect
from whisperagent.detect import (
    CallConfirmed,
    CallDropped,
    CallEnded,
    CallHeld,
    CallResumed,
    CallSuspected,
    Event,
    PartyNamed,
    Phase,
    Signals,
    State,
)
from whisperagent.errors import ConfigError
from whisperagent.settings import Account, Detection

RULES = Detection(pbx="pbx.example.com")
NOTEPAD = Signals(process=True, titles=("Notes - 201", "201"))
TITLE_ONLY = Signals(process=True, titles=TALKING.titles)
UNNAMED = Signals(process=True, capture=True, render=True)
HELD = Signals(process=True, render=True, titles=TALKING.titles)
OTHER = Signals(process=True, capture=True, render=True, titles=("Appel avec Jean Martin",))
CONSENT = Signals(process=True, streams=False, microphone=True)
CONSENT_TITLE = Signals(process=True, streams=False, microphone=True, titles=TALKING.titles)
BLIND = Signals(process=True, streams=False)
WEB_TITLE = ("3CX Web Client - pbx.example.com - Browser",)
WEB_CALL = Signals(process=True, browser=True, capture=True, render=True, titles=WEB_TITLE)
MEETING = Signals(process=True, browser=True, capture=True, render=True, titles=("Weekly meeting",))
WEB_READY = Signals(process=True, browser=True, titles=WEB_TITLE)


def hooked(signals: Signals, hook: Any, call: str = "", party: str = "") -> Signals:
    return replace(signals, hook=hook, hook_call=call, remote_party=party)


A, B = (hooked(UNNAMED, "connected", call) for call in ("7", "8"))


def follow(script: Script, rules: Detection = RULES) -> tuple[State, list[tuple[float, str]]]:
    """Look every half second; gives the last state and (time, name) of every event."""
    state, seen, now = State(), list[tuple[float, str]](), 0.0
    for length, signals in script:
        for _look in range(round(length / rules.poll_s)):
            state, events = detect.step(state, signals, now, rules)
            seen += [(event.at, type(event).__name__) for event in events]
            now += rules.poll_s
    return state, seen


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(
            [(2, READY), (1, RINGING), (10, TALKING), (20, READY)],
            [(3, CallSuspected), (3, PartyNamed), (4, CallConfirmed), (13, CallEnded)],
            id="an incoming call: recorded from its first sound, over when its streams have gone",
        ),
        pytest.param([(30, RINGING), (30, READY)], [], id="ringing alone is no call"),
        pytest.param([(30, TITLE_ONLY)], [], id="a title alone is no call"),
        pytest.param([(30, NOTEPAD)], [], id="an extension number in a title means nothing"),
        pytest.param(
            [(30, Signals(capture=True, render=True))],
            [],
            id="streams without the softphone are another program's",
        ),
        pytest.param(
            [(5, MIC_ONLY), (5, READY)],
            [(0, CallSuspected), (5, CallDropped)],
            id="a microphone test is suspected, and dropped",
        ),
        pytest.param(
            [(0.5, UNNAMED), (0.5, MIC_ONLY), (0.5, UNNAMED), (0.5, MIC_ONLY), (1.5, UNNAMED)],
            [(0, CallSuspected), (3, CallConfirmed)],
            id="enough votes must last for a second without a break",
        ),
        pytest.param(
            [(2, Signals(process=True, capture=True, titles=TALKING.titles))],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed)],
            id="microphone and title are a call while nothing plays",
        ),
        pytest.param(
            [(5, UNNAMED), (2, READY), (5, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed)],
            id="a short loss of both streams is nothing",
        ),
        pytest.param(
            [(5, UNNAMED), (5, READY), (5, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed), (10, CallResumed)],
            id="a return within ten seconds is the same call",
        ),
        pytest.param(
            [(5, TALKING), (5, READY), (5, OTHER)],
            [
                (0, CallSuspected),
                (0, PartyNamed),
                (1, CallConfirmed),
                (5, CallEnded),
                (10, CallSuspected),
                (10, PartyNamed),
                (11, CallConfirmed),
            ],
            id="somebody else within ten seconds is another call",
        ),
        pytest.param(
            [(5, TALKING), (20, HELD), (5, TALKING)],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed), (5, CallHeld), (25, CallResumed)],
            id="a call on hold goes on",
        ),
        pytest.param(
            [(5, TALKING), (700, HELD)],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed), (5, CallHeld), (605, CallEnded)],
            id="a hold of ten minutes is the end",
        ),
        pytest.param(
            [(5, TALKING), (60, TITLE_ONLY)],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed), (5, CallEnded)],
            id="a title that stays does not keep a call alive",
        ),
        pytest.param(
            [(5, TALKING), (20, OFF)],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed), (5, CallEnded)],
            id="a softphone that quits ends its call",
        ),
        pytest.param(
            [(5, TALKING), (5, OTHER)],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed), (5, PartyNamed)],
            id="another name without a silence is a transfer",
        ),
        pytest.param(
            [(5, UNNAMED), (4, READY), (3, RINGING), (5, UNNAMED)],
            [
                (0, CallSuspected),
                (1, CallConfirmed),
                (5, CallEnded),
                (12, CallSuspected),
                (13, CallConfirmed),
            ],
            id="a call that rang before it, however soon after the last one, is another",
        ),
        pytest.param(
            [(5, UNNAMED), (4, READY), (3, RINGING), (1, READY), (0.5, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded), (13, CallSuspected)],
            id="also when it is answered between two rings",
        ),
        pytest.param(
            [(5, UNNAMED), (4, READY), (3, hooked(READY, "ringing")), (0.5, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded), (12, CallSuspected)],
            id="or rings where only the telephone system knows",
        ),
        pytest.param(
            [(5, UNNAMED), (4, READY), (0.5, RINGING), (5, UNNAMED), (4, READY), (1, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed), (9.5, CallResumed), (18.5, CallResumed)],
            id="a call may come back twice, and a beep is no ringing the second time either",
        ),
        pytest.param(
            [(5, UNNAMED), (4, READY), (0.5, RINGING), (1, READY), (5, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed), (10.5, CallResumed)],
            id="a beep before its return makes no other call of it",
        ),
        pytest.param(
            [(60, replace(RINGING, microphone=True)), (10, READY)],
            [],
            id="ringing while something else has the microphone is no call",
        ),
        pytest.param([(0.5, RINGING), (10, READY)], [], id="a notification sound is no call"),
        pytest.param(
            [(5, replace(MIC_ONLY, microphone=True)), (5, READY)],
            [(0, CallSuspected), (5, CallDropped)],
            id="capture and the microphone in use are one sign, not two",
        ),
        pytest.param(
            [(60, CONSENT)],
            [(0, CallSuspected)],
            id="where streams cannot be seen, the microphone alone is suspected only",
        ),
        pytest.param(
            [(10, CONSENT_TITLE), (20, BLIND)],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed), (10, CallEnded)],
            id="where streams cannot be seen, microphone and title are a call",
        ),
        pytest.param(
            [(5, replace(HELD, microphone=True))],
            [(0, CallSuspected), (0, PartyNamed), (1, CallConfirmed)],
            id="a microphone that is held where no stream shows it counts when sound and title agree",
        ),
        pytest.param(
            [(5, replace(BLIND, hook="connected", hook_call="7"))],
            [(0, CallSuspected), (1, CallConfirmed)],
            id="where nothing on the PC can tell, the telephone system's word is enough",
        ),
        pytest.param(
            [(60, hooked(READY, "connected", "7"))],
            [],
            id="a call taken on another telephone of this extension is not recorded",
        ),
        pytest.param(
            [(2, WEB_READY), (5, WEB_CALL), (5, MEETING), (5, WEB_CALL), (20, WEB_READY)],
            [(2, CallSuspected), (3, CallConfirmed), (17, CallEnded)],
            id="a call in the web client goes on while the technician looks at another tab",
        ),
        pytest.param([(60, MEETING)], [], id="a meeting in the browser is no call"),
        pytest.param(
            [(60, hooked(replace(MEETING, microphone=True), "connected", "7"))],
            [],
            id="not even while this extension talks on another telephone",
        ),
        pytest.param(
            [(60, replace(WEB_READY, streams=False, hook="connected", hook_call="7"))],
            [],
            id="nor is a browser that runs meanwhile",
        ),
        pytest.param(
            [(5, WEB_CALL), (5, RINGING), (5, MEETING), (20, WEB_READY)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallHeld), (10, CallResumed), (15, CallEnded)],
            id="a softphone that rings beside a call in the web client does not end it",
        ),
        pytest.param(
            [(5, WEB_CALL), (4, WEB_READY), (30, MEETING)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded)],
            id="a meeting right after a call in the web client is not its return",
        ),
        pytest.param(
            [(5, UNNAMED), (30, MEETING)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded)],
            id="a meeting in the browser does not prolong a call of the softphone",
        ),
        pytest.param(
            [(5, UNNAMED), (30, replace(MEETING, titles=(*MEETING.titles, *WEB_TITLE)))],
            [
                (0, CallSuspected),
                (1, CallConfirmed),
                (5, CallEnded),
                (18.5, CallSuspected),
                (19.5, CallConfirmed),
            ],
            id="nor does one beside the web client, which cannot be told from a call",
        ),
        pytest.param(
            [(5, WEB_CALL), (60, replace(WEB_CALL, capture=False))],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded)],
            id="what a browser goes on to play does not hold a call",
        ),
        pytest.param(
            [(10, hooked(UNNAMED, "ringing")), (5, A), (20, hooked(READY, "ended"))],
            [(0, CallSuspected), (11, CallConfirmed), (15, CallEnded)],
            id="an outgoing call counts from its answer, and is kept from its first sound",
        ),
        pytest.param(
            [(10, hooked(UNNAMED, "ringing")), (5, READY)],
            [(0, CallSuspected), (10, CallDropped)],
            id="an outgoing call that nobody answers is none",
        ),
        pytest.param(
            [(10, hooked(UNNAMED, "ringing")), (5, hooked(UNNAMED, "ended")), (9, UNNAMED)],
            [(0, CallSuspected), (10, CallDropped)],
            id="what lingers after an unanswered call is no call",
        ),
        pytest.param(
            [(5, A), (5, hooked(UNNAMED, "ended")), (30, UNNAMED)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded)],
            id="the telephone system says that it is over: streams that stay open are no call",
        ),
        pytest.param(
            [(5, A), (2, hooked(UNNAMED, "ended")), (5, B)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded), (7, CallSuspected), (8, CallConfirmed)],
            id="and the next call counts although they never closed",
        ),
        pytest.param(
            [(5, A), (5, B), (20, READY)],
            [
                (0, CallSuspected),
                (1, CallConfirmed),
                (5, CallEnded),
                (5, CallSuspected),
                (6, CallConfirmed),
                (10, CallEnded),
            ],
            id="two calls without a pause are two when the telephone system says so",
        ),
        pytest.param(
            [(5, A), (2, hooked(READY, "connected", "8")), (1.5, B)],
            [
                (0, CallSuspected),
                (1, CallConfirmed),
                (5, CallHeld),
                (7, CallEnded),
                (7, CallSuspected),
                (8, CallConfirmed),
            ],
            id="also when nobody talks for a moment between them",
        ),
        pytest.param([(9, hooked(UNNAMED, "ended"))], [], id="what it has just ended does not begin anew"),
        pytest.param(
            [(5, A), (5, READY), (5, A)],
            [(0, CallSuspected), (1, CallConfirmed), (10, CallResumed)],
            id="a call that it calls the same is the same",
        ),
        pytest.param(
            [(5, A), (60, hooked(READY, "connected", "7")), (5, A)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallHeld), (65, CallResumed)],
            id="a call on hold without a sound goes on while the telephone system knows it",
        ),
        pytest.param(
            [(5, A), (5, UNNAMED), (5, A)],
            [(0, CallSuspected), (1, CallConfirmed)],
            id="a telephone system that is silent for a while changes nothing",
        ),
        pytest.param(
            [(3, replace(MIC_ONLY, log="connected"))],
            [(0, CallSuspected), (1, CallConfirmed)],
            id="microphone and a line of the log are a call",
        ),
        pytest.param([(9, replace(READY, log="connected"))], [], id="a line of the log alone is no call"),
        pytest.param(
            [(5, UNNAMED), (5, replace(RINGING, log="ended")), (20, READY)],
            [(0, CallSuspected), (1, CallConfirmed), (5, CallEnded)],
            id="a log that says it is over is right about a sound that lingers",
        ),
        pytest.param(
            [(5, UNNAMED), (1, replace(UNNAMED, silent_s=1800)), (60, UNNAMED), (1, READY), (2, UNNAMED)],
            [
                (0, CallSuspected),
                (1, CallConfirmed),
                (5, CallEnded),
                (67, CallSuspected),
                (68, CallConfirmed),
            ],
            id="streams that carry nothing for half an hour are no call any more",
        ),
        pytest.param(
            [(5, A), (60, replace(A, silent_s=1800))],
            [(0, CallSuspected), (1, CallConfirmed)],
            id="but for a call that the telephone system knows",
        ),
        pytest.param(
            [(601, MIC_ONLY), (60, MIC_ONLY), (2, UNNAMED)],
            [(0, CallSuspected), (600, CallDropped), (661, CallSuspected), (662, CallConfirmed)],
            id="a capture that nothing joins is not recorded for ever, and counts again when something does",
        ),
    ],
)
def test_signals_mean(script: Script, expected: list[tuple[float, type[Event]]]) -> None:
    _state, seen = follow(script)
    assert seen == [(at, event.__name__) for at, event in expected]


def test_the_next_call_ringing_does_not_bring_back_the_last_one() -> None:
    state, seen = follow([(5, UNNAMED), (5, READY), (5, RINGING), (20, READY)])
    assert [name for _at, name in seen] == ["CallSuspected", "CallConfirmed", "CallEnded"]
    assert state.phase is Phase.IDLE


def test_two_windows_that_swap_places_are_no_transfer() -> None:
    one = Signals(process=True, capture=True, render=True, titles=("Call with Ada", "Call with Bob"))
    other = Signals(process=True, capture=True, render=True, titles=("Call with Bob", "Call with Ada"))
    _state, seen = follow([(3, one), (3, other), (3, one)])
    assert [name for _at, name in seen].count("PartyNamed") == 1


def test_the_next_callers_name_does_not_rename_the_call_that_ends() -> None:
    next_one = replace(READY, titles=OTHER.titles)
    script: Script = [(5, TALKING), (4, next_one), (3, replace(next_one, render=True)), (5, OTHER)]
    _state, seen = follow(script)
    assert [name for _at, name in seen] == [
        *("CallSuspected", "PartyNamed", "CallConfirmed", "CallEnded"),
        *("CallSuspected", "PartyNamed", "CallConfirmed"),
    ]


def test_the_telephone_system_knows_best_whom_a_call_is_with() -> None:
    state, _seen = follow([(3, hooked(TALKING, "connected", "7", "+33 6 98 76 54 32"))])
    assert (state.remote_party, state.hook_call) == ("+33 6 98 76 54 32", "7")


ACCOUNTS = (
    Account(extension="305", name="Contoso", patterns=("contoso",)),
    Account(extension="306", name="Fabrikam", patterns=("fabrikam",)),
)


@pytest.mark.parametrize(
    ("signals", "belongs_to"),
    [
        (Signals(titles=("Call with Ada - Fabrikam", "3CX - Contoso")), "306 Fabrikam"),
        (Signals(titles=("Call with Ada", "3CX - CONTOSO")), "305 Contoso"),
        (Signals(titles=("Call with Ada", "3CX - Contoso", "3CX - Fabrikam")), ""),
        (Signals(titles=("Call with Ada - Fabrikam",), account="305"), "305 Contoso"),
        (Signals(titles=("Call with Ada",), account="201"), ""),
        (Signals(), ""),
    ],
)
def test_a_call_belongs_to_one_account(signals: Signals, belongs_to: str) -> None:
    assert detect.account(signals, RULES, ACCOUNTS) == belongs_to


@pytest.mark.parametrize(
    ("title", "party"),
    [
        ("Call with +33 6 12 34 56 78", "+33 6 12 34 56 78"),
        ("APPEL AVEC : Jean-Paul Martin - 3CX", "Jean-Paul Martin"),
        ("3CX | Call with Ada", "Ada"),
        ("Call with", ""),
    ],
)
def test_the_other_party_is_what_stands_after_the_words(title: str, party: str) -> None:
    assert detect.parties((title,), RULES) == [party]


def test_a_title_that_fits_no_pattern_names_nobody() -> None:
    assert detect.parties(("201", "201 - 3CX", "Inbox (201)"), RULES) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("titles", ("Call with (",)), ("processes", ("3cx[",)), ("browsers", ("*",)), ("log_ended", "(")],
)
def test_a_pattern_that_is_none_is_an_error_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        detect.check(msgspec.structs.replace(RULES, **{key: value}))
    assert f"detection.{key}" in error.value.what


def test_a_pattern_of_an_account_that_is_none_is_an_error_too() -> None:
    with pytest.raises(ConfigError) as error:
        detect.check(RULES, [Account(extension="305", patterns=("(",))])
    assert "accounts.patterns" in error.value.what
