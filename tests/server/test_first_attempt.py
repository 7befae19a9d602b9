"""What the first attempt at this product got wrong on the server: each mistake is a test, under its own name.

The agent's nine are with the agent. A real server runs in each, over real HTTP.
"""

import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.server.conftest import Server, problem, running, until
from tests.server.ingest_fixtures import noise
from whisperagent import settings, wire
from whisperserver import auth
from whisperserver.demo import play
from whisperserver.serve import keep_worker
from whisperserver.transcribe import score


@pytest.fixture
def working(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a worker process, which has the model of the demonstration."""
    monkeypatch.setenv("WA_SERVE__FREE_MIB", "0")
    with running(home, speech=settings.Speech(model="demo"), background=(keep_worker,)) as server:
        yield server


@pytest.fixture(scope="module")
def call() -> play.Recording:
    """A call of the demonstration, whose words are known."""
    return play.recording(play.names()[0])


def pcm(call: play.Recording) -> bytes:
    with wave.open(str(call.wav), "rb") as sound:
        return sound.readframes(sound.getnframes())


@pytest.mark.slow
def test_10_the_worker_opens_what_lies_encrypted_and_transcribes_it(
    working: Server, call: play.Recording
) -> None:
    call_id = working.received(pcm(call))
    [stored] = working.services.recordings.root.rglob("*.srec")
    piece = pcm(call)[call_middle(call) :][:64]
    assert len(set(piece)) > 8, "silence proves nothing"
    assert piece not in stored.read_bytes()
    until(lambda: working.call(call_id).transcript, 60.0)
    transcript = working.call(call_id).transcript
    assert transcript is not None
    assert score.word_error_rate(call.truth, transcript.segments) <= 0.05
    assert score.speaker_accuracy(call.truth, transcript.segments) >= 0.99


def call_middle(call: play.Recording) -> int:
    """Where somebody speaks: the byte in the middle of the first sentence."""
    [first, *_rest] = call.truth
    return int((first.start_s + first.end_s) / 2 * wire.SAMPLE_RATE) * 4


@pytest.mark.slow
def test_11_an_upload_is_a_job_that_somebody_takes(working: Server, call: play.Recording) -> None:
    call_id = working.received(pcm(call))
    until(lambda: working.call(call_id).transcript, 60.0)
    until(lambda: working.rows("SELECT 1 FROM queue_task WHERE status = 'completed'"))
    assert working.rows("SELECT task_key, status FROM queue_task") == [(f"transcribe:{call_id}", "completed")]
    assert working.call(call_id).summary.state is wire.CallState.TRANSCRIBED


def test_12_an_extension_header_alone_is_not_believed_beyond_loopback(tmp_path: Path) -> None:
    serve = settings.Serve(host="0.0.0.0", signing_key="k" * 32, free_mib=0)  # noqa: S104 - what is tested
    with running(tmp_path / "open", serve=serve) as server:
        alone = {wire.EXTENSION_HEADER: "201"}
        for path in (wire.CALLS, wire.SERVER_KEY, f"{wire.CALLS}/{wire.new_call_id()}/audio"):
            problem(httpx.get(f"{server.url}{path}", headers=alone), 401, "not-authenticated")
        problem(server.upload(wire.new_call_id()), 401, "not-authenticated")
        assert server.rows("SELECT count(*) FROM calls") == [(0,)]
        # Nor is it believed beside a token that was made for somebody else.
        token = auth.make_token(serve, "202", days=1)
        both = {**alone, "Authorization": f"Bearer {token}"}
        problem(httpx.get(f"{server.url}{wire.CALLS}", headers=both), 403, "forbidden")


def test_12_an_upload_sent_again_makes_no_second_call_and_no_second_ticket(server: Server) -> None:
    call_id = wire.new_call_id()
    recording = server.seal(noise(64_000), call_id)
    first = server.upload(call_id, recording=recording)
    server.transcribe(call_id, "Bonjour.", "Bonjour.")
    with server.http() as http:
        again = server.upload(call_id, recording=recording)
        assert server.call(call_id).summary.state is wire.CallState.TRANSCRIBED
        decision = {"version": 1, "decision": "approved"}
        assert http.post(f"{wire.CALLS}/{call_id}/review", json=decision).status_code == 200
        last = server.upload(call_id, recording=recording)
        assert http.post(f"{wire.CALLS}/{call_id}/review", json=decision).status_code == 200
    assert [first.status_code, again.status_code, last.status_code] == [202, 200, 200]
    receipts = [
        msgspec.json.decode(answer.content, type=wire.UploadAnswer) for answer in (first, again, last)
    ]
    assert len({receipt.sha256 for receipt in receipts}) == 1
    assert server.rows("SELECT count(*) FROM calls") == [(1,)]
    assert server.rows("SELECT count(*) FROM parts") == [(1,)]
    assert server.rows("SELECT count(*) FROM tickets") == [(1,)]
    assert server.rows("SELECT count(*) FROM queue_task WHERE queue = 'ticket'") == [(1,)]
