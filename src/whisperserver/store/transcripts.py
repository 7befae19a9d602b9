"""Transcripts: what a transcription job reads and writes, and what people correct.

Each function is one step of a job that may be killed between any two: it looks at the state it finds, so a
step that is repeated, or comes too late, changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import wire
from whisperagent.i18n import _
from whisperagent.wire import CallState
from whisperserver import jobs
from whisperserver.refusals import Conflict, NotFound
from whisperserver.store import calls, events, search
from whisperserver.store.models import CallRow, PartRow, TranscriptRow

ATTEMPTS_MAX = 3
"""How often a call may bring its worker down, or make it fail, before it is laid aside."""

GIVEN_UP = (CallState.FAILED, CallState.QUARANTINED)

ADMINISTRATOR = "(administrator)"
"""Who acts by `wa server`, in the audit; no extension is written so."""

SNIPPET = 160
"""Characters of the first words, for the list of calls."""


@dataclass(frozen=True)
class Written:
    """What a transcription gave. job_s: seconds it took, sound decoded and all."""

    language: str
    model: str
    duration_s: float
    segments: tuple[wire.Segment, ...]
    job_s: float


async def begin(session: AsyncSession, call_id: str) -> Sequence[PartRow]:
    """Count one more attempt, and give the parts to transcribe; none when there is nothing to do."""
    call = await calls.find(session, call_id)
    if call is None or call.state not in (CallState.RECEIVED, CallState.TRANSCRIBING):
        return ()
    if not call.whole:  # a part has come that announces others; they are waited for as `received`
        calls.move(session, call, CallState.RECEIVED)
        return ()
    if call.attempts >= ATTEMPTS_MAX:
        reason = _("{count} attempts to transcribe this call ended with the death of the worker").format(
            count=call.attempts
        )
        calls.move(session, call, CallState.QUARANTINED, reason)
        return ()
    call.attempts += 1
    calls.move(session, call, CallState.TRANSCRIBING)
    return await calls.parts(session, call_id)


async def retry(session: AsyncSession, call_ids: Sequence[str]) -> Sequence[str]:
    """Have calls transcribed that were given up; all of them when none is named. Gives their ids.

    raises NotFound, Gone; Conflict: one was not given up.
    """
    if not call_ids:
        given_up = select(CallRow.call_id).where(CallRow.state.in_(GIVEN_UP))
        call_ids = (await session.scalars(given_up)).all()
    for call_id in call_ids:
        await _begin_anew(session, call_id)
    return call_ids


async def _begin_anew(session: AsyncSession, call_id: str) -> None:
    call = await calls.get(session, call_id)
    if call.state not in GIVEN_UP:
        raise Conflict(
            _("the call {call_id} was not given up").format(call_id=call_id),
            why=_("it is {state}").format(state=call.state),
        )
    call.attempts = 0
    calls.move(session, call, CallState.RECEIVED)
    events.audit(session, ADMINISTRATOR, "retried", call_id)
    await jobs.enqueue_transcription(session, call_id)


async def progress(session: AsyncSession, call_id: str, share: float) -> None:
    call = await calls.find(session, call_id)
    if call is not None and call.state == CallState.TRANSCRIBING:
        call.progress = share


async def give_back(session: AsyncSession, call_id: str, error: str = "", *, counted: bool = False) -> None:
    """Let somebody else begin again. counted: this attempt was the call's own fault and stays counted."""
    call = await calls.find(session, call_id)
    if call is None or call.state != CallState.TRANSCRIBING:
        return
    if not counted:
        call.attempts = max(0, call.attempts - 1)
    if call.attempts >= ATTEMPTS_MAX:
        calls.move(session, call, CallState.FAILED, error)
    else:
        calls.move(session, call, CallState.RECEIVED, error)


async def lay_aside(session: AsyncSession, call_id: str, error: str) -> None:
    """The sound itself is the trouble: no further attempt."""
    call = await calls.find(session, call_id)
    if call is not None and call.state == CallState.TRANSCRIBING:
        calls.move(session, call, CallState.QUARANTINED, error)


async def save(session: AsyncSession, call_id: str, written: Written, parts: int) -> None:
    """Keep a transcript. parts: how many were transcribed; when more have come, the call goes back."""
    call = await calls.find(session, call_id)
    if call is None or call.state != CallState.TRANSCRIBING:
        return
    call.attempts = 0
    if len(await calls.parts(session, call_id)) != parts:
        calls.move(session, call, CallState.RECEIVED)
        return
    row = await session.get(TranscriptRow, call_id)
    if row is None:
        row = TranscriptRow(call_id=call_id, version=0)
        session.add(row)
    row.version += 1
    row.language, row.model, row.duration_s = written.language, written.model, written.duration_s
    row.segments = row.original = written.segments
    row.job_s, row.written_at = written.job_s, datetime.now(UTC)
    call.language = written.language
    await _follow(session, call, written.segments)
    calls.move(session, call, CallState.TRANSCRIBED)


async def edit(session: AsyncSession, call_id: str, edit: wire.TranscriptEdit, who: str) -> wire.Transcript:
    """Correct segments. raises NotFound, Gone; Conflict: another version, or no longer open to correction."""
    call = await calls.get(session, call_id)
    row = await version(session, call_id, edit.version)
    if call.state != CallState.TRANSCRIBED:
        raise Conflict(
            _("this call can no longer be corrected"), why=_("it is {state}").format(state=call.state)
        )
    changes = {change.id: change for change in edit.segments}
    if unknown := changes.keys() - {segment.id for segment in row.segments}:
        raise NotFound(_("there is no segment {number} in this transcript").format(number=min(unknown)))
    row.segments = tuple(
        _corrected(segment, changes[segment.id]) if segment.id in changes else segment
        for segment in row.segments
        if segment.id not in changes or changes[segment.id].text != ""
    )
    row.version += 1
    await _follow(session, call, row.segments)
    events.tell(session, "transcript.edited", call_id, version=row.version)
    events.audit(session, who, "edited", call_id)
    return calls.shown(row)


async def version(session: AsyncSession, call_id: str, expected: int) -> TranscriptRow:
    """The transcript, if it is the version that was read. raises NotFound, Conflict."""
    row = await session.get(TranscriptRow, call_id)
    if row is None:
        raise NotFound(_("this call has no transcript yet"))
    if row.version != expected:
        raise Conflict(
            _("someone else changed this transcript"),
            why=_("it is at version {now}, you read {then}").format(now=row.version, then=expected),
            fix=_("load the call again"),
        )
    return row


def _corrected(segment: wire.Segment, change: wire.SegmentEdit) -> wire.Segment:
    text = segment.text if change.text is None else change.text
    # The times of single words belong to the words the model heard, not to a person's.
    words = segment.words if text == segment.text else ()
    return replace(segment, text=text, words=words, speaker=change.speaker or segment.speaker)


async def _follow(session: AsyncSession, call: CallRow, segments: Sequence[wire.Segment]) -> None:
    """Bring the list and the search up to the words."""
    call.snippet = " ".join(segment.text.strip() for segment in segments)[:SNIPPET]
    await search.index(session, call.number, call.remote_party, segments)
