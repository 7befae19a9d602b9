"""What holds on every screen: keys with names and explanations, the help, the palette, poor terminals."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.binding import Binding
from textual.pilot import Pilot

from tests.tui import samples
from tests.tui.conftest import MakeApp
from tests.tui.looking import shown, until_shown
from whisperagent import settings
from whisperagent.errors import ConfigError
from whisperagent.tui import signs
from whisperagent.tui.app import WaApp, binding_ids
from whisperagent.tui.calls import Calls
from whisperagent.tui.dashboard import Dashboard
from whisperagent.tui.dialogs import Approve, Confirm, Help, Key
from whisperagent.tui.editor import Editor
from whisperagent.tui.review import Review
from whisperagent.tui.rows import Lines
from whisperagent.tui.transcript import Transcript

Script = Callable[[Pilot[None]], Awaitable[None]]
OURS = (WaApp, Dashboard, Calls, Review, Transcript, Lines, Editor, Approve, Confirm, Help)


def play(made: WaApp, script: Script, size: tuple[int, int] = (80, 24)) -> None:
    async def go() -> None:
        async with made.run_test(size=size, notifications=True) as pilot:
            await script(pilot)

    asyncio.run(go())


@pytest.mark.parametrize("kind", OURS)
def test_every_key_can_be_remapped_and_explains_itself(kind: type) -> None:
    for binding in kind.BINDINGS:  # type: ignore[attr-defined]
        assert isinstance(binding, Binding)
        assert binding.id in binding_ids()
        assert binding.tooltip
        assert binding.description


def test_a_remapped_key_acts_and_the_footer_and_the_help_follow(loaded: settings.Loaded) -> None:
    changed = settings.load(
        {
            "server.url": loaded.settings.server.url,
            "agent.extension": samples.US,
            "ui.keymap": {"approve": "ctrl+y"},
        }
    )
    made = WaApp(changed, start="calls", open_call=samples.OUTLOOK, now=lambda: samples.NOW)

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "^y Approve")
        await pilot.press("ctrl+y")
        await until_shown(pilot, "Approve this call?")

    play(made, script)


def test_an_unknown_key_in_the_settings_is_an_error_that_knows_the_nearest(loaded: settings.Loaded) -> None:
    wrong = settings.load({"agent.extension": samples.US, "ui.keymap": {"aprove": "ctrl+y"}})
    with pytest.raises(ConfigError) as error:
        WaApp(wrong)
    assert "`approve`" in error.value.fix


def test_the_palette_names_every_action_once(app: MakeApp) -> None:
    made = app(start="calls", open_call=samples.OUTLOOK)
    titles: list[str] = []

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        titles.extend(command.title for command in made.get_system_commands(made.screen))

    play(made, script)
    assert {"Approve", "Speaker", "Help", "Theme"} <= set(titles)
    assert len(titles) == len(set(titles))


def test_the_help_begins_with_what_the_screen_is_for_and_fits_80_columns(app: MakeApp) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("question_mark")
        await until_shown(pilot, "See the ticket as it will be")
        assert "Next line" not in shown(pilot.app)

    play(app(start="calls", open_call=samples.OUTLOOK), script)


def test_a_long_explanation_in_the_help_is_wrapped_and_loses_no_letter(app: MakeApp) -> None:
    async def script(pilot: Pilot[None]) -> None:
        long = "Do not record this call, and destroy what there is of it here and anywhere"
        pilot.app.push_screen(Help("about", [Key("ctrl+x", "Private", long)]))
        await until_shown(pilot, "anywhere")

    play(app(), script)


def test_on_a_terminal_that_knows_only_ascii_everything_is_ascii(app: MakeApp) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "* to review")
        await until_shown(pilot, "Infogerance")
        assert shown(pilot.app).replace("WhisperAgent", "").isascii()

    play(app(start="calls", open_call=samples.OUTLOOK, plain=True), script)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [("● REC", "* REC"), ("Étude", "Etude"), ("漢字", "????"), ("╭──┬╮", "-----"), ("█▁", "##"), ("№", "N")],
)
def test_ascii_keeps_the_width_of_what_it_stands_for(text: str, drawn: str) -> None:
    assert signs.plain(text) == drawn
