"""`wa review --plain`: the same review in lines of text, and what `wa review` says where it cannot be."""

import io
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.tui import samples
from tests.tui.fake_server import FakeServer
from whisperagent import i18n, settings
from whisperagent.client import Client
from whisperagent.errors import ServerRefused, ServerUnreachable, UsageError
from whisperagent.tui import plain, words
from whisperagent.tui.drafts import Drafts
from whisperagent.tui.own_calls import OwnCalls

Say = Callable[..., list[str]]


@pytest.fixture
def drafts(loaded: settings.Loaded) -> Drafts:
    return Drafts(loaded.paths.home / "drafts")


@pytest.fixture
def own(loaded: settings.Loaded) -> OwnCalls:
    return OwnCalls(loaded.paths)


@pytest.fixture
def say(
    server: FakeServer,
    drafts: Drafts,
    own: OwnCalls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Say:
    """`say("open 1", "read")`: a script's lines, then its end; gives the lines of the results."""

    def run(*lines: str, call_id: str = "") -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        plain.review(Client(server.url, samples.US), drafts, own, call_id)
        return capsys.readouterr().out.splitlines()

    return run


def test_the_calls_to_review_are_numbered_and_the_end_of_the_input_ends_it(say: Say) -> None:
    first, second = say()
    assert first.startswith("1. ")
    assert first.endswith(
        "+33 1 42 68 53 00, ext. 201, en: The printer on the second floor prints blank pages."
    )
    assert second.startswith("2. ")


def test_a_doubtful_word_carries_its_sign(say: Say) -> None:
    assert "2. 00:03 caller: The printer on the second floor prints blank(?) pages." in say(
        "open 1", "next", "next"
    )


def test_a_correction_is_sent(say: Say, server: FakeServer, drafts: Drafts) -> None:
    said = say("open 1", "edit 2 It prints nothing.", "speaker 2")
    assert said[-2:] == ["2. 00:03 caller: It prints nothing.", "2. 00:03 technician: It prints nothing."]
    transcript = server.calls[samples.PRINTER].transcript
    assert transcript is not None
    assert (transcript.segments[1].text, transcript.segments[1].speaker) == ("It prints nothing.", "agent")
    assert drafts.load(samples.PRINTER).texts == {}


def test_when_somebody_was_first_our_text_is_kept_and_save_sends_it(
    say: Say, server: FakeServer, drafts: Drafts, own: OwnCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TooLate:
        """Somebody else corrects the segment while we write."""

        lines = ["edit 2 our text\n", "open 1\n"]

        def isatty(self) -> bool:
            return False

        def readline(self) -> str:
            line = self.lines.pop()
            if line.startswith("edit"):
                server.say(samples.PRINTER, 1, "their text")
            return line

    monkeypatch.setattr(sys, "stdin", TooLate())
    with pytest.raises(ServerRefused) as refused:
        plain.review(Client(server.url, samples.US), drafts, own)
    assert "`save` sends your text" in refused.value.fix
    assert drafts.load(samples.PRINTER).texts == {1: "our text"}

    said = say("open 1", "save")
    assert "not saved yet, segment 2: our text" in said
    transcript = server.calls[samples.PRINTER].transcript
    assert transcript is not None
    assert transcript.segments[1].text == "our text"


def test_a_call_with_unsaved_corrections_is_not_approved(
    say: Say, server: FakeServer, drafts: Drafts
) -> None:
    drafts.keep_text(samples.PRINTER, 1, "our text")
    with pytest.raises(UsageError):
        say("approve yes", call_id="latest")
    assert server.decisions == []


def test_the_ticket_is_written_shown_and_sent(say: Say, server: FakeServer) -> None:
    said = say(
        "subject Blank pages", "priority high", "body", "one", "two", ".", "approve yes", call_id="latest"
    )
    assert said[-2:] == ["approved", "ticket 4711"]
    [decision] = server.decisions
    assert decision.ticket is not None
    assert (decision.ticket.subject, decision.ticket.body, decision.ticket.priority) == (
        "Blank pages",
        "one\ntwo",
        "HIGH",
    )


@pytest.mark.parametrize("answers", [["approve", "no"], ["approve"], ["reject spam", "no"], ["reject"]])
def test_without_a_yes_nothing_is_decided(say: Say, server: FakeServer, answers: list[str]) -> None:
    say(*answers, call_id="latest")
    assert server.decisions == []


def test_a_reason_is_kept_with_a_rejection(say: Say, server: FakeServer) -> None:
    assert say("reject a wrong number", "yes", call_id="latest")[-1] == "discarded"
    assert [(made.decision, made.note) for made in server.decisions] == [("rejected", "a wrong number")]


def test_what_a_caller_says_reaches_the_terminal_as_text(say: Say, server: FakeServer) -> None:
    server.say(samples.PRINTER, 1, "\x1b[2J\x1b]0;owned\x07 \u202ehello")
    assert not {"\x1b", "\x07", "\u202e"} & set("".join(say("open 1", "read")))


def test_a_priority_is_named_in_the_readers_language_or_in_english(say: Say, server: FakeServer) -> None:
    i18n.use("fr")
    try:
        high = words.priority("HIGH")
        for name in (high, "high"):
            shown = say(f"priority {name}", call_id="latest")
            assert any(line.endswith(high) for line in shown), shown
    finally:
        i18n.use("en")


@pytest.mark.parametrize(
    "lines", [["bogus"], ["open 9"], ["edit 99 text"], ["priority urgent"], ["subject", "approve yes"]]
)
def test_a_mistake_ends_a_script_with_what_to_do(say: Say, lines: list[str]) -> None:
    with pytest.raises(UsageError) as mistake:
        say("open 1", *lines)
    assert mistake.value.fix


def test_without_a_server_it_says_which_one_was_asked(drafts: Drafts, own: OwnCalls) -> None:
    with pytest.raises(ServerUnreachable) as error:
        plain.review(Client("http://127.0.0.1:9", samples.US), drafts, own)
    assert "127.0.0.1:9" in error.value.what


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--server", "http://127.0.0.1:9", "--plain"], 3, "cannot reach"),
        (["--extension", "201"], 2, "--plain"),
        (["nonsense"], 2, "is not the id of a call"),
    ],
)
def test_the_command_ends_with_words_and_a_code_where_it_cannot_review(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.setenv("WA_AGENT__EXTENSION", "201")
    done = subprocess.run(
        [sys.executable, "-m", "whisperagent", "review", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
