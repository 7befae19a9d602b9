"""Guards: what a speech model writes although nobody said it.

Silence never reaches the model (engine.py cuts it out first), and faster-whisper itself drops what the
model takes for silence and is unsure of. What is left are marks without a word, text that goes round in a
loop, text that nobody could say in its time, and the captions of the films that Whisper learnt from. A word
that was said is worth more than a clean transcript: in doubt, it stays.
"""

import re
import zlib

NO_SPEECH = 0.6
"""OpenAI's own limit: above it the model takes the sound for silence."""

UNSURE = -0.7
"""Log probability below which text over silence is not believed; Whisper's own limit is -1."""

LOOP = 2.4
"""Length over compressed length. OpenAI's limit for a window: faster-whisper tries again, then keeps it."""

FASTEST = 100
"""Letters a second. Fast speech has 25, and times are rough; but where the model could not end a sentence,
faster-whisper has it begin again a moment later, and each time it may write words into that moment.
"""

CAPTIONS = re.compile(
    r"(sous-titr(es|age) .*(amara\.org|société radio-canada|st'? ?501)"
    r"|sous-titres réalisés .*"
    r"|merci d'avoir regardé (cette|la) vidéo"
    r"|(subtitles|captions) by .*"
    r"|thanks? (you )?for watching)\W*",
    re.IGNORECASE,
)


def has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def invented(text: str, duration_s: float, no_speech: float, mean_log_probability: float) -> bool:
    """Is this text the model's own?

    text, duration_s: of one segment. no_speech: 0..1, how surely the model heard silence in the window that
    the segment is from. mean_log_probability: of that window's tokens.
    """
    content = text.encode()
    return (
        not has_words(text)
        or len(content) / len(zlib.compress(content)) > LOOP
        or len(text.strip()) > FASTEST * duration_s
        or (no_speech > NO_SPEECH and mean_log_probability < UNSURE)
        or CAPTIONS.fullmatch(text.strip().replace("’", "'")) is not None
    )
