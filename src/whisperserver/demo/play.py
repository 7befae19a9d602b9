"""One call down the whole line, and what became of it.

Looks only where anybody could: at what the agent prints, at the server's API, at the ticket system's page.
"""

import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from whisperagent import wire
from whisperagent.errors import UsageError, WhisperError
from whisperagent.i18n import _
from whisperserver.demo import CALLS
from whisperserver.demo.line import EXTENSION, POLL_S, Line
from whisperserver.transcribe import score

STAGES = (
    "detected",
    "recording",
    "sealed",
    "queued",
    "uploaded",
    "received",
    "transcribing",
    "transcribed",
    "approved",
    "ticketed",
)
DEAD_ENDS = ("dropped", "short", "unrecorded", "refused", "rejected", "failed", "quarantined")
PATIENCE_S = 180.0
"""Beyond the time that the call itself takes."""
SLOWEST_SPEECH = 5.0
"""Times the length of a call that its transcription may take here."""


T = TypeVar("T")


@dataclass(frozen=True)
class Recording:
    """A call to play. truth: empty when nobody wrote down what is said in it."""

    wav: Path
    duration_s: float
    truth: tuple[score.Turn, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `wa demo --json` prints. timings_s: from the start of the agent. wer: None without a truth."""

    call_id: str
    states: list[str]
    transcript: list[wire.Segment]
    expected: list[score.Turn]
    wer: float | None
    speaker_accuracy: float | None
    ticket: dict[str, Any]
    timings_s: dict[str, float]


def recording(name: str) -> Recording:
    """A call of ours by its name, or any WAV file. raises UsageError: there is none."""
    shipped = CALLS / f"{name}.wav"
    wav = shipped if shipped.exists() else Path(name)
    if not wav.is_file():
        raise UsageError(
            _("there is no call {name}").format(name=name),
            why=_("it is neither a file nor one of: {names}").format(names=", ".join(names())),
            fix=_("`wa demo --call {name}`").format(name=names()[0]),
        )
    try:
        with wave.open(str(wav), "rb") as sound:
            duration_s = sound.getnframes() / sound.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError) as problem:
        raise UsageError(
            _("{path} is not a WAV file").format(path=wav),
            why=str(problem),
            fix=_("give a call of 16 kHz and 16 bits, the technician left, the caller right"),
        ) from None
    return Recording(wav, duration_s, _truth(wav.with_suffix(".json")))


def names() -> list[str]:
    """The calls that come with the demonstration."""
    return sorted(path.stem for path in CALLS.glob("*.wav"))


class Play:
    """One call on a line whose server runs. tell: called with each stage and its seconds.

    progress: called with 0..1 of the transcription.
    """

    def __init__(
        self,
        line: Line,
        call: Recording,
        speed: float,
        tell: Callable[[str, float], None] = lambda _stage, _at_s: None,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self.call_id = ""
        self.timings_s: dict[str, float] = {}
        self._line = line
        self._call = call
        self._speed = speed
        self._tell = tell
        self._progress = progress
        self._api = httpx.Client(base_url=line.url, headers={wire.EXTENSION_HEADER: EXTENSION}, timeout=30)
        self._began = 0.0
        self._read = 0

    def start(self) -> None:
        """The telephone rings; started again after a crash of the agent, the same call goes on."""
        self._began = self._began or time.monotonic()
        self._line.play(self._call.wav, self._speed)

    def until(self, stage: str) -> None:
        """Wait for one of STAGES. raises WhisperError: it does not come to that."""
        length_s = self._call.duration_s
        limit_s = PATIENCE_S + length_s / self._speed + length_s * SLOWEST_SPEECH
        self._line.wait(lambda: self._has_come_to(stage), self._line.agent, limit_s)

    def approve(self) -> None:
        """What a person does who finds nothing to correct."""
        call = self.server_says()
        assert call.transcript is not None  # noqa: S101 - it was transcribed
        decision = wire.ReviewDecision(version=call.transcript.version, decision="approved")
        answer = self._api.post(f"{wire.CALLS}/{self.call_id}/review", content=msgspec.json.encode(decision))
        _good(answer)

    def until_ticketed(self) -> Outcome:
        """From the approval to the ticket. raises WhisperError: there is none, or more than one."""
        self.until("ticketed")
        call = self.server_says()
        segments = list(call.transcript.segments) if call.transcript else []
        ours = [ticket for ticket in self._line.tickets() if f"rec-{self.call_id}" in ticket["tags"]]
        if len(ours) != 1:
            raise WhisperError(
                _("the call became {count} tickets instead of one").format(count=len(ours)),
                fix=_("the logs are in {folder}").format(folder=self._line.folder),
            )
        truth = self._call.truth
        return Outcome(
            call_id=self.call_id,
            # By the line, not the clock: the server may tell of a call before the PC has read its receipt.
            states=[stage for stage in STAGES if stage in self.timings_s],
            transcript=segments,
            expected=list(truth),
            wer=score.word_error_rate(truth, segments) if truth else None,
            speaker_accuracy=score.speaker_accuracy(truth, segments) if truth else None,
            ticket=ours[0],
            timings_s=self.timings_s,
        )

    def server_says(self) -> wire.Call:
        return self.ask(f"{wire.CALLS}/{self.call_id}", wire.Call)

    def ask(self, path: str, answer: type[T]) -> T:
        """GET from the server's API. raises WhisperError: it refuses."""
        return msgspec.json.decode(_good(self._api.get(path)).content, type=answer)

    def _has_come_to(self, stage: str) -> bool:
        moments = self._line.moments()
        for moment in moments[self._read :]:
            event = moment["event"]
            if event in DEAD_ENDS:
                raise WhisperError(
                    _("the call came to a dead end: {event}").format(event=event),
                    why=self._why(moment),
                    fix=_("the logs are in {folder}").format(folder=self._line.folder),
                )
            if event in STAGES and event not in self.timings_s:
                self.call_id = moment["call_id"]
                self.timings_s[event] = round(time.monotonic() - self._began, 2)
                self._tell(event, self.timings_s[event])
        self._read = len(moments)
        if "transcribing" in self.timings_s and "transcribed" not in self.timings_s:
            self._look_at_progress()
        return stage in self.timings_s

    def _look_at_progress(self) -> None:
        try:
            status = self.ask(f"{wire.TRANSCRIPTION_STATUS}/{self.call_id}", wire.TranscriptionStatus)
        except httpx.TransportError:
            return  # a server that is just being started again
        self._progress(status.progress)
        time.sleep(POLL_S)

    def _why(self, moment: dict[str, Any]) -> str:
        """What the server says of a call it gave up, else what the agent says."""
        if moment["event"] in ("failed", "quarantined"):
            return self.server_says().summary.error
        return str(moment["details"].get("reason", "")) or self._line.agent.last_words()


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        problem = msgspec.json.decode(answer.content, type=wire.Problem)
        raise WhisperError(problem.title, why=problem.detail, fix=problem.fix)
    return answer


def _truth(path: Path) -> tuple[score.Turn, ...]:
    if not path.is_file():
        return ()
    try:
        return score.truth(path)
    except (ValueError, LookupError, TypeError) as problem:
        raise UsageError(
            _("{path} does not say who says what in this call").format(path=path),
            why=f"{type(problem).__name__}: {problem}",
            fix=_("write it as the files beside our own calls, or remove it"),
        ) from None
