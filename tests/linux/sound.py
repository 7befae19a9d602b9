"""A PC's sound without a PC: a private PulseAudio, a softphone that is a renamed pacat, and tones to tell
one sound from another.

The server's devices: sink `headset`, where the softphone plays by default; sink `room`, whose sound is what
the microphone `mic` picks up, for a technician to speak into.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from whisperagent.wire import SAMPLE_RATE

TECHNICIAN_HZ, CALLER_HZ, SECOND_HZ, MUSIC_HZ = 440, 1000, 1700, 2600
TONE_S = 90
MARKER_HZ, MARKER_S, MARKERS = 2500, 0.02, 10
WINDOW = SAMPLE_RATE // 10
LOUD, QUIET = 0.05, 0.005
"""Amplitude of a tone that is there, and of one that is not; it is played at 0.25."""
NULL_SINK = "rate=48000 norewinds=1"
"""With rewinds it renders two seconds ahead while it is idle, as no real device does."""

Samples = npt.NDArray[np.float64]


def wait_for(condition: Callable[[], bool], limit_s: float = 10.0) -> float:
    """Until it is so; gives the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + limit_s, "it never came to that"
        time.sleep(0.01)
    return time.monotonic() - began


class PulseAudio:
    """A server of its own under `folder`. environment: for programs that are to use it."""

    def __init__(self, folder: Path) -> None:
        # A socket's path may not be long.
        folder.mkdir(mode=0o700)
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_SERVER": f"unix:{folder}/native",
            "PULSE_COOKIE": str(folder / "cookie"),
        }
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._programs: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        modules = [
            f"module-native-protocol-unix auth-anonymous=1 socket={self._folder}/native",
            f"module-null-sink {NULL_SINK} sink_name=headset sink_properties=device.description=Headset",
            f"module-null-sink {NULL_SINK} sink_name=room sink_properties=device.description=Room",
            "module-remap-source source_name=mic master=room.monitor"
            " source_properties=device.description=Microphone",
        ]
        arguments = [argument for module in modules for argument in ("-L", module)]
        # -n: nothing of the machine's own configuration.
        quiet = ["--daemonize=no", "--exit-idle-time=-1", "--realtime=no", "--high-priority=no"]
        self._server = subprocess.Popen(
            ["pulseaudio", "-n", *quiet, f"--log-target=file:{self._folder}/log", *arguments],
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: self._pactl("info").returncode == 0)
        self.control("set-default-sink", "headset")
        self.control("set-default-source", "mic")
        for sink in ("headset", "room"):
            self.warm(sink)

    def control(self, *command: str) -> str:
        done = self._pactl(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def add_sink(self, name: str) -> str:
        """Plug in another headset; gives what `remove` wants."""
        module = self.control(
            "load-module", "module-null-sink", f"sink_name={name}", "rate=48000", "norewinds=1"
        )
        self.warm(name)
        return module

    def remove(self, module: str) -> None:
        self.control("unload-module", module)

    def warm(self, sink: str) -> None:
        """Keep a sink at the latency of a telephone call."""
        self.program(["pacat", "-p", "--raw", "--latency-msec=20", "--device", sink, "/dev/zero"])

    def play(self, raw: Path, sink: str, program: str = "pacat") -> "subprocess.Popen[bytes]":
        """Play a raw file, 16 kHz mono, as a program of that name."""
        # So much ahead that a busy machine makes no gap in it.
        form = ["--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=500"]
        return self.program([program, "-p", *form, "--device", sink, str(raw)])

    def program(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """A program that uses this server, until it is stopped or the server is."""
        started = subprocess.Popen(
            command,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._programs.append(started)
        return started

    def stop(self) -> None:
        for program in [*self._programs, *([self._server] if self._server else [])]:
            program.kill()
            program.wait()
        self._programs.clear()

    def _pactl(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["pactl", *command],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


PIPEWIRE = ("dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse")


class PipeWire(PulseAudio):
    """The same by PipeWire, WirePlumber and pipewire-pulse."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Without a session bus WirePlumber chooses no devices.
        self._bus = f"unix:path={folder}/bus"
        self.environment |= {
            "DBUS_SESSION_BUS_ADDRESS": self._bus,
            "PULSE_SERVER": f"unix:{folder}/pulse/native",
            "PULSE_RUNTIME_PATH": f"{folder}/pulse",
            # What it remembers of streams and devices is of one test.
            "XDG_STATE_HOME": f"{folder}/state",
            "XDG_CONFIG_HOME": f"{folder}/config",
        }

    def start(self) -> None:
        # It ends where no systemd keeps seats, as in a container, unless it looks for no Bluetooth.
        settings = self._folder / "config/wireplumber/bluetooth.lua.d"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "80-none.lua").write_text("bluez_monitor.enabled = false\n")
        self.program(["dbus-daemon", "--session", f"--address={self._bus}", "--nofork", "--nopidfile"])
        wait_for((self._folder / "bus").exists)
        # One by one: each needs the one before.
        self.program(["pipewire"])
        wait_for((self._folder / "pipewire-0").exists)
        self.program(["wireplumber"])
        self.program(["pipewire-pulse"])
        wait_for(lambda: self._pactl("info").returncode == 0)
        for sink in ("headset", "room"):
            name = sink.capitalize()
            described = f"sink_properties=device.description={name}"
            self.control("load-module", "module-null-sink", f"sink_name={sink}", described)
        remap = ("source_name=mic", "master=room.monitor", "source_properties=device.description=Microphone")
        self.control("load-module", "module-remap-source", *remap)
        wait_for(lambda: all(name in self.control("list", "short", "sources") for name in ("mic", "headset")))
        # Refused until WirePlumber is there to remember it.
        wait_for(lambda: self._pactl("set-default-sink", "headset").returncode == 0)
        wait_for(lambda: self._pactl("set-default-source", "mic").returncode == 0)


ON_BOTH = pytest.mark.parametrize("pulse", [PulseAudio, PipeWire], indirect=True)
"""For a test of what the two servers do each in its own way."""


class Tones:
    """Files of a tone, raw, 16 kHz mono."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, hertz: int) -> Path:
        path = self._folder / f"{hertz}.raw"
        if not path.exists():
            at = np.arange(TONE_S * SAMPLE_RATE) / SAMPLE_RATE
            path.write_bytes((8192 * np.sin(2 * np.pi * hertz * at)).astype("<i2").tobytes())
        return path


class Softphone:
    """A program called `3cxphone`, with one stream for each direction. tones: for it and who speaks to it.

    Beside its streams it runs, whether it has a call or not, until it quits.
    """

    def __init__(self, server: PulseAudio, folder: Path, tones: Tones) -> None:
        self._server = server
        self.tones = tones
        self._binary = folder / "3cxphone"
        shutil.copy(shutil.which("pacat") or "", self._binary)
        app = folder / "3CXSoftphone"
        shutil.copy(shutil.which("sleep") or "", app)
        self._app = server.program([str(app), "3600"])
        self._capture: subprocess.Popen[bytes] | None = None
        self._render: list[subprocess.Popen[bytes]] = []

    def listen(self, source: str = "mic") -> None:
        """Take the microphone."""
        self._capture = self._server.program(
            [str(self._binary), "-r", "--latency-msec=40", "--device", source]
        )

    def play(self, hertz: int = CALLER_HZ, sink: str = "headset") -> "subprocess.Popen[bytes]":
        """Let the caller be heard."""
        return self.play_file(self.tones.file(hertz), sink)

    def play_file(self, raw: Path, sink: str = "headset") -> "subprocess.Popen[bytes]":
        self._render.append(self._server.play(raw, sink, str(self._binary)))
        return self._render[-1]

    def call(self) -> None:
        self.play()
        self.listen()

    def let_go(self) -> None:
        """Give the microphone back, as on hold."""
        assert self._capture is not None
        self._capture.kill()
        self._capture.wait()

    def move_to(self, sink: str) -> None:
        """Play elsewhere, as a person asks it to."""
        # Again until it is so: WirePlumber forgets what is asked of a sink that it has only just met.
        wait_for(lambda: self._moved(sink))

    def _moved(self, sink: str) -> bool:
        places = dict(
            line.split()[:2] for line in self._server.control("list", "short", "sinks").splitlines()
        )
        there = True
        for about in self._server.control("list", "sink-inputs").split("Sink Input #"):
            if 'application.process.binary = "3cxphone"' in about:
                place = about.partition("Sink: ")[2].split()[0]
                if places.get(place) != sink:
                    there = False
                    self._server.control("move-sink-input", about.split()[0], sink)
        return there

    def hang_up(self) -> None:
        self.let_go()
        for stream in self._render:
            stream.kill()
            stream.wait()
        self._render.clear()

    def crash(self) -> None:
        """Everything of it is gone at once."""
        self._app.kill()
        self._app.wait()
        self.hang_up()

    def speak(self, hertz: int = TECHNICIAN_HZ) -> None:
        """The technician speaks, which is no doing of the softphone's."""
        self._server.play(self.tones.file(hertz), "room")


def tone(samples: Samples, hertz: int) -> Samples:
    """The amplitude of a tone in each tenth of a second."""
    windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW)
    at = np.arange(WINDOW) / SAMPLE_RATE
    return np.abs(windows @ np.exp(-2j * np.pi * hertz * at)) * 2 / WINDOW


def sides(pcm: bytes) -> tuple[Samples, Samples]:
    """Technician and caller of two-channel PCM, full scale 1."""
    both = np.frombuffer(pcm, "<i2").reshape(-1, 2) / 32768
    return both[:, 0], both[:, 1]


def there(samples: Samples, hertz: int) -> float:
    """For how much of the time the tone is there."""
    return float((tone(samples, hertz) > LOUD).mean())


def absent(samples: Samples, hertz: int) -> bool:
    """Is there nothing of it at all, at any time?"""
    return bool((tone(samples, hertz) < QUIET).all())


def markers() -> bytes:
    """A short tone in the middle of every second, for so many seconds; a murmur between them."""
    at = np.arange(MARKERS * SAMPLE_RATE) / SAMPLE_RATE
    sound = 0.02 * np.sin(2 * np.pi * 300 * at)
    burst = np.arange(round(MARKER_S * SAMPLE_RATE))
    shape = 0.8 * np.sin(2 * np.pi * MARKER_HZ * burst / SAMPLE_RATE) * np.hanning(len(burst))
    for second in range(MARKERS):
        first = round((second + 0.5) * SAMPLE_RATE)
        sound[first : first + len(shape)] += shape
    return (32767 * sound).astype("<i2").tobytes()


def found(samples: Samples) -> Samples:
    """When each marker is heard, in seconds."""
    burst = np.arange(round(MARKER_S * SAMPLE_RATE)) / SAMPLE_RATE
    wanted = np.exp(-2j * np.pi * MARKER_HZ * burst) * np.hanning(len(burst))
    level = np.abs(np.convolve(samples, wanted[::-1], "same"))
    loud = np.flatnonzero(level > level.max() / 2)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > SAMPLE_RATE // 4) + 1)
    return np.array([group[np.argmax(level[group])] for group in groups]) / SAMPLE_RATE
