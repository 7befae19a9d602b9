#!/usr/bin/env python3
"""Write phrases.txt: the grammar's words, and sentences that the model transcribes exactly.

    make_phrases.py [--model DIR] [--count N] [OUT]

A sentence is listed if it is transcribed exactly (case and punctuation too) with four random
voices, two of them over a telephone line.
"""

import argparse
import random
from pathlib import Path

import grammar
import numpy as np
import synth
from faster_whisper import WhisperModel

MODEL = str(Path(__file__).parents[2] / "src" / "whisperserver" / "demo" / "model")


def exact(model, lang, text, rng, np_rng):
    for telephone in (False, True, False, True):
        wav = synth.speak(grammar.spoken(text), synth.random_voice(lang, rng))
        wav = np.pad(wav, (4000, 8000))
        if telephone:
            wav = synth.mu_law(synth.telephone(wav + synth.noise(len(wav), np_rng, -45)))
        segments, _ = model.transcribe(wav.astype(np.float32), language=lang)
        if " ".join(s.text.strip() for s in segments) != text:
            return False
    return True


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", default=MODEL)
    ap.add_argument("--count", type=int, default=60)
    ap.add_argument("out", nargs="?", default="phrases.txt")
    args = ap.parse_args()
    model = WhisperModel(args.model, device="cpu", compute_type="int8", cpu_threads=1)
    lines = [
        "What the model understands: the sentences of grammar.py, said by espeak-ng with digits one by one",
        '("4217" is said as "4 2 1 7": see grammar.spoken). The sentences below came out exactly with four',
        "random voices each; those marked * were never in the training.",
        "",
    ]
    for lang in ("en", "fr"):
        rng, np_rng = random.Random(f"phrases-{lang}"), np.random.default_rng(1)
        words = grammar.words(lang)
        lines += [
            f"== {lang}: {len(words)} words, and digits ==",
            ", ".join(words),
            "",
            f"== {lang}: sentences ==",
        ]
        templates = [t for role in grammar.TEMPLATES[lang].values() for t in role]
        found, tried = [], 0
        while len(found) < args.count and tried < 6 * args.count:
            template = templates[tried % len(templates)]
            tried += 1
            text = grammar.from_template(lang, template, rng)
            if text in [f[0] for f in found] or not exact(model, lang, text, rng, np_rng):
                continue
            found.append((text, grammar.held_out(lang, template, text)))
        lines += [text + (" *" if new else "") for text, new in sorted(found)] + [""]
        print(f"{lang}: {len(found)} exact of {tried} tried")
    Path(args.out).write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main()
