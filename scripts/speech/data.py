"""Training data: a cache of spoken sentences as log-mel features, and windows made of them.

Everything after the synthesis happens on log10 mel energies, where a filter is an addition
and a noise is a log-sum: far cheaper than on waveforms, and close enough to the real thing
(eval.py works on real waveforms).
"""

import random
from multiprocessing import Pool

import grammar
import numpy as np
import synth
from faster_whisper.feature_extractor import FeatureExtractor

LANGS = ("en", "fr")
_extractor = FeatureExtractor()
_fft_hz = np.linspace(0, synth.RATE / 2, 201)
MEL_HZ = _extractor.mel_filters @ _fft_hz / _extractor.mel_filters.sum(axis=1)


def log_mel(wav):
    """log10 mel energies, before Whisper's clipping and scaling."""
    spec = _extractor.stft(wav, 400, 160, window=np.hanning(401)[:-1].astype("float32"), return_complex=True)
    return np.log10(np.maximum(_extractor.mel_filters @ np.abs(spec[:, :-1]) ** 2, 1e-10))


def scale(logs, peak=None):
    """Whisper's clipping (80 dB under the peak) and scaling."""
    peak = logs.max() if peak is None else peak
    return (np.maximum(logs, peak - 8.0) + 4.0) / 4.0


