"""Windows' sound: endpoints, who plays and records on them, and samples.

One way to get samples (`Stream`) for all three: a microphone, all that an output plays (endpoint loopback),
and what one program plays (process loopback). They differ in how their IAudioClient is come by; Windows
converts each to 16 kHz mono. PortAudio has no loopback and does not notice new devices; and the two libraries
that have one bring numpy, or record the whole system when they cannot record one program.

A process loopback is of one program or it is nothing: its client is of the device `VAD\\Process_Loopback`,
which plays nothing else, and where Windows has no such device there is an error.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from whisperagent.errors import HostUnavailable
from whisperagent.hosts.listening import clock
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE

Flow = Literal[0, 1]
RENDER: Flow = 0
CAPTURE: Flow = 1
CONSOLE, COMMUNICATIONS = 0, 2
"""Roles: a PC has a default device for sound, and one for calls."""
PROCESS_LOOPBACK = "VAD\\Process_Loopback"
PROCESS_LOOPBACK_BUILD = 19041
"""Of Windows 10 2004. Microsoft documents 20348; others use it from here on, and trying costs nothing."""

_ACTIVE = 1
_SHARED = 0
_LOOPBACK = 0x0002_0000
_CONVERT = 0x8000_0000 | 0x0800_0000  # AUTOCONVERTPCM, with the better resampler
_BUFFER = 10_000_000  # a second, in units of 100 ns
_MULTITHREADED = 0
_CHANGED_MODE = -0x7FFE_FEFA  # RPC_E_CHANGED_MODE: the thread has COM already, in another way
_NAME = ("{A45C254E-DF1C-4EFD-8020-67D146A850E0}", 14)  # PKEY_Device_FriendlyName: "Microphone (Headset)"
_DISCONTINUITY, _SILENT, _TIME_UNKNOWN = 1, 2, 4
_ACTIVATION_S = 5.0
_TIMESTAMP_S = 3.0
"""How old a packet's own time may be; an older one, or one in the future, is not believed."""

ACCESS_DENIED, DEVICE_INVALIDATED, DEVICE_IN_USE = 0x8007_0005, 0x8889_0004, 0x8889_000A
"""E_ACCESSDENIED, of a microphone that the privacy settings forbid; AUDCLNT_E_…"""


@dataclass(frozen=True)
class Endpoint:
    """A device that plays or records. id: Windows' own, the same for every program."""

    id: str
    name: str
    flow: Flow


@dataclass(frozen=True)
class Session:
    """A program at an endpoint. active: it plays or records now, muted or not. peak: how loud, 0 to 1."""

    pid: int
    flow: Flow
    endpoint: str
    active: bool
    peak: float


