"""Reviewing one call on the screen, against a server over real HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from tests.tui import samples
from tests.tui.conftest import MakeApp
from tests.tui.fake_server import FakeServer
from tests.tui.looking import shown, until, until_gone, until_shown
from whisperagent.tui.app import WaApp
from whisperagent.tui.drafts import Draft, TicketText
from whisperagent.tui.editor import Editor
from whisperagent.tui.transcript import Transcript
from whisperagent.wire import CallState

Script = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture
def reviewing(app: MakeApp) -> Callable[..., WaApp]:
    """`reviewing(script)`: open the Outlook call, wait for its words, run the script; gives the app."""

    def run(script: Script, size: tuple[int, int] = (120, 40), call_id: str = samples.OUTLOOK) -> WaApp:
        made = app(start="calls", open_call=call_id)

        async def go() -> None:
            async with made.run_test(size=size, notifications=True) as pilot:
                await until_shown(pilot, "What was said")
                await until_gone(pilot, "Asking the server")
                await script(pilot)

        asyncio.run(go())
        return made

    return run


def text_of(server: FakeServer, segment_id: int) -> str:
    transcript = server.calls[samples.OUTLOOK].transcript
    assert transcript is not None
    return next(segment.text for segment in transcript.segments if segment.id == segment_id)


async def write(pilot: Pilot[None], text: str) -> None:
    """Open the editor on the current segment and put `text` in it."""
    await pilot.press("e")
    await until(pilot, lambda: isinstance(pilot.app.screen, Editor), "the editor opens")
    pilot.app.screen.query_one(TextArea).text = text
    await pilot.pause()


def test_a_doubtful_word_carries_a_sign_and_not_only_a_colour(reviewing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Lefèvre(?)")
        assert "3 doubts" in shown(pilot.app)
        assert "Infogérance(?)" not in shown(pilot.app)

    reviewing(script)


def test_n_goes_from_doubt_to_doubt_and_round_the_end(reviewing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Lefèvre(?)")
        transcript = pilot.app.screen.query_one(Transcript)
        places = []
        for key in ("n", "n", "n", "n", "N"):
            await pilot.press(key)
            places.append(transcript.highlighted)
        assert places == [1, 3, 5, 1, 5]

    reviewing(script)


def test_the_letters_of_vi_and_the_arrows_move(reviewing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Lefèvre(?)")
        transcript = pilot.app.screen.query_one(Transcript)
        places = []
        for key in ("j", "down", "k", "G", "up", "g"):
            await pilot.press(key)
            places.append(transcript.highlighted)
        assert places == [1, 2, 1, 6, 5, 0]

    reviewing(script)


def test_a_correction_is_sent_with_enter_and_shown(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Lefèvre(?)")
        await pilot.press("n")
        await write(pilot, "Bonjour, c'est Marc Lefebvre du cabinet Moreau.")
        await pilot.press("enter")
        await until_shown(pilot, "Lefebvre du cabinet")

    made = reviewing(script)
    assert text_of(server, 1) == "Bonjour, c'est Marc Lefebvre du cabinet Moreau."
    assert made.session.drafts.load(samples.OUTLOOK) == Draft()


def test_ctrl_s_saves_as_enter_does(reviewing: Callable[..., WaApp], server: FakeServer) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await write(pilot, "Dupont Infogérance, bonjour.")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "Dupont Infogérance")

    reviewing(script)
    assert text_of(server, 0) == "Dupont Infogérance, bonjour."


def test_s_gives_the_segment_to_the_other_side(reviewing: Callable[..., WaApp], server: FakeServer) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("s")
        await until_shown(pilot, "00:00  caller      Infogérance")

    reviewing(script)
    transcript = server.calls[samples.OUTLOOK].transcript
    assert transcript is not None
    assert transcript.segments[0].speaker == "caller"


def test_leaving_the_editor_keeps_what_was_written_and_e_goes_on_with_it(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    before = text_of(server, 0)

    async def leave(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await write(pilot, "à moitié")
        await pilot.press("escape")
        await until_shown(pilot, "✎ not saved")

    async def come_back(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "✎ not saved")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.screen, Editor), "the editor opens")
        assert pilot.app.screen.query_one(TextArea).text == "à moitié"

    reviewing(leave)
    assert text_of(server, 0) == before
    reviewing(come_back)


def test_what_is_typed_survives_a_crash_in_mid_sentence(reviewing: Callable[..., WaApp]) -> None:
    kept = []

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await write(pilot, "en train d'écrire")
        assert isinstance(pilot.app, WaApp)
        kept.append(pilot.app.session.drafts.load(samples.OUTLOOK))

    reviewing(script)
    assert kept == [Draft(texts={0: "en train d'écrire"})]


def test_a_lost_server_costs_no_words_and_the_correction_can_be_sent_later(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        server.failing = 503
        await write(pilot, "Dupont, bonjour.")
        await pilot.press("enter")
        await until_shown(pilot, "✎ not saved")
        server.failing = 0
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.screen, Editor), "the editor opens")
        await pilot.press("enter")
        await until_gone(pilot, "✎ not saved")

    reviewing(script)
    assert text_of(server, 0) == "Dupont, bonjour."


def test_when_somebody_was_first_their_words_are_shown_and_ours_are_kept(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await write(pilot, "notre texte")
        server.say(samples.OUTLOOK, 0, "leur texte")
        await pilot.press("enter")
        await until_shown(pilot, "Somebody else has corrected it meanwhile")
        assert "leur texte" in shown(pilot.app)
        assert pilot.app.screen.query_one(TextArea).text == "notre texte"
        await pilot.press("enter")
        await until_shown(pilot, "technician  notre texte")

    reviewing(script)
    assert text_of(server, 0) == "notre texte"


def test_approving_shows_the_ticket_first_and_sends_it_with_enter(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("a")
        await until_shown(pilot, "Approve this call?")
        assert server.decisions == []
        assert "appel-3cx" in shown(pilot.app)
        await pilot.press("enter")
        await until_shown(pilot, "Ticket 4711 is made")
        await until_shown(pilot, "ticket made")

    reviewing(script)
    assert [decision.ticket for decision in server.decisions] == [samples.OUTLOOK_TICKET]


def test_esc_in_the_approval_sends_nothing(reviewing: Callable[..., WaApp], server: FakeServer) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("a")
        await until_shown(pilot, "Approve this call?")
        await pilot.press("escape")
        await until_gone(pilot, "Approve this call?")

    reviewing(script)
    assert server.decisions == []


def test_a_call_with_unsaved_corrections_is_not_approved(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await write(pilot, "à moitié")
        await pilot.press("escape")
        await until_shown(pilot, "✎ not saved")
        await pilot.press("a")
        await until_shown(pilot, "1 correction is not saved")

    reviewing(script)
    assert server.decisions == []


def test_the_ticket_is_written_beside_the_words_and_sent_as_written(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("t")
        pilot.app.screen.query_one("#subject", Input).value = ""
        await pilot.press(*"Outlook")
        await pilot.press("escape", "a")
        await until_shown(pilot, "Approve this call?")
        await pilot.press("enter")
        await until_shown(pilot, "ticket made")

    reviewing(script)
    assert [decision.ticket and decision.ticket.subject for decision in server.decisions] == ["Outlook"]


def test_a_ticket_in_writing_is_restored_when_the_call_is_opened_again(
    reviewing: Callable[..., WaApp],
) -> None:
    async def write_ticket(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("t", "end", "!")

    async def come_back(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        assert pilot.app.screen.query_one("#subject", Input).value == samples.OUTLOOK_TICKET.subject + "!"

    made = reviewing(write_ticket)
    expected = msgspec.structs.replace(
        TicketText.of(samples.OUTLOOK_TICKET), subject=samples.OUTLOOK_TICKET.subject + "!"
    )
    assert made.session.drafts.load(samples.OUTLOOK).ticket == expected
    reviewing(come_back)


def test_a_ticket_without_a_subject_is_not_sent(reviewing: Callable[..., WaApp], server: FakeServer) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        pilot.app.screen.query_one("#subject", Input).value = " "
        await pilot.press("a")
        await until_shown(pilot, "needs a subject")

    reviewing(script)
    assert server.decisions == []


def test_discarding_asks_and_the_safe_answer_has_the_focus(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("d")
        await until_shown(pilot, "Discard this call?")
        await pilot.press("enter")
        await until_gone(pilot, "Discard this call?")
        assert server.decisions == []
        await pilot.press("d")
        await until_shown(pilot, "Discard this call?")
        await pilot.press("shift+tab", "shift+tab", *"spam", "enter", "enter")
        await until_shown(pilot, "discarded")

    reviewing(script)
    assert [(decision.decision, decision.note) for decision in server.decisions] == [("rejected", "spam")]


def test_the_call_is_claimed_while_it_is_open_and_released_after(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: bool(server.commands), "the call is claimed")
        await pilot.press("escape")
        await until(pilot, lambda: len(server.commands) > 1, "the call is released")

    reviewing(script)
    assert server.commands == [
        ("claim", samples.OUTLOOK, samples.US),
        ("release", samples.OUTLOOK, samples.US),
    ]


def test_a_call_that_another_reviews_says_so_and_is_not_claimed(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    server.change(samples.OUTLOOK, claimed_by="101")

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Being reviewed by 101")

    reviewing(script)
    assert server.commands == []


def test_the_words_show_by_themselves_when_the_transcription_is_done(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "It is being transcribed")
        server.tell("call.progress", samples.COMING, progress=0.4)
        await until_shown(pilot, "transcribing 40 %")
        done = samples.call(samples.COMING, CallState.TRANSCRIBED, 4, "Mairie", samples.OUTLOOK_WORDS[:2])
        server.put(done)
        await until_shown(pilot, "Infogérance")
        assert "to review" in shown(pilot.app)

    reviewing(script, call_id=samples.COMING)


def test_a_call_with_a_ticket_cannot_be_changed_and_shows_no_such_keys(
    reviewing: Callable[..., WaApp],
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Le VPN ne se connecte plus")
        assert "Approve" not in shown(pilot.app)
        await pilot.press("e", "s", "a", "d")
        assert not isinstance(pilot.app.screen, Editor)

    reviewing(script, call_id=samples.VPN)


def test_brackets_go_through_the_calls_of_the_list(reviewing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await until(pilot, lambda: len(pilot.app.session.order) == 3, "the list is loaded")  # type: ignore[attr-defined]
        await pilot.press("left_square_bracket")
        await until_shown(pilot, "prints blank(?)")
        await pilot.press("right_square_bracket")
        await until_shown(pilot, "Infogérance")
        await pilot.press("right_square_bracket")
        await until_shown(pilot, "No further call")

    reviewing(script)


def test_y_copies_the_transcript_with_times_and_speakers(reviewing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("y")
        await until_shown(pilot, "is copied")

    made = reviewing(script)
    assert (
        made.clipboard.splitlines()[0]
        == "00:00 technician: Infogérance Dupont, bonjour, Claire à l'appareil."
    )


def test_what_a_caller_says_is_never_taken_for_markup_or_terminal_commands(
    reviewing: Callable[..., WaApp], server: FakeServer
) -> None:
    server.say(samples.OUTLOOK, 0, "[bold red]rouge[/] \x1b[2J[link=x]clic[/link] [/nothing]")
    server.change(samples.OUTLOOK, remote_party="\x1b]0;pwned\x07[b]Moreau[/b]")

    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "[bold red]rouge[/]  [2J[link=x]clic[/link] [/nothing]")
        await until_shown(pilot, "]0;pwned [b]Moreau[/b]")

    reviewing(script)


def test_below_100_columns_the_ticket_is_under_the_words_and_all_fits(
    reviewing: Callable[..., WaApp],
) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        words, ticket = (pilot.app.screen.query_one(name).region for name in ("#transcript", "#ticket"))
        assert ticket.y >= words.bottom
        assert words.width == ticket.width == 80
        assert "Subject" in shown(pilot.app)
        await pilot.resize_terminal(100, 24)
        await pilot.pause()
        words, ticket = (pilot.app.screen.query_one(name).region for name in ("#transcript", "#ticket"))
        assert ticket.y == words.y
        assert ticket.right <= 100

    reviewing(script, size=(80, 24))


def test_help_lists_the_keys_that_act_here(reviewing: Callable[..., WaApp]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "Infogérance")
        await pilot.press("question_mark")
        await until_shown(pilot, "See the ticket as it will be")
        await pilot.press("escape")
        await until_gone(pilot, "See the ticket as it will be")

    reviewing(script)