def _one(job):
    lang, seed = job
    rng = random.Random(seed)
    text = grammar.sample(lang, rng)
    said = grammar.spoken(text)
    wav, phones = synth.speak(said, synth.random_voice(lang, rng), phonemes=True)
    feat = log_mel(wav).astype(np.float16)
    frames = feat.shape[1]
    # Phoneme (or silence) of each encoder position, that is of each 20 ms.
    names = np.full(frames // 2, "", dtype="U8")
    starts = [max(0, round(t * 50)) for _, t, _ in phones] + [frames // 2]
    for (name, _, _), a, b in zip(phones, starts, starts[1:], strict=False):
        names[a:b] = "" if name.startswith("_") else lang + name
    # Time of each character of the text (in 20 ms), straight inside a word.
    at, where = 0, []
    for ch in text:
        while said[at] != ch:
            at += 1
        where.append(at)
        at += 1
    spoken_phones = [(t, p) for name, t, p in phones if not name.startswith("_")]
    begins = {}
    for t, p in spoken_phones:
        begins.setdefault(p, t)
    marks = sorted(begins.items())
    xs = [p for p, _ in marks] + [len(said)]
    ys = [t * 50 for _, t in marks] + [frames / 2]
    times = np.interp([*where, len(said)], xs, np.maximum.accumulate(ys))
    return lang, text, names, times.astype(np.float32), feat


def build_cache(path, per_language, seed, processes=2):
    """Synthesise the training sentences once and keep their features on disk."""
    jobs = [(lang, f"{seed}-{lang}-{i}") for i in range(per_language) for lang in LANGS]
    with Pool(processes) as pool:
        rows = pool.map(_one, jobs, chunksize=50)
    phones, flat = np.unique(np.concatenate([r[2] for r in rows]), return_inverse=True)
    assert phones[0] == ""
    np.savez(
        path,
        langs=np.array([r[0] for r in rows]),
        texts=np.array([r[1] for r in rows]),
        phones=phones,
        phone_ids=flat.astype(np.uint8),
        times=np.concatenate([r[3] for r in rows]),
        feats=np.concatenate([r[4] for r in rows], axis=1),
        lengths=np.array([r[4].shape[1] for r in rows]),
    )


class Cache:
    def __init__(self, path):
        z = np.load(path)
        self.texts, self.langs = z["texts"].tolist(), z["langs"].tolist()
        self.n_phones = len(z["phones"])
        n, feats, ids, times = z["lengths"], z["feats"], z["phone_ids"], z["times"]
        self.feats = np.split(feats, np.cumsum(n)[:-1], axis=1)
        self.phones = np.split(ids, np.cumsum(n // 2)[:-1])
        chars = np.array([len(t) + 1 for t in self.texts])
        self.times = np.split(times, np.cumsum(chars)[:-1])
        self.by_lang = {lang: [i for i, x in enumerate(self.langs) if x == lang] for lang in LANGS}


class WindowMaker:
    """Makes training windows: features, decoder tokens and phonemes for the CTC loss."""

    def __init__(self, cache, tok, seed):
        self.cache, self.tok = cache, tok
        self.rng = random.Random(seed)
        self.np_rng = np.random.default_rng(self.rng.randrange(2**31))
        self.punctuation = {t for mark in ".?," for t in tok.encode(mark) + tok.encode(" " + mark)}
        self.token_ids, self.token_spans = [], []
        for text, times in zip(cache.texts, cache.times, strict=True):
            ids, offsets = tok.encode_with_offsets(" " + text)
            self.token_ids.append(ids)
            # Offsets count the leading space, that the text itself does not have; a token's
            # own leading space is not part of its sound.
            starts = [a if (" " + text)[a] == " " else a - 1 for a, _ in offsets]
            self.token_spans.append(
                [(times[a], times[b - 1]) for a, (_, b) in zip(starts, offsets, strict=True)]
            )
        bank = synth.noise(60 * synth.RATE, self.np_rng, level_db=-20)
        self.noise_bank = log_mel(bank).astype(np.float32)

    def noise(self, frames, level_db):
        """Log-mel of white or pink noise of the given level."""
        at = self.rng.randrange(self.noise_bank.shape[1] - frames)
        slope = self.rng.choice([0.0, 0.0, self.rng.uniform(-1.2, 0)])
        tilt = slope * np.log10(np.maximum(MEL_HZ, 60) / 1000)
        return self.noise_bank[:, at : at + frames] + (level_db + 20) / 10 + tilt[:, None].astype("f4")

    def line(self):
        """The response (log10 power) of a telephone band."""
        low, high = self.rng.uniform(200, 400), self.rng.uniform(3000, 3700)
        f = np.maximum(MEL_HZ, 20)
        gain = -np.log10(1 + (low / f) ** 8) - np.log10(1 + (f / high) ** 8)
        return np.maximum(gain, -7)[:, None].astype("f4")

    def degrade(self, logs):
        """Microphone colour, noise, telephone band, level; then Whisper's scaling."""
        rng = self.rng
        if rng.random() < 0.5:
            logs += (rng.uniform(-0.5, 0.5) * np.log10(np.maximum(MEL_HZ, 60) / 1000))[:, None].astype("f4")
        phone = self.line() if rng.random() < 0.5 else None
        if phone is not None and rng.random() < 0.5:
            logs += phone
            phone = None
        if rng.random() < 0.65:
            add = self.noise(logs.shape[1], -20 - rng.uniform(8, 45))
            logs = np.log10(10**logs + 10**add)
        if phone is not None:
            logs += phone
        if rng.random() < 0.5:  # G.711: a noise that follows the speech
            frame = np.log10(np.mean(10**logs, axis=0)) - rng.uniform(3.5, 4.2)
            logs = np.log10(
                10**logs + 10 ** (self.noise_bank[:, : logs.shape[1]] - self.noise_bank.mean() + frame)
            )
        logs = np.maximum(logs + rng.uniform(-1.5, 0.6), -10)
        peak = logs.max() + (rng.uniform(0, 0.6) if rng.random() < 0.5 else 0)
        return scale(logs, peak)

    def window(self, frames, offset=0, kind="call"):
        """One window.

        kind: 'call' (utterances to the end, the last one may be cut), 'dense' (the same with
        short pauses), 'short' (some utterances, then zero padding) or 'silence'.
        Times are counted from -offset frames, as if the window were cut out of a 30 s one.
        Returns the features (80, frames), the language, the utterances as (start, end or None,
        text ids, spans of the tokens in encoder positions of this window) and the phoneme of
        each encoder position (-1 where the audio is not labelled).
        """
        rng = self.rng
        lang = rng.choice(LANGS)
        logs = np.full((80, frames), -10, dtype=np.float32)
        segments, phones = [], np.zeros(frames // 2, dtype=np.int64)
        content = frames
        if kind == "silence":
            content = rng.choice([frames, rng.randrange(50, frames)])
        else:
            count = rng.choice([1, 1, 2, 2, 3, 4, 6]) if kind == "short" else 99
            at = (
                rng.choice([rng.randrange(0, 40), rng.randrange(0, 150)])
                if frames > 600
                else rng.randrange(0, 60)
            )
            if frames > 600 and kind == "call" and rng.random() < 0.12:
                at = rng.randrange(0, int(0.9 * frames))
            voices_gain = [rng.uniform(-0.9, 0.3), rng.uniform(-0.9, 0.3)]
            end = at
            if frames > 600 and rng.random() < 0.12:  # begins in the middle of an utterance
                i = rng.choice(self.cache.by_lang[lang])
                last = self.cache.feats[i].shape[1] // 2
                cut = 2 * (
                    rng.randrange(5, last - 3) if rng.random() < 0.6 else rng.randrange(last - 18, last - 3)
                )
                rest = [
                    (t, (a - cut / 2, b - cut / 2))
                    for t, (a, b) in zip(self.token_ids[i], self.token_spans[i], strict=True)
                    if a >= cut / 2 - 2
                ]
                n = self.cache.feats[i].shape[1] - cut
                if not rest or rest[0][1][0] < 12:
                    logs[:, :n] = self.cache.feats[i][:, cut:] + voices_gain[0]
                    if any(t not in self.punctuation for t, _ in rest):
                        segments.append((0, n, [t for t, _ in rest], [w for _, w in rest]))
                    ph = self.cache.phones[i][cut // 2 :]
                    phones[: len(ph)] = ph
                    end, at = n, n + rng.randrange(15, 80)
            while len(segments) < count:
                i = rng.choice(self.cache.by_lang[lang])
                feat = self.cache.feats[i]
                n = feat.shape[1]
                if at + n > frames - 2:
                    left = frames - at
                    if not segments and frames > 600 and 60 < left < n - 5 and rng.random() < 0.6:
                        # nothing but a beginning: its whole words
                        cut = [
                            (t, w)
                            for t, w in zip(self.token_ids[i], self.token_spans[i], strict=True)
                            if w[1] <= left / 2 + 1
                        ]
                        if cut:
                            logs[:, at:] = feat[:, :left] + voices_gain[0]
                            segments.append(
                                (
                                    at,
                                    frames,
                                    [t for t, _ in cut],
                                    [(a + at / 2, b + at / 2) for _, (a, b) in cut],
                                )
                            )
                            phones[at // 2 :] = -1
                            end = frames
                            break
                    if not segments and n < frames - 40:
                        at = rng.randrange(0, 20)
                        continue
                    if kind != "short" and frames > 600 and 45 < left < n - 5 and segments:
                        logs[:, at:] = feat[:, :left] + voices_gain[rng.randrange(2)]
                        segments.append((at, None, [], []))
                        phones[at // 2 :] = -1
                        end = frames
                    break
                logs[:, at : at + n] = feat + voices_gain[rng.randrange(2)]
                spans = [(a + at / 2, b + at / 2) for a, b in self.token_spans[i]]
                segments.append((at, at + n, self.token_ids[i], spans))
                ph = self.cache.phones[i]
                phones[at // 2 : at // 2 + len(ph)] = ph
                end = at + n
                gap = {"dense": (8, 60), "short": (10, 150)}.get(kind, (15, 250))
                at = end + int(gap[0] + (gap[1] - gap[0]) * rng.random() ** 2)
            if kind == "short":
                content = min(frames, end + rng.randrange(2, 150))
        out = np.zeros((80, frames), dtype=np.float32)
        out[:, :content] = self.degrade(logs[:, :content])
        segments = [(s + offset, None if e is None else e + offset, t, w) for s, e, t, w in segments]
        return out, lang, segments, phones

    def tokens(self, lang, segments, offset=0, history=0.5, clip_first=True):
        """Decoder tokens for the utterances, the place of each token in the audio (a span of
        encoder positions, or None), and how many first tokens are history (without loss)."""
        tok, rng = self.tok, self.rng
        body = [
            tok.special["<|startoftranscript|>"],
            tok.special[f"<|{lang}|>"],
            tok.special["<|transcribe|>"],
        ]
        places = [None] * 3

        def put(token, place=None):
            body.append(token)
            places.append(place)

        def put_time(frame, shown=None):
            here = (frame - offset) / 2
            put(tok.timestamp(min(1500, shown if shown is not None else frame // 2)), (here - 1, here + 1))

        if not any(text for _, _, text, _ in segments):
            segments = []
        if rng.random() < 0.3:
            put(tok.special["<|notimestamps|>"])
            for _, _, text, spans in segments:
                for t, span in zip(text, spans, strict=True):
                    put(t, span)
        elif not segments:
            put(tok.timestamp(0))
        else:
            for k, (start, end, text, spans) in enumerate(segments):
                put_time(start, min(start // 2, 50) if k == 0 and clip_first else None)
                if end is not None:
                    for t, span in zip(text, spans, strict=True):
                        put(t, span)
                    put_time(end)
        put(tok.special["<|endoftext|>"])
        prompt = []
        if rng.random() < history:
            want = rng.choice([rng.randrange(5, 60), rng.randrange(5, 223), 223])
            stamps = rng.random() < 0.75
            t = 0
            while len(prompt) < want:
                i = rng.choice(self.cache.by_lang[lang])
                text, n = self.token_ids[i], self.cache.feats[i].shape[1] // 2
                if stamps:
                    if t + n > 1450:
                        t = 0
                    text = [tok.timestamp(t), *text, tok.timestamp(t + n)]
                    t += n + rng.randrange(5, 100)
                prompt += text
            prompt = [tok.special["<|startofprev|>"], *prompt[-want:]]
        return prompt + body, [None] * len(prompt) + places, len(prompt)
