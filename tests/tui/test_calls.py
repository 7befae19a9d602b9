"""The list of calls on the screen, against a server over real HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from tests.tui import samples
from tests.tui.conftest import MakeApp
from tests.tui.fake_server import FakeServer
from tests.tui.looking import shown, until, until_gone, until_shown
from whisperagent.tui.app import WaApp
from whisperagent.tui.calls import Calls
from whisperagent.tui.review import Review
from whisperagent.tui.rows import Rows
from whisperagent.wire import CallState

Script = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture
def listing(app: MakeApp) -> Callable[..., WaApp]:
    """`listing(script)`: open the list, wait for it, run the script; gives the app."""

    def run(script: Script, size: tuple[int, int] = (120, 30)) -> WaApp:
        made = app(start="calls")

        async def go() -> None:
            async with made.run_test(size=size, notifications=True) as pilot:
                await script(pilot)

        asyncio.run(go())
        return made

    return run


def keys(pilot: Pilot[None]) -> list[str]:
    return [row.key for row in pilot.app.screen.query_one(Rows).rows]


def test_calls_to_review_and_on_their_way_are_listed_newest_first(listing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        assert keys(pilot) == [samples.COMING, samples.PRINTER, samples.OUTLOOK]
        assert "● to review" in shown(pilot.app)
        assert "3 calls" in shown(pilot.app)

    listing(script)


def test_1_2_and_3_choose_what_is_listed(listing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("2")
        await until(pilot, lambda: keys(pilot) == [samples.VPN], "the approved ones")
        await pilot.press("3")
        await until(pilot, lambda: len(keys(pilot)) == 5, "all")
        assert "✗ failed" in shown(pilot.app)
        await pilot.press("1")
        await until(pilot, lambda: len(keys(pilot)) == 3, "those to review")

    listing(script)


def test_the_filter_asks_the_server_for_words_as_they_are_typed(
    listing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("slash", *"blank")
        await until(pilot, lambda: keys(pilot) == [samples.PRINTER], "the printer alone")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: len(keys(pilot)) == 3, "all again")

    listing(script)
    assert "blank" in [asked["q"] for asked in server.asked]


def test_letters_in_the_filter_are_typed_and_do_not_act(listing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("slash", *"qr1")
        await until_shown(pilot, "No call has these words")
        assert pilot.app.screen.query_one("#filter").value == "qr1"  # type: ignore[attr-defined]

    listing(script)


def test_a_row_changes_in_place_and_the_cursor_stays_on_its_call(
    listing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("G")
        rows = pilot.app.screen.query_one(Rows)
        assert rows.key == samples.OUTLOOK
        server.tell("call.progress", samples.COMING, progress=0.4)
        await until_shown(pilot, "transcribing 40 %")
        server.put(samples.call(samples.PHONE, CallState.TRANSCRIBED, 1, "Nouvel appel"))
        await until_shown(pilot, "Nouvel appel")
        assert rows.key == samples.OUTLOOK

    listing(script)


def test_a_call_that_another_reviews_is_marked(listing: Callable[..., WaApp], server: FakeServer) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        server.change(samples.OUTLOOK, claimed_by="101")
        await until_shown(pilot, "with 101: Bonjour")

    listing(script)


def test_the_next_page_is_asked_for_when_the_cursor_comes_to_the_end(
    listing: Callable[..., WaApp], server: FakeServer
) -> None:
    for number in range(60):
        call_id = f"0199e000-1000-7000-8000-{number:012}"
        server.calls[call_id] = samples.call(call_id, CallState.TRANSCRIBED, 200 + number, f"Client {number}")

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "50+ calls")
        assert len(keys(pilot)) == 50
        await pilot.press("G")
        await until(pilot, lambda: len(keys(pilot)) == 63, "the second page")
        await until_shown(pilot, "63 calls")

    listing(script)


def test_enter_opens_the_call_and_esc_comes_back_to_the_same_row(listing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("G", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Review), "the review")
        await until_shown(pilot, "Infogérance")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, Calls), "the list")
        assert pilot.app.screen.query_one(Rows).key == samples.OUTLOOK

    listing(script)


def test_an_empty_list_says_what_would_fill_it(listing: Callable[..., WaApp], server: FakeServer) -> None:
    server.calls.clear()

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Nothing to review. A call comes here when it is recorded and sent")
        await pilot.press("3")
        await until_shown(pilot, "No calls yet")

    listing(script)


def test_a_refusal_is_shown_and_r_asks_again(listing: Callable[..., WaApp], server: FakeServer) -> None:
    server.failing = 503

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "the server is too busy")
        server.failing = 0
        await pilot.press("r")
        await until_shown(pilot, "Cabinet Moreau")

    listing(script)


def test_on_80_columns_nothing_is_wider_than_the_screen(listing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        assert all(len(line) <= 80 for line in shown(pilot.app).splitlines())
        assert "Quit" in shown(pilot.app)

    listing(script, size=(80, 24))


def test_the_palette_finds_every_action(listing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Cabinet Moreau")
        await pilot.press("ctrl+p", *"this")
        await until_shown(pilot, "What happens on this PC")
        await pilot.press("escape")
        await until_gone(pilot, "What happens on this PC")

    listing(script)
