"""A few words on the desktop, by what each system has for it; where there is nothing, nothing happens."""

import logging
import shutil
import subprocess
import sys

TIMEOUT_S = 10.0
SHOWN_S = 5.0
"""How long Windows keeps a notice whose program still has its icon."""
APPLE_SCRIPT = (
    "on run argv\n"
    "display notification (item 2 of argv) with title (item 1 of argv)\n"
    "end run"
)  # fmt: skip

log = logging.getLogger(__name__)


def send(title: str, body: str) -> bool:
    """Show them; returns when they are shown, on Windows when they are gone. Never raises.

    False: they could not be shown.
    """
    try:
        if sys.platform == "win32":
            _toast(title, body)
        elif program := command(title, body):
            subprocess.run(program, check=True, capture_output=True, timeout=TIMEOUT_S)
        else:
            return False
    except (OSError, subprocess.SubprocessError) as problem:
        # A desktop that is not there must not disturb a recording; and without one nobody would see it.
        log.info("no notice was shown: %s", problem)
        return False
    return True


def command(title: str, body: str) -> list[str]:
    """The program that shows them on Linux and macOS; empty where there is none.

    Both texts are arguments of their own: a caller's name is never a piece of a script or an option.
    """
    if sys.platform == "darwin":
        return ["osascript", "-e", APPLE_SCRIPT, title, body]
    if program := shutil.which("notify-send"):
        return [program, "--app-name=WhisperAgent", "--", title, _plain(body)]
    return []


def _plain(body: str) -> str:
    """Desktops read the text of a notice as HTML."""
    return body.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


if sys.platform == "win32":
    import ctypes
    import time
    from ctypes import wintypes

    NIM_ADD, NIM_DELETE = 0, 2
    NIF_ICON, NIF_TIP, NIF_INFO = 0x02, 0x04, 0x10
    NIIF_INFO = 1
    IDI_APPLICATION = 32512
    HWND_MESSAGE = -3

    class _NotifyIconData(ctypes.Structure):
        """NOTIFYICONDATAW of shellapi.h."""

        _fields_ = [
            ("cbSize", wintypes.DWORD),
            ("hWnd", wintypes.HWND),
            ("uID", wintypes.UINT),
            ("uFlags", wintypes.UINT),
            ("uCallbackMessage", wintypes.UINT),
            ("hIcon", wintypes.HICON),
            ("szTip", wintypes.WCHAR * 128),
            ("dwState", wintypes.DWORD),
            ("dwStateMask", wintypes.DWORD),
            ("szInfo", wintypes.WCHAR * 256),
            ("uVersion", wintypes.UINT),
            ("szInfoTitle", wintypes.WCHAR * 64),
            ("dwInfoFlags", wintypes.DWORD),
            ("guidItem", ctypes.c_byte * 16),
            ("hBalloonIcon", wintypes.HICON),
        ]

    def _toast(title: str, body: str) -> None:
        """An icon of the notification area that comes with a text: Windows 10 and 11 show it as a toast.

        A true toast needs a shortcut in the start menu and WinRT; this needs neither.
        """
        user32 = ctypes.WinDLL("user32", use_last_error=True)
        shell32 = ctypes.WinDLL("shell32", use_last_error=True)
        user32.CreateWindowExW.restype = wintypes.HWND
        user32.CreateWindowExW.argtypes = [
            wintypes.DWORD, wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD,
            ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
            wintypes.HWND, wintypes.HMENU, wintypes.HINSTANCE, wintypes.LPVOID,
        ]  # fmt: skip
        user32.DestroyWindow.argtypes = [wintypes.HWND]
        user32.LoadIconW.restype = wintypes.HICON
        user32.LoadIconW.argtypes = [wintypes.HINSTANCE, ctypes.c_void_p]
        shell32.Shell_NotifyIconW.argtypes = [wintypes.DWORD, ctypes.POINTER(_NotifyIconData)]
        # A window that is never seen owns the icon; of a class that Windows brings, so that it needs no code.
        window = user32.CreateWindowExW(
            0, "STATIC", "WhisperAgent", 0, 0, 0, 0, 0, wintypes.HWND(HWND_MESSAGE), None, None, None
        )
        if not window:
            raise ctypes.WinError(ctypes.get_last_error())
        data = _NotifyIconData(
            cbSize=ctypes.sizeof(_NotifyIconData),
            hWnd=window,
            uFlags=NIF_ICON | NIF_TIP | NIF_INFO,
            hIcon=user32.LoadIconW(None, IDI_APPLICATION),
            szTip="WhisperAgent",
            szInfo=body[:255],
            szInfoTitle=title[:63],
            dwInfoFlags=NIIF_INFO,
        )
        try:
            if not shell32.Shell_NotifyIconW(NIM_ADD, ctypes.byref(data)):
                raise ctypes.WinError(ctypes.get_last_error())
            time.sleep(SHOWN_S)
            shell32.Shell_NotifyIconW(NIM_DELETE, ctypes.byref(data))
        finally:
            user32.DestroyWindow(window)
