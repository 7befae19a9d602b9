"""stdout is data, stderr is talk; colour only where it is wanted, and never alone."""

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from whisperagent import console, wire
from whisperagent.errors import UsageError

Captured = pytest.CaptureFixture[str]
Env = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def defaults_again() -> Iterator[None]:
    yield
    console.set_up()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Ascii(io.StringIO):
    encoding = "ascii"


def test_an_error_is_what_why_and_what_to_do_on_stderr(capsys: Captured) -> None:
    console.error(UsageError("it is so", why="because", fix="do this"))
    assert capsys.readouterr() == ("", "wa: error: it is so\n    because\n    try: do this\n")


def test_an_error_without_a_reason_is_one_line(capsys: Captured) -> None:
    console.error(UsageError("it is so"))
    assert capsys.readouterr().err == "wa: error: it is so\n"


def test_quiet_silences_talk_but_neither_results_nor_errors(capsys: Captured) -> None:
    console.set_up(quiet=True)
    console.say("talk")
    console.print_data("data")
    console.error(UsageError("wrong"))
    assert capsys.readouterr() == ("data\n", "wa: error: wrong\n")


def test_json_is_one_document_with_times_in_utc(capsys: Captured) -> None:
    console.set_up(color="always")
    at = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    console.print_json({"at": at, "state": wire.CallState.RECEIVED, "name": "Amélie"})
    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-01-05T09:00:00Z",
        "state": "received",
        "name": "Amélie",
    }


def test_a_table_is_as_wide_as_its_content(capsys: Captured) -> None:
    console.print_table(("id", "state"), [("1", "queued"), ("1234", "done")], empty="nothing")
    assert capsys.readouterr() == ("id    state\n1     queued\n1234  done\n", "")


def test_an_empty_table_is_talk(capsys: Captured) -> None:
    console.print_table(("id", "state"), [], empty="nothing waits")
    assert capsys.readouterr() == ("", "nothing waits\n")


@pytest.mark.parametrize(
    ("flag", "variables", "stream", "coloured"),
    [
        ("auto", {}, Terminal, True),
        ("auto", {}, io.StringIO, False),
        ("auto", {"NO_COLOR": "1"}, Terminal, False),
        ("auto", {"NO_COLOR": ""}, Terminal, True),
        ("auto", {"FORCE_COLOR": "1"}, io.StringIO, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, Terminal, False),
        ("always", {"NO_COLOR": "1"}, io.StringIO, True),
        ("never", {"FORCE_COLOR": "1"}, Terminal, False),
    ],
)
def test_a_flag_beats_no_color_beats_force_color_beats_the_terminal(
    monkeypatch: Env, flag: str, variables: dict[str, str], stream: type[io.StringIO], coloured: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console.set_up(color=flag)
    assert (console.styled("ok", "green", stream()) != "ok") == coloured


def test_a_glyph_has_a_stand_in_where_it_cannot_be_written() -> None:
    assert console.glyph("●", "*", Terminal()) == "●"
    assert console.glyph("●", "*", Ascii()) == "*"


def test_a_bar_is_for_terminals_only_and_leaves_no_trace(monkeypatch: Env) -> None:
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(console, "PROGRESS_AFTER_S", 0.0)
        with console.progress("sending", 10) as bar:
            bar.update(5)
        shown = stream.getvalue()
        assert ("50%" in shown) == drawn
        assert shown.endswith("\x1b[K") == drawn


def test_a_bar_waits_before_it_appears(monkeypatch: Env) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with console.progress("sending", 10) as bar:
        bar.update(5)
    assert stream.getvalue() == ""
