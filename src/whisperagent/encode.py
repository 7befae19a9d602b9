"""What is sealed: FLAC, Opus or raw samples, encoded while the call runs.

record.py writes samples, the sealed writer gets what they become. FLAC loses nothing and halves a call; its
frames stand alone, so the beginning of a stream that was cut is heard to its last whole frame. A stream
that grows cannot say how long it will be: its header leaves the length open.

libsndfile comes with the package `soundfile`, of which only the library and its declarations are used:
`import soundfile` would bring numpy, 20 MB of memory for a conversion that the library does itself.
"""

import contextlib
import ctypes.util
import functools
import logging
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from whisperagent.sealed import Sink
from whisperagent.wire import SAMPLE_RATE

Codec = Literal["flac", "opus", "pcm"]

FORMATS = {"flac": 0x170000 | 0x0002, "opus": 0x200000 | 0x0064}
"""libsndfile's numbers: FLAC with 16 bits, Opus in Ogg."""
FLAC_LEVEL = 2 / 8
"""The highest whose blocks are 1,152 samples, 72 ms. Those above have 4,096: an eighth less to send, but a
quarter of a second that waits in the encoder when the recorder is killed."""
OPUS_PAGE_MS = 200.0
SET_COMPRESSION_LEVEL, SET_OGG_PAGE_LATENCY_MS = 0x1301, 0x1302

log = logging.getLogger(__name__)


def usable(codec: Codec) -> Codec:
    """`codec`, or `pcm` where this PC cannot load the library: a call is recorded all the same."""
    if codec != "pcm" and library() is None:
        log.warning("calls are recorded as pcm, for libsndfile cannot be loaded here")
        return "pcm"
    return codec


class Encoder:
    """Writes int16 samples, 16 kHz, `channels` interleaved, to `sink` as `codec`.

    codec: one that `usable` gave. close: of every encoder that was not finished, or its memory is lost.
    """

    def __init__(self, sink: Sink, codec: Codec, channels: int) -> None:
        self._sink = sink
        self._stream = None if codec == "pcm" else _Stream(codec, channels)

    def write(self, pcm: bytes) -> None:
        """raises as the sink does; what it was given then goes with the next `write` or `finish`."""
        self._sink.write(pcm if self._stream is None else self._stream.encode(pcm))

    def finish(self) -> None:
        """Hand over what the encoder still holds. raises as the sink does."""
        if self._stream is not None:
            self._sink.write(self._stream.end())

    def close(self) -> None:
        """Nothing more will be written."""
        if self._stream is not None:
            self._stream.end()


class _Stream:
    """libsndfile, writing into memory."""

    def __init__(self, codec: Codec, channels: int) -> None:
        found = library()
        assert found is not None  # noqa: S101 - what `usable` says
        self._ffi, self._library = found
        self._frame_bytes = 2 * channels
        self._encoded = bytearray()
        self._size = self._place = 0
        info = self._ffi.new("SF_INFO*")
        info.samplerate, info.channels, info.format = SAMPLE_RATE, channels, FORMATS[codec]
        # Kept until the end: cffi frees a callback that nobody names any more, though C still calls it.
        self._callbacks = self._growing_file()
        file = self._ffi.new("SF_VIRTUAL_IO*", self._callbacks)
        self._open: Any = self._library.sf_open_virtual(file, self._library.SFM_WRITE, info, self._ffi.NULL)
        if self._open == self._ffi.NULL:
            raise OSError(
                self._ffi.string(self._library.sf_strerror(self._ffi.NULL)).decode("ascii", "replace")
            )
        if codec == "flac":
            self._set(SET_COMPRESSION_LEVEL, FLAC_LEVEL)
        else:
            self._set(SET_OGG_PAGE_LATENCY_MS, OPUS_PAGE_MS)

    def encode(self, pcm: bytes) -> bytes:
        """What has become whole by these samples."""
        frames = len(pcm) // self._frame_bytes
        written = self._library.sf_writef_short(
            self._open, self._ffi.cast("short*", self._ffi.from_buffer(pcm)), frames
        )
        if written != frames:
            raise OSError(self._ffi.string(self._library.sf_strerror(self._open)).decode("ascii", "replace"))
        return self._taken()

    def end(self) -> bytes:
        """The rest; later calls give nothing."""
        if self._open is not None:
            self._library.sf_close(self._open)
            self._open = None
        return self._taken()

    def _taken(self) -> bytes:
        encoded = bytes(self._encoded)
        self._encoded.clear()
        return encoded

    def _set(self, command: int, value: float) -> None:
        self._library.sf_command(self._open, command, self._ffi.new("double*", value), 8)

    def _growing_file(self) -> dict[str, Any]:
        """A file that only grows. At its end FLAC goes back to its header, to say how long it has become;
        that was sealed long ago, so it stays as it is.
        """
        ffi = self._ffi

        def seek(offset: int, whence: int, _file: object) -> int:
            self._place = offset + (0, self._place, self._size)[whence]
            return self._place

        def write(data: Any, count: int, _file: object) -> int:
            if self._place == self._size:
                self._encoded += ffi.buffer(data, count)
                self._size += count
            self._place += count
            return count

        return {
            "get_filelen": ffi.callback("sf_vio_get_filelen", lambda _file: self._size),
            "seek": ffi.callback("sf_vio_seek", seek),
            "read": ffi.callback("sf_vio_read", lambda _data, _count, _file: 0),
            "write": ffi.callback("sf_vio_write", write),
            "tell": ffi.callback("sf_vio_tell", lambda _file: self._place),
        }


@functools.cache
def library() -> tuple[Any, Any] | None:
    """(cffi's declarations, libsndfile): the package's own, else the system's; None: there is none.

    playable.py decodes with it.
    """
    with contextlib.suppress(ImportError):
        from _soundfile import ffi  # what `soundfile` itself begins with; loaded when a call is recorded

        for name in (*_packaged(), ctypes.util.find_library("sndfile")):
            with contextlib.suppress(OSError):
                if name:
                    return ffi, ffi.dlopen(str(name))
    return None


def _packaged() -> list[Path]:
    """A wheel brings the one library that is this system's."""
    try:
        import _soundfile_data
    except ImportError:
        return []
    return _beside(_soundfile_data)


def _beside(module: ModuleType) -> list[Path]:
    return sorted(Path(module.__file__ or "").parent.glob("libsndfile*"))
