#!/usr/bin/env python3
"""How many words go wrong, call by call: the pipeline, and bare faster-whisper on the same sound.

    .venv/bin/python scripts/bench/words.py [--model demo] [--seeds 1001-1010] [--keep DIR]

scripts/speech/make_call.py makes the calls (it needs espeak-ng), one for each language and seed; those in DIR
are not made again. Bare is faster-whisper on each channel with its own filter of silence, and is told the
language, which ours is not. Exit 1 where ours has more than 0.05 words wrong, or more than bare.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from whisperagent import settings, wire
from whisperserver.transcribe import models, score
from whisperserver.transcribe.decode import Sound, decode
from whisperserver.transcribe.engine import Engine

MAKE_CALL = Path(__file__).parents[1] / "speech" / "make_call.py"
SPEAKERS: tuple[wire.Speaker, ...] = ("agent", "caller")
WANTED = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--languages", nargs="+", default=["fr", "en"])
    parser.add_argument("--seeds", default="1001-1010", help="the first and the last")
    parser.add_argument("--seconds", type=int, default=45)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    first, _dash, last = chosen.seeds.partition("-")
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        calls = [
            (language, made(folder, language, seed, chosen.seconds))
            for seed in range(int(first), int(last or first) + 1)
            for language in chosen.languages
        ]
        sys.exit(compare(calls, chosen.model))


def made(folder: Path, language: str, seed: int, seconds: int) -> Path:
    wav = folder / f"{language}-{seed}-{seconds}.wav"
    if not wav.with_suffix(".json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--lang", language, "--seed", str(seed), "--seconds", str(seconds), "--layout", "stereo"]
        subprocess.run([sys.executable, MAKE_CALL, *options, wav, wav.with_suffix(".json")], check=True)
    return wav


def compare(calls: list[tuple[str, Path]], model: str) -> bool:
    """Print a line for each call, and the sums. Is any call worse than it should be?"""
    loaded = settings.load({"speech.model": model})
    speech, place = loaded.settings.speech, loaded.paths.server / "models"
    engine = Engine(speech, place)
    whisper = WhisperModel(
        str(models.folder(model, place)),
        device=speech.device,
        compute_type=speech.compute_type,
        cpu_threads=speech.threads,
    )
    rates = []
    print("call             words   ours   bare")
    for language, wav in calls:
        truth, sound = score.truth(wav.with_suffix(".json")), decode([wav.read_bytes()], "wav", 2, 1.0)
        ours = score.word_error_rate(truth, engine.transcribe(sound).segments)
        bare = score.word_error_rate(truth, heard_bare(whisper, sound, language, speech.beam_size))
        said = sum(len(score.words(turn.text)) for turn in truth)
        rates.append((said, ours, bare))
        note = "above" * (ours > WANTED) + " worse" * (ours > bare)
        print(f"{wav.stem:15} {said:6} {ours:6.3f} {bare:6.3f}  {note}".rstrip(), flush=True)
    words = sum(said for said, _ours, _bare in rates)
    print(
        f"{'all':15} {words:6} {sum(said * ours for said, ours, _bare in rates) / words:6.3f}"
        f" {sum(said * bare for said, _ours, bare in rates) / words:6.3f}"
    )
    above, bare_above = (sum(rate[which] > WANTED for rate in rates) for which in (1, 2))
    better, worse = sum(ours < bare for _, ours, bare in rates), sum(ours > bare for _, ours, bare in rates)
    print(f"above {WANTED}: ours {above}, bare {bare_above}; ours better than bare {better}, worse {worse}")
    return above + worse > 0


def heard_bare(whisper: WhisperModel, sound: Sound, language: str, beam_size: int) -> list[wire.Segment]:
    return [
        wire.Segment(id=0, start_s=each.start, end_s=each.end, speaker=speaker, text=each.text)
        for speaker, row in zip(SPEAKERS, sound.samples, strict=True)
        for each in whisper.transcribe(
            row.astype(np.float32) / np.float32(32768),
            language=language,
            beam_size=beam_size,
            vad_filter=True,
            condition_on_previous_text=False,
        )[0]
    ]


if __name__ == "__main__":
    main()
