"""What the tests of speech share: the demo's model, loaded once, its calls, and new calls."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from whisperagent.settings import Speech
from whisperserver.transcribe.engine import Engine

ROOT = Path(__file__).parents[2]
CALLS = ROOT / "src" / "whisperserver" / "demo" / "calls"

MakeCall = Callable[..., Path]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(Speech(model="demo"), Path("models-that-are-not-there"))


@pytest.fixture(scope="session")
def make_call(tmp_path_factory: pytest.TempPathFactory) -> MakeCall:
    """Makes a call by scripts/speech: its WAV, with the truth beside it as JSON."""

    def make(language: str, seed: int, layout: str = "stereo", seconds: int = 45) -> Path:
        wav = tmp_path_factory.mktemp("call") / "call.wav"
        program = [sys.executable, str(ROOT / "scripts" / "speech" / "make_call.py")]
        options = ["--lang", language, "--seed", str(seed), "--layout", layout, "--seconds", str(seconds)]
        subprocess.run([*program, *options, str(wav), str(wav.with_suffix(".json"))], check=True)
        return wav

    return make
