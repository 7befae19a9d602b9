"""The Windows host while a call is recorded: where each side is heard, and what happens when that goes."""

import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.windows import fakes
from tests.windows.fakes import (
    DISCONTINUITY,
    SILENT,
    TIME_UNKNOWN,
    Endpoint,
    FakeCom,
    FakeDesktop,
    Packet,
    Session,
    eventually,
)
from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts import Block, Way
from whisperagent.hosts.family import Process
from whisperagent.hosts.listening import Sox, clock
from whisperagent.hosts.wasapi import Sound
from whisperagent.hosts.win_watch import Snapshot
from whisperagent.hosts.windows import Deafness, WindowsHost, WindowsSource
from whisperagent.settings import Detection, Recording, Settings
from whisperagent.wire import Capture

PHONE = 100
WINDOWS_10, WINDOWS_11 = 18_363, 22_631
HELLO, AGAIN, ELSEWHERE = (struct.pack("<160h", *[level] * 160) for level in (1000, 2000, 3000))

Make = Callable[..., WindowsHost]


@pytest.fixture
def make() -> Iterator[Make]:
    """A host that has looked at the softphone once: make(com, build=WINDOWS_11, denied="", **recording)."""
    hosts = []

    def host(com: FakeCom, build: int = WINDOWS_11, denied: str = "", **recording: object) -> WindowsHost:
        settings = Settings(detection=Detection(poll_s=0.05), recording=Recording(**recording))
        softphone = Process(PHONE, 1, "3CXSoftphone.exe")
        desktop = FakeDesktop([softphone], windows_build=build, denied=denied)
        made = WindowsHost(settings, desktop, com)
        hosts.append(made)
        return made

    yield host
    for made in hosts:
        made.close()


def pc(loopbacks: dict[int, Endpoint] | None = None) -> FakeCom:
    """A call on a headset, beside a webcam and the screen's speakers, which are the default devices."""
    com = FakeCom(
        fakes.microphone("webcam", name="Microphone (Webcam)"),
        fakes.microphone("headset-mic", Session(PHONE)),
        fakes.output("screen", name="Speakers (Screen)"),
        fakes.output("headset", Session(PHONE)),
        loopbacks=loopbacks,
    )
    com.defaults = {(0, 0): "screen", (0, 2): "screen", (1, 0): "webcam", (1, 2): "webcam"}
    return com


def endpoint(com: FakeCom, name: str) -> Endpoint:
    return next(one for one in com.endpoints if one.id == name)


def hears(source: WindowsSource, side: int, pcm: bytes) -> bool:
    """Does this come from that side, among what comes now?"""
    blocks: list[Block] = []
    while block := source.read():
        blocks.append(block)
    return any(block.side == side and pcm in block.pcm for block in blocks)


def marks(source: WindowsSource, kind: str) -> list[str]:
    """The notes of a kind of mark; waits until there is one."""
    found: list[str] = []

    def come() -> bool:
        found.extend(mark.note for mark in source.marks() if mark.kind == kind)
        return bool(found)

    eventually(come)
    return found


def test_both_sides_are_heard_where_the_softphone_is_and_not_on_the_default_devices(make: Make) -> None:
    com = pc()
    source = make(com, WINDOWS_10).open()
    endpoint(com, "headset-mic").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 0, HELLO))
    endpoint(com, "headset").packets.append(Packet(AGAIN))
    eventually(lambda: hears(source, 1, AGAIN))
    assert [endpoint(com, name).clients for name in ("webcam", "screen")] == [0, 0]


def test_a_host_knows_from_its_beginning_whether_a_call_is_up(make: Make) -> None:
    host = make(pc())
    assert host.signals() == Signals(process=True, capture=True, render=True)
    assert any(device.in_use for device in host.devices())


def test_nothing_is_opened_between_calls(make: Make) -> None:
    com = pc()
    host = make(com)
    host.open().close()
    host.close()
    opened = [one.clients for one in com.endpoints]
    make(com)
    assert [one.clients for one in com.endpoints] == opened


def test_where_windows_can_the_softphone_alone_is_heard(make: Make) -> None:
    alone = fakes.output("alone")
    com = pc({PHONE: alone, os.getpid(): fakes.output()})
    host = make(com)
    source = host.open()
    alone.packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 1, HELLO))
    assert host.capture == Capture("wasapi-microphone", "process-loopback")
    assert endpoint(com, "headset").clients == 0


