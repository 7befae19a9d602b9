"""The sound of a stored call: all its parts on one time line, to be read by the model or heard by a person.

The worker takes `sound`, api/audio.py takes `Wav`. Both put a part at the same place, so that a word of the
transcript is heard at its time. Calls here block and decrypt; they are meant for a thread.

A call has two rows (0 the technician, 1 the caller) when all its parts have. Where one part is mono, the
whole call is: put on both rows its words would be read twice, and on one row the wrong person would say them.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from whisperagent import sealed
from whisperagent.errors import AudioError
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE
from whisperserver import containers
from whisperserver.store.blobs import Recordings
from whisperserver.store.models import PartRow
from whisperserver.transcribe.decode import Sound, decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.int16]

GAP_MAX_S = 600.0
"""A longer silence between two parts is a clock that was set, not a pause in a call."""

WAV_HEADER = 44
WAV_MAX = 0xFFFF_FFFF - WAV_HEADER
"""What fits the 32 bits of a WAV's lengths."""


def place(parts: Sequence[PartRow], lengths_s: Sequence[float] | None = None) -> list[float]:
    """Where each part begins, in seconds from the start of the call.

    parts: in their order, which is that in which they were recorded, whatever the PC's clock said. Its times
    give the silence between a part and the next, but never an overlap, nor more than GAP_MAX_S.
    lengths_s: of the parts; what their metadata says when it is not given.
    """
    if lengths_s is None:
        lengths_s = [part.metadata_json.duration_s for part in parts]
    places: list[float] = []
    end_s = 0.0
    before = None
    for part, length_s in zip(parts, lengths_s, strict=True):
        started_at = part.metadata_json.started_at
        if before is not None:
            gap_s = (started_at - before[0]).total_seconds() - before[1]
            end_s += gap_s if 0 < gap_s <= GAP_MAX_S else 0.0
        places.append(end_s)
        end_s += length_s
        before = started_at, length_s
    return places


def sound(
    recordings: Recordings, key: sealed.PrivateKey, parts: Sequence[PartRow], max_hours: float
) -> Sound:
    """The whole call, silence where nothing was recorded.

    raises AudioError: a part cannot be decoded, or all together are longer than `max_hours`. SealedError: a
    recording is missing, or is not what was stored.
    """
    import numpy as np

    pieces = [_Part(recordings, key, part, max_hours) for part in parts]
    pieces = [piece for piece in pieces if not piece.empty]
    rows = _rows(pieces)
    decoded = []
    for piece in pieces:
        decoded.append(_in_rows(piece.samples(), rows))
        _check_length(sum(samples.shape[1] for samples in decoded), max_hours)
    if len(decoded) == 1:
        return Sound(decoded[0])
    frames = [samples.shape[1] for samples in decoded]
    starts, total = _frames(pieces, frames)
    _check_length(total, max_hours)
    whole = np.zeros((rows, total), np.int16)
    for start, samples in zip(starts, decoded, strict=True):
        whole[:, start : start + samples.shape[1]] = samples
    return Sound(whole)


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
        self._starts, total = _frames(self._parts, frames)
        self._ends = [start + count for start, count in zip(self._starts, frames, strict=True)]
        _check_length(total, max_hours)
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
        return _in_rows(_unpacked(data, part.container.channels), self._rows).T.tobytes()

    def _decoded(self, part: "_Part") -> "Samples":
        if self._kept is None or self._kept[0] is not part:
            self._kept = None  # not two in memory
            self._kept = part, _in_rows(part.samples(), self._rows)
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


def _in_rows(samples: "Samples", rows: int) -> "Samples":
    """Both sides in one row, where the call has only one."""
    if samples.shape[0] == rows:
        return samples
    import numpy as np

    mixed: Samples = (samples.sum(axis=0, dtype=np.int32, keepdims=True) // 2).astype(np.int16)
    return mixed


def _unpacked(data: bytes, channels: int) -> "Samples":
    import numpy as np

    return np.frombuffer(data, "<i2").reshape(-1, channels).T


def _frames(parts: Sequence[_Part], frames: Sequence[int]) -> tuple[list[int], int]:
    """First frame of each part, and how many there are in all."""
    starts: list[int] = []
    end = 0
    places = place([part.row for part in parts], [count / SAMPLE_RATE for count in frames])
    for start_s, count in zip(places, frames, strict=True):
        starts.append(max(end, round(start_s * SAMPLE_RATE)))
        end = starts[-1] + count
    return starts, end


def _check_length(frames: int, max_hours: float) -> None:
    if frames > max_hours * 3600 * SAMPLE_RATE:
        raise AudioError(
            _("the call is longer than {hours:.3g} hours").format(hours=max_hours),
            fix=_("raise `max_hours` under [speech] in config.toml if calls are that long here"),
        )


def _wav_header(channels: int, data: int) -> bytes:
    frame = 2 * channels
    form = struct.pack("<HHIIHH", containers.PCM, channels, SAMPLE_RATE, SAMPLE_RATE * frame, frame, 16)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36 + data, b"WAVE", b"fmt ", 16)
        + form
        + struct.pack("<4sI", b"data", data)
    )
