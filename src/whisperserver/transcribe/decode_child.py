"""The decoder's own process: a recording on stdin, samples on stdout, its end as an exit code.

    python -m whisperserver.transcribe.decode_child CODEC FRAMES_MAX SECONDS_MAX

stdout: one byte, the number of channels (1 or 2), then PCM: 16 kHz, int16, little-endian, interleaved.
FFmpeg is told what it reads and may use no other format or codec, so a file cannot choose the code that
meets it. Where the system has them, limits on memory, time, files and processes come before the first byte.
"""

import io
import sys
from typing import Any

DONE, TOO_LONG, NOT_THIS, TOO_MANY_CHANNELS = 0, 3, 4, 5

RATE = 16_000
RATES = range(4_000, 192_001)
"""A WAV of rate 1 makes a quarter of an hour of a kilobyte, and is no call."""

PCM = "pcm_s16le,pcm_u8,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw"
FORMATS = {"wav": ("wav", PCM), "flac": ("flac", "flac"), "opus": ("ogg", "opus,libopus")}

MEMORY = 1 << 30


def main() -> None:
    codec, frames_max, seconds_max = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    import av  # before the limits: its libraries are files to be opened and memory to be mapped

    av.logging.set_level(None)
    _confine(seconds_max)
    sys.exit(_decode(av, codec, frames_max))


def _confine(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the parent's clock and the cap on samples remain
        return
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (most, most))


def _decode(av: Any, codec: str, frames_max: int) -> int:
    container_format, codecs = FORMATS[codec]
    try:
        container = av.open(
            # Without a way to seek, FFmpeg cannot be sent to and fro in the file.
            _Stdin(),
            format=container_format,
            options={"format_whitelist": container_format, "codec_whitelist": codecs},
        )
        stream = container.streams.audio[0]
    except (av.error.FFmpegError, IndexError):
        return NOT_THIS
    context = stream.codec_context
    if context.name not in codecs.split(",") or context.sample_rate not in RATES:
        return NOT_THIS
    channels = context.channels
    if channels not in (1, 2):
        return TOO_MANY_CHANNELS
    context.thread_count = 1
    resampler = av.AudioResampler(format="s16", layout="mono" if channels == 1 else "stereo", rate=RATE)
    out = sys.stdout.buffer
    out.write(bytes([channels]))
    written = 0
    for frame in _frames(av, container, stream):
        if frame is not None:
            frame.pts = None  # a cut or spliced file has jumps in its times, and its samples all the same
        for piece in resampler.resample(frame):
            written += piece.samples
            if written > frames_max:
                return TOO_LONG
            # The buffer of a plane is longer than what it holds.
            out.write(memoryview(piece.planes[0])[: piece.samples * channels * 2])
    out.flush()
    return DONE


def _frames(av: Any, container: Any, stream: Any) -> Any:
    """Every frame that can be had, then None, which empties the resampler."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue  # a damaged packet: the next may be whole
    except av.error.FFmpegError:
        pass  # the file is cut here
    yield None


class _Stdin(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return sys.stdin.buffer.read(size)


if __name__ == "__main__":
    main()
