"""`wa transcribe`, as a person starts it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.speech.conftest import CALLS

pytestmark = pytest.mark.slow


def transcribe(*options: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "whisperagent", "transcribe"]
    return subprocess.run([*program, *options], capture_output=True, text=True, check=False)


def test_lines_with_times_and_speakers_are_the_result_and_the_notice_is_talk() -> None:
    answer = transcribe(CALLS / "english.wav", "--model", "demo")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0] == "00:00.9  technician  Hello, help desk, Peter speaking."
    assert {line.split()[1] for line in lines} == {"technician", "caller"}
    assert "small vocabulary" in answer.stderr
    assert "wa server model pull" in answer.stderr


def test_json_is_one_document(tmp_path: Path) -> None:
    samples, rate = soundfile.read(CALLS / "french.wav", dtype="int16")
    unnamed = tmp_path / "recording"  # by its content, not by its name
    soundfile.write(unnamed, samples, rate, format="FLAC")
    answer = transcribe(unnamed, "--model", "demo", "--json", "--language", "fr")
    document = json.loads(answer.stdout)
    assert {key: document[key] for key in ("file", "language", "model")} == {
        "file": str(unnamed),
        "language": "fr",
        "model": "demo",
    }
    assert document["duration_s"] == pytest.approx(len(samples) / rate, abs=0.01)
    assert document["segments"][0]["speaker"] == "agent"
    assert document["segments"][0]["words"]


def test_silence_is_said_to_be_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros((16_000, 2), np.int16), 16_000)
    answer = transcribe(tmp_path / "silence.wav", "--model", "demo")
    assert (answer.returncode, answer.stdout) == (0, "")
    assert "nobody speaks in it" in answer.stderr


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 2, "cannot read"),
        (b"", 1, "it is empty"),
        (b"not a sound", 1, "it is no WAV, FLAC or Ogg-Opus file"),
        (b"\x89SREC\r\n\x1a" + bytes(200), 1, "is a sealed recording"),
        (b"RIFF\0\0\0\0WAVEjunk", 1, "cannot decode the recording as wav"),
    ],
    ids=["no file", "empty", "text", "sealed", "a broken WAV"],
)
def test_a_file_that_is_no_recording_is_one_clear_error(
    tmp_path: Path, content: bytes | None, code: int, words: str
) -> None:
    file = tmp_path / "file.wav"
    if content is not None:
        file.write_bytes(content)
    answer = transcribe(file, "--model", "demo")
    assert (answer.returncode, answer.stdout) == (code, "")
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_machine_without_a_model_says_how_to_get_one() -> None:
    answer = transcribe(CALLS / "french.wav")
    assert answer.returncode == 1
    assert "wa server model pull large-v3-turbo" in answer.stderr
