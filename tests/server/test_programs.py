"""`wa server …` as an administrator meets it: whole programs, their exit codes and their words."""

import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import filelock
import httpx
import msgspec
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.server.conftest import running as in_process
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


def test_a_second_server_in_one_home(home: Path) -> None:
    (home / "server").mkdir()
    with filelock.FileLock(home / "server/server.lock"):
        done = wa("server", "serve", "--port", "0", home=home)
    one_clear_error(done, 1, "a server runs in this home already")


def test_a_worker_where_no_server_has_been(home: Path) -> None:
    one_clear_error(wa("server", "worker", home=home), 2, "there are no calls", "wa server serve")


def test_which_calls_are_to_be_begun_anew_is_asked_for(home: Path) -> None:
    one_clear_error(wa("server", "retry", home=home), 2, "which calls?", "--all")
    assert "there are no calls" in wa("server", "retry", "--all", home=home).stderr


def test_a_call_that_was_given_up_is_begun_anew(home: Path) -> None:
    call_id = wire.new_call_id()
    with in_process(home) as server:
        server.upload(call_id)
        server.change("UPDATE calls SET state = 'failed', attempts = 3")
        done = wa("server", "retry", call_id, home=home)
        assert (done.returncode, done.stdout) == (0, f"{call_id}\n"), done.stderr
        assert server.call(call_id).summary.state is wire.CallState.RECEIVED


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


def long_call() -> bytes:
    """So long that nobody has transcribed it before it is to stop."""
    with wave.open(str(CALLS / "noisy.wav"), "rb") as call:
        pcm, channels = call.readframes(call.getnframes()), call.getnchannels()
    sound = io.BytesIO()
    with wave.open(sound, "wb") as longer:
        longer.setnchannels(channels)
        longer.setsampwidth(2)
        longer.setframerate(wire.SAMPLE_RATE)
        longer.writeframes(pcm * 10)
    return sound.getvalue()


def half_an_upload(server: Line) -> socket.socket:
    """A sender who never comes to the end."""
    host, port = server.url.removeprefix("http://").split(":")
    sender = socket.create_connection((host, int(port)))
    sender.sendall(
        f"POST {wire.UPLOAD_RECORDING} HTTP/1.1\r\nHost: {host}\r\nX-Extension: 201\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="recording"\r\n\r\nRIFF0000WAVE'.encode()
        + bytes(600_000)
    )
    return sender


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_server_that_is_asked_to_stop_in_the_middle_of_everything_ends_in_order(
    running: Line, number: signal.Signals, code: int
) -> None:
    """A socket is open, an upload and a transcription are half done. Asked is who has this terminal, as by
    Ctrl+C; and, as systemd does it, the worker too."""
    running.start_server()
    home = running.server_home / "server"
    call_id = wire.new_call_id()
    assert send(running, call_id, long_call()).status_code == 202
    status = f"{wire.TRANSCRIPTION_STATUS}/{call_id}"
    until(lambda: ask(running, status)["progress"] > 0, lambda: ask(running, status))
    url = running.url.replace("http", "ws") + wire.REVIEW_CHANNEL
    with (
        connect(url, additional_headers={"X-Extension": "201"}) as channel,
        half_an_upload(running) as sender,
    ):
        until(lambda: any((home / "recordings/.incoming").iterdir()), running.server.last_words)
        [server] = [child for child in psutil.Process().children() if child.cmdline()[-1] == "serve"]
        [worker] = server.children()
        began = time.monotonic()
        server.send_signal(number)
        worker.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE_S) == code
        assert time.monotonic() - began < 8.0
        assert sender.recv(100).startswith(b"HTTP/1.1 503 ")
        with pytest.raises(ConnectionClosed) as closed:
            list(channel)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert not worker.is_running()
    assert not any((home / "recordings/.incoming").iterdir())
    log = running.server.log.read_text("utf-8")
    assert "Traceback" not in log
    assert '"level": "critical"' not in log
    with closing(sqlite3.connect(home / "calls.db")) as database:
        assert database.execute("SELECT state, attempts FROM calls").fetchall() == [("received", 0)]
        assert database.execute("SELECT status FROM queue_task").fetchall() == [("pending",)]


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
