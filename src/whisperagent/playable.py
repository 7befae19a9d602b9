"""A sealed recording as a WAV file, for whoever has a key that opens it: `wa queue export`.

The only place on a PC that writes sound in clear, and only where a person asked for it. FLAC and Opus are
decoded by the library that encoded them (encode.py).
"""

import contextlib
import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from whisperagent import encode, files, sealed
from whisperagent.errors import AudioError
from whisperagent.i18n import _
from whisperagent.wire import CallMetadata

CHANNELS = {"split": 2, "mono": 1}
BLOCK_FRAMES = 16_000
READING = 0x10
"""libsndfile's SFM_READ."""


def write_wav(recording: Path, target: Path, key: sealed.PrivateKey) -> bool:
    """Write what can be heard of `recording` to `target`, which only its owner may read.

    Two channels (0 the technician, 1 the caller) or one mixed, 16-bit. returns: whether it is whole, as
    its authentic end says.
    raises WrongRecipient: the key does not open it. SealedError: it is damaged. AudioError: what is sealed
    cannot be decoded here. OSError: as the system says.
    """
    with recording.open("rb") as source:
        reader = sealed.Reader(source, key)
        sound = b"".join(reader.salvage())
        whole = reader.complete()
    try:
        metadata = msgspec.json.decode(reader.metadata, type=CallMetadata)
    except msgspec.MsgspecError as problem:
        raise AudioError(_("what is sealed does not say what it is"), why=str(problem)) from None
    temporary = target.with_name(target.name + files.TEMPORARY)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(handle, "wb") as file, contextlib.closing(wave.open(file, "wb")) as out:
            out.setsampwidth(2)
            if metadata.codec == "pcm":
                out.setframerate(metadata.sample_rate)
                out.setnchannels(CHANNELS[metadata.layout])
                out.writeframes(sound)
            else:
                _decode(sound, out)
        files.replace(temporary, target)
    except BaseException:
        files.remove(temporary)
        raise
    return whole


def _decode(sound: bytes, out: wave.Wave_write) -> None:
    """FLAC or Ogg Opus that may end anywhere, as samples."""
    found = encode.library()
    if found is None:
        raise AudioError(
            _("this recording cannot be decoded here"),
            why=_("libsndfile cannot be loaded"),
            fix=_("`pip install soundfile`, or play it on the server"),
        )
    ffi, library = found
    callbacks = _file_of(sound, ffi)
    info = ffi.new("SF_INFO*")
    opened = library.sf_open_virtual(ffi.new("SF_VIRTUAL_IO*", callbacks), READING, info, ffi.NULL)
    if opened == ffi.NULL:
        raise AudioError(
            _("this recording cannot be decoded here"),
            why=ffi.string(library.sf_strerror(ffi.NULL)).decode("ascii", "replace"),
        )
    try:
        out.setframerate(info.samplerate)
        out.setnchannels(info.channels)
        for samples in _samples(ffi, library, opened, info.channels):
            out.writeframes(samples)
    finally:
        library.sf_close(opened)


def _samples(ffi: Any, library: Any, opened: Any, channels: int) -> Iterator[bytes]:
    block = ffi.new("short[]", BLOCK_FRAMES * channels)
    while (frames := library.sf_readf_short(opened, block, BLOCK_FRAMES)) > 0:
        yield bytes(ffi.buffer(block, 2 * channels * frames))


def _file_of(sound: bytes, ffi: Any) -> dict[str, Any]:
    """These bytes as libsndfile reads a file. Whoever holds the result keeps the callbacks alive."""
    place = 0

    def seek(offset: int, whence: int, _file: object) -> int:
        nonlocal place
        place = offset + (0, place, len(sound))[whence]
        return place

    def read(data: Any, count: int, _file: object) -> int:
        nonlocal place
        piece = sound[place : place + count]
        ffi.buffer(data, count)[: len(piece)] = piece
        place += len(piece)
        return len(piece)

    return {
        "get_filelen": ffi.callback("sf_vio_get_filelen", lambda _file: len(sound)),
        "seek": ffi.callback("sf_vio_seek", seek),
        "read": ffi.callback("sf_vio_read", read),
        "write": ffi.callback("sf_vio_write", lambda _data, _count, _file: 0),
        "tell": ffi.callback("sf_vio_tell", lambda _file: place),
    }
