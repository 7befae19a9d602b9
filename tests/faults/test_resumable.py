"""Resumable uploads, by a client that is not ours: what was taken stays taken, and nothing is stored twice.

It knows tus 1.0.0 and nothing else: it asks for the offset, sends the next piece, and begins again wherever
it was cut off. The server dies in the middle of requests, and its disk and its network fail.
"""

import base64
import hashlib
import io
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.faults.house import EXTENSION, House, Weather
from whisperagent import sealed, wire

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

UPLOADS = 12
PIECE = 40_000
TUS = {"Tus-Resumable": wire.TUS_VERSION, wire.EXTENSION_HEADER: EXTENSION}
WEATHER = Weather(kill=0.4, cut=0.3, fail=0.1, deepest=60, jumps=0, network=0.3)
LIMIT_S = 200.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "house", 8, WEATHER)
    yield house
    house.close()


def test_a_client_of_tus_brings_every_recording_in_once_through_a_server_that_dies(house: House) -> None:
    house.found()
    key = X25519PrivateKey.from_private_bytes((house.server_home / "server/key").read_bytes())
    recordings = [recording(key, Random(number)) for number in range(UPLOADS)]
    end = time.monotonic() + LIMIT_S
    with httpx.Client(base_url=f"http://127.0.0.1:{house.network.port}", headers=TUS, timeout=1.0) as http:
        for call_id, data in recordings:
            where = ""
            while where != "stored" and time.monotonic() < end:
                house.keep_server()
                try:
                    where = go_on(http, where, call_id, data)
                except httpx.TransportError:
                    continue
    house.calm()
    account = house.account()
    print(account.report())
    assert account.balanced, account.report()
    assert account.parts == UPLOADS
    assert account.faults.total() > UPLOADS
    for call_id, data in recordings:
        assert (house.server_home / f"server/recordings/{call_id}/1.srec").read_bytes() == data


def go_on(http: httpx.Client, where: str, call_id: str, data: bytes) -> str:
    """One request further: gives where the upload is, `stored` when the receipt is that of these bytes."""
    if not where:
        metadata = wire.CallMetadata(call_id=call_id, extension=EXTENSION, started_at=datetime.now(UTC))
        said = base64.b64encode(msgspec.json.encode(metadata)).decode()
        answer = http.post(
            wire.UPLOADS, headers={"Upload-Length": str(len(data)), "Upload-Metadata": f"metadata {said}"}
        )
        return answer.headers["Location"] if answer.status_code == 201 else ""
    answer = http.head(where)
    if answer.status_code == 404:
        return ""
    if answer.status_code != 200:
        return where
    offset = int(answer.headers["Upload-Offset"])
    if offset == len(data):
        receipt = msgspec.json.decode(http.get(where).content, type=wire.UploadAnswer)
        assert (receipt.sha256, receipt.size) == (hashlib.sha256(data).hexdigest(), len(data))
        return "stored"
    piece = data[offset : offset + PIECE]
    checksum = base64.b64encode(hashlib.sha256(piece).digest()).decode()
    http.patch(
        where,
        content=piece,
        headers={
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {checksum}",
            "Content-Type": "application/offset+octet-stream",
        },
    )
    return where


def recording(key: X25519PrivateKey, chance: Random) -> tuple[str, bytes]:
    """A call, and its recording: half a second to two seconds of noise."""
    call_id = wire.new_call_id()
    sink = io.BytesIO()
    writer = sealed.Writer(sink, [key.public_key()], uuid.UUID(call_id).bytes)
    writer.write(bytes(4 * chance.randint(8_000, 64_000)))
    writer.finish()
    return call_id, sink.getvalue()
