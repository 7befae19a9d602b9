"""The softphone's log: followed from its present end, through rotation, and never believed for long."""

from pathlib import Path

import pytest

from whisperagent.hosts.loglines import LogLines
from whisperagent.settings import Detection


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "softphone.log"
    path.write_text("call established\n")
    return path


def following(log: Path) -> LogLines:
    return LogLines(
        Detection(
            log_files=(str(log.parent / "*.log"),),
            log_connected="call established",
            log_ended="call terminated",
        )
    )


def write(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def test_what_was_written_before_says_nothing(log: Path) -> None:
    assert following(log).look() == ""


def test_a_call_is_up_from_one_line_to_the_other(log: Path) -> None:
    lines = following(log)
    write(log, "12:00 Call Established with +33 6 12 34 56 78\nsomething else\n")
    assert lines.look() == "connected"
    assert lines.look() == "connected"
    write(log, "12:05 call terminated\n")
    assert lines.look() == "ended"


def test_the_end_is_said_for_a_while_only(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperagent.hosts.loglines.ENDED_S", 0.0)
    lines = following(log)
    write(log, "call established\ncall terminated\n")
    assert lines.look() == ""


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    lines = following(log)
    write(log, "call esta")
    assert lines.look() == ""
    write(log, "blished\n")
    assert lines.look() == "connected"


@pytest.mark.parametrize("text", ["call established\n", "call established\n" * 3])
def test_a_log_that_begins_anew_is_read_from_its_beginning(log: Path, text: str) -> None:
    lines = following(log)
    write(log, "a long line of the old file that says nothing\n" * 3)
    lines.look()
    log.write_text(text)
    assert lines.look() == "connected"


def test_a_log_that_comes_later_is_found(log: Path) -> None:
    lines = following(log)
    write(log.with_name("second.log"), "call established\n")
    assert lines.look() == "connected"


def test_of_a_flood_only_the_last_megabyte_is_read(log: Path) -> None:
    lines = following(log)
    write(log, "call established\n" + "nothing\n" * (2 << 17))
    assert lines.look() == ""


def test_bytes_that_are_no_text_are_no_trouble(log: Path) -> None:
    lines = following(log)
    with log.open("ab") as file:
        file.write(b"\xff\xfe\x00 call established\n")
    assert lines.look() == "connected"


def test_a_folder_of_that_name_or_no_file_at_all_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    lines = following(tmp_path / "none.log")
    assert lines.look() == ""
