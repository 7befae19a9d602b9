# ruff: noqa: A002, N802 - these are the names that COM and winreg have
"""A Windows PC made of Python: its sound as COM shows it, its programs, its registry.

As strict as the real one: a thread that has not entered COM is refused, a client that is initialised twice
or in another way than its endpoint allows is refused, and what is unplugged says so from then on.
"""

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from whisperagent.hosts.family import Process
from whisperagent.hosts.listening import clock
from whisperagent.hosts.wasapi import CAPTURE, RENDER, Flow

INACTIVE, ACTIVE, EXPIRED = 0, 1, 2
NOT_INITIALIZED = 0x800401F0
NOT_IMPLEMENTED = 0x80004001
NOT_FOUND = 0x80070490
NO_SUCH_DEVICE = 0x80070002
ALREADY_INITIALIZED, WRONG_ENDPOINT, INVALIDATED = 0x88890002, 0x88890003, 0x88890004
ACCESS_DENIED, IN_USE = 0x80070005, 0x8889000A
OUT_OF_ORDER, UNSUPPORTED_FORMAT, SERVICE_NOT_RUNNING = 0x88890007, 0x88890008, 0x88890010
LOOPBACK, CONVERT = 0x00020000, 0x80000000
DISCONTINUITY, SILENT, TIME_UNKNOWN = 1, 2, 4


class ComError(Exception):
    """As comtypes.COMError: hresult is signed."""

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.hresult = code - (1 << 32)


@dataclass
class Session:
    """A program's session. peak: how loud it is. dies: it goes away as soon as somebody asks it."""

    pid: int
    state: int = ACTIVE
    peak: float = 0.0
    dies: bool = False


@dataclass
class Packet:
    """ticks: its time in units of 100 ns."""

    pcm: bytes
    flags: int = 0
    ticks: int = 0


@dataclass
class Endpoint:
    """A device. vanishes: it goes away while it is looked at. mute: it cannot say who uses it.

    refuses: what a client is answered that wants to use it.
    packets: what its next client hears. clients: how many it has had.
    """

    id: str
    flow: Flow
    name: str = ""
    sessions: list[Session] = field(default_factory=list)
    plugged: bool = True
    vanishes: bool = False
    mute: bool = False
    refuses: int = 0
    packets: deque[Packet] = field(default_factory=deque)
    clients: int = 0

    def check(self) -> None:
        if not self.plugged or self.vanishes:
            raise ComError(INVALIDATED)


class FakeCom:
    """Stands where `wasapi.Com` does, over the endpoints of one PC.

    loopbacks: pid -> what a process loopback of it hears; None: this Windows has none. down: its sound
    service does not run.
    """

    Error = ComError
    name_key = "name"

    def __init__(self, *endpoints: Endpoint, loopbacks: dict[int, Endpoint] | None = None) -> None:
        self.endpoints = list(endpoints)
        self.loopbacks = loopbacks
        self.down = False
        self.defaults: dict[tuple[int, int], str] = {}
        self.IAudioClient = self._interface()
        self.IAudioCaptureClient = self._interface()
        self.IAudioMeterInformation = self._interface()
        self.IAudioSessionControl2 = self._interface()
        self.IAudioSessionManager2 = self._interface()
        self._threads: set[int] = set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        me = threading.get_ident()
        nested = me in self._threads
        self._threads.add(me)
        try:
            yield
        finally:
            if not nested:
                self._threads.discard(me)

    def enumerator(self) -> "Enumerator":
        self.check_thread()
        return Enumerator(self)

    def id(self, device: "Device") -> str:
        device.endpoint.check()
        return device.endpoint.id

    def activate(self, device: "Device", interface: object) -> Any:
        self.check_thread()
        device.endpoint.check()
        if interface is self.IAudioClient:
            return Client(self, device.endpoint, is_process=False)
        assert interface is self.IAudioSessionManager2
        return SessionManager(device.endpoint)

    def format(self) -> tuple[int, int, int]:
        return (16_000, 16, 1)

    def process_client(self, pid: int) -> "Client":
        self.check_thread()
        if self.loopbacks is None or pid not in self.loopbacks:
            raise ComError(NO_SUCH_DEVICE)
        return Client(self, self.loopbacks[pid], is_process=True)

    def check_thread(self) -> None:
        if threading.get_ident() not in self._threads:
            raise ComError(NOT_INITIALIZED)

    def _interface(self) -> Any:
        return SimpleNamespace(_iid_=object())


