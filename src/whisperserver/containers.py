"""What the first bytes of a recording say: its kind, its channels and its rate.

ingest.py asks before it keeps a recording, timeline.py before it plays one. Nothing is decoded here: that is
done by transcribe/decode.py, apart from the server. Every length from a file is bounded before it is used.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from whisperagent import sealed
from whisperagent.errors import AudioError
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE, CallMetadata

SEALED = "sealed"
HEAD = 12
"""Bytes that tell the kind."""

RATES = range(8_000, 48_001)
CHUNKS_MAX = 64
STREAMED = 0x7FFF_0000
"""A WAV that was made without knowing its end gives its length as 0, or as this and more."""

OGG_PAGE_MAX = 65_307
OPUS_RATE = 48_000

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
SAMPLE_BITS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64), A_LAW: (8,), MU_LAW: (8,)}

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes, fewer at the end."""


@dataclass(frozen=True)
class Container:
    """frames: at `sample_rate`, 0 when only decoding tells. start, end: where raw 16-bit samples lie that
    need no decoding; both 0 when there are none. cut: it ends before the end that it announces."""

    channels: int
    sample_rate: int
    frames: int
    start: int = 0
    end: int = 0
    cut: bool = False

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate

    @property
    def raw(self) -> bool:
        """Can be played from where it lies."""
        return self.sample_rate == SAMPLE_RATE and self.end > 0


def kind(head: bytes) -> str:
    """`sealed`, `wav`, `flac` or `opus`; empty for anything else. head: the first HEAD bytes or more."""
    if head.startswith(sealed.MAGIC):
        return SEALED
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    return {b"fLaC": "flac", b"OggS": "opus"}.get(head[:4], "")


def examine(read: Read, size: int, metadata: CallMetadata) -> Container:
    """metadata: its codec, and for raw samples, which say nothing of themselves, its layout and rate.

    raises AudioError: it is broken, or of a form that is not taken.
    """
    if metadata.codec == "wav":
        found = _wav(read, size)
    elif metadata.codec == "flac":
        found = _flac(read(0, 42))
    elif metadata.codec == "opus":
        found = _opus(read(0, 512), read(max(0, size - OGG_PAGE_MAX), OGG_PAGE_MAX))
    else:
        channels = 2 if metadata.layout == "split" else 1
        frames = size // (2 * channels)
        found = Container(channels, metadata.sample_rate, frames, 0, frames * 2 * channels)
    if found.channels not in (1, 2):
        raise AudioError(
            _("the recording has {count} channels").format(count=found.channels),
            fix=_("send one channel, or two: the technician's and the caller's"),
        )
    if found.sample_rate not in RATES:
        raise AudioError(
            _("the recording has {rate} samples a second").format(rate=found.sample_rate),
            fix=_("send 8000 to 48000, best 16000"),
        )
    return found


def _wav(read: Read, size: int) -> Container:
    form = b""
    at = HEAD
    for _number in range(CHUNKS_MAX):
        header = read(at, 8)
        if len(header) < 8:
            break
        name, length = struct.unpack("<4sI", header)
        at += 8
        if name == b"data":
            return _wav_samples(form, at, length, size)
        if name == b"fmt ":
            form = read(at, min(length, 40))
        at += length + length % 2
    raise AudioError(_("the WAV file is broken"), why=_("it has no chunk `data`"))


def _wav_samples(form: bytes, start: int, length: int, size: int) -> Container:
    if len(form) < 16:
        raise AudioError(_("the WAV file is broken"), why=_("it has no chunk `fmt ` before its sound"))
    tag, channels, rate, _bytes_a_second, _frame, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == EXTENSIBLE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    if bits not in SAMPLE_BITS.get(tag, ()):
        raise AudioError(
            _("a WAV file of this kind is not taken"),
            why=_("its sound is of form {tag} with {bits} bits").format(tag=tag, bits=bits),
            fix=_("send 16-bit PCM"),
        )
    there = size - start
    unknown = length == 0 or length >= STREAMED
    frame = max(1, channels * bits // 8)
    frames = (there if unknown else min(length, there)) // frame
    end = start + frames * frame if (tag, bits) == (PCM, 16) else 0
    return Container(channels, rate, frames, start if end else 0, end, cut=not unknown and length > there)


def _flac(head: bytes) -> Container:
    if len(head) < 42 or head[4] & 0x7F != 0:
        raise AudioError(_("the FLAC file is broken"), why=_("it does not say what it holds"))
    packed = int.from_bytes(
        head[18:26], "big"
    )  # 20 bits rate, 3 channels - 1, 5 bits a sample - 1, 36 frames
    rate = packed >> 44
    return Container((packed >> 41 & 7) + 1, rate, packed & (1 << 36) - 1 if rate else 0)


def _opus(head: bytes, tail: bytes) -> Container:
    at = head.find(b"OpusHead", 28)
    if at < 0 or len(head) < at + 19:
        raise AudioError(
            _("an Ogg file of this kind is not taken"), why=_("it is not Opus"), fix=_("send Ogg Opus")
        )
    skip = int.from_bytes(head[at + 10 : at + 12], "little")
    return Container(head[at + 9], OPUS_RATE, max(0, _last_granule(tail, head[14:18]) - skip))


def _last_granule(tail: bytes, stream: bytes) -> int:
    """How many frames have been heard at the end of the last page, 0 when no page says it."""
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        granule = int.from_bytes(tail[at + 6 : at + 14], "little", signed=True)
        if tail[at + 14 : at + 18] == stream and granule >= 0:
            return granule
    return 0
