"""`wa agent devices`, `wa agent test` and `wa doctor` on real PulseAudio, beside a softphone in a call."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.test_devices import speech
from tests.linux.sound import PulseAudio, Softphone, wait_for

pytestmark = pytest.mark.slow

Wa = Callable[..., tuple[int, Any]]
"""wa(...) -> exit code and JSON document."""


@pytest.fixture
def wa(environment: dict[str, str]) -> Wa:
    def run(*arguments: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "whisperagent", *arguments, "--json"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def by_check(findings: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in findings}


@pytest.fixture
def call(softphone: Softphone, pulse: PulseAudio) -> Softphone:
    """A call in which the caller is heard."""
    softphone.call()
    wait_for(lambda: "3cxphone" in pulse.control("list", "source-outputs"))
    return softphone


def test_both_sides_of_a_call_are_heard(wa: Wa, call: Softphone) -> None:
    call.speak()
    code, findings = wa("agent", "test")
    found = by_check(findings)
    assert code == 0, findings
    assert [found[check]["result"] for check in ("softphone", "agent", "caller")] == ["ok"] * 3
    assert "Microphone" in found["agent"]["what"]
    assert "both" not in found


def test_a_muted_microphone_is_noticed(wa: Wa, call: Softphone, pulse: PulseAudio) -> None:
    call.speak()
    pulse.control("set-source-mute", "mic", "1")
    code, findings = wa("agent", "test")
    found = by_check(findings)
    assert code == 1
    assert "nothing but zeros" in found["agent"]["what"]
    assert found["caller"]["result"] == "ok"


def test_a_softphone_that_plays_where_nothing_is_heard_is_named(
    wa: Wa, call: Softphone, pulse: PulseAudio
) -> None:
    call.speak()
    playing = pulse.control("list", "short", "sink-inputs").splitlines()
    for line in playing:
        number, sink, *_rest = line.split()
        if sink == sink_number(pulse, "headset"):
            pulse.control("set-sink-input-mute", number, "1")
    code, findings = wa("agent", "test")
    found = by_check(findings)
    assert code == 1
    assert (
        found["caller"]["what"] == "caller side silent: the softphone plays on Headset, which gave no sound"
    )


def sink_number(pulse: PulseAudio, name: str) -> str:
    sinks = (line.split() for line in pulse.control("list", "short", "sinks").splitlines())
    return next(number for number, sink, *_rest in sinks if sink == name)


def test_without_a_call_the_test_says_what_to_do(wa: Wa, softphone: Softphone) -> None:
    softphone.speak()
    code, findings = wa("agent", "test")
    found = by_check(findings)
    assert code == 1
    assert found["agent"]["result"] == "ok"
    assert found["caller"]["result"] == "failed"
    assert "call somebody" in found["caller"]["fix"]


def test_a_microphone_that_hears_the_loudspeaker_is_noticed(
    wa: Wa, softphone: Softphone, pulse: PulseAudio, tmp_path: Path
) -> None:
    words = tmp_path / "words.raw"
    words.write_bytes(speech(1, 30.0).tobytes())
    pulse.control("load-module", "module-loopback", "source=headset.monitor", "sink=room", "latency_msec=20")
    form = ["--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=40"]
    pulse.program([str(tmp_path / "3cxphone"), "-p", *form, "--device", "headset", str(words)])
    softphone.listen()
    _code, findings = wa("agent", "test")
    assert by_check(findings)["both"]["result"] == "warning"


def test_devices_tell_which_the_softphone_uses_and_how_loud_they_are(wa: Wa, call: Softphone) -> None:
    code, devices = wa("agent", "devices")
    found = {device["id"]: device for device in devices}
    assert code == 0
    assert [found[name]["kind"] for name in ("mic", "headset", "room")] == ["microphone", "output", "output"]
    assert [found[name]["in_use"] for name in ("mic", "headset", "room")] == [True, True, False]
    assert [found[name]["default"] for name in ("mic", "headset", "room")] == [True, True, False]
    # A tone of a quarter of full scale.
    assert found["headset"]["level_dbfs"] == pytest.approx(-12, abs=1)
    assert found["room"]["level_dbfs"] == -96


def test_on_a_terminal_bars_move_and_the_loudest_levels_stay(
    environment: dict[str, str], call: Softphone
) -> None:
    screen, terminal = os.openpty()
    command = [sys.executable, "-m", "whisperagent", "agent", "devices"]
    with subprocess.Popen(command, env=environment, stdout=terminal, stderr=terminal) as program:
        os.close(terminal)
        shown = b""
        # At its end a terminal is an error on Linux.
        with contextlib.suppress(OSError):
            while more := os.read(screen, 4096):
                shown += more
    os.close(screen)
    *drawn, table = shown.decode().split("\x1b[3A")
    assert program.returncode == 0
    assert len(drawn) > 10
    assert "█" in drawn[-1]
    row = next(line for line in table.splitlines() if line.startswith("output") and "headset" in line)
    # A tone of a quarter of full scale, and a little more where a resampler begins.
    assert "-12 dBFS" in row or "-11 dBFS" in row


def test_doctor_sees_the_call_the_microphone_and_the_caller(wa: Wa, call: Softphone) -> None:
    _code, findings = wa("doctor")
    found = by_check(findings)
    assert found["softphone"]["what"] == "the softphone runs, and is in a call"
    assert found["microphone"]["what"] == "the microphone is Microphone"
    assert [found[check]["result"] for check in ("signals", "microphone", "caller")] == ["ok"] * 3
    assert found["titles"]["result"] == "not here"


def test_doctor_says_how_to_start_a_sound_server(wa: Wa, pulse: PulseAudio) -> None:
    pulse.stop()
    code, findings = wa("doctor")
    found = by_check(findings)
    assert code == 1
    assert found["signals"]["result"] == "failed"
    assert "pipewire" in found["signals"]["fix"]
    assert "microphone" not in found
