"""The titles of all windows, on X11, by libxcb; there is no such thing on Wayland.

XCB and not Xlib, for Xlib ends the whole process when the X server goes away. What is read is EWMH: the
window manager's list of windows, and of each its title, its process and its class.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_uint, c_uint8, c_uint16, c_uint32, c_void_p
from typing import NamedTuple

ANY_TYPE = 0
LONGEST = 1 << 16
"""Of one property, in units of four bytes."""


class Window(NamedTuple):
    """pid: 0 when it does not say. program: its WM_CLASS, e.g. `3cxdesktopapp.exe`."""

    title: str
    pid: int
    program: tuple[str, ...]


class DisplayLost(Exception):
    """There is no display, or it has gone."""


class _Cookie(ctypes.Structure):
    _fields_ = [("sequence", c_uint)]


class _Screens(ctypes.Structure):
    _fields_ = [("data", POINTER(c_uint32)), ("rem", c_int), ("index", c_int)]


class _Atom(ctypes.Structure):
    _fields_ = [
        ("response_type", c_uint8),
        ("pad", c_uint8),
        ("sequence", c_uint16),
        ("length", c_uint32),
        ("atom", c_uint32),
    ]


_PROTOTYPES = {
    "xcb_connect": (c_void_p, c_char_p, c_void_p),
    "xcb_connection_has_error": (c_int, c_void_p),
    "xcb_disconnect": (None, c_void_p),
    "xcb_get_setup": (c_void_p, c_void_p),
    "xcb_setup_roots_iterator": (_Screens, c_void_p),
    "xcb_intern_atom": (_Cookie, c_void_p, c_uint8, c_uint16, c_char_p),
    "xcb_intern_atom_reply": (POINTER(_Atom), c_void_p, _Cookie, c_void_p),
    "xcb_get_property": (_Cookie, c_void_p, c_uint8, c_uint32, c_uint32, c_uint32, c_uint32, c_uint32),
    "xcb_get_property_reply": (c_void_p, c_void_p, _Cookie, c_void_p),
    "xcb_get_property_value": (c_void_p, c_void_p),
    "xcb_get_property_value_length": (c_int, c_void_p),
}


class Display:
    """The display that DISPLAY names. raises DisplayLost: there is none, or no libxcb."""

    def __init__(self) -> None:
        try:
            self._xcb = ctypes.CDLL("libxcb.so.1")
        except OSError as problem:
            raise DisplayLost from problem
        for name, (result, *arguments) in _PROTOTYPES.items():
            function = getattr(self._xcb, name)
            function.restype, function.argtypes = result, arguments
        self._free = ctypes.CDLL(None).free
        self._free.argtypes = [c_void_p]
        self._connection = self._xcb.xcb_connect(None, None)
        if self._xcb.xcb_connection_has_error(self._connection):
            self.close()
            raise DisplayLost
        screens = self._xcb.xcb_setup_roots_iterator(self._xcb.xcb_get_setup(self._connection))
        self._root: int = screens.data[0]
        self._atoms: dict[str, int] = {}

    def windows(self) -> list[Window]:
        """Every window that the window manager lists. raises DisplayLost."""
        listed = self._numbers(self._root, "_NET_CLIENT_LIST")
        found = [
            Window(
                self._text(window, "_NET_WM_NAME") or self._text(window, "WM_NAME"),
                next(iter(self._numbers(window, "_NET_WM_PID")), 0),
                tuple(filter(None, self._text(window, "WM_CLASS").split("\0"))),
            )
            for window in listed
        ]
        if self._xcb.xcb_connection_has_error(self._connection):
            raise DisplayLost
        return found

    def close(self) -> None:
        self._xcb.xcb_disconnect(self._connection)

    def _numbers(self, window: int, name: str) -> list[int]:
        value = self._property(window, name)
        return memoryview(value)[: len(value) // 4 * 4].cast("I").tolist()

    def _text(self, window: int, name: str) -> str:
        return self._property(window, name).decode("utf-8", "replace").rstrip("\0")

    def _property(self, window: int, name: str) -> bytes:
        """Empty when there is none; or no such window any more."""
        xcb, connection = self._xcb, self._connection
        cookie = xcb.xcb_get_property(connection, 0, window, self._atom(name), ANY_TYPE, 0, LONGEST)
        reply = xcb.xcb_get_property_reply(connection, cookie, None)
        if not reply:
            return b""
        size = xcb.xcb_get_property_value_length(reply)
        value = ctypes.string_at(xcb.xcb_get_property_value(reply), size)
        self._free(reply)
        return value

    def _atom(self, name: str) -> int:
        if name not in self._atoms:
            cookie = self._xcb.xcb_intern_atom(self._connection, 0, len(name), name.encode())
            reply = self._xcb.xcb_intern_atom_reply(self._connection, cookie, None)
            if not reply:
                raise DisplayLost
            self._atoms[name] = reply.contents.atom
            self._free(reply)
        return self._atoms[name]
