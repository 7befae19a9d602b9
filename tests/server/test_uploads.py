"""The upload route, by real HTTP: what curl and the agent send, and what they are answered."""

import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from tests.server.ingest_fixtures import (
    CALL,
    CALLER,
    FORM,
    MAX_BYTES,
    Place,
    create_app,
    form,
    listening,
    metadata,
    noise,
    opened,
    said,
    srec,
    upload,
    wav,
)
from whisperagent import wire
from whisperagent.client import Client
from whisperagent.errors import NotAuthenticated, ServerRefused

SOUND = noise(64_000)
WHO = {"X-Extension": CALLER.extension}

CHILD = """
import resource, sys
from pathlib import Path
import uvicorn
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.server.ingest_fixtures import Place, create_app

key = X25519PrivateKey.from_private_bytes(bytes.fromhex(sys.argv[2]))
app = create_app(Place(Path(sys.argv[1]), key=key), 200_000_000)

async def until_told(scope, receive, send):
    server.should_exit = scope["path"] == "/stop"
    await app(scope, receive, send)

config = uvicorn.Config(until_told, log_level="critical", lifespan="off", port=0)
server = uvicorn.Server(config)
listener = config.bind_socket()
listener.listen()  # before anybody is told the port
print(listener.getsockname()[1], flush=True)
server.run(sockets=[listener])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""
"""A server that says, when it is stopped, how much memory it had at most (KiB)."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def url(place: Place) -> Iterator[str]:
    with listening(create_app(place)) as url:
        yield url


def post(url: str, content: Any, **headers: str) -> httpx.Response:
    sent = WHO | {"content-type": FORM} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url + wire.UPLOAD_RECORDING, content=content, headers=sent, timeout=60)


def problem(response: httpx.Response) -> wire.Problem:
    assert response.headers["content-type"] == "application/problem+json"
    return msgspec.json.decode(response.content, type=wire.Problem)


def test_a_form_as_curl_sends_it_is_taken_once(url: str, place: Place) -> None:
    def send() -> httpx.Response:
        return httpx.post(
            url + wire.UPLOAD_RECORDING,
            headers=WHO,
            files={"recording": ("call.wav", wav(SOUND), "audio/wav"), "metadata": (None, said())},
        )

    first, again = send(), send()
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert first.json() == {
        "call_id": CALL,
        "part": 1,
        "state": "received",
        "sha256": hashlib.sha256(wav(SOUND)).hexdigest(),
        "size": len(wav(SOUND)),
        "status_url": f"/api/transcription-status/{CALL}",
    }
    assert opened(place.stored(), place.key) == wav(SOUND)


@pytest.mark.anyio
async def test_the_agents_own_client_is_understood(url: str, place: Place, tmp_path: Path) -> None:
    recording = tmp_path / "call.srec"
    recording.write_bytes(srec(SOUND, place.key))
    async with Client(url, CALLER.extension) as client:
        receipt = await client.upload(recording, metadata())
        assert receipt.sha256 == hashlib.sha256(place.stored()).hexdigest()
        assert await client.upload(recording, metadata()) == receipt
        recording.write_bytes(srec(SOUND, Place(tmp_path / "other").key))
        with pytest.raises(ServerRefused, match="sealed for another server") as refused:
            await client.upload(recording, metadata(part=2))
        assert refused.value.status == 415
        with pytest.raises(NotAuthenticated, match="in the name of"):
            await client.upload(recording, metadata(extension="999"))


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (form(("metadata", b"\xff"), ("recording", wav(SOUND))), 400, "bad-request"),
        (upload(wav(SOUND))[:-100], 400, "bad-request"),
        (upload(wav(SOUND), extension="999"), 403, "forbidden"),
        (upload(wav(SOUND[:-4])), 409, "conflict"),
        (upload(b"garbage"), 415, "wrong-kind"),
        (upload(wav(SOUND), part=2, sha256="0" * 64), 422, "not-as-declared"),
    ],
    ids=["not UTF-8", "cut", "another's name", "other bytes", "garbage", "a lie"],
)
def test_a_refusal_is_a_problem_with_words(url: str, body: bytes, status: int, kind: str) -> None:
    assert post(url, upload(wav(SOUND))).status_code == 202
    answer = problem(post(url, body))
    assert (answer.status, answer.type) == (status, f"/problems/{kind}")
    assert answer.title


def test_who_does_not_say_who_he_is_is_refused(url: str) -> None:
    answer = httpx.post(
        url + wire.UPLOAD_RECORDING, content=upload(wav(SOUND)), headers={"content-type": FORM}
    )
    assert problem(answer).status == 401