def test_where_windows_cannot_the_metadata_says_that_the_whole_output_was_heard(make: Make) -> None:
    host = make(pc(), WINDOWS_10)
    host.open()
    eventually(lambda: host.capture == Capture("wasapi-microphone", "endpoint-loopback"))
    assert host.refused == {"process-loopback": "its build is 18363, and 19041 is needed"}


def test_a_process_loopback_that_is_deaf_is_given_up_for_the_whole_output(make: Make) -> None:
    com = pc({PHONE: fakes.output("alone")})
    host = make(com)
    source = host.open()
    eventually(lambda: host.capture.caller == "process-loopback")
    endpoint(com, "headset").sessions[0].peak = 0.4
    [note] = marks(source, "device changed")
    assert note == "caller: process 100 -> Speakers (Headset) (endpoint-loopback)"
    endpoint(com, "headset").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 1, HELLO))
    assert host.refused == {"process-loopback": "it heard nothing of what the softphone played"}


@pytest.mark.parametrize(("loud", "heard_ago_s"), [(False, 60.0), (True, 0.0)], ids=["quiet", "heard"])
def test_a_process_loopback_is_not_deaf_when_there_is_nothing_to_hear_or_it_was_heard(
    loud: bool, heard_ago_s: float
) -> None:
    deafness = Deafness()
    for _ in range(10):
        deafness.look(Snapshot(loud=loud), clock() - heard_ago_s)
    assert not deafness.sure


def test_looking_often_at_one_moment_makes_a_loopback_no_deafer() -> None:
    deafness, moment = Deafness(), Snapshot(loud=True)
    for _ in range(10):
        deafness.look(moment, clock() - 60)
    assert not deafness.sure


def test_how_the_caller_was_heard_is_still_known_when_the_call_is_over(make: Make) -> None:
    host = make(pc())
    source = host.open()
    eventually(lambda: host.capture.caller != "unknown")
    source.close()
    assert host.capture.caller == "endpoint-loopback"
    host.close()
    assert host.capture.caller == "endpoint-loopback"


def test_who_wants_the_softphone_alone_never_gets_the_whole_output(make: Make) -> None:
    com = pc()
    host = make(com, caller="process")
    source = host.open()
    [note] = marks(source, "device lost")
    assert note == "caller: process-loopback: this Windows has no such device"
    endpoint(com, "headset-mic").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 0, HELLO))
    assert host.capture.caller == "none"
    assert endpoint(com, "headset").clients == 0


def test_a_microphone_that_is_unplugged_and_comes_back_is_marked_and_goes_on(make: Make) -> None:
    com = pc()
    source = make(com).open()
    headset = endpoint(com, "headset-mic")
    headset.packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 0, HELLO))
    # The softphone's session dies with the device; nothing else is left to record from.
    endpoint(com, "webcam").plugged = headset.plugged = False
    lost = "agent: Microphone (Headset): the device was unplugged or switched off"
    assert marks(source, "device lost") == [lost]
    endpoint(com, "headset").packets.append(Packet(ELSEWHERE))
    eventually(lambda: hears(source, 1, ELSEWHERE))
    headset.plugged = True
    assert marks(source, "device back") == ["agent: Microphone (Headset)"]
    headset.packets.append(Packet(AGAIN))
    eventually(lambda: hears(source, 0, AGAIN))


def test_a_call_that_moves_to_other_devices_is_followed(make: Make) -> None:
    com = pc()
    source = make(com).open()
    endpoint(com, "headset").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 1, HELLO))
    for old, new in (("headset", "screen"), ("headset-mic", "webcam")):
        endpoint(com, new).sessions, endpoint(com, old).sessions = endpoint(com, old).sessions, []
    moved: list[str] = []

    def both_moved() -> bool:
        moved.extend(mark.note for mark in source.marks())
        return len(moved) == 2

    eventually(both_moved)
    assert sorted(moved) == [
        "agent: Microphone (Headset) -> Microphone (Webcam) (wasapi-microphone)",
        "caller: Speakers (Headset) -> Speakers (Screen) (endpoint-loopback)",
    ]
    endpoint(com, "screen").packets.append(Packet(AGAIN))
    eventually(lambda: hears(source, 1, AGAIN))


def test_the_microphone_that_the_settings_name_is_used_whatever_the_softphone_uses(make: Make) -> None:
    com = pc()
    source = make(com, microphone="webcam").open()
    endpoint(com, "webcam").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 0, HELLO))
    assert endpoint(com, "headset-mic").clients == 0


