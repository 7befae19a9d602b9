"""Speech from espeak-ng, and the defects of a telephone line, all at 16 kHz mono."""

import ctypes

import numpy as np
from scipy.signal import butter, resample_poly, sosfilt

RATE = 16000
ACCENTS = {"en": ["gmw/en-US", "gmw/en", "gmw/en-GB-x-rp"], "fr": ["roa/fr", "roa/fr-BE", "roa/fr-CH"]}
VARIANTS = ["m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f3", "f4"]
UNSEEN_VARIANTS = ["m5", "f5"]  # never used in training


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


class _Espeak:
    """libespeak-ng: the waveform, and the time and text position of each phoneme."""

    PHONEME = 7

    def __init__(self):
        self.lib = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.lib.espeak_Initialize(2, 0, None, 1)  # synchronous, with phoneme events
        if self.rate <= 0:
            raise RuntimeError("espeak-ng does not start: is its data installed?")
        proto = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        self.callback = proto(self._receive)
        self.lib.espeak_SetSynthCallback(self.callback)

    def _receive(self, wav, count, events):
        if wav and count > 0:
            self.wav.append(np.ctypeslib.as_array(wav, (count,)).copy())
        i = 0
        while events[i].type != 0:
            e = events[i]
            if e.type == self.PHONEME:
                self.phones.append((e.id.string.decode(), e.sample / self.rate, e.text_position - 1))
            i += 1
        return 0

    def __call__(self, text, voice, pitch, speed):
        self.wav, self.phones = [], []
        if self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        self.lib.espeak_SetParameter(1, speed, 0)
        self.lib.espeak_SetParameter(3, pitch, 0)
        data = text.encode()
        self.lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        self.lib.espeak_Synchronize()
        return np.concatenate(self.wav).astype(np.float32) / 32768, self.phones


_espeak = None


def random_voice(lang, rng, variants=VARIANTS):
    """A voice: accent and variant, pitch and speed (a dict that speak() takes)."""
    return {
        "voice": f"{rng.choice(ACCENTS[lang])}+{rng.choice(variants)}",
        "pitch": rng.randint(30, 70),
        "speed": rng.randint(130, 190),
    }


def speak(text, voice, phonemes=False):
    """The sentence as a float32 waveform without silent edges.

    With phonemes=True also the list of (phoneme, start in seconds, position in the text).
    """
    global _espeak
    if _espeak is None:
        _espeak = _Espeak()
    wav, phones = _espeak(text, **voice)
    loud = np.flatnonzero(np.abs(wav) > 0.005 * np.abs(wav).max())
    first = max(0, loud[0] - 440)
    wav = resample_poly(wav[first : loud[-1] + 440], RATE // 50, _espeak.rate // 50).astype(np.float32)
    wav *= 0.1 / np.sqrt(np.mean(wav**2))  # -20 dBFS
    if phonemes:
        return wav, [(name, t - first / _espeak.rate, at) for name, t, at in phones]
    return wav


def telephone(wav):
    """300-3400 Hz, as a telephone line passes."""
    return sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), wav).astype(np.float32)


def mu_law(wav):
    """G.711 mu-law and back (8 bits a sample)."""
    x = np.clip(wav, -1, 1)
    y = np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)
    y = np.round(y * 127) / 127
    return (np.sign(y) * (256 ** np.abs(y) - 1) / 255).astype(np.float32)


def noise(n, rng, level_db, pink=False):
    """Background noise of the given level (dBFS); rng is a numpy Generator."""
    x = rng.standard_normal(n)
    if pink:
        spec = np.fft.rfft(x)
        spec /= np.sqrt(np.maximum(np.arange(len(spec)), 20))
        x = np.fft.irfft(spec, n)
    return (x / np.sqrt(np.mean(x**2)) * 10 ** (level_db / 20)).astype(np.float32)
