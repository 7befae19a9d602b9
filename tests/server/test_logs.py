"""What is in the log, and what never is."""

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.server.conftest import running
from whisperagent import wire
from whisperserver import logs

CALL = "01980f2e-7a3b-7c41-9d52-3f6a8b1c2d4e"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is of the whole process: put back what other tests count on."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_its_call(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger("whisperserver.worker").warning("call %s waits", CALL)
    [line] = lines(capsys)
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert line == {
        "level": "warning",
        "logger": "whisperserver.worker",
        "event": f"call {CALL} waits",
        "call_id": CALL,
    }


def test_numbers_are_masked_and_addresses_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger("x").error("+33 6 12 34 56 78 at http://127.0.0.1:3002/api")
    [line] = lines(capsys)
    assert line["event"] == "+33•••••678 at http://127.0.0.1:3002/api"


def test_a_traceback_is_kept_and_masked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    try:
        raise ValueError("cannot ring +33612345678")
    except ValueError:
        logging.getLogger("x").exception("broke")
    [line] = lines(capsys)
    assert "ValueError: cannot ring +33•••••678" in line["exception"]


def test_fields_that_nobody_allowed_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger("x").warning("hello", extra={"transcript": "Zygomatique"})
    assert "Zygomatique" not in capsys.readouterr().err


def test_a_terminal_reads_key_and_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    logs.set_up()
    logging.getLogger("x").warning("it waits")
    assert re.search(r'level=warning logger=x event="it waits"', capsys.readouterr().err)


def test_the_log_of_a_whole_run_holds_no_word_and_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call goes through, is looked for, is corrected, fails in the database; everything is logged."""
    logs.set_up("DEBUG")
    with running(tmp_path / "home") as server, server.http() as http:
        call_id = server.transcribed("Zygomatique.", remote_party="+33612345678", agent_name="Zygomatique")
        http.get(wire.CALLS, params={"q": "zygomatique"})
        edit = {"version": 1, "segments": [{"id": 0, "text": "Zygomatique deux."}]}
        http.patch(f"{wire.CALLS}/{call_id}/transcript", json=edit)
        server.change("CREATE TRIGGER no BEFORE INSERT ON reviews BEGIN SELECT RAISE(ABORT, 'refused'); END")
        review = {"version": 2, "decision": "approved", "note": "Zygomatique"}
        assert http.post(f"{wire.CALLS}/{call_id}/review", json=review).status_code == 500
    log = capsys.readouterr().err
    assert "/review broke" in log
    assert "refused" in log
    assert "ygomatique" not in log
    assert "612345678" not in log
