"""`wa agent devices` and `wa agent test`: what this PC hears, said in plain words."""

import asyncio
import json
import subprocess
import sys
import wave
from array import array
from collections.abc import Callable
from dataclasses import replace
from math import pi, sin
from pathlib import Path
from random import Random

import pytest

from tests.agent.fake_pc import HEADSET, HEADSET_MICROPHONE, LOUDSPEAKER, FakePc
from tests.agent.fakes import OFF, READY, TALKING
from whisperagent.cli import sound
from whisperagent.detect import Signals
from whisperagent.doctor import Finding
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Device, Way
from whisperagent.soundcheck import SAME, Heard, Side, alike, hear, judge
from whisperagent.wire import SAMPLE_RATE, Capture

SPEECH = Side(delivered_s=5.0, level_dbfs=-25.0, peak_dbfs=-8.0, clipped_share=0.0)
NOTHING = Side(delivered_s=0.0, level_dbfs=-96.0, peak_dbfs=-96.0, clipped_share=0.0)
ZEROS = replace(NOTHING, delivered_s=5.0)
HISS = replace(SPEECH, level_dbfs=-72.0, peak_dbfs=-66.0)
OVERDRIVEN = replace(SPEECH, level_dbfs=-2.0, peak_dbfs=0.0, clipped_share=0.02)
DEVICES = [HEADSET_MICROPHONE, HEADSET, LOUDSPEAKER]
PLAYING = [HEADSET_MICROPHONE, HEADSET, replace(LOUDSPEAKER, in_use=True)]


def judged(
    agent: Side = SPEECH,
    caller: Side = SPEECH,
    *,
    same: float = 0.0,
    seen: Signals = TALKING,
    devices: list[Device] = DEVICES,
    ways: list[Way] | None = None,
) -> dict[str, Finding]:
    capture = Capture(agent="wasapi-microphone", caller="endpoint-loopback")
    found = judge(Heard(agent, caller, same), seen, devices, ways or [], "", capture)
    return {finding.check: finding for finding in found}


# What was heard, in words


def test_two_sides_that_speak_are_well() -> None:
    found = judged()
    assert {finding.result for finding in found.values()} == {"ok"}
    assert found["agent"].what == "technician heard by Headset microphone: -25 dBFS, loudest -8 dBFS"
    assert "all sound of the output it plays on" in found["caller"].what


def test_a_microphone_that_delivers_nothing_fails() -> None:
    found = judged(agent=NOTHING)["agent"]
    assert found.result == "failed"
    assert "no sound at all" in found.what
    assert "Headset microphone" in found.why


def test_a_muted_microphone_fails_and_says_where_to_look() -> None:
    found = judged(agent=ZEROS)["agent"]
    assert found.result == "failed"
    assert "nothing but zeros" in found.what
    assert "switch" in found.why


def test_a_microphone_nobody_speaks_into_is_a_warning() -> None:
    found = judged(agent=HISS)["agent"]
    assert found.result == "warning"
    assert "-72 dBFS" in found.what
    assert "nobody spoke" in found.why


def test_a_side_that_is_too_loud_is_called_distorted() -> None:
    found = judged(OVERDRIVEN, OVERDRIVEN)
    assert {finding.result for finding in found.values()} == {"warning"}
    assert all("distorted" in finding.what for finding in found.values())


@pytest.mark.parametrize("silent", [NOTHING, ZEROS], ids=["nothing", "zeros"])
@pytest.mark.parametrize(
    ("seen", "devices", "words"),
    [
        (TALKING, PLAYING, "the softphone plays on Loudspeaker, which gave no sound"),
        (READY, DEVICES, "the softphone plays nothing now"),
        (OFF, DEVICES, "no softphone runs on this PC"),
        (TALKING, [HEADSET_MICROPHONE], "this PC has no output that could be heard"),
    ],
)
def test_a_silent_caller_fails_with_the_reason(
    silent: Side, seen: Signals, devices: list[Device], words: str
) -> None:
    found = judged(caller=silent, seen=seen, devices=devices)["caller"]
    assert found.result == "failed"
    assert found.what == f"caller side silent: {words}"
    assert "call somebody" in found.fix


def test_a_caller_who_can_never_be_heard_here_is_not_blamed_on_the_softphone() -> None:
    found = judged(caller=NOTHING, ways=[Way("process-tap", False, "macOS gives it to nobody", "use Linux")])
    assert found["caller"].result == "failed"
    assert "macOS" in found["caller"].why
    assert found["caller"].fix == "use Linux"


def test_a_caller_who_says_nothing_is_a_warning() -> None:
    assert judged(caller=HISS)["caller"].result == "warning"


def test_both_sides_with_one_sound_are_a_warning_about_the_loudspeaker() -> None:
    found = judged(same=0.97)["both"]
    assert found.result == "warning"
    assert "headset" in found.fix


# Listening


def test_both_sides_are_heard_and_nothing_is_kept(home: Path) -> None:
    heard = asyncio.run(hear(FakePc([(60.0, TALKING)]), 5.0))
    for side in (heard.agent, heard.caller):
        assert side.delivered_s == pytest.approx(5.0, abs=0.11)
        assert side.level_dbfs > -10
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("missing", "name"), [(0, "agent"), (1, "caller")])
def test_a_side_whose_device_delivers_nothing_is_told_from_silence(missing: int, name: str) -> None:
    heard = asyncio.run(hear(FakePc([(60.0, TALKING)], side_missing=missing), 5.0))
    silent = heard.agent if missing == 0 else heard.caller
    assert (silent.delivered_s, silent.peak_dbfs) == (0.0, -96.0)
    assert judged(heard.agent, heard.caller)[name].result == "failed"


