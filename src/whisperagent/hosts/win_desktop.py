"""What Windows' desktop shows: programs that run, their windows' titles, who uses the microphone.

By the system's own calls (Toolhelp, EnumWindows, the registry): nothing to install, and quick enough to ask
twice a second. Nothing here needs more rights than the person at the PC has.
"""

import ctypes
import functools
import importlib
import sys
from collections.abc import Collection, Iterator
from typing import Any

from whisperagent.hosts.family import Process
from whisperagent.i18n import _

CONSENT = r"Software\Microsoft\Windows\CurrentVersion\CapabilityAccessManager\ConsentStore\microphone"
"""Where Windows keeps who used the microphone when: a key for each app of the store by its package's name,
and under `NonPackaged` one for each other program by its path, with # for every backslash."""
NOT_PACKAGED = "NonPackaged"
DENIED = "Deny"
TITLE_LIMIT = 512

_SNAP_PROCESSES = 2
_NO_HANDLE = ctypes.c_void_p(-1).value
_QUERY_LIMITED = 0x1000


class Desktop:
    """The desktop of who is logged on."""

    def processes(self) -> list[Process]:
        """Every process now. raises OSError: Windows gives no list."""
        kernel32 = _library("kernel32")
        kernel32.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
        snapshot = kernel32.CreateToolhelp32Snapshot(_SNAP_PROCESSES, 0)
        if snapshot == _NO_HANDLE:
            raise _last_error()
        try:
            return list(_listed(kernel32, ctypes.c_void_p(snapshot)))
        finally:
            kernel32.CloseHandle(ctypes.c_void_p(snapshot))

    def started(self, pid: int) -> int | None:
        """When a process started, in Windows' own units; None: it is gone, or not ours to ask."""
        kernel32 = _library("kernel32")
        kernel32.OpenProcess.restype = ctypes.c_void_p
        process = kernel32.OpenProcess(_QUERY_LIMITED, False, pid)
        if not process:
            return None
        try:
            times = [ctypes.c_uint64() for _ in range(4)]
            if not kernel32.GetProcessTimes(ctypes.c_void_p(process), *map(ctypes.byref, times)):
                return None
            return times[0].value
        finally:
            kernel32.CloseHandle(ctypes.c_void_p(process))

    def titles(self, pids: Collection[int]) -> list[tuple[int, str]]:
        """(pid, title) of every visible top-level window of these processes, wherever the focus is.

        Minimised windows are visible to Windows. Hidden ones are left out: they may keep an old title.
        """
        user32 = _library("user32")
        found: list[tuple[int, str]] = []
        text = ctypes.create_unicode_buffer(TITLE_LIMIT)

        def look(window: int | None, _: int) -> bool:
            handle, pid = ctypes.c_void_p(window), ctypes.c_uint32()
            user32.GetWindowThreadProcessId(handle, ctypes.byref(pid))
            if pid.value in pids and user32.IsWindowVisible(handle):
                # Another program's title comes from Windows itself, so one that hangs cannot hold us up.
                user32.GetWindowTextW(handle, text, TITLE_LIMIT)
                if text.value:
                    found.append((pid.value, text.value))
            return True

        callback = _platform("WINFUNCTYPE")(ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t)
        user32.EnumWindows(callback(look), 0)
        return found

    def microphone_users(self) -> list[str] | None:
        """Who uses the microphone now: programs' files and packages, e.g. `3CXDMCC.3CX_97f1hnz6y6tba`.

        None: this Windows does not keep it (before Windows 10 1903), or not for us to read.
        """
        winreg = importlib.import_module("winreg")
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, CONSENT) as store:
                users = [name for name in _subkeys(winreg, store) if _in_use(winreg, store, name)]
                try:
                    with winreg.OpenKey(store, NOT_PACKAGED) as programs:
                        paths = [
                            name for name in _subkeys(winreg, programs) if _in_use(winreg, programs, name)
                        ]
                except OSError:
                    paths = []
        except OSError:
            return None
        return users + [path.rpartition("#")[2] for path in paths]

    def microphone_denied(self) -> str:
        """The privacy setting that keeps programs like ours from every microphone; empty: none does."""
        winreg = importlib.import_module("winreg")
        switches = (
            (winreg.HKEY_LOCAL_MACHINE, CONSENT, _("Microphone access")),
            (winreg.HKEY_CURRENT_USER, CONSENT, _("Let apps access your microphone")),
            (
                winreg.HKEY_CURRENT_USER,
                rf"{CONSENT}\{NOT_PACKAGED}",
                _("Let desktop apps access your microphone"),
            ),
        )
        for root, path, name in switches:
            try:
                with winreg.OpenKey(root, path) as key:
                    allowed = winreg.QueryValueEx(key, "Value")[0]
            except OSError:
                continue  # never set
            if allowed == DENIED:
                return name
        return ""

    def build(self) -> int:
        """Windows' build, e.g. 19045 for Windows 10 22H2 and 22000 for the first Windows 11."""
        return int(vars(sys)["getwindowsversion"]().build)


class _Entry(ctypes.Structure):
    """PROCESSENTRY32W."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("usage", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
        ("heap", ctypes.c_size_t),
        ("module", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("parent", ctypes.c_uint32),
        ("priority", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_wchar * 260),
    )


def _listed(kernel32: Any, snapshot: ctypes.c_void_p) -> Iterator[Process]:
    entry = _Entry(size=ctypes.sizeof(_Entry))
    more = kernel32.Process32FirstW(snapshot, ctypes.byref(entry))
    while more:
        yield Process(entry.pid, entry.parent, entry.name)
        more = kernel32.Process32NextW(snapshot, ctypes.byref(entry))


def _subkeys(winreg: Any, key: Any) -> Iterator[str]:
    count = winreg.QueryInfoKey(key)[0]
    for index in range(count):
        try:
            yield winreg.EnumKey(key, index)
        except OSError:
            return  # one was deleted meanwhile


def _in_use(winreg: Any, store: Any, name: str) -> bool:
    """It started to use the microphone, and has not stopped."""
    try:
        with winreg.OpenKey(store, name) as key:
            start = winreg.QueryValueEx(key, "LastUsedTimeStart")[0]
            stop = winreg.QueryValueEx(key, "LastUsedTimeStop")[0]
    except OSError:
        return False
    return bool(start) and stop == 0


def _platform(name: str) -> Any:
    """What ctypes has on Windows alone."""
    return getattr(ctypes, name)


@functools.cache
def _library(name: str) -> Any:
    return _platform("WinDLL")(name, use_last_error=True)


def _last_error() -> OSError:
    problem: OSError = _platform("WinError")(_platform("get_last_error")())
    return problem
