#!/usr/bin/env python3
"""What the pipeline costs over bare faster-whisper: same sound, model and settings, in one run.

    .venv/bin/python scripts/bench/speech.py [--model demo] [--minutes 5] [--rounds 5]

Bare is faster-whisper alone on each channel, with its own filter of silence, word times and language
detection. Budget: ours <= 1.05 x bare, decoding left out of both; and two labelled channels <= 1.15 x their
mono mix. The works take turns, the best round of each counts. Exit 1 above a budget.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from whisperagent import settings
from whisperserver.transcribe import models
from whisperserver.transcribe.decode import Sound, decode
from whisperserver.transcribe.engine import Engine

CALLS = Path(models.__file__).parents[1] / "demo" / "calls"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    loaded = settings.load({"speech.model": chosen.model})
    speech, place = loaded.settings.speech, loaded.paths.server / "models"
    engine = Engine(speech, place)
    whisper = WhisperModel(
        str(models.folder(speech.model, place)),
        device=speech.device,
        compute_type=speech.compute_type,
        cpu_threads=speech.threads,
    )
    sound = call(chosen.minutes)
    mix = Sound((sound.samples.sum(axis=0, dtype=np.int32) // 2).astype(np.int16)[np.newaxis])

    def bare() -> None:
        for row in sound.samples:
            segments, _info = whisper.transcribe(
                row.astype(np.float32) / np.float32(32768),
                beam_size=speech.beam_size,
                vad_filter=True,
                word_timestamps=True,
                condition_on_previous_text=False,
            )
            list(segments)

    works = {"bare": bare, "ours": lambda: engine.transcribe(sound), "mix": lambda: engine.transcribe(mix)}
    best = dict.fromkeys(works, float("inf"))
    for _round in range(chosen.rounds):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - begun)
    over_bare, over_mix = best["ours"] / best["bare"], best["ours"] / best["mix"]
    print(f"{sound.duration_s:.0f} s of two channels, model {engine.model}, best of {chosen.rounds}")
    print("  ".join(f"{name} {seconds:.2f} s" for name, seconds in best.items()))
    print(f"ours / bare {over_bare:.3f} (budget 1.05)   two channels / mono mix {over_mix:.3f} (budget 1.15)")
    sys.exit(over_bare > 1.05 or over_mix > 1.15)


def call(minutes: float) -> Sound:
    """The calls of the demo, one after the other, again and again."""
    calls = [decode([wav.read_bytes()], "wav", 2, 1.0).samples for wav in sorted(CALLS.glob("*.wav"))]
    once = np.concatenate(calls, axis=1)
    return Sound(np.tile(once, max(1, round(minutes * 60 * 16_000 / once.shape[1]))))


if __name__ == "__main__":
    main()