def test_a_microphone_that_is_named_and_missing_is_told_and_the_softphones_is_recorded(make: Make) -> None:
    com = pc()
    host = make(com, microphone="Jabra")
    assert host.problem is not None
    assert host.problem.what == "there is no microphone Jabra"
    assert "there are: Microphone (Webcam), Microphone (Headset);" in host.problem.why
    assert "wa config set recording.microphone" in host.problem.fix
    source = host.open()
    endpoint(com, "headset-mic").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 0, HELLO))


def test_a_named_microphone_that_is_plugged_in_again_is_recorded_again(make: Make) -> None:
    com = pc()
    endpoint(com, "webcam").plugged = False
    host = make(com, microphone="Webcam")
    source = host.open()
    endpoint(com, "headset-mic").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 0, HELLO))
    endpoint(com, "webcam").plugged = True
    endpoint(com, "webcam").packets.append(Packet(AGAIN))
    eventually(lambda: hears(source, 0, AGAIN))
    eventually(lambda: host.problem is None)


PRIVACY = "Settings > Privacy & security > Microphone"


def test_a_microphone_that_the_privacy_settings_forbid_is_told_before_any_call(make: Make) -> None:
    host = make(pc(), denied="Let desktop apps access your microphone")
    assert host.problem is not None
    assert host.problem.what == "Windows does not let this program use the microphone"
    assert "`Let desktop apps access your microphone` is off" in host.problem.why
    assert host.problem.fix.startswith(PRIVACY)


@pytest.mark.parametrize(
    ("code", "why", "cure"),
    [
        (fakes.ACCESS_DENIED, "Windows does not let this program use it", PRIVACY),
        (fakes.IN_USE, "another program has the device for itself alone", "end that program"),
        (fakes.INVALIDATED, "the device was unplugged or switched off", "plug it in again"),
        (0x8889_0099, "Windows says 0x88890099", "plug the headset in again"),
    ],
    ids=["denied", "exclusive", "unplugged", "another"],
)
def test_a_microphone_that_cannot_be_used_is_told_with_its_cure_and_the_caller_is_recorded(
    make: Make, code: int, why: str, cure: str
) -> None:
    com = pc()
    endpoint(com, "headset-mic").refuses = code
    host = make(com)
    assert host.problem is None
    source = host.open()
    eventually(lambda: host.problem is not None)
    problem = host.problem
    assert problem is not None
    assert (problem.what, problem.why) == ("the technician is not heard", why)
    assert problem.fix.startswith(cure)
    endpoint(com, "headset").packets.append(Packet(HELLO))
    eventually(lambda: hears(source, 1, HELLO))
    endpoint(com, "headset-mic").refuses = 0
    eventually(lambda: host.problem is None)


def test_what_could_not_be_heard_is_no_problem_when_the_call_is_over(make: Make) -> None:
    com = pc()
    endpoint(com, "headset-mic").refuses = fakes.IN_USE
    host = make(com)
    source = host.open()
    eventually(lambda: host.problem is not None)
    source.close()
    eventually(lambda: host.problem is None)


def test_a_pc_without_microphone_is_one_clear_error(make: Make) -> None:
    host = make(FakeCom(fakes.output("out")))
    with pytest.raises(HostUnavailable, match="there is no microphone") as refused:
        host.open()
    assert refused.value.fix


@pytest.mark.parametrize("wanted", ["", "headset"])
def test_a_sound_service_that_is_stopped_is_one_clear_error(make: Make, wanted: str) -> None:
    com = pc()
    host = make(com, microphone=wanted)
    com.down = True
    eventually(lambda: not host.signals().streams)
    for ask in (host.open, host.devices, host.meter):
        with pytest.raises(HostUnavailable) as refused:
            ask()
        assert refused.value.fix
    assert [way.available for way in host.caller_ways()] == [False, False, False]
    assert host.signal_ways()[0] == Way(
        "streams", False, "Windows' sound service does not run", "start the service `Windows Audio`"
    )


def test_the_devices_and_who_uses_them_are_listed(make: Make) -> None:
    host = make(pc())
    assert [(device.id, device.kind, device.default, device.in_use) for device in host.devices()] == [
        ("screen", "output", True, False),
        ("headset", "output", False, True),
        ("webcam", "microphone", True, False),
        ("headset-mic", "microphone", False, True),
    ]


