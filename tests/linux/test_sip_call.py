"""A real telephone call, seen by the softphone's streams alone, recorded, transcribed."""

import shutil
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.linux.agent import Agent, queued
from tests.linux.sip import NEEDED, SipCall
from tests.linux.sound import MARKERS, PulseAudio, found, markers, wait_for
from whisperserver.demo import line as lines
from whisperserver.demo.play import Play, recording

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        shutil.which(NEEDED) is None,
        reason="baresip is missing: apt-get install baresip-core libasound2-plugins",
    ),
]

BEGINS_S, ENDS_S = 1.5, 4.0
RESUME_S = 2.0
"""So long an end is not final in these tests (conftest.py)."""


@pytest.fixture
def sip(pulse: PulseAudio, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SipCall]:
    folder = tmp_path / "sip"
    folder.mkdir()
    call = SipCall(pulse, folder, getattr(request, "param", "pcma"))
    yield call
    call.stop()


def test_both_sides_of_a_telephone_call_are_there_to_the_last_marker(
    sip: SipCall, pulse: PulseAudio, environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    sound = tmp_path / "markers.raw"
    sound.write_bytes(markers())
    # As on every PC, and not as quick as in the other tests.
    del environment["WA_DETECTION__END_S"]
    with Agent(environment) as agent:
        agent.ready()
        sip.dial()
        began_s = wait_for(lambda: "detected" in agent.events())
        confirmed_s = began_s + wait_for(lambda: "recording" in agent.events())
        for sink in ("room", "far_room"):
            pulse.play(sound, sink)
        agent.recorded(MARKERS + 1)
        sip.hang_up()
        ended_s = wait_for(lambda: "sealed" in agent.events()) - RESUME_S
        agent.told("queued")
    (part,) = queued(home)
    for side in (part.technician, part.caller):
        places = found(side)
        assert len(places) == MARKERS
        # A telephone's jitter buffer inserts or drops a packet of 20 ms now and then.
        assert np.abs(np.diff(places) - 1).max() < 0.045
    # The technician is recorded at once; what the customer says was on its way through both telephones.
    late_s = found(part.caller) - found(part.technician)
    assert 0 < late_s.min() <= late_s.max() < 0.6
    assert confirmed_s < BEGINS_S
    assert ended_s < ENDS_S
    assert part.marks == []


@pytest.mark.parametrize(("sip", "name"), [("pcma", "french"), ("g722", "english")], indirect=["sip"])
def test_a_telephone_call_becomes_a_transcript_with_the_right_words_of_each_side(
    sip: SipCall, pulse: PulseAudio, name: str, tmp_path: Path
) -> None:
    call = recording(name)
    technician, caller = _split(call.wav, tmp_path)
    with lines.line(tmp_path / "line") as line:
        line.start_server()
        play = Play(line, call, 1.0)
        line.agent.start()
        wait_for(lambda: (line.pc / "agent.json").exists(), 30)
        sip.dial()
        voices = [pulse.play(technician, "room"), pulse.play(caller, "far_room")]
        for voice in voices:
            voice.wait()
        sip.hang_up()
        play.until("transcribed")
        play.approve()
        outcome = play.until_ticketed()
    # Both calls were heard without a mistake; a busy machine may cost a word.
    assert outcome.wer is not None
    assert outcome.wer <= 0.1
    assert outcome.speaker_accuracy is not None
    assert outcome.speaker_accuracy >= 0.98


def _split(call: Path, folder: Path) -> tuple[Path, Path]:
    """Each side of a WAV call as a raw file."""
    with wave.open(str(call), "rb") as file:
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    sides = folder / "technician.raw", folder / "caller.raw"
    for number, side in enumerate(sides):
        side.write_bytes(both[:, number].tobytes())
    return sides