class Com:
    """What we need of comtypes and pycaw, which exist on Windows alone and take their time to load.

    Error: what every call may raise. raises ImportError: not Windows.
    """

    def __init__(self) -> None:
        # comtypes gives COM to the thread that imports it first; our threads must not depend on its messages.
        vars(sys).setdefault("coinit_flags", _MULTITHREADED)
        import comtypes
        from pycaw.api.audioclient import IAudioClient
        from pycaw.api.audioclient.depend import WAVEFORMATEX
        from pycaw.api.audiopolicy import IAudioSessionControl2, IAudioSessionManager2
        from pycaw.api.endpointvolume import IAudioMeterInformation
        from pycaw.api.mmdeviceapi import IMMDeviceEnumerator
        from pycaw.api.mmdeviceapi.depend import PROPERTYKEY
        from pycaw.constants import CLSID_MMDeviceEnumerator

        self.Error: type[Exception] = comtypes.COMError
        self.IAudioClient = IAudioClient
        self.IAudioMeterInformation = IAudioMeterInformation
        self.IAudioSessionControl2 = IAudioSessionControl2
        self.IAudioSessionManager2 = IAudioSessionManager2
        self.name_key = PROPERTYKEY(comtypes.GUID(_NAME[0]), _NAME[1])
        self._device, self.IAudioCaptureClient, self._operation, self._handler = _interfaces(comtypes)
        self._comtypes = comtypes
        self._enumerator = (CLSID_MMDeviceEnumerator, IMMDeviceEnumerator)
        self._format = WAVEFORMATEX

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread may use COM."""
        try:
            self._comtypes.CoInitializeEx(_MULTITHREADED)
        except OSError as problem:
            if getattr(problem, "winerror", None) != _CHANGED_MODE:
                raise
            yield
            return
        try:
            yield
        finally:
            self._comtypes.CoUninitialize()

    def enumerator(self) -> Any:
        """A new IMMDeviceEnumerator."""
        clsid, interface = self._enumerator
        return self._comtypes.CoCreateInstance(clsid, interface, self._comtypes.CLSCTX_INPROC_SERVER)

    def id(self, device: Any) -> str:
        """The endpoint's id of an IMMDevice."""
        return str(device.QueryInterface(self._device).GetId())

    def activate(self, device: Any, interface: Any) -> Any:
        """`interface` of an IMMDevice."""
        unknown = device.Activate(interface._iid_, self._comtypes.CLSCTX_ALL, None)
        return unknown.QueryInterface(interface)

    def format(self) -> Any:
        """WAVEFORMATEX: 16 kHz, 16 bits, mono."""
        return self._format(1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, 0)

    def process_client(self, pid: int) -> Any:
        """An IAudioClient of what this process and its children play, and of nothing else.

        raises Error, OSError: this Windows cannot, or there is no such process.
        """
        activate = vars(ctypes)["OleDLL"]("mmdevapi").ActivateAudioInterfaceAsync
        params = _ActivationParams(_PROCESS_LOOPBACK_TYPE, pid, _INCLUDE_CHILDREN)
        blob = _Blob(_VT_BLOB, 0, 0, 0, ctypes.sizeof(params), ctypes.addressof(params))
        handler, operation = self._handler(), ctypes.POINTER(self._operation)()
        handler.params = params  # for as long as Windows may look at them
        pointer = handler.QueryInterface(self._handler.interface)
        activate(
            ctypes.c_wchar_p(PROCESS_LOOPBACK),
            ctypes.byref(self.IAudioClient._iid_),
            ctypes.byref(blob),
            pointer,
            ctypes.byref(operation),
        )
        if not handler.completed.wait(_ACTIVATION_S):
            raise TimeoutError(_("Windows does not answer"))
        result, unknown = operation.GetActivateResult()
        if result < 0 or not unknown:
            raise self.Error(result, None, (None, None, None, 0, None))
        return unknown.QueryInterface(self.IAudioClient)


class Sound:
    """The endpoints of this PC, for one thread that has entered COM."""

    def __init__(self, com: Com) -> None:
        self._com = com
        self._devices = com.enumerator()

    def endpoints(self) -> list[Endpoint]:
        """Those that are plugged in and not disabled. raises com.Error: there is no sound service."""
        return [
            Endpoint(endpoint, self._name(device), flow)
            for flow in (RENDER, CAPTURE)
            for endpoint, device in self._active(flow)
        ]

    def default(self, flow: Flow) -> str:
        """The id of the endpoint for calls, else of the one for sound; nothing when there is none."""
        for role in (COMMUNICATIONS, CONSOLE):
            try:
                return self._com.id(self._devices.GetDefaultAudioEndpoint(flow, role))
            except self._com.Error:
                continue
        return ""

    def sessions(self) -> list[Session]:
        """Every program at every endpoint: not only the default one, where a headset is missed.

        An endpoint or a session that goes away while we look is left out.
        raises com.Error: no endpoint can say who uses it.
        """
        found: list[Session] = []
        refused: Exception | None = None
        answered = False
        for flow in (RENDER, CAPTURE):
            for endpoint, device in self._active(flow):
                try:
                    manager = self._com.activate(device, self._com.IAudioSessionManager2)
                    sessions = manager.GetSessionEnumerator()
                    count = sessions.GetCount()
                except self._com.Error as problem:
                    refused = problem
                    continue
                answered = True
                found += (
                    Session(pid, flow, endpoint, active, peak)
                    for pid, active, peak in self._at(sessions, count)
                )
        if refused is not None and not answered:
            raise refused
        return found

    def microphone(self, endpoint: str) -> "Stream":
        """raises com.Error: it is gone, or not for us."""
        return Stream(self._com, self._client(endpoint), 0)

    def output(self, endpoint: str) -> "Stream":
        """All that this endpoint plays, whoever plays it. raises com.Error: it is gone."""
        return Stream(self._com, self._client(endpoint), _LOOPBACK)

    def process(self, pid: int) -> "Stream":
        """What one program and its children play. raises com.Error, OSError: this Windows cannot."""
        return Stream(self._com, self._com.process_client(pid), _LOOPBACK)

    def _client(self, endpoint: str) -> Any:
        return self._com.activate(self._devices.GetDevice(endpoint), self._com.IAudioClient)

    def _active(self, flow: Flow) -> Iterator[tuple[str, Any]]:
        devices = self._devices.EnumAudioEndpoints(flow, _ACTIVE)
        for index in range(devices.GetCount()):
            try:
                device = devices.Item(index)
                yield self._com.id(device), device
            except self._com.Error:
                continue

    def _at(self, sessions: Any, count: int) -> Iterator[tuple[int, bool, float]]:
        for index in range(count):
            try:
                control = sessions.GetSession(index).QueryInterface(self._com.IAudioSessionControl2)
                pid, active = int(control.GetProcessId()), control.GetState() == _ACTIVE
            except self._com.Error:
                continue
            yield pid, active, self._peak(control) if active else 0.0

    def _peak(self, control: Any) -> float:
        try:
            return float(control.QueryInterface(self._com.IAudioMeterInformation).GetPeakValue())
        except self._com.Error:
            return 0.0

    def _name(self, device: Any) -> str:
        try:
            value = device.OpenPropertyStore(0).GetValue(self._com.name_key)
            name = value.GetValue()
            value.clear()
        except self._com.Error:
            name = ""
        return str(name) or _("a device without a name")


