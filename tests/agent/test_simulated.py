"""The softphone that is not there behaves like one that is."""

import asyncio
import json
import time
import wave
from pathlib import Path

import pytest

from tests.agent.fakes import frames, noise_call
from whisperagent.errors import AudioError, UsageError, WhisperError
from whisperagent.hosts.simulated import ANSWER_S, SPEECH_S, WORK_S, SimulatedHost
from whisperagent.wire import SAMPLE_RATE


def rewind(home: Path, seconds: float) -> None:
    """Let the call have begun that much earlier."""
    kept = json.loads((home / "simulated.json").read_bytes())
    kept["started_at"] -= seconds
    (home / "simulated.json").write_text(json.dumps(kept))


def wait(host: SimulatedHost, seconds: float) -> None:
    """As an agent does between two looks."""
    asyncio.run(host.sleep(seconds))


def test_a_call_rings_is_answered_plays_and_ends(home: Path, call: Path) -> None:
    async def seen() -> list[tuple[bool, bool]]:
        host = SimulatedHost(call, 50.0, home)
        states: list[tuple[bool, bool]] = []
        while not host.finished:
            signals = host.signals()
            if not states or states[-1] != (signals.capture, signals.render):
                states.append((signals.capture, signals.render))
            await host.sleep(0.05)
        return [*states, (host.signals().capture, host.signals().render)]

    assert asyncio.run(seen()) == [(False, False), (False, True), (True, True), (False, False)]


def test_both_sides_of_the_file_are_heard_whole(home: Path, call: Path) -> None:
    host = SimulatedHost(call, 100.0, home)
    wait(host, ANSWER_S)
    source = host.open()
    wait(host, 20)
    sides: list[bytes] = [b"", b""]
    while block := source.read():
        sides[block.side] += block.pcm
    source.close()
    whole = frames(call)
    for number, heard in enumerate(sides):
        wanted = b"".join(whole[at + 2 * number : at + 2 * number + 2] for at in range(0, len(whole), 4))
        assert heard.endswith(wanted)


def test_an_agent_that_starts_again_finds_the_call_where_it_is(home: Path, call: Path) -> None:
    SimulatedHost(call, 1.0, home)
    rewind(home, SPEECH_S + 4)
    host = SimulatedHost(call, 1.0, home)
    assert host.signals().capture
    source = host.open()
    wait(host, 0.2)
    block = source.read()
    source.close()
    assert block is not None
    first = round((block.at - SPEECH_S) * SAMPLE_RATE)
    assert 4.0 <= first / SAMPLE_RATE < 5.0
    assert block.pcm[:2] == frames(call)[4 * first : 4 * first + 2]


def test_an_agent_that_a_busy_machine_does_not_let_run_misses_no_call(home: Path, call: Path) -> None:
    host = SimulatedHost(call, 1000.0, home)
    before = host.clock()
    end = time.monotonic() + 0.05  # fifty seconds of its clock
    while time.monotonic() < end:
        frames(call)
    assert host.clock() <= before + WORK_S


def test_an_agent_that_listens_late_hears_the_first_word(home: Path, call: Path) -> None:
    host = SimulatedHost(call, 100.0, home)
    wait(host, 6)
    source = host.open()
    assert source.began == ANSWER_S
    source.close()


def test_a_simulation_that_was_seen_to_its_end_begins_anew(home: Path, call: Path) -> None:
    SimulatedHost(call, 1.0, home)
    rewind(home, 30)
    host = SimulatedHost(call, 1.0, home)
    assert host.finished
    host.close()
    assert not SimulatedHost(call, 1.0, home).finished


def test_a_call_played_fast_is_never_in_the_future(home: Path, call: Path) -> None:
    from datetime import UTC, datetime

    SimulatedHost(call, 10.0, home)
    rewind(home, 0.8)
    host = SimulatedHost(call, 10.0, home)
    assert host.utc(host.clock()) <= datetime.now(UTC)


def wav(path: Path, rate: int = SAMPLE_RATE, channels: int = 2, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(1000 * channels * width))
    return path


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ({"rate": 8000}, "8000 Hz"),
        ({"channels": 1}, "channels: 1"),
        ({"width": 1}, "8 bits"),
    ],
)
def test_another_kind_of_wav_is_refused_with_what_it_is(
    home: Path, tmp_path: Path, kind: dict[str, int], why: str
) -> None:
    with pytest.raises(AudioError) as error:
        SimulatedHost(wav(tmp_path / "other.wav", **kind), 1.0, home)
    assert why in error.value.why


@pytest.mark.parametrize(
    ("content", "error"), [(None, UsageError), (b"", AudioError), (b"RIFF?", AudioError)]
)
def test_a_file_that_is_no_wav_is_refused(
    home: Path, tmp_path: Path, content: bytes | None, error: type[WhisperError]
) -> None:
    path = tmp_path / "call.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error):
        SimulatedHost(path, 1.0, home)


def test_a_file_shorter_than_its_header_says_ends_in_silence(home: Path, tmp_path: Path) -> None:
    path = noise_call(tmp_path / "cut.wav", 2)
    path.write_bytes(path.read_bytes()[: -SAMPLE_RATE * 4 - 1])
    host = SimulatedHost(path, 100.0, home)
    source = host.open()
    wait(host, 20)
    lengths = [0, 0]
    while block := source.read():
        lengths[block.side] += len(block.pcm)
    source.close()
    assert lengths[0] == lengths[1]
    assert abs(lengths[0] / 2 / SAMPLE_RATE - (SPEECH_S + 2 - source.began)) < 0.1


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_an_impossible_speed_is_refused(home: Path, call: Path, speed: float) -> None:
    with pytest.raises(UsageError):
        SimulatedHost(call, speed, home)
