"""Is a call up? The table of what is seen and what it means."""

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
from whisperagent.settings import Detection

RULES = Detection()
NOTEPAD = Signals(process=True, titles=("Notes - 201", "201"))
TITLE_ONLY = Signals(process=True, titles=TALKING.titles)
UNNAMED = Signals(process=True, capture=True, render=True)
HELD = Signals(process=True, render=True, titles=TALKING.titles)
OTHER = Signals(process=True, capture=True, render=True, titles=("Appel avec Jean Martin",))


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


def test_a_pattern_that_is_none_is_an_error_with_its_key() -> None:
    with pytest.raises(ConfigError) as error:
        detect.check(msgspec.structs.replace(RULES, titles=("Call with (",)))
    assert "detection.titles" in error.value.what