def speech(seed: int, seconds: float = 5.0) -> "array[int]":
    """Noise in syllables: a burst, a pause, each as long as chance has it."""
    chance = Random(seed)
    samples = array("h")
    while len(samples) < seconds * SAMPLE_RATE:
        length = round(chance.uniform(0.05, 0.4) * SAMPLE_RATE)
        loudness = chance.choice((0, 0, 300, 3000, 9000))
        samples.extend(round(chance.uniform(-loudness, loudness)) for _sample in range(length))
    return samples[: round(seconds * SAMPLE_RATE)]


def spoken(path: Path, agent: "array[int]", caller: "array[int]") -> Path:
    both = array("h", bytes(4 * len(agent)))
    both[0::2], both[1::2] = agent, caller
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(both.tobytes())
    return path


def test_the_same_sound_is_recognised_later_and_quieter_and_in_a_room() -> None:
    one = speech(1)
    hiss = Random(9)
    late = 1600  # samples: 0.1 s
    echo = array(
        "h", [hiss.randrange(-40, 40) + (one[at - late] // 3 if at >= late else 0) for at in range(len(one))]
    )
    assert alike(one, echo) > SAME
    assert alike(echo, one) > SAME


def test_two_people_who_talk_are_not_the_same_sound() -> None:
    assert max(alike(speech(seed), speech(seed + 100)) for seed in range(5)) < SAME - 0.15


def test_two_noises_that_begin_at_once_are_not_the_same_sound() -> None:
    before = bytes(2 * SAMPLE_RATE)
    one, other = (array("h", before + Random(seed).randbytes(8 * SAMPLE_RATE)) for seed in (1, 2))
    assert alike(one, other) < 0.6


def test_two_tones_are_not_the_same_sound_though_both_end_at_once() -> None:
    frames = range(5 * SAMPLE_RATE - 40)
    one, other = (
        array("h", [round(8000 * sin(2 * pi * hertz * at / SAMPLE_RATE)) for at in frames] + [0] * 40)
        for hertz in (440, 1000)
    )
    assert alike(one, other) == 0.0


def test_two_silences_are_not_the_same_sound() -> None:
    silence = array("h", bytes(2 * 5 * SAMPLE_RATE))
    assert alike(silence, silence) == 0.0
    assert alike(speech(1), silence) == 0.0


# The commands


@pytest.fixture
def wa(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisperagent", *arguments]
        # No sound of the machine that tests are run on.
        silent = environment | {"PULSE_SERVER": "unix:/nowhere"}
        return subprocess.run(command, env=silent, capture_output=True, text=True, check=False, timeout=60)

    return run


Wa = Callable[..., subprocess.CompletedProcess[str]]


def test_a_simulated_call_is_heard_on_both_sides(wa: Wa, home: Path, tmp_path: Path) -> None:
    call = spoken(tmp_path / "call.wav", speech(1, 8.0), speech(2, 8.0))
    done = wa("agent", "test", "--simulate", str(call), "--speed", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "technician heard" in done.stdout
    assert "caller heard" in done.stdout
    assert "listening" in done.stderr
    # Neither sound nor a call that an agent would take up.
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_simulated_call_with_a_silent_side_ends_with_1(wa: Wa, tmp_path: Path) -> None:
    call = spoken(tmp_path / "call.wav", speech(1, 8.0), array("h", bytes(16 * SAMPLE_RATE)))
    done = wa("agent", "test", "--simulate", str(call), "--speed", "10", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert [finding["check"] for finding in document if finding["result"] == "failed"] == ["caller"]


def test_without_a_sound_server_one_clear_error(wa: Wa) -> None:
    for command in ("devices", "test"):
        done = wa("agent", command)
        assert done.returncode == 1
        assert "wa: error:" in done.stderr
        assert "Traceback" not in done.stderr


def test_devices_are_a_table_with_their_levels(capsys: pytest.CaptureFixture[str]) -> None:
    pc = FakePc()
    pc.has = PLAYING
    sound.devices(pc, json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "name", "default", "in", "use", "level", "id"]
    assert "-30 dBFS" in lines[1]
    assert "silent" in lines[2]
    assert "by the softphone" in lines[3]
    assert pc.closed


def test_what_is_wrong_with_the_devices_is_said_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    pc = FakePc()
    pc.problem = HostUnavailable("there is no microphone Desk", why="there are others", fix="plug it in")
    sound.devices(pc, json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out)
    assert [line.strip() for line in shown.err.splitlines()] == [
        "wa: error: there is no microphone Desk",
        "there are others",
        "try: plug it in",
    ]


def test_devices_as_json_have_stable_keys(capsys: pytest.CaptureFixture[str]) -> None:
    sound.devices(FakePc(), json=True)
    document = json.loads(capsys.readouterr().out)
    assert {tuple(device) for device in document} == {
        ("id", "name", "kind", "default", "in_use", "level_dbfs")
    }
    assert [device["level_dbfs"] for device in document] == [-30.0, None, -96.0, None]
