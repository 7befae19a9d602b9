"""Our Windows pieces in a real Windows Python under wine, with a softphone that has a 3CX name.

What wine has: processes, windows, registry, COM, WASAPI capture. What it has not (sessions of an endpoint,
loopback of any kind) is played by fakes in the other tests, and must be refused in words here.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agent import fakes
from tests.linux.sound import (
    CALLER_HZ,
    TECHNICIAN_HZ,
    PulseAudio,
    Samples,
    Tones,
    absent,
    sides,
    there,
    wait_for,
)
from whisperagent.wire import SAMPLE_RATE

ROOT = Path(__file__).parents[2]
PROGRAMS = ("wine", "x86_64-w64-mingw32-gcc", "pulseaudio", "unzip")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
TITLE = "Call with +33 6 12 34 56 78 – 3CX"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"not installed: {', '.join(MISSING)} "
        "(apt-get install wine wine64 gcc-mingw-w64-x86-64 pulseaudio pulseaudio-utils unzip)",
    ),
]


class Windows:
    """A Windows under wine (`scripts/wine`). environment: of what runs in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        self._folder = folder

    def python(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run Windows' Python to its end."""
        return subprocess.run(
            [self._folder / "python", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def ours(self, *command: str) -> list[dict[str, Any]]:
        """A command of in_wine.py: the documents it printed."""
        done = self.python(Path(__file__).with_name("in_wine.py"), *command)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def start(self, program: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [self._folder / "wine", program, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def popen(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [self._folder / "python", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="session")
def made() -> Path:
    """Where the Windows is; it is made once for this machine, in less than a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "whisperagent" / "wine"
    subprocess.run([ROOT / "scripts" / "wine", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def softphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program 3CXDesktopApp.exe."""
    program = tmp_path_factory.mktemp("softphone") / "3CXDesktopApp.exe"
    compiler = ["x86_64-w64-mingw32-gcc", "-mwindows", "-municode"]
    source = Path(__file__).with_name("fake3cx.c")
    subprocess.run([*compiler, source, "-o", program, "-lwinmm"], check=True)
    return program


@pytest.fixture
def pulse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulseAudio]:
    """The sound of this Windows' devices: the technician speaks into the microphone all the time."""
    folder = tmp_path_factory.mktemp("p", numbered=True)
    server = PulseAudio(folder / "pulse")
    try:
        server.start()
        play = ["pacat", "-p", "--raw", "--format=s16le", "--rate=16000", "--channels=1"]
        server.program([*play, "--latency-msec=20", "--device=room", str(Tones(folder).file(TECHNICIAN_HZ))])
        yield server
    finally:
        server.stop()


@pytest.fixture
def windows(made: Path, pulse: PulseAudio, home: Path) -> Iterator[Windows]:
    environment = os.environ | pulse.environment | {"WA_HOME": f"Z:{home}".replace("/", "\\")}
    yield Windows(made, environment)
    # Its devices belong to this sound server: the next test's Windows starts anew.
    subprocess.run([made / "wine", "wineserver", "-k"], env=environment, check=False)
    subprocess.run([made / "wine", "wineserver", "-w"], env=environment, check=True)


def heard(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2") / 32768


def test_a_call_is_seen_by_its_process_its_title_and_the_microphone(
    windows: Windows, softphone: Path
) -> None:
    phone = windows.start(softphone, "3")
    seen = windows.ours("look")
    assert phone.wait(20) == 0
    steps = [(one["process"], one["microphone"], one["titles"]) for one in seen]
    calling = steps.index((True, True, [TITLE]))
    assert (True, False, ["3CX"]) in steps[:calling]
    assert (True, False, ["3CX"]) in steps[calling:]
    assert steps[-1] == (False, False, [])
    assert {one["streams"] for one in seen if one["process"]} == {False}


def test_the_microphone_is_recorded_whole_and_the_callers_silence_is_said(windows: Windows) -> None:
    *blocks, end = windows.ours("record", "5")
    assert end["capture"] == ["wasapi-microphone", "none"]
    [[kind, note]] = end["marks"]
    assert kind == "device lost"
    assert note.startswith("caller: process-loopback: its build is 18362, and 19041 is needed")
    samples = heard(b"".join(bytes.fromhex(block["pcm"]) for block in blocks))
    assert there(samples, TECHNICIAN_HZ) > 0.95
    # Each block lies where the one before it ended: nothing lost, nothing twice.
    first, last = blocks[0], blocks[-1]
    frames = (len(samples) * 2 - len(last["pcm"]) // 2) // 2
    assert last["at"] - first["at"] == pytest.approx(frames / SAMPLE_RATE, abs=0.1)
    assert len(samples) > 3 * SAMPLE_RATE


def test_every_recording_device_is_heard_at_once_each_by_its_own_sound(
    windows: Windows, pulse: PulseAudio, tmp_path: Path
) -> None:
    play = ["pacat", "-p", "--raw", "--format=s16le", "--rate=16000", "--channels=1"]
    pulse.program([*play, "--latency-msec=20", "--device=headset", str(Tones(tmp_path).file(CALLER_HZ))])
    [devices] = windows.ours("listen", "4")
    technician = heard(bytes.fromhex(devices["Microphone"]))
    caller = heard(bytes.fromhex(devices["Monitor of Headset"]))
    assert there(technician, TECHNICIAN_HZ) > 0.9
    assert there(caller, CALLER_HZ) > 0.9
    assert absent(technician, CALLER_HZ)
    assert absent(caller, TECHNICIAN_HZ)


def test_what_this_windows_has_not_is_said_in_words(windows: Windows) -> None:
    [found] = windows.ours("doctor")
    devices = {device["name"]: device["kind"] for device in found["devices"]}
    assert devices["Headset"] == "output"
    assert devices["Microphone"] == "microphone"
    assert found["ways"]["process-loopback"] == [False, "its build is 18362, and 19041 is needed"]
    assert found["ways"]["endpoint-loopback"] == [False, "the device cannot be recorded in this way"]
    assert found["ways"]["streams"] == [False, "this Windows cannot do it"]


def test_a_process_loopback_that_windows_refuses_hears_nothing_at_all(windows: Windows) -> None:
    assert windows.ours("alone") == [{"refused": "this Windows has no such device"}]


def test_wa_runs_in_windows(windows: Windows) -> None:
    assert windows.python("-m", "whisperagent", "--version").stdout.startswith("wa ")
    assert "has not run" in windows.python("-m", "whisperagent", "agent", "status").stderr


def test_the_agent_records_a_call_of_a_windows_softphone(
    windows: Windows, softphone: Path, home: Path
) -> None:
    windows.environment |= {
        "WA_AGENT__EXTENSION": "201",
        "WA_SERVER__URL": "http://127.0.0.1:9",
        "WA_DETECTION__END_S": "1",
        "WA_DETECTION__RESUME_S": "1",
        "WA_RECORDING__FREE_MIB": "0",
        "WA_RECORDING__MIN_S": "1",
    }
    agent = windows.popen("-m", "whisperagent", "agent", "run", "--headless")
    try:
        wait_for(lambda: (home / "agent.json").exists())
        assert windows.start(softphone, "6").wait(30) == 0
        wait_for(lambda: len(list(home.glob("spool/queued/*.srec"))) == 1)
    finally:
        agent.kill()
        agent.wait()
    [recording] = home.glob("spool/queued/*.srec")
    metadata = json.loads(recording.with_suffix(".json").read_bytes())["entry"]["metadata"]
    assert metadata["remote_party"] == "+33 6 12 34 56 78"
    assert metadata["capture"] == {"agent": "wasapi-microphone", "caller": "none"}
    technician, _caller = sides(fakes.pcm(recording, fakes.local_key(home)))
    assert there(technician, TECHNICIAN_HZ) > 0.8
