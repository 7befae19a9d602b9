"""What Linux shows of a softphone: its streams, by whatever name it goes, and nobody else's."""

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.sound import ON_BOTH, PulseAudio, Softphone, wait_for
from whisperagent.detect import Signals
from whisperagent.errors import HostUnavailable
from whisperagent.hosts.linux import LinuxHost
from whisperagent.settings import Detection, Settings

pytestmark = pytest.mark.slow

SEEN_S = 0.5
"""Of the 1.5 s within which a call must be seen, one is its confirmation."""


def streams(host: LinuxHost) -> tuple[bool, bool]:
    """Capture and render. Not the process: another softphone may run on the machine that tests."""
    signals = host.signals()
    return signals.capture, signals.render


@pytest.fixture
def host(pulse: PulseAudio) -> Iterator[LinuxHost]:
    host = LinuxHost(Settings())
    yield host
    host.close()


def test_nothing_is_seen_of_a_pc_without_a_softphone(host: LinuxHost) -> None:
    assert streams(host) == (False, False)


@ON_BOTH
def test_a_call_is_both_streams_of_the_softphone(host: LinuxHost, softphone: Softphone) -> None:
    softphone.call()
    assert wait_for(lambda: streams(host) == (True, True)) < SEEN_S
    assert host.signals() == Signals(process=True, capture=True, render=True)
    softphone.hang_up()
    assert wait_for(lambda: streams(host) == (False, False)) < SEEN_S
    wait_for(lambda: host.signals() == Signals(process=True))


def test_the_softphone_is_a_process_without_a_call_as_well(pulse: PulseAudio, tmp_path: Path) -> None:
    host = LinuxHost(Settings(detection=Detection(processes=("phone-of-this-test",))))
    assert not host.signals().process
    program = tmp_path / "Phone-of-this-Test"
    shutil.copy(shutil.which("sleep") or "", program)
    pulse.program([str(program), "60"])
    wait_for(lambda: host.signals() == Signals(process=True))
    host.close()


def test_ringing_is_no_capture(host: LinuxHost, softphone: Softphone) -> None:
    softphone.play()
    wait_for(lambda: host.signals().render)
    assert not host.signals().capture


def test_another_program_on_the_microphone_is_not_the_softphone(host: LinuxHost, pulse: PulseAudio) -> None:
    other = LinuxHost(Settings(detection=Detection(processes=("pacat",))))
    pulse.program(["pacat", "-r", "--device", "mic"])
    wait_for(lambda: other.signals().capture)
    other.close()
    assert streams(host) == (False, False)


def test_a_stream_that_is_paused_is_not_active(host: LinuxHost, pulse: PulseAudio) -> None:
    # PULSE_PROP is what a program says of itself; 0x1 opens a stream paused.
    paused = """
        from time import sleep
        from ctypes import byref
        from whisperagent.hosts import libpulse
        connection = libpulse.Connection()
        form = libpulse.Spec(libpulse.S16LE, 16000, 1)
        stream = connection.pa.pa_stream_new(connection.context, b"call", byref(form), None)
        connection.pa.pa_stream_connect_record(stream, b"mic", None, 0x1)
        while True:
            sleep(0.02)
            connection.take()
    """
    pulse.environment["PULSE_PROP"] = "application.process.binary=3CXSoftphone.exe"
    program = pulse.program([sys.executable, "-c", textwrap.dedent(paused)])
    wait_for(lambda: host.signals().process)
    assert not host.signals().capture
    program.kill()


@pytest.mark.parametrize(
    "name", ["3CXDesktopApp.exe", r"C:\Program Files\3CX\3CXPhone.exe", "ALSA plug-in [3cxphone]"]
)
def test_a_softphone_is_known_by_any_name_it_gives(host: LinuxHost, pulse: PulseAudio, name: str) -> None:
    # Under wine the program is wine64 and the stream's name the .exe; ALSA's plug-in has a name of its own.
    pulse.program(["pacat", "-r", "--device", "mic", "--client-name", name])
    wait_for(lambda: host.signals().capture)


def test_a_browser_is_looked_at_only_for_the_web_client(pulse: PulseAudio) -> None:
    host = LinuxHost(Settings())
    web = LinuxHost(Settings(detection=Detection(pbx="pbx.example.com")))
    try:
        pulse.environment["PULSE_PROP"] = "application.process.binary=chrome"
        pulse.program(["pacat", "-r", "--device", "mic"])
        wait_for(lambda: web.signals().capture)
        assert web.signals().browser
        assert streams(host) == (False, False)
    finally:
        host.close()
        web.close()


@ON_BOTH
def test_the_signals_come_back_with_the_sound_server(
    host: LinuxHost, pulse: PulseAudio, softphone: Softphone
) -> None:
    softphone.call()
    wait_for(lambda: host.signals().capture)
    pulse.stop()
    wait_for(lambda: not host.signals().capture)
    with pytest.raises(HostUnavailable):
        host.open()
    pulse.start()
    softphone.call()
    wait_for(lambda: host.signals().capture)


@ON_BOTH
def test_devices_are_listed_with_the_one_in_use(host: LinuxHost, softphone: Softphone) -> None:
    softphone.call()
    wait_for(lambda: host.signals().capture and host.signals().render)
    found = {
        device.id: (device.name, device.kind, device.default, device.in_use) for device in host.devices()
    }
    assert found == {
        "mic": ("Microphone", "microphone", True, True),
        "headset": ("Headset", "output", True, True),
        "room": ("Room", "output", False, False),
    }


def test_the_levels_of_all_devices_are_measured(host: LinuxHost, softphone: Softphone) -> None:
    softphone.speak()
    meter = host.meter()
    levels: dict[str, float] = {}

    def measured() -> bool:
        levels.update(meter.read())
        return levels.keys() == {"mic", "headset", "room"} and levels["mic"] > -20

    wait_for(measured)
    meter.close()
    assert levels["mic"] == pytest.approx(-12, abs=1)
    assert levels["headset"] < -60


def test_without_a_sound_server_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_SERVER", "unix:/nowhere/native")
    with pytest.raises(HostUnavailable) as error:
        LinuxHost(Settings())
    assert error.value.why
    assert "PulseAudio" in error.value.fix