class Stream:
    """What one IAudioClient hears, 16 kHz int16 mono.

    A microphone delivers all the time, a loopback only while something plays. sounded_at: `clock()` when it
    last delivered something else than zeros, at first when it was opened.
    raises com.Error: it cannot be opened.
    """

    def __init__(self, com: Com, client: Any, flags: int) -> None:
        self._client = client
        client.Initialize(_SHARED, flags | _CONVERT, _BUFFER, 0, com.format(), None)
        capture = com.IAudioCaptureClient
        self._capture = client.GetService(capture._iid_).QueryInterface(capture)
        client.Start()
        self.sounded_at = clock()

    def read(self) -> list[tuple[bytes, float]]:
        """What has come since the last look: (pcm, `clock()` at its first sample), joined where it is whole.

        raises com.Error: the device is gone.
        """
        joined: list[tuple[bytearray, float]] = []
        while self._capture.GetNextPacketSize():
            data, frames, flags, _position, ticks = self._capture.GetBuffer()
            if not frames:
                break
            pcm = bytes(2 * frames) if flags & _SILENT else ctypes.string_at(data, 2 * frames)
            self._capture.ReleaseBuffer(frames)
            if pcm.strip(b"\0"):
                self.sounded_at = clock()
            if joined and not flags & _DISCONTINUITY:
                joined[-1][0].extend(pcm)
            else:
                joined.append((bytearray(pcm), _began(frames, flags, ticks)))
        return [(bytes(pcm), at) for pcm, at in joined]

    def close(self) -> None:
        """raises com.Error: the device went away before us."""
        client, self._client, self._capture = self._client, None, None
        # What nothing refers to any more COM forgets, which it must before this thread leaves it.
        client.Stop()


def _began(frames: int, flags: int, ticks: int) -> float:
    """`clock()` at the first sample of a packet; ticks: its own time, in units of 100 ns."""
    now, stamped = clock(), ticks / 10_000_000
    if not flags & _TIME_UNKNOWN and now - _TIMESTAMP_S < stamped <= now:
        return stamped
    return now - frames / SAMPLE_RATE


def in_words(problem: Exception) -> str:
    """What a COM error, or an OSError that Windows numbered, means."""
    if not (number := _number(problem)):
        return str(problem) or type(problem).__name__
    words = {
        0x8000_4001: _("this Windows cannot do it"),
        0x8007_0002: _("this Windows has no such device"),
        ACCESS_DENIED: _("Windows does not let this program use it"),
        0x8007_0490: _("there is no such device"),
        DEVICE_INVALIDATED: _("the device was unplugged or switched off"),
        0x8889_0003: _("the device cannot be recorded in this way"),
        0x8889_0008: _("the device does not give the sound that we ask for"),
        DEVICE_IN_USE: _("another program has the device for itself alone"),
        0x8889_0010: _("Windows' sound service does not run"),
    }
    return words.get(number) or _("Windows says {code}").format(code=f"0x{number:08X}")


def explain(problem: Exception) -> HostUnavailable:
    """The same, with what to do about it."""
    cures = {
        ACCESS_DENIED: allow_microphone(),
        DEVICE_IN_USE: _("end that program, or take exclusive control from all in the device's properties"),
        DEVICE_INVALIDATED: _("plug it in again, or switch it on: it is then recorded again"),
    }
    return HostUnavailable(
        in_words(problem),
        fix=cures.get(_number(problem)) or _("plug the headset in again, or restart the PC"),
    )


def allow_microphone() -> str:
    """What to do where the privacy settings forbid it."""
    return _(
        "Settings > Privacy & security > Microphone: allow access for this PC, for apps and for desktop apps"
    )


