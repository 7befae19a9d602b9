"""Two sides on one clock: whatever the devices deliver, a sample lies where the clock says."""

from array import array

import pytest

from tests.agent.fakes import side, sound
from tests.agent.runaway import RunawayDevice, marked
from whisperagent.hosts import Block
from whisperagent.sides import Sides
from whisperagent.wire import SAMPLE_RATE

SECOND = SAMPLE_RATE


def block(number: int, first: int, end: int) -> Block:
    return Block(number, sound(number, first, end), first / SAMPLE_RATE)


def test_both_sides_lie_interleaved_agent_first() -> None:
    sides = Sides(0.0, "split")
    sides.feed(block(0, 0, 100))
    sides.feed(block(1, 0, 100))
    data = sides.take()
    assert side(data, 0).tobytes() == sound(0, 0, 100)
    assert side(data, 1).tobytes() == sound(1, 0, 100)


def test_what_only_one_side_has_waits_for_the_other() -> None:
    sides = Sides(0.0, "split")
    sides.feed(block(0, 0, 200))
    sides.feed(block(1, 0, 50))
    assert len(sides.take()) == 4 * 50
    sides.feed(block(1, 50, 200))
    assert len(sides.take()) == 4 * 150


@pytest.mark.parametrize("silent", [0, 1])
def test_a_side_that_delivers_nothing_is_silence_and_shortens_nothing(silent: int) -> None:
    sides = Sides(0.0, "split")
    data = b""
    for tenth in range(50):
        first = tenth * SECOND // 10
        sides.feed(block(1 - silent, first, first + SECOND // 10))
        sides.advance((first + SECOND // 10) / SAMPLE_RATE)
        data += sides.take()
    data += sides.finish()
    assert side(data, 1 - silent).tobytes() == sound(1 - silent, 0, 5 * SECOND)
    assert not any(side(data, silent))


def test_a_gap_is_filled_by_the_clock() -> None:
    sides = Sides(0.0, "split")
    sides.feed(block(0, 0, 1000))
    gap_s = sides.feed(block(0, 5000, 6000))
    assert gap_s == 0.25
    sides.feed(block(1, 0, 6000))
    agent = side(sides.take(), 0)
    assert not any(agent[1000:5000])
    assert agent[5000:].tobytes() == sound(0, 5000, 6000)


def test_a_small_slip_of_a_device_clock_cuts_nothing() -> None:
    sides = Sides(0.0, "split")
    sides.feed(Block(0, sound(0, 0, 1600), 0.0))
    sides.feed(Block(0, sound(0, 1600, 3200), 0.1 + 0.02))
    sides.feed(block(1, 0, 3200))
    assert side(sides.take(), 0).tobytes() == sound(0, 0, 3200)


@pytest.mark.parametrize("ppm", [200, -200], ids=["fast", "slow"])
@pytest.mark.parametrize("loudness", [3000, 0], ids=["in speech", "in silence"])
@pytest.mark.parametrize("late_s", [0.0, 0.03], ids=["on time", "late by up to 30 ms"])
def test_a_device_whose_clock_runs_wrong_does_not_run_away(ppm: int, loudness: int, late_s: float) -> None:
    """Both sides wrong, in opposite directions, for two minutes: uncorrected that is 48 ms."""
    sides = Sides(0.0, "split")
    devices = (RunawayDevice(ppm, loudness, late_s), RunawayDevice(-ppm, loudness, late_s))
    data = bytearray()
    for tenth in range(1, 1201):
        for number, device in enumerate(devices):
            sides.feed(device.block(number, tenth / 10))
        sides.advance(tenth / 10)
        data += sides.take()
    agent, caller = (marked(side(bytes(data), number))[:119] for number in (0, 1))
    assert len(agent) == len(caller) == 119
    assert max(abs(one - other) for one, other in zip(agent, caller, strict=True)) < 0.010
    assert max(abs(at - (second + 0.5)) for second, at in enumerate(agent)) < 0.010


def test_a_correction_takes_single_samples_and_only_calm_ones() -> None:
    sides = Sides(0.0, "split")
    device = RunawayDevice(200, 3000, 0.0)
    given, sent = bytearray(), bytearray()
    for tenth in range(1, 301):
        block = device.block(0, tenth / 10)
        sent += block.pcm
        sides.feed(block)
        sides.feed(Block(1, bytes(3200), (tenth - 1) / 10))
        given += sides.take()
    before, after = array("h", bytes(sent)), side(bytes(given + sides.finish()), 0)
    place, taken = 0, []
    for sample in after[:-SECOND]:
        while before[place] != sample:
            taken.append(max(abs(before[place - 1]), abs(before[place]), abs(before[place + 1])))
            place += 1
        place += 1
    assert 30 < len(taken) < 100
    assert max(taken) < 1500


def test_a_block_that_comes_twice_counts_once() -> None:
    sides = Sides(0.0, "split")
    for _time in range(2):
        sides.feed(block(0, 0, 4800))
    sides.feed(block(1, 0, 4800))
    assert side(sides.finish(), 0).tobytes() == sound(0, 0, 4800)


def test_a_block_that_comes_after_its_silence_was_written_is_cut_to_what_is_new() -> None:
    sides = Sides(0.0, "split")
    sides.feed(block(1, 0, 2 * SECOND))
    sides.advance(2.0)
    early = sides.take()
    sides.feed(block(0, SECOND, 2 * SECOND))
    agent = side(early + sides.finish(), 0)
    assert not any(agent[: len(early) // 4])
    assert agent[len(early) // 4 :].tobytes() == sound(0, len(early) // 4, 2 * SECOND)


def test_sound_that_comes_after_its_silence_was_written_takes_its_place() -> None:
    sides = Sides(0.0, "split")
    sides.feed(block(0, 0, SECOND))
    sides.advance(1.0)
    sides.feed(block(1, 0, SECOND))
    assert side(sides.take(), 1).tobytes() == sound(1, 0, SECOND)


def test_a_pause_is_silence_on_both_sides_to_the_sample() -> None:
    sides = Sides(0.0, "split")
    sides.mute(1.0)
    for number in (0, 1):
        sides.feed(block(number, 0, 2 * SECOND))
    data = sides.take()
    sides.unmute(2.5)
    for number in (0, 1):
        sides.feed(block(number, 2 * SECOND, 4 * SECOND))
    data += sides.take()
    for number in (0, 1):
        heard = side(data, number)
        assert heard[:SECOND].tobytes() == sound(number, 0, SECOND)
        assert not any(heard[SECOND : 2 * SECOND + SECOND // 2])
        assert heard[2 * SECOND + SECOND // 2 :].tobytes() == sound(
            number, 2 * SECOND + SECOND // 2, 4 * SECOND
        )


def test_what_waits_when_a_pause_begins_is_older_than_it_and_is_kept() -> None:
    sides = Sides(0.0, "split")
    sides.feed(block(0, 0, SECOND))
    sides.mute(1.0)
    sides.feed(block(1, 0, SECOND))
    assert side(sides.take(), 0).tobytes() == sound(0, 0, SECOND)


def test_nothing_is_given_out_after_the_time_that_was_set() -> None:
    sides = Sides(0.0, "split")
    sides.until = 1.0
    for number in (0, 1):
        sides.feed(block(number, 0, 2 * SECOND))
    assert len(sides.take()) == 4 * SECOND
    sides.until = None
    assert len(sides.take()) == 4 * SECOND


def test_mono_is_the_sum_of_both_and_never_overflows() -> None:
    sides = Sides(0.0, "mono")
    sides.feed(Block(0, array("h", [100, 30_000, -30_000]).tobytes(), 0.0))
    sides.feed(Block(1, array("h", [11, 30_000, -30_000]).tobytes(), 0.0))
    assert list(array("h", sides.take())) == [111, 32_767, -32_768]
