#!/usr/bin/env python3
"""Make a synthetic two-party help-desk call and its true transcript.

    make_call.py --seed N --lang fr|en --layout mono|stereo [--seconds S | --script FILE] OUT.wav OUT.json

The agent and the caller have different espeak-ng voices; in stereo the agent is on the left channel and the
caller on the right. The sound is that of a telephone line unless --clean. What they say is drawn from the
grammar, or read from a script: lines of `agent: …` and `caller: …`.
"""

import argparse
import itertools
import json
import random
from pathlib import Path

import grammar
import numpy as np
import soundfile as sf
import synth
from scipy.signal import resample_poly

SPEAKERS = ("agent", "caller")


def make_call(lang, seconds, seed, layout="mono", split="any", clean=False, noise_dbfs=None, script=None):
    """The waveform, (samples,) or (samples, 2) at 16 kHz, and the truth, a dictionary.

    split: `test` takes only sentences that were kept out of the model's training, and fixed phrases.
    The same arguments give the same samples only as the first call of a process: espeak-ng lets what it has
    said colour what it says next.
    noise_dbfs: level of the pink noise on the line; speech is at -26 to -17. script: [(speaker, text)].
    """
    rng = random.Random(f"{seed}-{lang}")
    np_rng = np.random.default_rng(rng.randrange(2**31))
    kinds = [[variant for variant in synth.VARIANTS if variant.startswith(kind)] for kind in "mf"]
    rng.shuffle(kinds)
    voices = {
        speaker: synth.random_voice(lang, rng, kind) for speaker, kind in zip(SPEAKERS, kinds, strict=True)
    }
    gains = {speaker: 10 ** (rng.uniform(-6, 3) / 20) for speaker in SPEAKERS}

    def spoken(speaker, text):
        return speaker, text, synth.speak(grammar.spoken(text), voices[speaker]) * gains[speaker]

    pieces = []  # (start, speaker, text, waveform)
    now = rng.uniform(0.2, 1.0)
    for turn in scripted(script, spoken) if script else improvised(lang, seconds, rng, split, spoken):
        for number, (speaker, text, wav) in enumerate(turn):
            if number:
                now += rng.uniform(0.25, 0.6)
            pieces.append((now, speaker, text, wav))
            now += len(wav) / synth.RATE
        now += rng.choice([rng.uniform(0.3, 0.8), rng.uniform(0.5, 1.8)])

    total = int(max(seconds, now) * synth.RATE)
    sides = {speaker: np.zeros(total, dtype=np.float32) for speaker in SPEAKERS}
    for start, speaker, _text, wav in pieces:
        at = int(start * synth.RATE)
        sides[speaker][at : at + len(wav)] += wav
    channels = [sides["agent"] + sides["caller"]] if layout == "mono" else list(sides.values())
    if not clean:
        level = rng.uniform(-60, -45) if noise_dbfs is None else noise_dbfs
        channels = [line(channel, level, np_rng) for channel in channels]
    turns = [
        {
            "speaker": speaker,
            "channel": SPEAKERS.index(speaker) if layout == "stereo" else 0,
            "start": round(start, 3),
            "end": round(start + len(wav) / synth.RATE, 3),
            "text": text,
        }
        for start, speaker, text, wav in pieces
    ]
    truth = {
        "language": lang,
        "duration": round(total / synth.RATE, 3),
        "layout": layout,
        "seed": seed,
        "voices": voices,
        "turns": turns,
        "text": " ".join(turn["text"] for turn in turns),
    }
    wav = channels[0] if layout == "mono" else np.stack(channels, axis=1)
    return np.clip(wav, -1, 1), truth


def scripted(script, spoken):
    """The turns of a script: what one says until the other answers."""
    for _speaker, lines in itertools.groupby(script, key=lambda line: line[0]):
        yield [spoken(speaker, text) for speaker, text in lines]


def improvised(lang, seconds, rng, split, spoken):
    """Turns of the grammar that fill the time: a greeting each, questions and answers, a goodbye each."""
    agent, caller = rng.sample(grammar.SLOTS[lang]["name"].split("|"), 2)
    names = {"agent": {"me": agent, "you": caller}, "caller": {"me": caller, "you": agent}}
    said = set()

    def say(speaker, role):
        return speaker, sentence(lang, rng, split, role, names[speaker], said)

    opening = [say(speaker, f"{speaker}_open") for speaker in ("agent", "caller")]
    closing = [[spoken(*say(speaker, f"{speaker}_close"))] for speaker in ("caller", "agent")]
    left = seconds - sum(length(turn) + 0.6 for turn in closing) - 1.0
    turns = itertools.chain(([line] for line in opening), middle(rng, say))
    for number, lines in enumerate(turns):
        turn = [spoken(speaker, text) for speaker, text in lines]
        left -= length(turn) + 0.8
        if number >= len(opening) and left < 0:
            break
        yield turn
    yield from closing


def middle(rng, say):
    """Turns (lines of one speaker) without an end."""
    for speaker in itertools.cycle(("caller", "agent")):
        turn = [say(speaker, "both")] if rng.random() < 0.15 else []
        turn += [say(speaker, speaker) for _ in range(rng.choice([1, 1, 2]))]
        yield turn


def length(turn):
    """Roughly how long a turn takes, in seconds."""
    return sum(len(wav) / synth.RATE + 0.4 for _speaker, _text, wav in turn)


def sentence(lang, rng, split, role, names, said):
    """A sentence of the role that was not said yet; with split `test`, one that training has not seen."""
    attempt = 0
    while True:
        attempt += 1
        template = rng.choice(grammar.TEMPLATES[lang][role])
        # Sentences are few: where none has the names of the two, any name will do, and then any sentence.
        text = grammar.from_template(lang, template, rng, names if attempt < 500 else None)
        fits = grammar.is_fixed(lang, template) or grammar.held_out(lang, template, text)
        if (split == "any" or fits) and (text not in said or attempt > 1000):
            said.add(text)
            return text


def line(wav, level_dbfs, np_rng):
    """What a telephone line with pink noise makes of it."""
    noise = synth.noise(len(wav), np_rng, level_dbfs, pink=True)
    return synth.mu_law(synth.telephone(wav + noise))


def read_script(path):
    lines = [line.partition(": ") for line in path.read_text("utf-8").splitlines() if line]
    return [(speaker, text) for speaker, _colon, text in lines]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--seconds", type=float, default=0, help="at least; a script takes what it takes")
    ap.add_argument("--script", type=Path)
    ap.add_argument("--lang", choices=["en", "fr"], default="en")
    ap.add_argument("--layout", choices=["mono", "stereo"], default="mono")
    ap.add_argument("--split", choices=["any", "test"], default="any")
    ap.add_argument("--rate", type=int, choices=[8000, 16000], default=16000)
    ap.add_argument("--clean", action="store_true", help="no telephone band, no noise")
    ap.add_argument("--noise", type=float, metavar="DBFS", help="level of the noise; speech is at -26 to -17")
    ap.add_argument("wav", type=Path)
    ap.add_argument("json", type=Path)
    args = ap.parse_args()
    script = read_script(args.script) if args.script else None
    wav, truth = make_call(
        args.lang, args.seconds, args.seed, args.layout, args.split, args.clean, args.noise, script
    )
    if args.rate == 8000:
        wav = resample_poly(wav, 1, 2, axis=0)
    sf.write(args.wav, wav, args.rate, subtype="PCM_16")
    args.json.write_text(json.dumps(truth, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
