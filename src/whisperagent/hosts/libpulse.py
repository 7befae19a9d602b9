"""The sound server's own library, by ctypes: a connection, and why there is none.

pulsectl does not say why, so pulse.py asks here; pulserecord.py records over such a connection.
"""

import ctypes
import os
import socket
import time
from contextlib import suppress
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path

CLIENT = "WhisperAgent"
ANSWER_S = 3.0
"""How long the server may take to answer at the start; in our end, to let go."""
CONNECT_WAIT_S = 0.005

# pulse/def.h, pulse/sample.h
CONTEXT_READY, CONTEXT_FAILED = 4, 5
NO_AUTOSPAWN = 0x1
S16LE = 3
ACCESS_DENIED, CONNECTION_REFUSED, TIMEOUT, NO_KEY, TERMINATED = 1, 6, 8, 9, 11


class Spec(ctypes.Structure):
    """pa_sample_spec."""

    _fields_ = [("format", c_int), ("rate", c_uint32), ("channels", c_uint8)]


class Buffer(ctypes.Structure):
    """pa_buffer_attr."""

    _fields_ = [(name, c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize")]


_PROTOTYPES = {
    "pa_mainloop_new": (c_void_p,),
    "pa_mainloop_free": (None, c_void_p),
    "pa_mainloop_get_api": (c_void_p, c_void_p),
    "pa_mainloop_iterate": (c_int, c_void_p, c_int, c_void_p),
    "pa_context_new": (c_void_p, c_void_p, c_char_p),
    "pa_context_connect": (c_int, c_void_p, c_char_p, c_int, c_void_p),
    "pa_context_get_state": (c_int, c_void_p),
    "pa_context_errno": (c_int, c_void_p),
    "pa_context_get_server": (c_char_p, c_void_p),
    "pa_context_disconnect": (None, c_void_p),
    "pa_context_unref": (None, c_void_p),
    "pa_strerror": (c_char_p, c_int),
    "pa_stream_new": (c_void_p, c_void_p, c_char_p, POINTER(Spec), c_void_p),
    "pa_stream_set_monitor_stream": (c_int, c_void_p, c_uint32),
    "pa_stream_connect_record": (c_int, c_void_p, c_char_p, POINTER(Buffer), c_int),
    "pa_stream_get_state": (c_int, c_void_p),
    "pa_stream_get_latency": (c_int, c_void_p, POINTER(c_uint64), POINTER(c_int)),
    "pa_stream_peek": (c_int, c_void_p, POINTER(c_void_p), POINTER(c_size_t)),
    "pa_stream_drop": (c_int, c_void_p),
    "pa_stream_disconnect": (c_int, c_void_p),
    "pa_stream_unref": (None, c_void_p),
}


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL("libpulse.so.0")
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class ServerLost(Exception):
    """There is no connection to the sound server.

    code: libpulse's own (pulse/def.h), TIMEOUT when nothing came at all; its words are the message.
    server: the last one that was tried, e.g. `unix:/run/user/1000/pulse/native`; may be empty.
    """

    def __init__(self, code: int, words: str, server: str) -> None:
        super().__init__(words)
        self.code = code
        self.server = server


class Connection:
    """A connection that records. raises ServerLost: no server, or it will not have us."""

    def __init__(self) -> None:
        self.pa = _load()
        self._loop = self.pa.pa_mainloop_new()
        self.context = self.pa.pa_context_new(self.pa.pa_mainloop_get_api(self._loop), CLIENT.encode())
        self.pa.pa_context_connect(self.context, None, NO_AUTOSPAWN, None)
        end = time.monotonic() + ANSWER_S
        try:
            while self.pa.pa_context_get_state(self.context) != CONTEXT_READY:
                if time.monotonic() > end:
                    raise self._lost(TIMEOUT)
                time.sleep(CONNECT_WAIT_S)
                self.take()
        except ServerLost:
            self.close()
            raise

    def take(self) -> None:
        """Take what has come from the server. raises ServerLost."""
        while (done := self.pa.pa_mainloop_iterate(self._loop, 0, None)) > 0:
            pass
        if done < 0 or self.pa.pa_context_get_state(self.context) >= CONTEXT_FAILED:
            raise self._lost(self.error()[0] or TERMINATED)

    def error(self) -> tuple[int, str]:
        """The last error, of a stream too, and its words."""
        code = int(self.pa.pa_context_errno(self.context))
        return code, self.pa.pa_strerror(code).decode()

    def close(self) -> None:
        self.pa.pa_context_disconnect(self.context)
        self.pa.pa_context_unref(self.context)
        self.pa.pa_mainloop_free(self._loop)

    def _lost(self, code: int) -> ServerLost:
        server = self.pa.pa_context_get_server(self.context) or b""
        return ServerLost(code, self.pa.pa_strerror(code).decode(), server.decode(errors="replace"))


def closed_socket(server: str) -> str:
    """The server's socket, or its folder, that is another user's: libpulse calls it refused, as if none were.

    server: as of `ServerLost`. Empty: none is in our way.
    """
    places = [server.removeprefix("unix:")]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and not os.environ.get("PULSE_SERVER"):
        places.append(f"{runtime}/pulse/native")
        with suppress(OSError):
            # Root may open any socket, but libpulse looks into no folder that is not its user's own.
            if Path(runtime).stat().st_uid != os.geteuid():
                return runtime
    return next((path for path in places if path.startswith("/") and _is_closed(path)), "")


def _is_closed(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWER_S)
        try:
            probe.connect(path)
        except PermissionError:
            return True
        except OSError:
            pass  # there is none, or nobody listens
    return False
