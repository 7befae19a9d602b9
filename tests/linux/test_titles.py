"""The titles of the softphone's windows, on a real X server, whatever window is in front."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.sound import PulseAudio, wait_for
from whisperagent.hosts.linux import LinuxHost
from whisperagent.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("Xvfb", "xev", "xprop"))),
        reason="an X server is missing: apt-get install xvfb x11-utils",
    ),
]


class Desktop:
    """An X server whose window manager is this test."""

    def __init__(self, folder: Path) -> None:
        reading, writing = os.pipe()
        self._folder = folder
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), "-nolisten", "tcp"],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        )
        self._programs = [self._server]
        self._listed: list[str] = []
        os.close(writing)
        with os.fdopen(reading) as answer:
            self.name = f":{answer.readline().strip()}"

    def window(self, program: str, title: str) -> str:
        """A program of this name, with a window; gives its number."""
        binary = self._folder / program
        shutil.copy(shutil.which("xev") or "", binary)
        started = subprocess.Popen([binary, "-display", self.name, "-name", title], stdout=subprocess.DEVNULL)
        self._programs.append(started)
        wait_for(lambda: bool(self._number(title)))
        number = self._number(title)
        self._set("-id", number, "-f", "_NET_WM_PID", "32c", "-set", "_NET_WM_PID", str(started.pid))
        self.title(number, title)
        self._listed.append(number)
        listed = ",".join(self._listed)
        self._set("-root", "-f", "_NET_CLIENT_LIST", "32x", "-set", "_NET_CLIENT_LIST", listed)
        return number

    def title(self, number: str, title: str) -> None:
        self._set("-id", number, "-f", "_NET_WM_NAME", "8u", "-set", "_NET_WM_NAME", title)

    def end(self) -> None:
        for program in reversed(self._programs):
            program.kill()
            program.wait()

    def _number(self, title: str) -> str:
        tree = self._run("xwininfo", "-root", "-tree")
        found = re.search(rf'(0x[0-9a-f]+) "{re.escape(title)}"', tree)
        return found[1] if found else ""

    def _set(self, *arguments: str) -> None:
        self._run("xprop", *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        command = [program, "-display", self.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def desktop(pulse: PulseAudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    desktop = Desktop(tmp_path)
    monkeypatch.setenv("DISPLAY", desktop.name)
    yield desktop
    desktop.end()


@pytest.fixture
def host(desktop: Desktop) -> Iterator[LinuxHost]:
    host = LinuxHost(Settings())
    yield host
    host.close()


def test_the_titles_are_those_of_the_softphone_alone(desktop: Desktop, host: LinuxHost) -> None:
    desktop.window("editor", "201 - notes on the call with 3CX")
    number = desktop.window("3cxphone", "3CX")
    wait_for(lambda: host.signals().titles == ("3CX",))
    desktop.title(number, "Appel avec +33 6 12 34 56 78 – Zoé")
    wait_for(lambda: host.signals().titles == ("Appel avec +33 6 12 34 56 78 – Zoé",))
    assert host.signals().process
    assert {way.name: way.available for way in host.signal_ways()}["titles"]


def test_a_display_that_goes_away_takes_nothing_but_the_titles(desktop: Desktop, host: LinuxHost) -> None:
    desktop.window("3cxphone", "Call with +33 6 12 34 56 78")
    wait_for(lambda: bool(host.signals().titles))
    desktop.end()
    wait_for(lambda: host.signals().titles == ())
    assert not {way.name: way.available for way in host.signal_ways()}["titles"]
    assert {way.name: way.available for way in host.signal_ways()}["streams"]
