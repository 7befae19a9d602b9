"""Calls of this PC and their drafts, on the screen while the server is away; then what differs."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot

from tests.tui import samples
from tests.tui.conftest import MakeApp
from tests.tui.fake_server import FakeServer
from tests.tui.looking import shown, until, until_gone, until_shown
from tests.tui.own import drafted
from tests.tui.pc import Pc
from whisperagent import settings
from whisperagent.tui.app import WaApp
from whisperagent.tui.compare import Compare
from whisperagent.tui.dashboard import Dashboard
from whisperagent.tui.drafts import Drafts
from whisperagent.tui.review import Review
from whisperagent.tui.rows import Rows
from whisperagent.wire import CallState

Script = Callable[[Pilot[None]], Awaitable[None]]
NOBODY = "http://127.0.0.1:9"


def play(app: WaApp, script: Script) -> None:
    async def go() -> None:
        async with app.run_test(size=(120, 30), notifications=True) as pilot:
            await script(pilot)

    asyncio.run(go())


def away(url: str = NOBODY, **options: object) -> WaApp:
    """The screens of a PC whose server does not answer."""
    loaded = settings.load({"server.url": url, "agent.extension": samples.US})
    return WaApp(loaded, now=lambda: samples.NOW, start="calls", **options)  # type: ignore[arg-type]


@pytest.fixture
def waiting(home: Path, pc: Pc) -> None:
    """Two calls wait, of one there is a draft."""
    pc.queued(samples.OUTLOOK, "Cabinet Moreau")
    pc.queued(samples.PRINTER, "+33 6 12 34 56 78")
    drafted(home)


@pytest.mark.parametrize(("url", "words"), [(NOBODY, "no answer from 127.0.0.1"), ("", "no server is named")])
@pytest.mark.usefixtures("waiting")
def test_without_a_server_the_calls_of_this_pc_are_listed(url: str, words: str) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "✎ draft")
        rows = pilot.app.screen.query_one(Rows).rows
        assert [row.key for row in rows] == [samples.PRINTER, samples.OUTLOOK]
        assert "Calls on this PC" in shown(pilot.app)
        assert "↑ waiting" in shown(pilot.app)
        await until_shown(pilot, words)
        await pilot.press("j")
        await until_shown(pilot, "Infogérance Dupont, bonjour, Claire à l'appareil. Bonjour")

    play(away(url), script)


@pytest.mark.usefixtures("waiting")
def test_a_draft_says_what_it_is_and_is_read_not_approved() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Draft, made on this PC by small, 14:27.")
        assert "Marc le fèvre" in shown(pilot.app)
        assert "Approve" not in shown(pilot.app)
        assert "Ticket" not in shown(pilot.app)
        await pilot.press("a", "t", "d", "v")
        assert isinstance(pilot.app.screen, Review)

    play(away(open_call=samples.OUTLOOK), script)


@pytest.mark.usefixtures("waiting")
def test_a_draft_is_corrected_and_the_correction_stays_on_this_pc(home: Path) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Marc le fèvre")
        await pilot.press("j", "e", "ctrl+u", *"Marc", "enter")
        await until_gone(pilot, "fèvre")
        assert "caller      Marc" in shown(pilot.app)

    play(away(open_call=samples.OUTLOOK), script)
    clear = b"".join(path.read_bytes() for path in (home / "drafts").iterdir())
    assert b"Marc" not in clear


@pytest.mark.usefixtures("waiting")
def test_a_draft_that_cannot_be_opened_is_listed_with_the_reason(home: Path) -> None:
    (home / "drafts" / f"{samples.OUTLOOK}.srec").write_bytes(b"\x89SREC")

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "the draft of this call")
        await pilot.press("j")
        await until_shown(pilot, "the draft of this call cannot be opened: the recording is cut short")

    play(away(), script)


@pytest.mark.usefixtures("waiting")
def test_the_dashboard_knows_of_a_draft_and_opens_it() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, Dashboard), "the dashboard")
        await until_shown(pilot, "drafted here")
        pilot.app.screen.query_one(Rows).move_to(samples.OUTLOOK)
        await pilot.press("enter")
        await until_shown(pilot, "Draft, made on this PC by small")

    play(away(), script)


@pytest.mark.usefixtures("waiting")
def test_while_the_server_transcribes_the_draft_is_shown_and_then_gives_way(
    app: MakeApp, server: FakeServer
) -> None:
    call = server.calls[samples.OUTLOOK]
    state = msgspec.structs.replace(call.summary, state=CallState.TRANSCRIBING)
    server.calls[samples.OUTLOOK] = msgspec.structs.replace(call, summary=state, transcript=None)

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Marc le fèvre")
        server.put(call)
        await until_shown(pilot, "Marc Lefèvre")
        await until_shown(pilot, "Approve")
        await until_shown(pilot, "words differ: v shows them.")
        assert "Draft, made on this PC" not in shown(pilot.app)

    play(app(start="calls", open_call=samples.OUTLOOK), script)


@pytest.mark.usefixtures("waiting")
def test_v_shows_what_differs_word_by_word(app: MakeApp) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Marc Lefèvre")
        await pilot.press("v")
        await until(pilot, lambda: isinstance(pilot.app.screen, Compare), "the comparison")
        await until_shown(pilot, "[-le fèvre-] {+Lefèvre+}")
        assert "Words only in the draft by small: 2 [-…-]" in shown(pilot.app)
        await pilot.press("n")
        assert pilot.app.screen.query_one("#compared").highlighted == 1  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, Review), "the review again")

    play(app(start="calls", open_call=samples.OUTLOOK), script)


def test_without_a_draft_there_is_nothing_to_compare(app: MakeApp) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Marc Lefèvre")
        assert "Compare" not in shown(pilot.app)
        await pilot.press("v")
        assert isinstance(pilot.app.screen, Review)

    play(app(start="calls", open_call=samples.OUTLOOK), script)


# In lines of text


def wa(*arguments: str, stdin: str = "", url: str = NOBODY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whisperagent", "review", "--server", url, "--extension", samples.US]
    return subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.usefixtures("waiting")
def test_in_lines_of_text_drafts_are_listed_read_and_corrected() -> None:
    done = wa("--plain", stdin="open 2\nread 2\nedit 2 Marc.\nread 2\napprove yes\n")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1. ")
    assert lines[1].startswith("2. ")
    assert "Infogérance" in lines[1]
    assert any(line.startswith("Draft, made on this PC by small") for line in lines)
    assert "2. 00:04 caller: Bonjour, c'est Marc le fèvre du cabinet Moreau." in lines
    assert lines[-1] == "2. 00:04 caller: Marc."
    assert "cannot reach" in done.stderr
    assert done.returncode == 2
    assert "this is a draft" in done.stderr


@pytest.mark.usefixtures("waiting")
def test_in_lines_of_text_what_differs_is_told_and_printed(server: FakeServer) -> None:
    done = wa("--plain", samples.OUTLOOK, stdin="compare\n", url=server.url)
    assert "words differ: `compare` shows them." in done.stdout
    assert "00:04 caller: Bonjour, c'est Marc [-le fèvre-] {+Lefèvre+} du cabinet Moreau." in done.stdout
    nothing = wa("--plain", samples.PRINTER, stdin="compare\n", url=server.url)
    assert nothing.returncode == 2
    assert "no draft of this call" in nothing.stderr


@pytest.mark.usefixtures("waiting")
def test_corrections_of_the_servers_words_are_not_laid_over_a_draft(home: Path) -> None:
    Drafts(home / "drafts").keep_text(samples.OUTLOOK, 1, "a correction that was not sent")

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Marc le fèvre")
        assert "not saved" not in shown(pilot.app)

    play(away(open_call=samples.OUTLOOK), script)
    done = wa("--plain", samples.OUTLOOK, stdin="read\n")
    assert "not saved" not in done.stdout
    assert "a correction that was not sent" not in done.stdout


@pytest.mark.usefixtures("waiting")
def test_what_differs_is_printed_for_people_and_for_programs(server: FakeServer) -> None:
    done = wa(samples.OUTLOOK, "--diff", url=server.url)
    assert "00:04 caller: Bonjour, c'est Marc [-le fèvre-] {+Lefèvre+} du cabinet Moreau." in done.stdout
    document = json.loads(wa(samples.OUTLOOK, "--diff", "--json", url=server.url).stdout)
    assert (document["draft_model"], document["removed"]) == ("small", 2)
    kinds = {run["text"]: run["kind"] for line in document["lines"] for run in line["runs"]}
    assert (kinds["le fèvre"], kinds["Lefèvre"]) == ("removed", "added")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((samples.VPN, "--diff"), 2, "no draft of this call"),
        ((samples.COMING, "--diff"), 2, "not transcribed this call yet"),
        (("latest", "--diff"), 2, "which call?"),
        (("--json",), 2, "--json goes with --diff"),
    ],
)
def test_where_there_is_nothing_to_compare_it_says_what_is_missing(
    server: FakeServer, home: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    drafted(home, samples.COMING)
    done = wa(*arguments, url=server.url)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_without_server_and_without_calls_the_list_says_why_it_is_empty() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "`url` under [server] is empty")

    play(away(""), script)
    assert wa("--plain", url="").returncode == 3
