"""The whole agent on a PC with sound: one call, one recording, whatever happens to the devices meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.linux.agent import Agent, queued
from tests.linux.sound import (
    CALLER_HZ,
    LOUD,
    MARKERS,
    MUSIC_HZ,
    ON_BOTH,
    SECOND_HZ,
    TECHNICIAN_HZ,
    PulseAudio,
    Softphone,
    absent,
    found,
    markers,
    there,
    tone,
    wait_for,
)
from whisperagent.wire import Capture

pytestmark = pytest.mark.slow

BEGINS_S, ENDS_S, SKEW_S = 1.0, 4.0, 0.03
"""Of the skew, 21 ms are PipeWire's, which hands out a stream one period before its output."""


@pytest.fixture
def agent(environment: dict[str, str], softphone: Softphone) -> Iterator[Agent]:
    """Running, with a technician who speaks all the time and a softphone that has no call yet."""
    softphone.speak()
    with Agent(environment) as agent:
        yield agent.ready()


@ON_BOTH
def test_a_call_is_recorded_with_each_voice_on_its_side(
    agent: Agent, softphone: Softphone, home: Path
) -> None:
    softphone.call()
    began = wait_for(lambda: "detected" in agent.events())
    agent.told("recording")
    agent.recorded(3)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert began < BEGINS_S
    assert there(part.technician, TECHNICIAN_HZ) > 0.9
    assert there(part.caller, CALLER_HZ) > 0.9
    assert absent(part.technician, CALLER_HZ)
    assert absent(part.caller, TECHNICIAN_HZ)
    assert part.metadata.capture == Capture(agent="pulse-microphone", caller="pulse-stream")
    assert part.metadata.complete


@ON_BOTH
def test_what_other_programs_play_is_not_recorded(
    agent: Agent, softphone: Softphone, pulse: PulseAudio, home: Path
) -> None:
    pulse.play(softphone.tones.file(MUSIC_HZ), "headset")
    softphone.call()
    agent.told("recording")
    agent.recorded(2)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert absent(part.caller, MUSIC_HZ)
    assert there(part.caller, CALLER_HZ) > 0.9


@ON_BOTH
def test_what_both_sides_hear_at_once_lies_at_the_same_place(
    agent: Agent, softphone: Softphone, pulse: PulseAudio, home: Path, tmp_path: Path
) -> None:
    sound = tmp_path / "markers.raw"
    sound.write_bytes(markers())
    # The microphone hears the loudspeaker.
    softphone.listen("headset.monitor")
    softphone.play_file(sound)
    agent.told("recording")
    agent.recorded(MARKERS - 1)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    technician, caller = found(part.technician), found(part.caller)
    assert len(technician) == len(caller) == MARKERS
    assert np.abs(technician - caller).max() < SKEW_S


def test_between_calls_nothing_is_opened(agent: Agent, softphone: Softphone, pulse: PulseAudio) -> None:
    def ours() -> int:
        listed = pulse.control("list", "source-outputs").split("Source Output #")
        return sum("WhisperAgent" in stream for stream in listed)

    assert ours() == 0
    softphone.call()
    agent.told("recording")
    assert ours() == 2
    softphone.hang_up()
    agent.told("queued")
    wait_for(lambda: ours() == 0)


def test_a_microphone_test_without_an_answer_leaves_nothing(
    agent: Agent, softphone: Softphone, home: Path
) -> None:
    softphone.listen()
    agent.told("detected")
    softphone.let_go()
    agent.told("dropped")
    assert not list((home / "spool").rglob("*.srec"))


def test_a_call_on_hold_is_one_call(agent: Agent, softphone: Softphone, home: Path) -> None:
    softphone.call()
    agent.told("recording")
    softphone.let_go()
    agent.told("held")
    agent.recorded(1.5)
    softphone.listen()
    agent.told("resumed")
    agent.recorded(1.5)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert part.marks == ["held", "resumed"]
    assert there(part.caller, CALLER_HZ) > 0.9


def test_two_calls_are_two_recordings(agent: Agent, softphone: Softphone, home: Path) -> None:
    for count in (1, 2):
        softphone.call()
        agent.told("recording", count)
        agent.recorded(1.5)
        softphone.hang_up()
        agent.told("queued", count)
    first, second = queued(home)
    assert first.metadata.call_id != second.metadata.call_id
    assert all(there(part.caller, CALLER_HZ) > 0.8 for part in (first, second))


