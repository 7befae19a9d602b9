#!/usr/bin/env python3
"""Evaluate the model through faster_whisper, on sentences that were never in its training.

    eval.py [--model DIR] [--sentences N] [--calls N] [--seconds S] [--seed N]

Prints a report in Markdown.
"""

import argparse
import random
import re
import time
from pathlib import Path

import grammar
import numpy as np
import synth
from faster_whisper import BatchedInferencePipeline, WhisperModel
from make_call import make_call

MODEL = str(Path(__file__).parents[2] / "src" / "whisperserver" / "demo" / "model")
PHONE_SNR = (15, 30)


def normal(text):
    return re.sub(r"[^\w' -]", " ", text.lower().replace("’", "'")).split()


def errors(truth, heard):
    """Word edit distance and the number of true words."""
    a, b = normal(truth), normal(heard)
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        prev, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            prev, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, prev + (x != y))
    return row[-1], len(a)


class Score:
    def __init__(self):
        self.wrong = self.words = self.exact = self.items = 0

    def add(self, truth, heard):
        e, n = errors(truth, heard)
        self.wrong, self.words = self.wrong + e, self.words + n
        self.exact, self.items = self.exact + (truth.strip() == heard.strip()), self.items + 1
        return e

    def __str__(self):
        return f"{100 * self.wrong / max(1, self.words):.1f} %"


def text_of(segments):
    return " ".join(s.text.strip() for s in segments)


def sentences(model, lang, count, seed, degraded, variants=synth.VARIANTS, show=0):
    """WER, exact sentences, language found, on single held-out sentences."""
    rng, np_rng = random.Random(f"eval-{seed}-{lang}"), np.random.default_rng(seed)
    score, right_lang, shown = Score(), 0, []
    for _ in range(count):
        text = grammar.sample(lang, rng, "test")
        wav = synth.speak(grammar.spoken(text), synth.random_voice(lang, rng, variants))
        wav = np.pad(wav, (rng.randrange(1600, 8000), rng.randrange(1600, 12000)))
        if degraded:
            level = -20 - rng.uniform(*PHONE_SNR)
            wav = wav + synth.noise(len(wav), np_rng, level, pink=rng.random() < 0.5)
            wav = synth.mu_law(synth.telephone(wav))
        segments, _info = model.transcribe(wav.astype(np.float32), language=lang)
        heard = text_of(segments)
        if score.add(text, heard) and len(shown) < show:
            shown.append((text, heard))
        right_lang += model.transcribe(wav.astype(np.float32))[1].language == lang
    return score, right_lang / count, shown


