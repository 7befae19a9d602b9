"""`wa transcribe FILE`: the words of a sound file, by the server's own engine, on this machine.

A PC that drafts its own calls (whisperagent/drafting.py) starts it with sealed files and their keys.
"""

import base64
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whisperagent import console, settings
from whisperagent.errors import AudioError, ConfigError, SpeechUnavailable, UsageError
from whisperagent.i18n import _

if TYPE_CHECKING:
    from whisperserver.transcribe.decode import Sound
    from whisperserver.transcribe.engine import Heard

SEALED = b"\x89SREC"
CHUNK = 1 << 18

transcribe = typer.Typer(add_completion=False, rich_markup_mode=None)


@transcribe.command(help=_("Write down a sound file: who said what, when.\n\nWAV, FLAC or Ogg-Opus."))
def run(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help=_("In a stereo file the technician is left, the caller right.")),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help=_("A pulled model, a folder, or `demo`."))
    ] = None,
    language: Annotated[
        str, typer.Option("--language", metavar="fr|en|auto", help=_("What is spoken."))
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
    draft: Annotated[bool, typer.Option("--draft", hidden=True)] = False,
) -> None:
    loaded = settings.load({"speech.model": model, "speech.languages": _languages(language)})
    speech = loaded.settings.speech
    if draft:
        sound = _opened(files, speech.max_hours)
    elif len(files) == 1:
        sound = _sound(files[0], speech.max_hours)
    else:
        raise UsageError(_("one file at a time"), fix=_("`wa transcribe {path}`").format(path=files[0]))

    from whisperserver.transcribe.engine import Engine  # CTranslate2 takes a second to import
    from whisperserver.transcribe.models import DEMO, DEMO_NOTICE

    try:
        engine = Engine(speech, loaded.paths.server / "models")
    except SpeechUnavailable as problem:
        if not draft:
            raise
        # Exit code 2 tells whoever started us that it is not this call's fault.
        raise ConfigError(problem.what, why=problem.why, fix=problem.fix) from None
    if engine.model == DEMO:
        console.say(_(DEMO_NOTICE))
    with console.progress(_("transcribing"), 1.0) as bar:
        heard = engine.transcribe(sound, bar.update)
    if json:
        console.print_json(
            {
                "file": str(files[0]),
                "language": heard.language,
                "model": engine.model,
                "duration_s": round(sound.duration_s, 3),
                "segments": heard.segments,
            }
        )
    else:
        _print(heard)


def _languages(language: str) -> list[str] | None:
    return None if language == "auto" else [language]


def _opened(parts: list[Path], max_hours: float) -> "Sound":
    """The call in these sealed files. Its keys come on stdin: one line, each in base64.

    stdin is closed when whoever started us is gone, and then nobody wants the words any more.
    """
    # Cryptography is not for `wa --help`.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from whisperagent.sealed import Keyring
    from whisperserver.transcribe.parts import opened

    if hasattr(os, "nice"):
        os.nice(19)  # Windows is told by whoever starts us
    keys = [
        X25519PrivateKey.from_private_bytes(base64.b64decode(key))
        for key in sys.stdin.buffer.readline().split()
    ]
    if not keys:
        raise UsageError(_("there is no key on the standard input"))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    return opened(parts, Keyring(keys[0], tuple(keys[1:])), max_hours)


def _end_with_stdin() -> None:
    # Not by `sys.stdin`: Python cannot end while a thread waits in that.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


def _sound(file: Path, max_hours: float) -> "Sound":
    from whisperserver.transcribe.decode import codec_of, decode

    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as problem:
        raise UsageError(
            _("cannot read {path}").format(path=file), why=problem.strerror or str(problem)
        ) from None
    if head.startswith(SEALED):
        raise AudioError(
            _("{path} is a sealed recording").format(path=file),
            why=_("only the server that it was sealed for can open it"),
            fix=_("send it there: `wa queue retry`"),
        )
    codec = codec_of(head)
    if not codec:
        raise AudioError(
            _("{path} is no sound that we know").format(path=file),
            why=_("it is empty") if not head else _("it is no WAV, FLAC or Ogg-Opus file"),
            fix=_("make it a WAV file first"),
        )
    return decode(_chunks(file), codec, channels=0, max_hours=max_hours)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _print(heard: "Heard") -> None:
    if not heard.segments:
        console.say(_("nobody speaks in it"))
    speakers = {"agent": _("technician"), "caller": _("caller"), "unknown": "-"}
    width = max((len(speakers[segment.speaker]) for segment in heard.segments), default=0)
    for segment in heard.segments:
        console.print_data(
            f"{_clock(segment.start_s)}  {speakers[segment.speaker].ljust(width)}  {segment.text}"
        )


def _clock(seconds: float) -> str:
    """`00:01.2`, or `1:02:03.4` from one hour on."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    short = f"{minutes:02}:{rest // 10:02}.{rest % 10}"
    return f"{hours}:{short}" if hours else short
