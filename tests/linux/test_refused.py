"""No permission, no answer, no such device: one clear error each, with its cure, and no call lost over it."""

import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.linux.agent import Agent, queued
from tests.linux.sound import (
    CALLER_HZ,
    LOUD,
    TECHNICIAN_HZ,
    PulseAudio,
    Softphone,
    there,
    tone,
    wait_for,
)
from whisperagent.errors import HostUnavailable
from whisperagent.hosts.linux import LinuxHost
from whisperagent.hosts.pulse import Snapshot
from whisperagent.hosts.pulserecord import PulseSource, Target
from whisperagent.settings import Recording, Settings

pytestmark = pytest.mark.slow

REFUSED = "the sound server refuses this program"
OTHER_USER = 65534
"""nobody"""


class Door:
    """A way to the server that asks for a key: over TCP, where it cannot see who we are."""

    def __init__(self, pulse: PulseAudio, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.environment = {
            "PULSE_SERVER": f"tcp:127.0.0.1:{self.port}",
            "PULSE_COOKIE": str(folder / "our-key"),
        }
        self._pulse = pulse
        self._folder = folder
        self._module = ""

    def wants(self, key: str) -> None:
        """From now on this key, `our-key` or another; who is connected is thrown out."""
        if self._module:
            self._pulse.remove(self._module)
        listen = ("listen=127.0.0.1", f"port={self.port}", "auth-ip-acl=192.0.2.1")
        self._module = self._pulse.control(
            "load-module", "module-native-protocol-tcp", *listen, f"auth-cookie={self._folder / key}"
        )


@pytest.fixture
def door(pulse: PulseAudio, tmp_path: Path, environment: dict[str, str]) -> Door:
    """What an agent in `environment` goes through."""
    door = Door(pulse, tmp_path)
    environment |= door.environment
    return door


def wa(environment: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "whisperagent", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["agent run --headless", "agent devices", "agent test"])
def test_a_server_that_refuses_us_is_one_error_with_its_cure(
    door: Door, environment: dict[str, str], command: str
) -> None:
    door.wants("another-key")
    done = wa(environment, *command.split())
    assert done.returncode == 1
    first, why, cure = done.stderr.splitlines()
    assert REFUSED in first
    assert f"tcp:127.0.0.1:{door.port}" in why
    assert "PULSE_COOKIE" in cure


def test_the_doctor_says_that_the_server_refuses_us_and_looks_at_the_rest(
    door: Door, environment: dict[str, str]
) -> None:
    door.wants("another-key")
    found = {finding["check"]: finding for finding in json.loads(wa(environment, "doctor", "--json").stdout)}
    assert (found["signals"]["result"], found["signals"]["what"]) == ("failed", REFUSED)
    assert "PULSE_COOKIE" in found["signals"]["fix"]
    assert "spool" in found


@contextmanager
def another_user() -> Iterator[None]:
    """Root may open every socket, so it becomes somebody else for a while; others stay who they are."""
    if os.geteuid():
        yield
        return
    importlib.import_module("pulsectl")  # somebody else may not be able to read our Python
    os.seteuid(OTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def server_socket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where somebody listens and never answers."""
    with tempfile.TemporaryDirectory(prefix="wa") as folder, socket.socket(socket.AF_UNIX) as listening:
        Path(folder).chmod(0o755)
        path = Path(folder, "native")
        listening.bind(str(path))
        listening.listen()
        monkeypatch.setenv("PULSE_SERVER", f"unix:{path}")
        yield path


def test_a_socket_of_another_user_is_no_missing_server(server_socket: Path) -> None:
    server_socket.chmod(0)
    with another_user(), pytest.raises(HostUnavailable, match=REFUSED) as error:
        LinuxHost(Settings())
    assert error.value.why == f"{server_socket} belongs to another user"
    assert "without sudo" in error.value.fix


@pytest.mark.usefixtures("server_socket")
def test_a_server_that_never_answers_is_no_missing_server() -> None:
    with pytest.raises(HostUnavailable, match="the sound server does not answer") as error:
        LinuxHost(Settings())
    assert "restart" in error.value.fix


def test_a_server_that_begins_to_refuse_us_is_told_and_nothing_is_lost(
    door: Door, environment: dict[str, str], softphone: Softphone, home: Path
) -> None:
    door.wants("our-key")
    softphone.speak()
    with Agent(environment) as agent:
        agent.ready()
        softphone.call()
        agent.told("recording")
        agent.recorded(2)
        door.wants("another-key")
        agent.told("trouble")
        agent.told("queued")
        assert agent.status()["error"].startswith(REFUSED)
        assert "PULSE_COOKIE" in agent.status()["error"]
        door.wants("our-key")
        agent.told("mended")
        agent.told("recording", 2)
        agent.recorded(2)
        softphone.hang_up()
        agent.told("queued", 2)
    for part in queued(home):
        # Of two seconds, in tenths; over TCP the first of them come late.
        assert (tone(part.technician, TECHNICIAN_HZ) > LOUD).sum() >= 15
        assert (tone(part.caller, CALLER_HZ) > LOUD).sum() >= 15


def test_a_recording_from_a_server_that_refuses_us_fails_with_its_reason(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.wants("our-key")
    for name, value in door.environment.items():
        monkeypatch.setenv(name, value)
    host = LinuxHost(Settings())
    try:
        door.wants("another-key")
        wait_for(lambda: host.problem is not None and host.problem.what == REFUSED)
        for ask in (host.open, host.devices, host.meter):
            with pytest.raises(HostUnavailable, match=REFUSED):
                ask()
        way = host.signal_ways()[0]
        assert (way.available, way.why) == (False, REFUSED)
    finally:
        host.close()


def test_a_microphone_of_the_settings_that_is_not_there_is_told_and_the_call_is_recorded(
    environment: dict[str, str], softphone: Softphone, pulse: PulseAudio, home: Path
) -> None:
    environment["WA_RECORDING__MICROPHONE"] = "desk"
    softphone.speak()
    with Agent(environment) as agent:
        agent.ready().told("trouble")
        (trouble,) = (moment for moment in agent.moments() if moment["event"] == "trouble")
        assert trouble["details"]["reason"].startswith("there is no microphone desk: there are: Microphone;")
        assert agent.status()["error"] == trouble["details"]["reason"]
        assert "wa config set recording.microphone" in agent.status()["error"]
        softphone.call()
        agent.told("recording")
        agent.recorded(2)
        pulse.control("load-module", "module-remap-source", "source_name=desk", "master=room.monitor")
        agent.told("mended")
        softphone.hang_up()
        agent.told("queued")
        assert not agent.status()["error"]
        agent.stop()
        assert (agent.status()["state"], agent.status()["error"]) == ("stopped", "")
    (part,) = queued(home)
    assert there(part.technician, TECHNICIAN_HZ) > 0.8
    assert there(part.caller, CALLER_HZ) > 0.8


def test_a_side_that_the_server_does_not_give_is_told_while_the_other_is_recorded(pulse: PulseAudio) -> None:
    no_such_stream = 9999
    wanted = Target("mic"), Target("headset.monitor", no_such_stream)
    source = PulseSource(lambda: wanted, Snapshot, lambda _target: None)
    wait_for(lambda: source.problem is not None)
    assert source.problem is not None
    assert source.problem.what == "the caller is not heard"
    assert source.problem.why.startswith("headset.monitor: ")
    wait_for(lambda: (block := source.read()) is not None and block.side == 0)
    source.close()
    assert source.problem is None


@pytest.mark.parametrize("wanted", ["mic", "Microphone", "phone"])
def test_a_microphone_is_named_by_its_id_its_name_or_a_part_of_it(pulse: PulseAudio, wanted: str) -> None:
    host = LinuxHost(Settings(recording=Recording(microphone=wanted)))
    try:
        assert host.problem is None
    finally:
        host.close()
