"""The sound of a stored call: all its parts on one time line, to be read by the model or heard by a person.

The worker takes `sound`, api/audio.py takes `Wav`. Both put a part at the same place, so that a word of the
transcript is heard at its time. Calls here block and decrypt; they are meant for a thread.

A call has two rows (0 the technician, 1 the caller) when all its parts have. Where one part is mono, the
whole call is: put on both rows its words would be read twice, and on one row the wrong person would say them.
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from whisperagent import sealed
from whisperagent.errors import AudioError
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE
from whisperserver import containers
from whisperserver.store.blobs import Recordings
from whisperserver.store.models import PartRow
from whisperserver.transcribe.decode import Sound, decode
from whisperserver.transcribe.parts import check_length, first_frames, in_rows, joined

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.int16]

WAV_HEADER = 44
WAV_MAX = 0xFFFF_FFFF - WAV_HEADER
"""What fits the 32 bits of a WAV's lengths."""


def sound(
    recordings: Recordings, key: sealed.PrivateKey, parts: Sequence[PartRow], max_hours: float
) -> Sound:
    """The whole call, silence where nothing was recorded.

    raises AudioError: a part cannot be decoded, or all together are longer than `max_hours`. SealedError: a
    recording is missing, or is not what was stored.
    """
    opened = [_Part(recordings, key, part, max_hours) for part in parts]
    opened = [part for part in opened if not part.empty]
    rows = _rows(opened)
    decoded: list[Samples] = []
    for part in opened:
        decoded.append(in_rows(part.samples(), rows))
        check_length(sum(samples.shape[1] for samples in decoded), max_hours)
    return joined(_begun(opened), decoded, rows, max_hours)


class Wav:
    """The whole call as one WAV file that does not exist: 16 kHz, 16 bit, one or two channels.

    length: in bytes, header included. Raw parts are decrypted where they are read and nowhere else. A part
    that is not raw has to be decoded to know its length, which happens here; the one that was read last is
    kept in memory.

    raises AudioError, SealedError: as `sound`.
    """

    def __init__(
        self, recordings: Recordings, key: sealed.PrivateKey, parts: Sequence[PartRow], max_hours: float
    ) -> None:
        opened = [_Part(recordings, key, part, max_hours) for part in parts]
        self._parts = [part for part in opened if not part.empty]
        self._rows = _rows(self._parts)
        self._frame = 2 * self._rows
        self._kept: tuple[_Part, Samples] | None = None
        frames = [part.container.frames if part.raw else self._decoded(part).shape[1] for part in self._parts]
        self._starts, total = first_frames(_begun(self._parts), frames)
        self._ends = [start + count for start, count in zip(self._starts, frames, strict=True)]
        check_length(total, max_hours)
        data = total * self._frame
        if data > WAV_MAX:
            raise AudioError(_("the call is too long for one WAV file"))
        self._header = _wav_header(self._rows, data)
        self.length = WAV_HEADER + data

    def read(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of the file, fewer at its end. One thread at a time."""
        start, end = max(0, offset), min(offset + length, self.length)
        if start >= end:
            return b""
        head = self._header[start:end]
        start, end = max(start, WAV_HEADER) - WAV_HEADER, end - WAV_HEADER
        if start >= end:
            return head
        first = start // self._frame
        samples = self._samples(first, -(-end // self._frame))
        return head + samples[start - first * self._frame :][: end - start]

    def _samples(self, first: int, end: int) -> bytes:
        """Frames [first, end), interleaved."""
        out = bytearray((end - first) * self._frame)
        for part, start, stop in zip(self._parts, self._starts, self._ends, strict=True):
            one, other = max(first, start), min(end, stop)
            if one < other:
                at = (one - first) * self._frame
                out[at : at + (other - one) * self._frame] = self._of_part(part, one - start, other - start)
        return bytes(out)

    def _of_part(self, part: "_Part", first: int, end: int) -> bytes:
        if not part.raw:
            return self._decoded(part)[:, first:end].T.tobytes()
        data = part.read(first, end)
        if part.container.channels == self._rows:
            return data
        return in_rows(_unpacked(data, part.container.channels), self._rows).T.tobytes()

    def _decoded(self, part: "_Part") -> "Samples":
        if self._kept is None or self._kept[0] is not part:
            self._kept = None  # not two in memory
            self._kept = part, in_rows(part.samples(), self._rows)
        return self._kept[1]


class _Part:
    """One stored recording, opened."""

    def __init__(
        self, recordings: Recordings, key: sealed.PrivateKey, row: PartRow, max_hours: float
    ) -> None:
        self.row = row
        self._reader = sealed.Reader(recordings.open(row.path), key)
        self._max_hours = max_hours
        # A part that was cut off before its first sound is one all the same: the next ones count on it.
        self.empty = row.sound_bytes == 0
        if not self.empty:
            self.container = containers.examine(self._reader.read_at, row.sound_bytes, row.metadata_json)

    @property
    def raw(self) -> bool:
        return self.container.raw

    def read(self, first: int, end: int) -> bytes:
        """Frames [first, end) of a raw part, interleaved."""
        frame = 2 * self.container.channels
        return self._reader.read_at(self.container.start + first * frame, (end - first) * frame)

    def samples(self) -> "Samples":
        """All of it: (channels, frames). What is stored is complete, so it is read strictly."""
        if not self.raw:
            decoded = decode(
                self._reader.segments(), self.row.codec, self.container.channels, self._max_hours
            )
            return decoded.samples
        return decode(self._raw_bytes(), "pcm", self.container.channels, self._max_hours).samples

    def _raw_bytes(self) -> Iterator[bytes]:
        at = 0
        for segment in self._reader.segments():
            yield segment[max(0, self.container.start - at) : max(0, self.container.end - at)]
            at += len(segment)


def _rows(parts: Sequence[_Part]) -> int:
    return min((part.container.channels for part in parts), default=1)


def _unpacked(data: bytes, channels: int) -> "Samples":
    import numpy as np

    return np.frombuffer(data, "<i2").reshape(-1, channels).T


def _begun(parts: Sequence[_Part]) -> list[datetime]:
    return [part.row.metadata_json.started_at for part in parts]


def _wav_header(channels: int, data: int) -> bytes:
    frame = 2 * channels
    form = struct.pack("<HHIIHH", containers.PCM, channels, SAMPLE_RATE, SAMPLE_RATE * frame, frame, 16)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36 + data, b"WAVE", b"fmt ", 16)
        + form
        + struct.pack("<4sI", b"data", data)
    )
