"""What Prometheus is told, and that it stays true."""

import platform
import re

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.server.conftest import Server
from tests.server.ingest_fixtures import noise
from whisperagent import __version__, wire


def figures(server: Server) -> dict[tuple[str, ...], float]:
    """`("whisperagent_calls", "received")` -> 1.0: every sample, by its name and the values of its labels."""
    answer = httpx.get(f"{server.url}{wire.METRICS}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_uploads_are_counted_by_their_result(server: Server) -> None:
    call_id = wire.new_call_id()
    recording = server.seal(noise(50_000), call_id)
    for _time in range(2):
        server.upload(call_id, recording=recording)
    server.upload(call_id, recording=server.seal(noise(50_000, seed=2), call_id))
    server.upload(wire.new_call_id(), recording=b"garbage")
    now = figures(server)
    results = {
        kind: now["whisperagent_uploads_total", kind, "form"]
        for kind in ("stored", "repeated", "refused", "failed")
    }
    assert results == {"stored": 1, "repeated": 1, "refused": 2, "failed": 0}
    assert now["whisperagent_upload_bytes_total",] > 2 * len(recording)


def test_calls_tickets_queues_and_times_are_as_the_store_has_them(server: Server) -> None:
    call_id = server.transcribed("Un.", "Deux.")
    server.received()
    server.received()
    with server.http() as http:
        http.post(f"{wire.CALLS}/{call_id}/review", json={"version": 1, "decision": "approved"})
    now = figures(server)
    assert now["whisperagent_calls", "approved"] == 1
    assert now["whisperagent_calls", "received"] == 2
    assert now["whisperagent_calls", "failed"] == 0
    assert now["whisperagent_tickets", "draft"] == 1
    assert now["whisperagent_queue_jobs", "transcribe"] == 3  # one of them for a call that needs it no more
    assert now["whisperagent_queue_jobs", "ticket"] == 1
    assert now["whisperagent_queue_oldest_seconds", "transcribe"] > 0
    assert now["whisperagent_transcriptions_total",] == 1
    assert now["whisperagent_transcribed_audio_seconds_total",] == 4.0
    assert now["whisperagent_transcription_seconds_total",] == 0.5
    assert now["whisperagent_transcription_real_time_factor",] == 0.125
    assert now["whisperagent_build_info", platform.python_version(), __version__] == 1
    assert now["whisperagent_storage_free_bytes",] > 0
    assert now["process_resident_memory_bytes",] > 0


def test_figures_that_only_rise_do_not_fall_when_a_call_is_erased(server: Server) -> None:
    call_id = server.transcribed()
    before = figures(server)
    with server.http() as http:
        http.delete(f"{wire.CALLS}/{call_id}")
    after = figures(server)
    counters = [
        key for key in before if key[0].endswith("_total") and key[0].startswith("whisperagent_trans")
    ]
    assert len(counters) == 3
    assert all(after[key] == before[key] > 0 for key in counters)
    assert after["whisperagent_calls", "erased"] == 1


def test_requests_are_timed_by_route_and_never_by_address(server: Server) -> None:
    call_id = server.received()
    with server.http() as http:
        http.get(f"{wire.CALLS}/{call_id}")
        http.get(f"{wire.CALLS}/{wire.new_call_id()}")
        http.get(wire.CALLS, params={"q": "zygomatique"})
    httpx.get(f"{server.url}{wire.CALLS}")
    httpx.get(f"{server.url}/nowhere")
    text = httpx.get(f"{server.url}{wire.METRICS}").text
    now = figures(server)
    name = "whisperagent_http_request_seconds_count"
    assert now[name, "GET", "/api/calls/{call_id}", "200"] == 1
    assert now[name, "GET", "/api/calls/{call_id}", "404"] == 1
    assert now[name, "GET", "/api/calls", "200"] == 1
    assert now[name, "GET", "/api/calls", "401"] == 1
    assert not re.search(rf"{call_id}|zygomatique|nowhere", text)