def _number(problem: Exception) -> int:
    """Windows' number of an error, 0: it has none."""
    code = getattr(problem, "hresult", None) or getattr(problem, "winerror", None) or 0
    return int(code) & 0xFFFF_FFFF


# The structures and interfaces that pycaw has not got (audioclient.h, audioclientactivationparams.h).

_VT_BLOB = 65
_PROCESS_LOOPBACK_TYPE = 1
_INCLUDE_CHILDREN = 0


class _ActivationParams(ctypes.Structure):
    """AUDIOCLIENT_ACTIVATION_PARAMS."""

    _fields_ = (("type", ctypes.c_uint32), ("pid", ctypes.c_uint32), ("mode", ctypes.c_uint32))


class _Blob(ctypes.Structure):
    """PROPVARIANT that holds a BLOB."""

    _fields_ = (
        ("kind", ctypes.c_uint16),
        ("reserved1", ctypes.c_uint16),
        ("reserved2", ctypes.c_uint16),
        ("reserved3", ctypes.c_uint16),
        ("size", ctypes.c_uint32),
        ("data", ctypes.c_void_p),
    )


def _interfaces(comtypes: Any) -> tuple[Any, Any, Any, Any]:
    """IMMDevice, IAudioCaptureClient, IActivateAudioInterfaceAsyncOperation, and a handler for its end.

    Made when they are needed, for only then is there a comtypes to make them of.
    """
    method, pointer, uint32 = comtypes.COMMETHOD, ctypes.POINTER, ctypes.c_uint32
    hresult, uint64 = vars(ctypes)["HRESULT"], ctypes.c_uint64

    def interface(name: str, iid: str, *methods: Any) -> Any:
        return type(name, (comtypes.IUnknown,), {"_iid_": comtypes.GUID(iid), "_methods_": methods})

    def taken(self: Any) -> str:
        text = str(self.value)
        vars(ctypes)["OleDLL"]("ole32").CoTaskMemFree(self)
        return text

    # pycaw's own leaks each id it is given, and we ask for them all day.
    text = type("Text", (ctypes.c_wchar_p,), {"__ctypes_from_outparam__": taken})
    anything = (["in"], ctypes.c_void_p)
    device = interface(
        "IMMDevice",
        "{D666063F-1587-4E43-81F1-B948E807363F}",
        method([], hresult, "Activate", anything, anything, anything, anything),
        method([], hresult, "OpenPropertyStore", anything, anything),
        method([], hresult, "GetId", (["out"], pointer(text), "id")),
    )
    capture = interface(
        "IAudioCaptureClient",
        "{C8ADBD64-E71E-48A0-A4DE-185C395CD317}",
        method(
            [],
            hresult,
            "GetBuffer",
            (["out"], pointer(pointer(ctypes.c_ubyte)), "data"),
            (["out"], pointer(uint32), "frames"),
            (["out"], pointer(uint32), "flags"),
            (["out"], pointer(uint64), "position"),
            (["out"], pointer(uint64), "ticks"),
        ),
        method([], hresult, "ReleaseBuffer", (["in"], uint32, "frames")),
        method([], hresult, "GetNextPacketSize", (["out"], pointer(uint32), "frames")),
    )
    operation = interface(
        "IActivateAudioInterfaceAsyncOperation",
        "{72A22D78-CDE4-431D-B8CC-843A71199B6D}",
        method(
            [],
            hresult,
            "GetActivateResult",
            (["out"], pointer(ctypes.c_int32), "result"),
            (["out"], pointer(pointer(comtypes.IUnknown)), "activated"),
        ),
    )
    completion = interface(
        "IActivateAudioInterfaceCompletionHandler",
        "{41D949AB-9862-444A-80F6-C261334DA5EB}",
        method([], hresult, "ActivateCompleted", (["in"], pointer(operation), "operation")),
    )
    # Windows calls from a thread of its own, and activates nothing for a handler that does not allow it.
    agile = interface("IAgileObject", "{94EA2B94-E9CC-49E0-C0FF-EE64CA8F5B90}")

    def __init__(self: Any) -> None:  # noqa: N807 - of the class below
        comtypes.COMObject.__init__(self)
        self.completed = threading.Event()

    def completed(self: Any, operation: Any) -> int:
        self.completed.set()
        return 0

    members = {
        "interface": completion,
        "_com_interfaces_": [completion, agile],
        "__init__": __init__,
        "ActivateCompleted": completed,
    }
    return device, capture, operation, type("Handler", (comtypes.COMObject,), members)
