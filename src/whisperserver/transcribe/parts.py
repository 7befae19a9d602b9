"""The parts of a call become one: each at its place on one time line, silence where nothing was recorded.

timeline.py brings what the server has stored; `opened` brings sealed files, for a PC that has no server and
drafts its own calls (whisperagent/drafting.py). Both put a part at the same place, so that what is said has
the same time in the draft and in the transcript.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from whisperagent import sealed, wire
from whisperagent.errors import AudioError
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE
from whisperserver.transcribe.decode import Sound, decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.int16]

GAP_MAX_S = 600.0
"""A longer silence between two parts is a clock that was set, not a pause in a call."""
CHANNELS = {"split": 2, "mono": 1}


def place(begun: Sequence[datetime], lengths_s: Sequence[float]) -> list[float]:
    """Where each part begins, in seconds from the start of the call.

    begun: what the PC's clock said, in the order in which the parts were recorded, whatever it said. It gives
    the silence between a part and the next, but never an overlap, nor more than GAP_MAX_S.
    """
    places: list[float] = []
    end_s = 0.0
    before = None
    for started_at, length_s in zip(begun, lengths_s, strict=True):
        if before is not None:
            gap_s = (started_at - before[0]).total_seconds() - before[1]
            end_s += gap_s if 0 < gap_s <= GAP_MAX_S else 0.0
        places.append(end_s)
        end_s += length_s
        before = started_at, length_s
    return places


def first_frames(begun: Sequence[datetime], frames: Sequence[int]) -> tuple[list[int], int]:
    """First frame of each part, and how many there are in all."""
    starts: list[int] = []
    end = 0
    for start_s, count in zip(place(begun, [count / SAMPLE_RATE for count in frames]), frames, strict=True):
        starts.append(max(end, round(start_s * SAMPLE_RATE)))
        end = starts[-1] + count
    return starts, end


def in_rows(samples: "Samples", rows: int) -> "Samples":
    """Both sides in one row, where the call has only one."""
    if samples.shape[0] == rows:
        return samples
    import numpy as np

    mixed: Samples = (samples.sum(axis=0, dtype=np.int32, keepdims=True) // 2).astype(np.int16)
    return mixed


def joined(begun: Sequence[datetime], pieces: Sequence["Samples"], rows: int, max_hours: float) -> Sound:
    """The whole call. pieces: all with so many rows. raises AudioError: it is too long."""
    import numpy as np

    starts, total = first_frames(begun, [piece.shape[1] for piece in pieces])
    check_length(total, max_hours)
    if len(pieces) == 1:
        return Sound(pieces[0])
    whole = np.zeros((rows, total), np.int16)
    for start, piece in zip(starts, pieces, strict=True):
        whole[:, start : start + piece.shape[1]] = piece
    return Sound(whole)


def opened(files: Sequence[Path], key: sealed.PrivateKey, max_hours: float) -> Sound:
    """The call in these sealed files, its parts in their order; of one that was cut short, what it holds.

    raises AudioError: a part cannot be decoded, all are too long, or there is no sound in any. SealedError:
    a file is no sealed recording, or none of `key`. OSError: it cannot be read.
    """
    begun, pieces = [], []
    for file in files:
        with file.open("rb") as source:
            reader = sealed.Reader(source, key)
            told = msgspec.json.decode(reader.metadata, type=wire.CallMetadata)
            segments = reader.salvage()
            if first := next(segments, b""):
                channels = CHANNELS[told.layout]
                decoded = decode(chain([first], segments), told.codec, channels, max_hours)
                begun.append(told.started_at)
                pieces.append(decoded.samples)
                check_length(sum(piece.shape[1] for piece in pieces), max_hours)
    if not pieces:
        raise AudioError(_("the recording holds no sound"))
    rows = min(piece.shape[0] for piece in pieces)
    return joined(begun, [in_rows(piece, rows) for piece in pieces], rows, max_hours)


def check_length(frames: int, max_hours: float) -> None:
    """raises AudioError: a call of so many frames is longer than allowed."""
    if frames > max_hours * 3600 * SAMPLE_RATE:
        raise AudioError(
            _("the call is longer than {hours:.3g} hours").format(hours=max_hours),
            fix=_("raise `max_hours` under [speech] in config.toml if calls are that long here"),
        )