class Enumerator:
    """IMMDeviceEnumerator."""

    def __init__(self, com: FakeCom) -> None:
        self._com = com

    def EnumAudioEndpoints(self, flow: int, states: int) -> "Collected":
        self._com.check_thread()
        assert states == 1, "only active endpoints can be opened"
        if self._com.down:
            raise ComError(SERVICE_NOT_RUNNING)
        return Collected([Device(one) for one in self._com.endpoints if one.flow == flow and one.plugged])

    def GetDefaultAudioEndpoint(self, flow: int, role: int) -> "Device":
        return self.GetDevice(self._com.defaults.get((flow, role), ""))

    def GetDevice(self, id: str) -> "Device":
        self._com.check_thread()
        for endpoint in [] if self._com.down else self._com.endpoints:
            if endpoint.id == id and endpoint.plugged:
                return Device(endpoint)
        raise ComError(NOT_FOUND)


class Collected:
    """IMMDeviceCollection."""

    def __init__(self, devices: list["Device"]) -> None:
        self._devices = devices

    def GetCount(self) -> int:
        return len(self._devices)

    def Item(self, index: int) -> "Device":
        return self._devices[index]


class Device:
    """IMMDevice, and its IPropertyStore."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def OpenPropertyStore(self, access: int) -> "Device":
        assert access == 0, "only reading needs no rights"
        self.endpoint.check()
        return self

    def GetValue(self, key: object) -> Any:
        assert key == FakeCom.name_key
        return SimpleNamespace(GetValue=lambda: self.endpoint.name or None, clear=lambda: None)


class SessionManager:
    """IAudioSessionManager2, and its IAudioSessionEnumerator."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def GetSessionEnumerator(self) -> "SessionManager":
        if self._endpoint.mute:
            raise ComError(NOT_IMPLEMENTED)
        return self

    def GetCount(self) -> int:
        return len(self._endpoint.sessions)

    def GetSession(self, index: int) -> "SessionControl":
        return SessionControl(self._endpoint.sessions[index])


