"""A real SIP call on loopback: two baresip, one of them called `3cxphone`.

The softphone plays on `headset` and records from `mic`; the customer's telephone has two sinks of its own:
`far_room`, to speak into, and `far_ear`.
"""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.linux.sound import PulseAudio, wait_for

MODULES = ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules")
NEEDED = "baresip"


class SipCall:
    """Both telephones. codec: e.g. `pcma` (G.711, 8 kHz) or `g722` (16 kHz)."""

    def __init__(self, pulse: PulseAudio, folder: Path, codec: str = "pcma") -> None:
        for sink in ("far_room", "far_ear"):
            pulse.add_sink(sink)
        self._folder = folder
        self._softphone_port, customer_port = _free_ports(2)
        places = {
            "phone_out": "headset",
            "phone_in": "mic",
            "far_out": "far_ear",
            "far_in": "far_room.monitor",
        }
        devices = "".join(f'pcm.{name} {{ type pulse device "{place}" }}\n' for name, place in places.items())
        (folder / "asound.conf").write_text(devices)
        self._environment = os.environ | pulse.environment
        self._environment["ALSA_CONFIG_PATH"] = f"/usr/share/alsa/alsa.conf:{folder / 'asound.conf'}"
        self._telephone("softphone", self._softphone_port, "phone_out", "phone_in", codec, "answermode=auto")
        self._telephone("customer", customer_port, "far_out", "far_in", codec, "answermode=manual")
        shutil.copy(shutil.which(NEEDED) or "", folder / "3cxphone")
        self._softphone = self._run(str(folder / "3cxphone"), "softphone")
        self._customer: subprocess.Popen[bytes] | None = None
        wait_for(lambda: _taken(self._softphone_port))

    def dial(self) -> None:
        """The customer calls; comes back when the call is up."""
        address = f"sip:softphone@127.0.0.1:{self._softphone_port}"
        self._customer = self._run(NEEDED, "customer", "-e", f"/dial {address}")
        wait_for(lambda: "Call established" in self.log("customer"))

    def hang_up(self) -> None:
        """The customer says BYE."""
        assert self._customer is not None
        self._customer.terminate()
        wait_for(lambda: "terminated" in self.log("softphone") or "session closed" in self.log("softphone"))

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8", "replace")

    def stop(self) -> None:
        for program in (self._softphone, self._customer):
            if program is not None:
                program.kill()
                program.wait()

    def _telephone(self, name: str, port: int, player: str, source: str, codec: str, answer: str) -> None:
        home = self._folder / name
        home.mkdir()
        modules = next(path for path in MODULES if Path(path).is_dir())
        rtp = 20_000 + port % 20_000 * 2
        lines = [
            "poll_method epoll",
            f"sip_listen 127.0.0.1:{port}",
            f"audio_player alsa,{player}",
            f"audio_source alsa,{source}",
            f"audio_alert alsa,{player}",
            "audio_level no",
            "audio_buffer 20-160",
            f"rtp_ports {rtp}-{rtp + 40}",
            f"module_path {modules}",
            *(f"module {module}.so" for module in ("g711", "g722", "uuid", "alsa", "stdio")),
            "module_tmp account.so",
            "module_app menu.so",
        ]
        (home / "config").write_text("\n".join(lines) + "\n")
        (home / "accounts").write_text(
            f"<sip:{name}@127.0.0.1:{port}>;regint=0;{answer};audio_codecs={codec}\n"
        )
        (home / "contacts").touch()

    def _run(self, program: str, name: str, *more: str) -> "subprocess.Popen[bytes]":
        # With its standard input at an end baresip quits: it has a pipe that nobody writes to.
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [program, "-4", "-f", str(self._folder / name), *more],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _number in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
