"""Decode: the bytes of a recording become samples, 16 kHz, one row for each side.

Raw PCM needs no decoder. Everything else meets FFmpeg in a process of its own (decode_child.py), which has
no secrets, little memory and little time: whoever may send a recording may send a harmful one, and a decoder
that dies, hangs or never stops is then one error about one call.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from whisperagent.errors import AudioError
from whisperagent.i18n import _
from whisperagent.wire import SAMPLE_RATE
from whisperserver.transcribe import decode_child

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BYTES_PER_SAMPLE = 2
WALL_S = 60.0
"""How long a decoder may take, and once more for each hour of sound that is allowed."""


@dataclass(frozen=True)
class Sound:
    """samples: (channels, frames), 16 kHz. Where there are two rows, row 0 is the agent, row 1 the caller."""

    samples: "NDArray[np.int16]"

    @property
    def duration_s(self) -> float:
        return float(self.samples.shape[1]) / SAMPLE_RATE


def codec_of(head: bytes) -> str:
    """What a file is by its first 64 bytes: `wav`, `flac`, `opus`, or empty for anything else."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"fLaC"):
        return "flac"
    return "opus" if head.startswith(b"OggS") and b"OpusHead" in head else ""


def decode(chunks: Iterable[bytes], codec: str, channels: int, max_hours: float) -> Sound:
    """The sound of one recording; of one that was cut short, what it holds.

    chunks: the bytes of the recording, in pieces of any size. What they raise rises.
    codec: `pcm`, `wav`, `flac` or `opus` (`wire.CallMetadata.codec`); never guessed.
    channels: 1 or 2, of raw PCM (16 kHz, int16, interleaved). The other codecs say their own.
    raises AudioError: not of this codec, no sound in it, more than two channels, longer than `max_hours`,
    or the decoder broke.
    """
    frames_max = int(max_hours * 3600 * SAMPLE_RATE)
    if codec == "pcm":
        pcm = _raw(chunks, channels, frames_max)
    else:
        channels, pcm = _Decoder(codec, frames_max, wall_s=WALL_S * (1 + max_hours)).run(chunks)
    return Sound(_rows(pcm, channels))


def _raw(chunks: Iterable[bytes], channels: int, frames_max: int) -> bytearray:
    pcm = bytearray()
    for chunk in chunks:
        pcm += chunk
        if len(pcm) > frames_max * channels * BYTES_PER_SAMPLE:
            raise _too_long(frames_max)
    return pcm


def _rows(pcm: bytearray, channels: int) -> "NDArray[np.int16]":
    import numpy as np

    # A recording that was cut short may end within a frame.
    frames = len(pcm) // (channels * BYTES_PER_SAMPLE)
    if frames == 0:
        raise AudioError(
            _("the recording holds no sound"),
            fix=_("play the file on the PC; it may have been cut at its start"),
        )
    return np.frombuffer(pcm, "<i2", frames * channels).reshape(frames, channels).T


class _Decoder:
    """One decode_child process: fed in this thread, emptied in another, killed when its time is over."""

    def __init__(self, codec: str, frames_max: int, wall_s: float) -> None:
        self.codec = codec
        self.frames_max = frames_max
        self.wall_s = wall_s
        self.late = False
        self.output = bytearray()

    def run(self, chunks: Iterable[bytes]) -> tuple[int, bytearray]:
        """Channels, and interleaved int16."""
        child = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-m",
                decode_child.__name__,
                self.codec,
                str(self.frames_max),
                str(int(self.wall_s)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # The keys of the server are no business of a decoder.
            env={name: value for name, value in os.environ.items() if not name.startswith("WA_")},
        )
        assert child.stdin is not None  # noqa: S101 - for the type checker, as the next one
        assert child.stdout is not None  # noqa: S101
        clock = threading.Timer(self.wall_s, self._stop, [child])
        clock.start()
        reader = threading.Thread(target=self._read, args=[child, child.stdout])
        reader.start()
        try:
            _feed(child.stdin, chunks)
            reader.join()
            code = child.wait()
        finally:
            clock.cancel()
            child.kill()
            child.wait()
            reader.join()
            child.stdout.close()
        if self.late or code != decode_child.DONE or not self.output:
            raise self._error(code)
        return self.output.pop(0), self.output

    def _read(self, child: "subprocess.Popen[bytes]", stdout: IO[bytes]) -> None:
        most = 1 + self.frames_max * 2 * BYTES_PER_SAMPLE
        while chunk := stdout.read(1 << 16):
            self.output += chunk
            if len(self.output) > most:
                # It was told to stop by itself: what it says now is not to be believed.
                child.kill()
                return

    def _stop(self, child: "subprocess.Popen[bytes]") -> None:
        self.late = True
        child.kill()

    def _error(self, code: int) -> AudioError:
        if self.late:
            why = _("the decoder had not finished after {seconds} seconds").format(seconds=round(self.wall_s))
        elif code == decode_child.TOO_LONG:
            return _too_long(self.frames_max)
        elif code == decode_child.TOO_MANY_CHANNELS:
            why = _("it has more than two channels")
        elif code == decode_child.NOT_THIS:
            why = _("its content is something else, or damaged at the start")
        else:
            why = _("the decoder broke down ({code})").format(code=code)
        return AudioError(
            _("cannot decode the recording as {codec}").format(codec=self.codec),
            why=why,
            fix=_("play the file on the PC, and send it as 16-bit WAV if it is sound"),
        )


def _feed(stdin: IO[bytes], chunks: Iterable[bytes]) -> None:
    try:
        with stdin:
            for chunk in chunks:
                stdin.write(chunk)
    except OSError as problem:
        # A child that has made up its mind reads no further. Windows says EINVAL for a closed pipe.
        if not isinstance(problem, BrokenPipeError) and os.name == "posix":
            raise


def _too_long(frames_max: int) -> AudioError:
    return AudioError(
        _("the recording is longer than {hours:.3g} hours").format(hours=frames_max / SAMPLE_RATE / 3600),
        fix=_("raise `max_hours` under [speech] in config.toml if calls are that long here"),
    )
