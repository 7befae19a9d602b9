"""A call from its sealed files, as a PC without a server drafts it, and the program that does it."""

import base64
import io
import json
import subprocess
import sys
import uuid
import wave
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.speech.conftest import CALLS
from whisperagent import sealed, wire
from whisperagent.errors import AudioError, SealedError
from whisperserver.transcribe.parts import opened

KEY = X25519PrivateKey.generate()
CALL = wire.new_call_id()
BEGAN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SECOND = 16_000

Seal = Callable[..., Path]


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    """`seal(1, sound, at_s=0.0)`: part 1 of the call as the recorder seals it; gives its file."""

    def make(part: int, sound: bytes, *, at_s: float = 0.0, cut: int = 0, **more: object) -> Path:
        metadata = wire.CallMetadata(
            call_id=CALL,
            extension="201",
            started_at=BEGAN + timedelta(seconds=at_s),
            part=part,
            **more,  # type: ignore[arg-type]
        )
        sink = io.BytesIO()
        writer = sealed.Writer(
            sink, [KEY.public_key()], uuid.UUID(CALL).bytes, msgspec.json.encode(metadata), segment_log2=12
        )
        writer.write(sound)
        writer.finish()
        file = tmp_path / f"{CALL}.{part}.srec"
        file.write_bytes(sink.getvalue()[: len(sink.getvalue()) - cut])
        return file

    return make


def tone(value: int, seconds: float, channels: int = 2) -> bytes:
    return np.full((round(seconds * SECOND), channels), value, "<i2").tobytes()


def flac(pcm: bytes) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, np.frombuffer(pcm, "<i2").reshape(-1, 2), SECOND, format="FLAC")
    return sink.getvalue()


def test_parts_lie_where_the_clock_put_them_with_silence_between(seal: Seal) -> None:
    files = [seal(1, tone(7, 1.0)), seal(2, flac(tone(9, 1.0)), at_s=3.0, codec="flac")]
    samples = opened(files, KEY, 1.0).samples
    assert samples.shape == (2, 4 * SECOND)
    assert [samples[0, round(at * SECOND)] for at in (0.5, 1.5, 2.5, 3.5)] == [7, 0, 0, 9]


def test_a_part_that_was_cut_short_gives_what_it_holds_and_an_empty_one_nothing(seal: Seal) -> None:
    files = [seal(1, tone(7, 1.0), cut=2000), seal(2, b"", at_s=1.0), seal(3, tone(9, 1.0), at_s=1.0)]
    samples = opened(files, KEY, 1.0).samples
    # Whole segments of 4 KiB; what was in the last one is gone.
    assert samples.shape[1] == 2 * SECOND
    assert samples[0, 15 * 1024 - 1] == 7
    assert samples[0, SECOND - 1] == 0


def test_where_one_part_is_mono_the_call_is(seal: Seal) -> None:
    files = [seal(1, tone(8, 1.0)), seal(2, tone(6, 1.0, channels=1), at_s=1.0, layout="mono")]
    samples = opened(files, KEY, 1.0).samples
    assert samples.shape == (1, 2 * SECOND)
    assert (samples[0, 0], samples[0, -1]) == (8, 6)


def test_a_call_without_sound_or_for_others_is_refused(seal: Seal) -> None:
    with pytest.raises(AudioError):
        opened([seal(1, b"")], KEY, 1.0)
    with pytest.raises(AudioError, match="longer"):
        opened([seal(1, tone(1, 2.0)), seal(2, tone(1, 2.0), at_s=2.0)], KEY, 3.0 / 3600)
    with pytest.raises(SealedError):
        opened([seal(1, tone(1, 1.0))], X25519PrivateKey.generate(), 1.0)


# The program


def start(*arguments: str | Path) -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-m", "whisperagent", "--quiet", "transcribe", "--draft", "--json"]
    return subprocess.Popen(
        [*program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def answer(child: "subprocess.Popen[bytes]", *keys: X25519PrivateKey) -> tuple[int, str, str]:
    """Give it the keys, and read what it says; its stdin stays open."""
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        child.stdin.write(b" ".join(base64.b64encode(key.private_bytes_raw()) for key in keys) + b"\n")
        child.stdin.flush()
        out, err = child.stdout.read(), child.stderr.read()
        code = child.wait()
    return code, out.decode(), err.decode()


@pytest.mark.slow
def test_the_words_of_a_sealed_call_in_two_parts_come_with_their_times(seal: Seal) -> None:
    with wave.open(str(CALLS / "french.wav"), "rb") as sound:
        half = sound.getnframes() // 2
        first, second = flac(sound.readframes(half)), flac(sound.readframes(half))
    files = [seal(1, first, codec="flac"), seal(2, second, at_s=half / SECOND, codec="flac", last=True)]
    code, out, err = answer(start("--model", "demo", *files), X25519PrivateKey.generate(), KEY)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["model"] == "demo"
    assert {segment["speaker"] for segment in document["segments"]} == {"agent", "caller"}
    assert "imprimante" in " ".join(segment["text"] for segment in document["segments"])
    assert document["segments"][-1]["start_s"] > half / SECOND


OFFLINE_ALONE = """
import sys
absent = "advanced_alchemy aiosqlite alembic jwt litestar litestar_queues multipart obstore prometheus_client"
for package in [*absent.split(), "sqlalchemy", "structlog", "uuid_utils", "uvicorn"]:
    sys.modules[package] = None
from whisperagent.cli import main
main()
"""
"""`wa` as on a PC that has the extra `offline`, and not `server`."""


@pytest.mark.slow
def test_the_extra_offline_is_enough_to_draft_and_to_look_for_models(seal: Seal) -> None:
    with wave.open(str(CALLS / "french.wav"), "rb") as sound:
        file = seal(1, sound.readframes(10 * SECOND))
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            OFFLINE_ALONE,
            "--quiet",
            "transcribe",
            "--draft",
            "--json",
            "--model",
            "demo",
            file,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    code, out, err = answer(child, KEY)
    assert code == 0, err
    assert "Bonjour" in out
    listed = [sys.executable, "-c", OFFLINE_ALONE, "server", "model", "list", "--json"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [model["name"] for model in json.loads(done.stdout)] == ["demo"]


@pytest.mark.slow
def test_whoever_started_it_is_gone_and_it_ends(seal: Seal) -> None:
    child = start("--model", "demo", seal(1, tone(1, 3600.0)))
    assert child.stdin is not None
    with child:
        child.stdin.write(base64.b64encode(KEY.private_bytes_raw()) + b"\n")
        child.stdin.close()
        assert child.wait(60) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "keys", "code", "words"),
    [
        ("not-there", (KEY,), 2, "there is no speech model `not-there`"),
        ("demo", (), 2, "there is no key"),
        ("demo", (X25519PrivateKey.generate(),), 1, "sealed to another key"),
    ],
)
def test_what_is_wrong_with_this_pc_and_what_with_the_call_is_told_apart(
    seal: Seal, model: str, keys: tuple[X25519PrivateKey, ...], code: int, words: str
) -> None:
    ended, _out, err = answer(start("--model", model, seal(1, tone(1, 1.0))), *keys)
    assert (ended, words in err) == (code, True), err