def test_the_doctor_is_told_why_each_way_to_the_caller_is_closed(make: Make) -> None:
    process, output, sox = make(pc(), WINDOWS_10).caller_ways()
    assert process == Way(
        "process-loopback",
        False,
        "its build is 18363, and 19041 is needed",
        "Windows 10 2004 or newer can",
    )
    assert output.available
    assert output.why == "all that plays on Speakers (Headset) is heard, not the softphone alone"
    assert (sox.name, sox.available) == ("sox", False)


def test_a_windows_that_says_it_can_and_cannot_is_found_out(make: Make) -> None:
    process = make(pc()).caller_ways()[0]
    assert (process.available, process.why) == (False, "this Windows has no such device")


def test_signals_that_cannot_be_seen_are_named(make: Make) -> None:
    com = FakeCom(Endpoint("mic", 1, mute=True))
    streams, titles, users = make(com).signal_ways()
    assert (streams.available, streams.why) == (False, "this Windows cannot do it")
    assert titles.available
    assert users.available


def test_levels_of_every_device_are_shown(make: Make) -> None:
    com = pc()
    meter = make(com).meter()
    endpoint(com, "headset-mic").packets.append(Packet(struct.pack("<2h", 32767, -32768)))
    levels: dict[str, float] = {}

    def read() -> bool:
        for name, level in meter.read().items():
            levels[name] = max(level, levels.get(name, -96.0))
        return len(levels) == 4 and levels["headset-mic"] > -96

    eventually(read)
    meter.close()
    assert levels == {"webcam": -96.0, "headset-mic": 0.0, "screen": -96.0, "headset": -96.0}


def stream_reads(*packets: Packet) -> list[tuple[bytes, float]]:
    com = FakeCom(fakes.microphone("mic"))
    com.endpoints[0].packets.extend(packets)
    with com.entered():
        return Sound(com).microphone("mic").read()


def ticks(at: float) -> int:
    return round(at * 1e7)


def test_packets_that_follow_each_other_are_one_block_with_the_devices_own_time() -> None:
    began = clock() - 0.1
    blocks = stream_reads(Packet(HELLO, ticks=ticks(began)), Packet(AGAIN, ticks=ticks(began + 0.01)))
    assert blocks == [(HELLO + AGAIN, pytest.approx(began, abs=1e-6))]


def test_a_gap_in_the_device_begins_a_new_block() -> None:
    began = clock() - 0.5
    blocks = stream_reads(
        Packet(HELLO, ticks=ticks(began)), Packet(AGAIN, DISCONTINUITY, ticks=ticks(began + 0.3))
    )
    assert [at for _pcm, at in blocks] == pytest.approx([began, began + 0.3], abs=1e-6)


def test_a_packet_that_is_said_to_be_silent_is() -> None:
    assert stream_reads(Packet(HELLO, SILENT))[0][0] == bytes(len(HELLO))


@pytest.mark.parametrize(
    "packet",
    [
        Packet(HELLO, TIME_UNKNOWN, ticks=1),
        Packet(HELLO, ticks=ticks(clock() - 3600)),
        Packet(HELLO, ticks=ticks(clock() + 3600)),
    ],
    ids=["unknown", "an hour ago", "in an hour"],
)
def test_a_time_that_cannot_be_is_not_believed(packet: Packet) -> None:
    [(_pcm, at)] = stream_reads(packet)
    assert at == pytest.approx(clock() - 0.01, abs=1)


@pytest.fixture
def sox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sox that says HELLO ten times and notes how it was called."""
    program = tmp_path / "sox"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'arguments')!r}).write_text('\\n'.join(sys.argv[1:]))\n"
        f"sys.stdout.buffer.write({HELLO!r} * 10)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "arguments"


def test_sox_is_the_last_way_where_a_card_records_what_it_plays(make: Make, sox: Path) -> None:
    mix = fakes.microphone("mix", name="Stereo Mix (High Definition Audio Device)")
    com = FakeCom(fakes.microphone("mic", Session(PHONE)), mix)
    com.defaults = {(1, 0): "mic"}
    host = make(com)
    source = host.open()
    eventually(lambda: hears(source, 1, HELLO * 10))
    assert host.capture.caller == "sox"
    assert sox.read_text().split("\n")[:4] == ["-q", "-t", "waveaudio", "Stereo Mix (High Definition Aud"]


def test_a_sox_that_ends_is_a_lost_device(sox: Path) -> None:
    recording = Sox(str(sox.parent / "sox"), "Stereo Mix")

    def ends() -> bool:
        try:
            recording.read()
        except OSError as problem:
            return str(problem) == "sox ended with code 0"
        return False

    eventually(ends)
    recording.close()
