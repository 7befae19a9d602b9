"""The whole line, with real programs: a call is detected, recorded, sealed, sent, transcribed and ticketed.

What a new user does (`wa demo`), and what must not go wrong on the way: a PC or a server that dies.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from whisperagent import wire
from whisperserver.demo import line as lines
from whisperserver.demo.line import Line
from whisperserver.demo.play import Outcome, Play, names, recording

NEAR_S = 4.0
"""A sentence, and what a sentence that was cut leads astray: the small model guesses its neighbour by it."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def wa(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisperagent", *arguments],
        env=os.environ | {"WA_HOME": str(home)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with lines.line(tmp_path / "line") as made:
        yield made


def one_call_one_ticket(line: Line, play: Play, outcome: Outcome) -> wire.Call:
    """What must hold however the line was disturbed; gives the call as the server has it."""
    assert [ticket["id"] for ticket in line.tickets()] == [outcome.ticket["id"]]
    page = play.ask(wire.CALLS, wire.CallPage)
    assert [(call.call_id, call.state) for call in page.items] == [(outcome.call_id, "ticketed")]
    assert page.items[0].ticket_id == str(outcome.ticket["id"])
    call = play.server_says()
    assert call.transcript is not None
    assert call.transcript.version == 1
    return call


@pytest.mark.parametrize("name", names())
def test_a_call_becomes_one_ticket_with_the_words_of_each_side(name: str, home: Path) -> None:
    done = wa("demo", "--json", "--call", name, "--speed", "8", home=home)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert outcome["wer"] <= 0.05
    assert outcome["speaker_accuracy"] >= 0.99
    assert {segment["speaker"] for segment in outcome["transcript"]} == {"agent", "caller"}
    assert f"rec-{outcome['call_id']}" in outcome["ticket"]["tags"]
    stages = ["detected", "recording", "sealed", "queued", "uploaded"]
    assert outcome["states"][:5] == stages
    assert outcome["states"][-3:] == ["transcribed", "approved", "ticketed"]
    said = " ".join(turn["text"] for turn in outcome["expected"])
    assert len(said.split()) > 20


def test_a_demonstration_without_a_terminal_shows_transcript_ticket_and_places(
    home: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    done = wa("demo", "--call", "french", "--speed", "20", "--keep", str(keep), home=home)
    assert done.returncode == 0, done.stderr
    assert "ticket 1001" in done.stdout
    assert "caller" in done.stdout
    assert "vocabulary" in done.stderr
    [recorded] = (keep / "pc/spool/done").glob("*.srec")
    assert recorded.read_bytes()[:5] == b"\x89SREC"
    assert json.loads((keep / "tickets.json").read_bytes())["tickets"]


def test_an_agent_killed_in_mid_recording_still_gives_one_call_and_one_ticket(line: Line) -> None:
    line.start_server()
    call = recording("english")
    play = Play(line, call, 2.0)
    play.start()
    line.wait(lambda: line.recorded_s() > call.duration_s / 3, line.agent, 60)
    killed_s = line.recorded_s()
    line.agent.kill()
    play.start()
    play.until("transcribed")
    play.approve()
    outcome = play.until_ticketed()
    before, after = (part.metadata for part in one_call_one_ticket(line, play, outcome).parts)
    # What was said while no agent lived is lost, with the sentences that it cuts; nothing else is.
    until_s = (after.started_at - before.started_at).total_seconds()

    apart = [turn for turn in call.truth if turn.end_s < killed_s - NEAR_S or turn.start_s > until_s + NEAR_S]
    assert len(apart) > len(call.truth) / 3
    heard = " ".join(segment.text for segment in outcome.transcript)
    assert [turn.text for turn in apart if turn.text not in heard] == []


def test_a_server_killed_in_mid_transcription_still_gives_one_transcript_and_one_ticket(line: Line) -> None:
    line.start_server()
    play = Play(line, recording("french"), 20.0)
    play.start()
    play.until("transcribing")
    line.server.kill()
    line.start_server()
    play.until("transcribed")
    play.approve()
    outcome = play.until_ticketed()
    one_call_one_ticket(line, play, outcome)
    assert outcome.wer is not None
    assert outcome.wer <= 0.05


def test_a_server_killed_while_the_ticket_is_sent_makes_no_second_one(line: Line) -> None:
    line.start_server()
    play = Play(line, recording("noisy"), 20.0)
    play.start()
    play.until("transcribed")
    play.approve()
    line.server.kill()
    line.start_server()
    one_call_one_ticket(line, play, play.until_ticketed())
