"""Offline mode, with real programs: a call is drafted on the PC, sent when a server comes, and compared."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from whisperserver.demo import line as lines
from whisperserver.demo.line import Line
from whisperserver.demo.play import recording

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_S = 120.0


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A line whose server does not run, with a PC in offline mode."""
    with lines.line(tmp_path / "line") as made:
        for key, value in (("enabled", "true"), ("after_s", "1"), ("model", "demo")):
            said(wa(made, "config", "set", f"offline.{key}", value))
        yield made


def wa(line: Line, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisperagent", *arguments],
        env=os.environ | {"WA_HOME": str(line.pc)},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(line: Line, event: str, call_id: str = "") -> str:
    """Until the agent tells it, of that call or of any; gives the call."""

    def told() -> list[str]:
        return [
            moment["call_id"]
            for moment in line.moments()
            if moment["event"] == event and call_id in ("", moment["call_id"])
        ]

    line.wait(lambda: bool(told()), line.agent, PATIENCE_S)
    return told()[0]


@pytest.mark.parametrize("there_is_one", [True, False], ids=["a server that is away", "no server at all"])
def test_a_call_is_drafted_here_and_transcribed_there_and_the_difference_is_shown(
    line: Line, there_is_one: bool
) -> None:
    if not there_is_one:
        said(wa(line, "config", "set", "server.url", ""))
    line.play(recording("french").wav, speed=20)
    call_id = wait_for(line, "drafted")

    [waiting] = json.loads(said(wa(line, "queue", "show", call_id, "--json")))
    assert (waiting["state"], waiting["attempts"] > 0) == ("queued", there_is_one)
    assert waiting["draft_made_at"]
    read = said(wa(line, "review", "--plain", stdin="open 1\nread\nedit 3 Mon imprimante brûle.\n"))
    assert "Draft, made on this PC by demo" in read
    assert "caller: Mon imprimante ne marche plus." in read
    home = b"".join(path.read_bytes() for path in line.pc.rglob("*") if path.is_file())
    assert b"imprimante" not in home

    line.start_server()
    if not there_is_one:
        line.agent.stop()
        said(wa(line, "config", "set", "server.url", line.url))
        line.play(recording("english").wav, speed=20)
    wait_for(line, "transcribed", call_id)
    document = json.loads(said(wa(line, "review", call_id, "--diff", "--json")))
    runs = [(run["kind"], run["text"]) for told in document["lines"] for run in told["runs"]]
    assert [run for run in runs if run[0] != "same"] == [("removed", "brûle."), ("added", "ne marche plus.")]
