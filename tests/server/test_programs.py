"""`wa server …` as an administrator meets it: whole programs, their exit codes and their words."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from whisperagent import wire
from whisperserver.demo import CALLS
from whisperserver.demo.line import Line, line

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0


def wa(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisperagent", *arguments],
        env=os.environ | {"WA_HOME": str(home)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def one_clear_error(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("wa: error: "), done.stderr
    assert "    try: " in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Line]:
    """A server, with no worker's luck guaranteed: tests say which model it has."""
    with line(tmp_path / "line") as made:
        yield made


def send(server: Line, call_id: str, recording: bytes) -> httpx.Response:
    metadata = {"call_id": call_id, "extension": "201", "started_at": "2026-11-25T09:00:00Z"}
    files = {"metadata": (None, json.dumps(metadata)), "recording": ("call.wav", recording)}
    return httpx.post(
        f"{server.url}{wire.UPLOAD_RECORDING}", files=files, headers={"X-Extension": "201"}, timeout=30
    )


def ask(server: Line, path: str) -> Any:
    return httpx.get(f"{server.url}{path}", headers={"X-Extension": "201"}, timeout=30).json()


def until(condition: Callable[[], bool], explain: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.1)


def test_a_port_that_is_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = wa("server", "serve", "--port", str(port), home=home)
    one_clear_error(done, 2, f"cannot listen on 127.0.0.1:{port}", "--port")


def test_an_address_beyond_this_machine_without_a_signing_key(home: Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - it is to be refused
    done = wa("server", "serve", "--host", everywhere, "--port", "0", home=home)
    one_clear_error(done, 2, "without a signing key", "| wa config set serve.signing_key -")


def test_a_signing_key_that_is_too_short(home: Path) -> None:
    done = wa("server", "serve", "--port", "0", home=home, WA_SERVE__SIGNING_KEY="secret")
    one_clear_error(done, 2, "too short")


def test_a_token_needs_a_signing_key(home: Path) -> None:
    one_clear_error(wa("server", "token", "201", home=home), 2, "there is no signing key")


def test_a_token_for_what_is_no_extension(home: Path) -> None:
    done = wa("server", "token", "two hundred", home=home, WA_SERVE__SIGNING_KEY="k" * 32)
    one_clear_error(done, 2, "`two hundred` is not an extension")


def test_a_token_is_alone_on_stdout(home: Path) -> None:
    done = wa("server", "token", "201", home=home, WA_SERVE__SIGNING_KEY="k" * 32)
    assert done.returncode == 0
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout)


def test_a_ticket_system_that_lacks_its_settings(home: Path) -> None:
    done = wa("server", "serve", "--port", "0", home=home, WA_TICKETS__SINK="ninjaone")
    one_clear_error(done, 2, "tickets.client_id", "docs/tickets.md")


def test_a_database_that_is_none(home: Path) -> None:
    (home / "server").mkdir()
    (home / "server/key").write_bytes(bytes(range(32)))
    (home / "server/key").chmod(0o600)
    (home / "server/calls.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    one_clear_error(wa("server", "serve", "--port", "0", home=home), 2, "cannot use the database")


def test_a_second_server_in_one_home(running: Line) -> None:
    running.start_server()
    done = wa("server", "serve", "--port", "0", home=running.server_home)
    one_clear_error(done, 1, "a server runs in this home already")


def test_a_server_without_a_model_takes_calls_and_says_what_is_missing(tmp_path: Path) -> None:
    with line(tmp_path / "line", model="large-v3-turbo") as server:
        status = a_waiting_call(server)
        until(
            lambda: "wa server model pull large-v3-turbo" in ask(server, status)["error"],
            server.server.last_words,
        )
        assert ask(server, status)["state"] == "received"
        assert ask(server, status)["position"] == 1
        ready = httpx.get(server.url + wire.READY)
        assert (ready.status_code, ready.json()["speech"]) == (200, "unavailable")


def test_a_corrupt_model_is_named_and_calls_wait(tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(CALLS.parent / "model", broken)
    os.truncate(broken / "model.bin", 100_000)
    with line(tmp_path / "line", model=str(broken)) as server:
        status = a_waiting_call(server)
        until(lambda: str(broken) in ask(server, status)["error"], server.server.last_words)
        assert ask(server, status)["state"] == "received"
        assert server.server.runs
        assert "Traceback" not in server.server.log.read_text("utf-8")


def a_waiting_call(server: Line) -> str:
    """Where its status is."""
    server.start_server()
    answer = send(server, wire.new_call_id(), (CALLS / "english.wav").read_bytes())
    assert answer.status_code == 202
    return str(answer.json()["status_url"])


def test_a_plain_curl_is_enough(running: Line) -> None:
    running.start_server()
    call_id = wire.new_call_id()
    metadata = json.dumps({"call_id": call_id, "extension": "201", "started_at": "2026-11-25T09:00:00Z"})
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "-H", "X-Extension: 201"),
            *("-F", f"recording=@{CALLS / 'french.wav'}", "-F", f"metadata={metadata}"),
            running.url + wire.UPLOAD_RECORDING,
        ],
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
    )
    answer = msgspec.json.decode(done.stdout, type=wire.UploadAnswer)
    assert answer.call_id == call_id
    until(
        lambda: ask(running, answer.status_url)["state"] == "transcribed",
        lambda: (ask(running, answer.status_url), running.server.last_words()),
    )
    for stored in (running.server_home / "server/recordings").rglob("*.srec"):
        assert stored.read_bytes()[:5] == b"\x89SREC"


def test_a_server_that_is_asked_to_stop_in_mid_transcription_gives_the_call_back(running: Line) -> None:
    running.start_server()
    call_id = wire.new_call_id()
    send(running, call_id, (CALLS / "noisy.wav").read_bytes())
    status = f"{wire.TRANSCRIPTION_STATUS}/{call_id}"
    until(lambda: ask(running, status)["state"] != "received", lambda: ask(running, status))
    running.server.stop()
    running.start_server()
    until(lambda: ask(running, status)["state"] == "transcribed", lambda: ask(running, status))
    assert ask(running, f"{wire.CALLS}/{call_id}")["transcript"]["version"] == 1


def test_the_logs_of_a_whole_run_hold_no_words_no_numbers_no_token(running: Line) -> None:
    running.start_server()
    call_id = wire.new_call_id()
    metadata = {
        "call_id": call_id,
        "extension": "201",
        "started_at": "2026-11-25T09:00:00Z",
        "remote_party": "+33 6 12 34 56 78",
    }
    recording = (CALLS / "french.wav").read_bytes()
    httpx.post(
        running.url + wire.UPLOAD_RECORDING,
        files={"metadata": (None, json.dumps(metadata)), "recording": ("call.wav", recording)},
        headers={"X-Extension": "201"},
        timeout=30,
    )
    call = f"{wire.CALLS}/{call_id}"
    until(lambda: ask(running, call)["summary"]["state"] == "transcribed", lambda: ask(running, call))
    spoken = ask(running, call)["transcript"]["segments"]
    ask(running, f"{wire.CALLS}?q={spoken[0]['text']}&remote_party=34 56 78")
    running.server.stop()
    log = running.server.log.read_text("utf-8")
    assert call_id in log
    assert "34 56 78" not in log
    for segment in spoken:
        assert segment["text"].strip() not in log
