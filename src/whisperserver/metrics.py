"""Numbers for Prometheus, under `whisperagent_`.

What this process alone sees (requests, uploads) is counted here as it happens. What the store knows (calls,
tickets, queues, transcriptions, which happen in other processes) is read from it at each scrape, so it is
right after a restart and is counted once however many processes there are.
"""

import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from whisperagent import __version__, wire
from whisperserver import problems
from whisperserver.jobs import Queue

LOST = (413, 415, 422, 460, 500, 503, 507)
"""Answers to a piece that end its upload, or hold it up. Others are words of the protocol; that a piece was
the last one only its handler knows."""

BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


@dataclass(frozen=True)
class Stored:
    """What is read at a scrape. calls, tickets: how many by state. queues: by job.

    transcribed, sound_s, work_s: calls ever transcribed, their length, and how long that took.
    factor: work for a second of sound in the newest transcription. workers: by `ready`, `unavailable`.
    free_bytes: room left where recordings are kept. clients: open review channels.
    """

    calls: Mapping[str, int]
    tickets: Mapping[str, int]
    queues: Mapping[str, Queue]
    transcribed: int
    sound_s: float
    work_s: float
    factor: float
    workers: Mapping[str, int]
    free_bytes: int
    clients: int


class Metrics:
    """A registry of its own, so that several servers in one process (tests) do not share numbers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._store = _Store()
        self.requests = Histogram(
            "whisperagent_http_request_seconds",
            "From a request to the beginning of its answer",
            ("method", "route", "status"),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self.uploads = Counter(
            "whisperagent_uploads",
            "Uploads by result: stored, repeated (had it already), refused, failed; and by way: form, pieces",
            ("result", "way"),
            registry=self._registry,
        )
        for result in ("stored", "repeated", "refused", "failed"):
            for way in ("form", "pieces"):
                self.uploads.labels(result, way)
        self.upload_bytes = Counter(
            "whisperagent_upload_bytes", "Bytes of uploads that came in", registry=self._registry
        )
        build = Gauge("whisperagent_build_info", "Always 1", ("version", "python"), registry=self._registry)
        build.labels(__version__, platform.python_version()).set(1)
        self._registry.register(self._store)
        ProcessCollector(registry=self._registry)

    def text(self, stored: Stored) -> bytes:
        """All of it, in Prometheus's text format."""
        self._store.families = tuple(_families(stored))
        return generate_latest(self._registry)


class _Store(Collector):
    families: Iterable[Metric] = ()

    def collect(self) -> Iterable[Metric]:
        return self.families


def _families(stored: Stored) -> Iterator[Metric]:
    yield _by("calls", "Calls by state", "state", stored.calls)
    yield _by("tickets", "Tickets by state", "state", stored.tickets)
    depths = {job: queue.jobs for job, queue in stored.queues.items()}
    yield _by("queue_jobs", "Jobs that wait", "job", depths)
    ages = {job: queue.oldest_s for job, queue in stored.queues.items()}
    yield _by("queue_oldest_seconds", "How long the first waiting job has waited", "job", ages)
    yield _by("workers", "Worker processes, by whether they can transcribe", "speech", stored.workers)
    counters = {
        "transcriptions": ("Calls transcribed", stored.transcribed),
        "transcribed_audio_seconds": ("Sound transcribed", stored.sound_s),
        "transcription_seconds": ("Time that transcribing took", stored.work_s),
    }
    for name, (text, value) in counters.items():
        yield CounterMetricFamily(f"whisperagent_{name}", text, value)
    gauges = {
        "transcription_real_time_factor": ("Work for a second of sound, newest call", stored.factor),
        "websocket_clients": ("Open review channels", stored.clients),
        "storage_free_bytes": ("Room left where recordings are kept", stored.free_bytes),
    }
    for name, (text, value) in gauges.items():
        yield GaugeMetricFamily(f"whisperagent_{name}", text, value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"whisperagent_{name}", text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


class Measured:
    """Middleware: times every request by the template of its route, and counts uploads."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        method, route = scope["method"], scope["path_template"]
        is_form = method == "POST" and route == wire.UPLOAD_RECORDING
        is_piece = method == "PATCH" and route.startswith(wire.UPLOADS)
        begun = time.perf_counter()
        answered = False

        def answering(status: int) -> None:
            nonlocal answered
            answered = True
            self._metrics.requests.labels(method, route, status).observe(time.perf_counter() - begun)
            if is_form:
                self._metrics.uploads.labels(_result(status), "form").inc()
            elif is_piece and status in LOST:
                self._metrics.uploads.labels(_result(status), "pieces").inc()

        async def measured_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answering(message["status"])
            await send(message)

        async def measured_receive() -> HTTPReceiveMessage:
            message = await receive()
            if message["type"] == "http.request" and (is_form or is_piece):
                self._metrics.upload_bytes.inc(len(message["body"]))
            return message  # type: ignore[return-value]  # an HTTP scope receives nothing else

        try:
            await self._app(scope, measured_receive, measured_send)
        except Exception as problem:
            # Refused on the way in (auth.py): the answer is made further out.
            if not answered:
                answering(problems.of(problem, route)[0].status)
            raise


def _result(status: int) -> str:
    if status >= 400:
        return "refused" if status < 500 else "failed"
    return "stored" if status == 202 else "repeated"