def time_errors(turns, words):
    """For words that are found in order: distance of the word from its true sentence (seconds)."""
    off, at = [], 0
    flat = [(w, t) for t in turns for w in normal(t["text"])]
    for w in words:
        for name in normal(w.word):
            for k in range(at, min(at + 6, len(flat))):
                if flat[k][0] == name:
                    t = flat[k][1]
                    out = max(t["start"] - w.start, w.end - t["end"], 0)
                    off.append(out)
                    at = k + 1
                    break
    return off


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", default=MODEL)
    ap.add_argument("--sentences", type=int, default=150)
    ap.add_argument("--calls", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=90)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--show", type=int, default=0, help="print so many wrong sentences of each kind")
    args = ap.parse_args()
    model = WhisperModel(args.model, device="cpu", compute_type="int8", cpu_threads=1)

    print("## Single held-out sentences\n")
    print("| test | language | WER | exact sentences | language detected |")
    print("| --- | --- | --- | --- | --- |")
    kinds = [
        ("(a) clean", False, synth.VARIANTS),
        (f"(b) telephone band, mu-law, noise {PHONE_SNR[0]}-{PHONE_SNR[1]} dB SNR", True, synth.VARIANTS),
        ("(a') clean, voices never trained on", False, synth.UNSEEN_VARIANTS),
    ]
    shown = []
    for name, degraded, variants in kinds:
        for lang in ("en", "fr"):
            score, found, wrong = sentences(
                model, lang, args.sentences, args.seed, degraded, variants, args.show
            )
            print(
                f"| {name} | {lang} | {score} ({score.wrong}/{score.words}) | "
                f"{score.exact}/{score.items} | {100 * found:.0f} % |",
                flush=True,
            )
            shown += wrong
    for truth, heard in shown:
        print(f"    {truth}\n -> {heard}")

    print(f"\n## Calls ({args.calls} a language, {args.seconds:.0f} s each, telephone sound)\n")
    print(
        "Sentences of templates with many expansions are all held out; fixed phrases "
        '("Please hold the line.") are of course known to the model.\n'
    )
    print("| test | language | WER |")
    print("| --- | --- | --- |")
    shown, offs, starts = [], [], []
    for lang in ("en", "fr"):
        rows = {
            "(c) mono, vad_filter=False": Score(),
            "(c) mono, vad_filter=True": Score(),
            "(c) mono, word_timestamps=True": Score(),
            "(c) mono, condition_on_previous_text=False": Score(),
            "(c) mono, BatchedInferencePipeline": Score(),
            "(c) mono, multilingual/no language given": Score(),
            "(d) stereo, each channel, vad_filter=False": Score(),
            "(d) stereo, each channel, vad_filter=True": Score(),
        }
        options = {
            "(c) mono, vad_filter=False": {},
            "(c) mono, vad_filter=True": {"vad_filter": True},
            "(c) mono, word_timestamps=True": {"word_timestamps": True},
            "(c) mono, condition_on_previous_text=False": {"condition_on_previous_text": False},
            "(c) mono, multilingual/no language given": {"language": None, "multilingual": True},
        }
        for call in range(args.calls):
            wav, truth = make_call(lang, args.seconds, f"eval-{args.seed}-{call}", "mono", "test")
            for name, opts in options.items():
                segs = list(model.transcribe(wav, **{"language": lang, **opts})[0])
                heard = text_of(segs)
                if rows[name].add(truth["text"], heard) and args.show and not opts:
                    shown.append((truth["text"], heard))
                if opts.get("word_timestamps"):
                    offs += time_errors(truth["turns"], [w for s in segs for w in s.words])
                if not opts:
                    starts += [min(abs(s.start - t["start"]) for s in segs) for t in truth["turns"]]
            heard = text_of(BatchedInferencePipeline(model).transcribe(wav, language=lang, batch_size=4)[0])
            rows["(c) mono, BatchedInferencePipeline"].add(truth["text"], heard)
            wav, truth = make_call(lang, args.seconds, f"eval-s{args.seed}-{call}", "stereo", "test")
            for side, speaker in enumerate(("agent", "caller")):
                want = " ".join(t["text"] for t in truth["turns"] if t["speaker"] == speaker)
                for vad in (False, True):
                    heard = text_of(model.transcribe(wav[:, side].copy(), language=lang, vad_filter=vad)[0])
                    rows[f"(d) stereo, each channel, vad_filter={vad}"].add(want, heard)
        for name, score in rows.items():
            print(f"| {name} | {lang} | {score} ({score.wrong}/{score.words}) |", flush=True)
    for truth, heard in shown:
        print(f"\n    TRUE  {truth}\n    HEARD {heard}")

    offs, starts = np.array(offs), np.array(starts)
    print("\n## Times\n")
    print(
        f"Nearest segment start to each true sentence start: median {np.median(starts):.2f} s, "
        f"90 % under {np.quantile(starts, 0.9):.2f} s."
    )
    print(
        f"Words (word_timestamps=True): {100 * np.mean(offs < 0.2):.0f} % lie inside their true sentence "
        f"(0.2 s allowed), 99 % are off by less than {np.quantile(offs, 0.99):.2f} s."
    )

    print("\n## Silence and noise\n")
    rng = np.random.default_rng(args.seed)
    for name, wav in (
        ("digital silence", np.zeros(160000, np.float32)),
        ("noise at -40 dBFS", synth.noise(160000, rng, -40)),
        ("pink noise at -60 dBFS, 60 s", synth.noise(960000, rng, -60, pink=True)),
    ):
        segs = list(model.transcribe(wav, language="en")[0])
        print(f"- {name}: {len(segs)} segments {[s.text for s in segs]}")

    print("\n## Speed (1 thread, int8)\n")
    wav, _ = make_call("en", 120, "speed", "mono", "test")
    for name, opts in (
        ("default (beam 5)", {}),
        ("beam_size=1", {"beam_size": 1}),
        ("word_timestamps=True", {"word_timestamps": True}),
        ("vad_filter=True", {"vad_filter": True}),
    ):
        t = time.process_time()
        list(model.transcribe(wav, language="en", **opts)[0])
        t = time.process_time() - t
        print(f"- {name}: {t / (len(wav) / synth.RATE / 60):.2f} s of CPU per minute of audio")


if __name__ == "__main__":
    main()