def test_a_second_call_beside_the_first_is_heard_as_well(
    agent: Agent, softphone: Softphone, home: Path
) -> None:
    softphone.call()
    agent.told("recording")
    agent.recorded(1)
    second = softphone.play(SECOND_HZ)
    agent.recorded(2)
    second.kill()
    agent.recorded(2)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert there(part.caller, CALLER_HZ) > 0.9
    assert (tone(part.caller, SECOND_HZ) > LOUD).sum() >= 15
    assert "device lost" not in part.marks


@ON_BOTH
def test_a_headset_unplugged_and_plugged_in_again_costs_only_the_moment(
    agent: Agent, softphone: Softphone, pulse: PulseAudio, home: Path
) -> None:
    bluetooth = pulse.add_sink("bluetooth")
    softphone.listen()
    stream = softphone.play(sink="bluetooth")
    agent.told("recording")
    agent.recorded(2)
    pulse.remove(bluetooth)
    # The softphone goes on where it can, as they all do.
    if stream.poll() is not None:
        softphone.play(sink="headset")
    agent.recorded(2)
    pulse.add_sink("bluetooth")
    softphone.move_to("bluetooth")
    agent.recorded(2)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert [mark for mark in part.marks if mark.startswith("device")] == [
        "device lost",
        "device back",
        "device changed",
    ]
    assert list(part.metadata.marks) == sorted(part.metadata.marks, key=lambda mark: mark.at_s)
    assert there(part.caller, CALLER_HZ) > 0.85
    # A server would have moved the recording onto the microphone.
    assert absent(part.caller, TECHNICIAN_HZ)
    assert there(part.technician, TECHNICIAN_HZ) > 0.9


def test_a_microphone_unplugged_and_plugged_in_again_costs_only_the_moment(
    agent: Agent, softphone: Softphone, pulse: PulseAudio, home: Path
) -> None:
    usb = ("load-module", "module-remap-source", "source_name=usb", "master=room.monitor")
    microphone = pulse.control(*usb)
    softphone.play()
    softphone.listen("usb")
    agent.told("recording")
    agent.recorded(1.5)
    pulse.remove(microphone)
    softphone.let_go()
    agent.told("held")
    agent.recorded(1.5)
    pulse.control(*usb)
    softphone.listen("usb")
    agent.told("resumed")
    agent.recorded(1.5)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert "device lost" in part.marks
    assert "device back" in part.marks
    assert there(part.caller, CALLER_HZ) > 0.9
    assert there(part.technician, TECHNICIAN_HZ) > 0.8


def test_a_softphone_that_is_killed_ends_the_call(agent: Agent, softphone: Softphone, home: Path) -> None:
    softphone.call()
    agent.told("recording")
    agent.recorded(1.5)
    softphone.crash()
    took_s = wait_for(lambda: "queued" in agent.events())
    assert took_s < ENDS_S
    (part,) = queued(home)
    assert there(part.caller, CALLER_HZ) > 0.8


def test_an_agent_killed_in_mid_call_goes_on_with_it_when_started_again(
    environment: dict[str, str], softphone: Softphone, home: Path
) -> None:
    softphone.speak()
    with Agent(environment) as agent:
        agent.ready()
        softphone.call()
        agent.told("recording")
        agent.recorded(2.5)
        agent.kill()
    with Agent(environment) as again:
        again.told("recording")
        again.recorded(2)
        softphone.hang_up()
        again.told("queued", 2)
    before, after = queued(home)
    assert before.metadata.call_id == after.metadata.call_id
    assert [before.metadata.part, after.metadata.part] == [1, 2]
    for part in (before, after):
        assert there(part.caller, CALLER_HZ) > 0.8
        assert there(part.technician, TECHNICIAN_HZ) > 0.8
    assert len(before.caller) / 16_000 > 2


def test_a_sound_server_that_is_restarted_costs_only_the_moment(
    agent: Agent, softphone: Softphone, pulse: PulseAudio, home: Path
) -> None:
    softphone.call()
    agent.told("recording")
    agent.recorded(2)
    pulse.stop()
    pulse.start()
    softphone.speak()
    softphone.call()
    agent.recorded(4)
    softphone.hang_up()
    agent.told("queued")
    (part,) = queued(home)
    assert part.marks.count("device lost") == part.marks.count("device back") == 2
    for samples, hertz in ((part.technician, TECHNICIAN_HZ), (part.caller, CALLER_HZ)):
        assert there(samples[:32_000], hertz) > 0.8
        assert there(samples[-32_000:], hertz) > 0.8


def test_without_a_sound_server_the_agent_says_what_to_do(
    environment: dict[str, str], pulse: PulseAudio
) -> None:
    pulse.stop()
    with Agent(environment) as agent:
        assert agent.process.wait(30) == 1
        assert "PulseAudio" in agent.errors()
        assert "Traceback" not in agent.errors()
