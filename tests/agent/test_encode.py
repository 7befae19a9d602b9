"""What is sealed is encoded as it comes: nothing is lost by FLAC, and any beginning of a stream is heard."""

import subprocess
import sys
from array import array
from pathlib import Path
from random import Random

import pytest

from tests.agent.fakes import heard
from whisperagent import encode
from whisperagent.encode import Codec, Encoder
from whisperagent.wire import SAMPLE_RATE

FLAC_BLOCK = 1152


class Kept(bytearray):
    """Where encoded bytes go."""

    def write(self, data: bytes) -> None:
        self += data


def sound(seconds: float, channels: int) -> bytes:
    random = Random(7)
    return array(
        "h", [random.randint(-9000, 9000) for _ in range(int(seconds * SAMPLE_RATE) * channels)]
    ).tobytes()


def encoded(pcm: bytes, codec: Codec, channels: int, *, piece: int = 3200) -> Kept:
    kept = Kept()
    encoder = Encoder(kept, codec, channels)
    for at in range(0, len(pcm), piece):
        encoder.write(pcm[at : at + piece])
    encoder.finish()
    encoder.close()
    return kept


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", ["flac", "pcm"])
def test_every_sample_comes_back(codec: Codec, channels: int) -> None:
    pcm = sound(3.01, channels)
    assert heard(bytes(encoded(pcm, codec, channels)), codec) == pcm


def test_of_a_flac_stream_that_is_cut_anywhere_the_beginning_is_heard() -> None:
    pcm = sound(2, 2)
    whole = bytes(encoded(pcm, "flac", 2))
    bytes_a_block = 4 * FLAC_BLOCK * len(whole) / len(pcm)
    for cut in Random(3).sample(range(len(whole)), 25):
        rest = heard(whole[:cut], "flac")
        assert pcm.startswith(rest)
        blocks = len(rest) // (4 * FLAC_BLOCK)
        assert blocks >= cut / bytes_a_block - 2, "more than the block that was cut is missing"


def test_little_waits_in_the_encoder() -> None:
    """What a recorder that is killed had not handed on."""
    pcm = sound(1, 2)
    kept = Kept()
    encoder = Encoder(kept, "flac", 2)
    encoder.write(pcm)
    assert len(heard(bytes(kept), "flac")) >= len(pcm) - 2 * 4 * FLAC_BLOCK
    encoder.close()


def test_opus_keeps_the_length_in_a_tenth_of_the_bytes() -> None:
    pcm = bytes(4 * SAMPLE_RATE * 2)
    kept = encoded(pcm, "opus", 2)
    assert len(kept) < len(pcm) / 10
    assert abs(len(heard(bytes(kept), "opus")) - len(pcm)) <= 4 * SAMPLE_RATE * 0.05


def test_a_pc_without_the_library_records_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "library", lambda: None)
    assert encode.usable("flac") == "pcm"
    assert encode.usable("pcm") == "pcm"


def test_numpy_is_not_loaded_for_it() -> None:
    program = (
        "import sys; from whisperagent.encode import Encoder, usable; import io;"
        "assert usable('flac') == 'flac'; encoder = Encoder(io.BytesIO(), 'flac', 2);"
        "encoder.write(bytes(6400)); encoder.finish(); encoder.close();"
        "sys.exit('numpy' in sys.modules or 'soundfile' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=False)
    assert done.returncode == 0