def test_what_is_too_large_is_refused_whether_or_not_its_length_is_said(url: str, place: Place) -> None:
    body = upload(wav(noise(MAX_BYTES + (2 << 20))))
    assert problem(post(url, body)).status == 413

    def chunked() -> Iterator[bytes]:
        for at in range(0, len(body), 1 << 16):
            yield body[at : at + (1 << 16)]

    assert problem(post(url, chunked())).status == 413
    assert place.is_untouched()


def test_the_route_takes_more_than_the_frameworks_ten_megabytes(url: str) -> None:
    assert post(url, upload(wav(noise(12_000_000)))).status_code == 202


def test_a_sender_who_hangs_up_leaves_nothing_and_the_next_one_is_served(url: str, place: Place) -> None:
    body = upload(wav(noise(1_000_000)))
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port)) as broken:
        head = f"POST {wire.UPLOAD_RECORDING} HTTP/1.1\r\nHost: {where.netloc}\r\nX-Extension: 201\r\n"
        head += f"Content-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
        broken.sendall(head.encode() + body[: len(body) // 2])
    assert post(url, upload(wav(SOUND))).status_code == 202
    assert place.files() == [f"{CALL}/1.srec"]


def test_an_early_refusal_is_heard_by_a_sender_who_is_still_sending(url: str) -> None:
    body = upload(wav(noise(8_000_000)), extension="999")
    assert problem(post(url, body)).status == 403


def test_the_document_of_the_api_says_what_the_form_holds(place: Place) -> None:
    document = create_app(place).openapi_schema.to_schema()
    operation = document["paths"][wire.UPLOAD_RECORDING]["post"]
    body = operation["requestBody"]["content"]["multipart/form-data"]
    assert body["schema"]["required"] == ["recording", "metadata"]
    assert body["examples"]["wav"]["value"]["metadata"]["call_id"] == operation_example(operation)["call_id"]
    assert {"200", "202", "400", "409", "413", "415", "422", "507"} <= set(operation["responses"])
    msgspec.convert(body["examples"]["wav"]["value"]["metadata"], wire.CallMetadata)


def operation_example(operation: dict[str, Any]) -> dict[str, Any]:
    (example,) = operation["responses"]["200"]["content"]["application/json"]["examples"].values()
    return msgspec.to_builtins(msgspec.convert(example["value"], wire.UploadAnswer))


@contextmanager
def child(place: Place) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The server of `place` as a process of its own; gives its address."""
    arguments = [str(place.root), place.key.private_bytes_raw().hex()]
    process = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True], ids=["wav", "sealed"])
def test_memory_stays_flat_over_a_hundred_megabytes(tmp_path: Path, sealed: bool) -> None:
    def peak_mib(folder: Path, size: int) -> float:
        folder.mkdir()
        place = Place(folder)
        recording = srec(bytes(size), place.key) if sealed else wav(bytes(size))
        with child(place) as (url, process):
            assert post(url, upload(recording)).status_code == 202
            httpx.get(f"{url}/stop")
            assert process.stdout is not None
            return int(process.stdout.readline()) / 1024

    assert peak_mib(tmp_path / "large", 100_000_000) < peak_mib(tmp_path / "small", 1_000_000) + 16


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 4])
def test_a_killed_server_has_what_it_answered_for_and_takes_the_rest_again(
    tmp_path: Path, answers: int
) -> None:
    place = Place(tmp_path)
    recording = wav(noise(2_000_000))
    call_ids = [wire.new_call_id() for _number in range(8)]
    answered: list[str] = []
    enough = threading.Event()

    def send_all(url: str) -> None:
        with suppress(httpx.TransportError):
            for call_id in call_ids:
                assert post(url, upload(recording, call_id=call_id)).status_code == 202
                answered.append(call_id)
                if len(answered) == answers:
                    enough.set()

    with child(place) as (url, process), ThreadPoolExecutor(1) as sender:
        sending = sender.submit(send_all, url)
        assert enough.wait(60)
        process.kill()
        sending.result(60)
    for call_id in answered:
        assert opened(place.stored(call_id), place.key) == recording
    place.recordings.sweep()
    with child(place) as (url, _process):
        for call_id in call_ids:
            status = post(url, upload(recording, call_id=call_id)).status_code
            assert status == 200 if call_id in answered else status in (200, 202)
    assert place.files() == sorted(f"{call_id}/1.srec" for call_id in call_ids)
    assert sorted(place.rows("SELECT call_id FROM parts")) == sorted((call_id,) for call_id in call_ids)
    assert len(place.rows("SELECT 1 FROM queue_task")) == len(call_ids)
