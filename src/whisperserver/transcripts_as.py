"""A transcript as a file: plain text, subtitles (SRT, WebVTT), Markdown.

Speakers are named in the language of the call, as in its ticket. What was said is text and stays text: it
becomes neither markup nor a cue of its own.
"""

import re
from collections.abc import Callable, Iterator

from whisperagent import i18n, wire
from whisperserver.tickets.phrases import LANGUAGES, Words

MEDIA_TYPES = {
    "txt": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "md": "text/markdown",
}

Spoken = tuple[wire.Segment, str, str]
"""A segment, who speaks, and what, on one line."""


def written(call: wire.Call, form: str) -> str:
    """The transcript of `call` as a file. form: one of MEDIA_TYPES."""
    return _WRITERS[form](call, _words(call))


def _text(call: wire.Call, words: Words) -> str:
    return "".join(
        f"[{_clock(segment.start_s)}] {_named(who, words)}{said}\n"
        for segment, who, said in _spoken(call, words)
    )


def _srt(call: wire.Call, words: Words) -> str:
    return "\n".join(
        f"{number}\n{_cue(segment, ',')}\n{_named(who, words)}{said}\n"
        for number, (segment, who, said) in enumerate(_spoken(call, words), 1)
    )


def _vtt(call: wire.Call, words: Words) -> str:
    cues = (
        f"\n{_cue(segment, '.')}\n{f'<v {who}>' if who else ''}{_without_tags(said)}\n"
        for segment, who, said in _spoken(call, words)
    )
    return f"WEBVTT\n{''.join(cues)}"


def _markdown(call: wire.Call, words: Words) -> str:
    summary = call.summary
    at = summary.started_at.astimezone().strftime(words.at)
    facts = [
        (words.extension, f"{summary.extension} {summary.agent_name}".strip()),
        (words.party, summary.remote_party or words.unknown_party),
    ]
    head = "".join(f"- {name}{words.colon} {_without_marks(value)}\n" for name, value in facts)
    lines = (
        f"\n**[{_clock(segment.start_s)}]** {_named(who, words)}{_without_marks(said)}\n"
        for segment, who, said in _spoken(call, words)
    )
    return f"# {words.call}, {at}\n\n{head}{''.join(lines)}"


_WRITERS: dict[str, Callable[[wire.Call, Words], str]] = {
    "txt": _text,
    "srt": _srt,
    "vtt": _vtt,
    "md": _markdown,
}


def _words(call: wire.Call) -> Words:
    language = call.transcript.language[:2].lower() if call.transcript else ""
    return LANGUAGES.get(language) or LANGUAGES[i18n.spoken()]


def _spoken(call: wire.Call, words: Words) -> Iterator[Spoken]:
    names = {"agent": words.agent, "caller": words.party, "unknown": ""}
    for segment in call.transcript.segments if call.transcript else ():
        if said := " ".join(segment.text.split()):
            yield segment, names[segment.speaker], said


def _named(who: str, words: Words) -> str:
    return f"{who}{words.colon} " if who else ""


def _cue(segment: wire.Segment, point: str) -> str:
    # A cue that ends when it begins is never shown.
    end_s = max(segment.end_s, segment.start_s + 0.001)
    return f"{_precise(segment.start_s, point)} --> {_precise(end_s, point)}"


def _precise(at_s: float, point: str) -> str:
    seconds, thousandths = divmod(round(at_s * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{thousandths:03}"


def _clock(at_s: float) -> str:
    seconds = int(at_s)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _without_tags(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _without_marks(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()<>#|~!+-])", r"\\\1", text)