class SessionControl:
    """IAudioSessionControl2, and its IAudioMeterInformation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def QueryInterface(self, _interface: object) -> "SessionControl":
        return self

    def GetProcessId(self) -> int:
        if self._session.dies:
            raise ComError(INVALIDATED)
        return self._session.pid

    def GetState(self) -> int:
        return self._session.state

    def GetPeakValue(self) -> float:
        return self._session.peak


class Client:
    """IAudioClient and IAudioCaptureClient."""

    def __init__(self, com: FakeCom, endpoint: Endpoint, *, is_process: bool) -> None:
        self._com = com
        self._endpoint = endpoint
        self._is_process = is_process
        self._flags: int | None = None
        self._started = False
        self._held: Any = None

    def Initialize(
        self, share: int, flags: int, _length: int, period: int, format: object, _guid: object
    ) -> None:
        self._endpoint.check()
        if self._endpoint.refuses:
            raise ComError(self._endpoint.refuses)
        if self._flags is not None:
            raise ComError(ALREADY_INITIALIZED)
        if bool(flags & LOOPBACK) != (self._is_process or self._endpoint.flow == RENDER):
            raise ComError(WRONG_ENDPOINT)
        if not flags & CONVERT:
            raise ComError(UNSUPPORTED_FORMAT)
        assert (share, period, format) == (0, 0, self._com.format())
        self._flags = flags

    def GetService(self, iid: object) -> "Client":
        assert self._flags is not None
        assert iid is self._com.IAudioCaptureClient._iid_
        return self

    def QueryInterface(self, _interface: object) -> "Client":
        return self

    def Start(self) -> None:
        self._endpoint.check()
        self._endpoint.clients += 1
        self._started = True

    def Stop(self) -> None:
        self._endpoint.check()

    def GetNextPacketSize(self) -> int:
        self._com.check_thread()
        self._endpoint.check()
        assert self._started
        packets = self._endpoint.packets
        return len(packets[0].pcm) // 2 if packets else 0

    def GetBuffer(self) -> tuple[Any, int, int, int, int]:
        if self._held is not None:
            raise ComError(OUT_OF_ORDER)
        packet = self._endpoint.packets.popleft()
        self._held = ctypes.create_string_buffer(packet.pcm, len(packet.pcm))
        return self._held, len(packet.pcm) // 2, packet.flags, 0, packet.ticks or round(clock() * 1e7)

    def ReleaseBuffer(self, frames: int) -> None:
        assert frames * 2 == len(self._held)
        self._held = None


@dataclass
class FakeDesktop:
    """Stands where `win_desktop.Desktop` does."""

    running: list[Process] = field(default_factory=list)
    start_times: dict[int, int] = field(default_factory=dict)
    windows: list[tuple[int, str]] = field(default_factory=list)
    users: list[str] | None = field(default_factory=list)
    denied: str = ""
    windows_build: int = 22_631

    def processes(self) -> list[Process]:
        return list(self.running)

    def started(self, pid: int) -> int | None:
        return self.start_times.get(pid, pid)

    def titles(self, pids: Collection[int]) -> list[tuple[int, str]]:
        return [(pid, title) for pid, title in self.windows if pid in pids]

    def microphone_users(self) -> list[str] | None:
        return self.users

    def microphone_denied(self) -> str:
        return self.denied

    def build(self) -> int:
        return self.windows_build


class FakeRegistry:
    """The module winreg over nested dicts: a key is a dict, a value anything else."""

    def __init__(self, current_user: dict[str, Any], machine: dict[str, Any] | None = None) -> None:
        self.HKEY_CURRENT_USER = _Key(current_user)
        self.HKEY_LOCAL_MACHINE = _Key(machine or {})

    def OpenKey(self, key: "_Key", path: str) -> "_Key":
        values = key.values
        for name in path.split("\\"):
            if not isinstance(values.get(name), dict):
                raise FileNotFoundError(2, "The system cannot find the file specified")
            values = values[name]
        return _Key(values)

    def QueryInfoKey(self, key: "_Key") -> tuple[int, int, int]:
        keys = key.keys()
        return len(keys), len(key.values) - len(keys), 0

    def EnumKey(self, key: "_Key", index: int) -> str:
        try:
            return key.keys()[index]
        except IndexError:
            raise OSError(259, "No more data is available") from None

    def QueryValueEx(self, key: "_Key", name: str) -> tuple[Any, int]:
        if name not in key.values:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return key.values[name], 11


class _Key:
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __enter__(self) -> "_Key":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to let go of."""

    def keys(self) -> list[str]:
        return [name for name, value in self.values.items() if isinstance(value, dict)]


def microphone(id: str = "mic", *sessions: Session, name: str = "Microphone (Headset)") -> Endpoint:
    return Endpoint(id, CAPTURE, name, list(sessions))


def output(id: str = "out", *sessions: Session, name: str = "Speakers (Headset)") -> Endpoint:
    return Endpoint(id, RENDER, name, list(sessions))


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    clock_ = threading.Event()
    for _ in range(1000):
        if condition():
            return
        clock_.wait(0.01)
    raise AssertionError("it did not happen within 10 s")
