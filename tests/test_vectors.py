"""tests/vectors: SREC v1 by example. Our reader, the one in the documentation and their maker agree."""

import hashlib
import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwcrypto import jwa

from whisperagent import sealed
from whisperagent.envelope import Header
from whisperagent.errors import SealedError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "vectors"
INDEX = json.loads((FOLDER / "index.json").read_bytes())
VECTORS = [pytest.param(vector, id=vector["name"]) for vector in INDEX["vectors"]]
RIGHT = [pytest.param(vector, id=vector["name"]) for vector in INDEX["vectors"] if vector["expect"] == "ok"]

Vector = dict[str, Any]
Opens = Callable[[bytes, bytes], tuple[bytes, bytes]]


def key(vector: Vector) -> bytes:
    return bytes.fromhex(INDEX["keys"][vector["key"]]["private"])


def content(vector: Vector) -> bytes:
    return Path(FOLDER, vector["file"]).read_bytes()


def outcome(problem: SealedError) -> str:
    if isinstance(problem, sealed.WrongRecipient):
        return "wrong recipient"
    if isinstance(problem, sealed.Truncated):
        return "truncated"
    return "not sealed" if problem.what == "this is not a sealed recording" else "damaged"


def read(vector: Vector) -> tuple[str, sealed.Reader | None, bytes]:
    """What strict reading comes to, and what it gave out until then."""
    out = b""
    reader = None
    try:
        reader = sealed.Reader(io.BytesIO(content(vector)), X25519PrivateKey.from_private_bytes(key(vector)))
        for segment in reader.segments():
            out += segment
    except SealedError as problem:
        return outcome(problem), reader, out
    return "ok", reader, out


@pytest.mark.parametrize("vector", VECTORS)
def test_a_vector_is_read_as_its_index_says(vector: Vector) -> None:
    found, reader, out = read(vector)
    assert found == vector["expect"]
    assert (len(out), hashlib.sha256(out).hexdigest()) == (vector["size"], vector["sha256"])
    if reader is not None:
        assert b"".join(reader.salvage()) == out
    if found == "ok":
        assert reader is not None
        assert reader.recording_id.hex() == vector["recording_id"]
        assert hashlib.sha256(reader.metadata).hexdigest() == vector["metadata_sha256"]
        assert (reader.complete(), reader.size()) == (True, len(out))


@pytest.mark.parametrize("vector", VECTORS)
def test_the_reader_in_the_documentation_agrees(vector: Vector, documented: Opens) -> None:
    if vector["expect"] != "ok":
        with pytest.raises(Exception):  # noqa: B017, PT011 - thirty lines that check with `assert`
            documented(content(vector), key(vector))
        return
    metadata, recording = documented(content(vector), key(vector))
    assert hashlib.sha256(recording).hexdigest() == vector["sha256"]
    assert hashlib.sha256(metadata).hexdigest() == vector["metadata_sha256"]


@pytest.fixture(scope="module")
def documented() -> Opens:
    page = (ROOT / "docs" / "sealed-recording.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)  # noqa: S102 - our own page
    opens: Opens = names["open_srec"]
    return opens


def test_what_we_seal_the_reader_in_the_documentation_opens(documented: Opens) -> None:
    private = X25519PrivateKey.generate()
    sink = io.BytesIO()
    writer = sealed.Writer(sink, [private.public_key()], bytes(range(16)), b"about", segment_log2=12)
    writer.write(b"sound" * 3000)
    writer.finish()
    assert documented(sink.getvalue(), private.private_bytes_raw()) == (b"about", b"sound" * 3000)


@pytest.mark.parametrize("vector", RIGHT)
def test_another_implementation_of_a256cbc_hs512_opens_each_segment_alone(vector: Vector) -> None:
    data = content(vector)
    header = Header.read(io.BytesIO(data))
    file_key = header.file_key(X25519PrivateKey.from_private_bytes(key(vector)))
    info = b"srec/v1 keys\0" + data[:12] + header.recording_id
    okm = HKDF(SHA512(), 160, header.salt, info).derive(file_key)
    theirs = jwa.JWA.encryption_alg("A256CBC-HS512")

    def open_box(box_key: bytes, box: bytes, aad: bytes) -> bytes:
        opened: bytes = theirs.decrypt(box_key, aad, box[:16], box[16:-32], box[-32:])
        return opened

    about = open_box(okm[64:128], header.sealed_metadata, b"SREC1met" + header.recording_id)
    assert hashlib.sha256(about).hexdigest() == vector["metadata_sha256"]
    full = header.segment_size + sealed.OVERHEAD
    segments = [data[at : at + full] for at in range(header.length, len(data), full)]
    recording = b""
    for index, segment in enumerate(segments):
        end = struct.pack(">QB", index, index == len(segments) - 1)
        recording += open_box(okm[:64], segment, b"SREC1seg" + header.recording_id + end)
    assert hashlib.sha256(recording).hexdigest() == vector["sha256"]


def test_the_vectors_are_what_their_script_makes() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "vectors"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_outcome_has_its_vectors() -> None:
    assert {vector["expect"] for vector in INDEX["vectors"]} == {
        "ok",
        "truncated",
        "wrong recipient",
        "damaged",
        "not sealed",
    }


def test_the_longest_header_is_as_long_as_one_may_be() -> None:
    header = (FOLDER / "longest-header.srec").read_bytes()[12:16]
    assert int.from_bytes(header, "big") == sealed.HEADER_LIMIT


def test_a_key_id_is_what_the_index_says() -> None:
    for known in INDEX["keys"].values():
        public = X25519PrivateKey.from_private_bytes(bytes.fromhex(known["private"])).public_key()
        assert sealed.key_id(public).hex() == known["kid"]
