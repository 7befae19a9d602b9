"""A few words on the desktop: which ones, by which program, and never in the way of a call."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.fakes import READY, TALKING, ScriptedHost, until
from tests.agent.programs import Programs
from whisperagent import notices
from whisperagent.agent import Agent
from whisperagent.hosts import notify
from whisperagent.notices import Notice, Notices, notice_of
from whisperagent.settings import Loaded

Load = Callable[..., Loaded]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path / "bin", monkeypatch)


def test_linux_shows_it_by_notify_send_and_a_callers_name_is_only_text(programs: Programs) -> None:
    programs.add("notify-send")
    assert notify.send("--a title", "<b>Ada</b> & sons")
    assert programs.asked() == [
        ["notify-send", "--app-name=WhisperAgent", "--", "--a title", "&lt;b&gt;Ada&lt;/b&gt; &amp; sons"]
    ]


@pytest.mark.parametrize("there", [True, False], ids=["that fails", "that is not there"])
def test_a_program_is_no_trouble(programs: Programs, there: bool) -> None:
    if there:
        programs.add("notify-send", code=1)
    assert not notify.send("title", "body")
    assert len(programs.asked()) == there


def test_macos_shows_it_by_a_script_that_takes_both_as_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    program = notify.command('say "hello"', "body")
    assert (program[0], program[-2:]) == ("osascript", ['say "hello"', "body"])
    assert "hello" not in program[2]


@pytest.mark.parametrize(
    ("event", "details", "title", "in_body"),
    [
        ("transcribed", {}, "A transcript is ready", "Ada"),
        ("silent", {"side": "caller", "seconds": 20}, "The caller is not heard", "20 s"),
        ("silent", {"side": "agent", "seconds": 20}, "Your microphone is not heard", "20 s"),
        ("unrecorded", {"reason": "the disk is full"}, "NOT recorded", "the disk is full"),
        ("refused", {}, "refused", "wa queue list"),
        ("late", {"days": 3}, "still waits", "3 days"),
        ("overdue", {}, "very long", "wa queue list"),
        ("expired", {}, "deleted unsent", "wa queue list"),
        ("cramped", {"reason": "the disk is full"}, "too full", "the disk is full"),
        ("failed", {}, "could not be transcribed", "Ada"),
        ("stuck", {"reason": "who are you"}, "cannot be sent", "who are you"),
    ],
)
def test_what_needs_the_person_is_said(event: str, details: dict[str, Any], title: str, in_body: str) -> None:
    notice = notice_of(event, lambda: "Ada", details)
    assert notice is not None
    assert title in notice.title
    assert in_body in notice.body


@pytest.mark.parametrize(
    "event", ["detected", "recording", "queued", "uploaded", "unsent", "private", "note"]
)
def test_what_goes_well_is_not(event: str) -> None:
    assert notice_of(event, lambda: "Ada", {}) is None


def test_many_of_a_kind_at_once_are_one_notice() -> None:
    shown: list[tuple[str, str]] = []

    def show(title: str, body: str) -> bool:
        shown.append((title, body))
        return True

    async def run() -> None:
        gathering = Notices(show)
        for name in ("Ada", "Grace", "Marie"):
            gathering.add(Notice("A transcript is ready", name))
        gathering.add(Notice("Recordings cannot be sent", "who are you"))
        running = asyncio.create_task(gathering.run())
        await until(lambda: len(shown) == 2)
        running.cancel()

    asyncio.run(run())
    assert shown == [("A transcript is ready", "3 calls"), ("Recordings cannot be sent", "who are you")]


def silent_call(loaded: Loaded) -> tuple[list[str], list[str]]:
    """An agent through a call whose caller is not heard; gives what it showed and what it told."""
    shown: list[str] = []
    told: list[str] = []

    def show(title: str, _body: str) -> bool:
        shown.append(title)
        return True

    async def run() -> None:
        host = ScriptedHost([(1, READY), (60, TALKING), (20, READY)], side_missing=1)
        agent = Agent(
            loaded,
            host,
            report=lambda moment: told.append(moment.event),
            notify=show,
        )
        running = asyncio.create_task(agent.run())
        await until(lambda: "queued" in told and (bool(shown) or not loaded.settings.agent.notify))
        agent.stop()
        await running

    asyncio.run(run())
    return shown, told


def test_the_agent_says_it_on_the_desktop(loaded: Load) -> None:
    shown, told = silent_call(loaded())
    assert "silent" in told
    assert "The caller is not heard" in shown


def test_the_agent_says_nothing_where_that_is_switched_off(
    loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "GATHER_S", 0.0)
    shown, told = silent_call(loaded({"agent.notify": False}))
    assert "silent" in told
    assert shown == []
