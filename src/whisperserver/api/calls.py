"""Calls: the list, one call, its transcript, its review, its end.

Every authenticated extension may read, correct and decide on every call, because whoever reviews has to; what
is done is audited under the extension that did it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from litestar import Controller, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import BodyKwarg, FromPath, QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import settings, wire
from whisperagent.i18n import _
from whisperagent.wire import CallState
from whisperserver import jobs, transcripts_as
from whisperserver.api import answers
from whisperserver.auth import Caller
from whisperserver.refusals import BadRequest, NotFound
from whisperserver.resumable import Resumable
from whisperserver.services import Services
from whisperserver.store import calls, erasing, reviews, transcripts, workers
from whisperserver.tickets import as_approved, draft_for

Words = Annotated[
    str, QueryParameter(max_length=500, description="Words that all occur in it; the last may be begun.")
]
States = Annotated[
    list[str] | None, QueryParameter(name="state", description="States, repeated or with commas between.")
]
Extension = Annotated[str, QueryParameter(max_length=32, description="Of this extension.")]
Party = Annotated[str, QueryParameter(max_length=200, description="A piece of the other party's number.")]
Since = Annotated[
    datetime | None, QueryParameter(description="Started then or later; UTC if it has no zone.")
]
Until = Annotated[datetime | None, QueryParameter(description="Started before; UTC if it has no zone.")]
Cursor = Annotated[str, QueryParameter(max_length=200, description="`next_cursor` of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="Calls on a page.")]
Form = Annotated[
    Literal["json", "txt", "srt", "vtt", "md"],
    QueryParameter(name="format", description="The kind of file."),
]
Edit = Annotated[wire.TranscriptEdit, BodyKwarg(examples=answers.examples(answers.EDIT))]
Decision = Annotated[wire.ReviewDecision, BodyKwarg(examples=answers.examples(answers.DECISION))]


class CallsController(Controller):
    path = wire.CALLS
    tags = ("calls",)

    @get(
        "/",
        summary="List calls",
        responses={
            200: answers.good(wire.CallPage, wire.CallPage(items=(answers.SUMMARY,)), "A page of calls."),
            **answers.errors(400),
        },
    )
    async def page(
        self,
        services: NamedDependency[Services],
        q: Words = "",
        states: States = None,
        extension: Extension = "",
        remote_party: Party = "",
        since: Since = None,
        until: Until = None,
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> wire.CallPage:
        """Calls, newest first, a page at a time; `q` searches transcripts, accents and case aside."""
        async with services.database.reading() as session:
            return await calls.page(
                session,
                q=q,
                states=_states(states or ()),
                extension=extension,
                remote_party=remote_party,
                since=_utc(since),
                until=_utc(until),
                cursor=cursor,
                limit=limit,
            )

    @get(
        "/{call_id:str}",
        summary="One call",
        responses={
            200: answers.good(wire.Call, answers.CALL, "The call."),
            **answers.errors(404, 410),
        },
    )
    async def call(self, call_id: FromPath[str], services: NamedDependency[Services]) -> wire.Call:
        """Everything about one call; while its ticket is to be decided on, `draft` is what it would say."""
        async with services.database.reading() as session:
            return await _with_draft(session, call_id, services.loaded.settings.tickets)

    @get(
        "/{call_id:str}/transcript",
        summary="The transcript as a file",
        responses={
            200: answers.good(wire.Transcript, answers.TRANSCRIPT, "JSON, or text in the form asked for."),
            **answers.errors(400, 404, 410),
        },
    )
    async def transcript(
        self,
        call_id: FromPath[str],
        services: NamedDependency[Services],
        form: Form = "json",
    ) -> Response[wire.Transcript | str]:
        """The words of a call, as they were last corrected."""
        async with services.database.reading() as session:
            call = await calls.detail(session, call_id)
        if call.transcript is None:
            raise NotFound(_("this call has no transcript yet"))
        if form == "json":
            return Response(call.transcript)
        return Response(
            transcripts_as.written(call, form),
            media_type=transcripts_as.MEDIA_TYPES[form],
            headers={"content-disposition": f'inline; filename="{call_id}.{form}"'},
        )

    @patch(
        "/{call_id:str}/transcript",
        summary="Correct the transcript",
        responses={
            200: answers.good(wire.Transcript, answers.TRANSCRIPT, "The transcript, one version on."),
            **answers.errors(400, 404, 409, 410, 413),
        },
    )
    async def edit(
        self,
        call_id: FromPath[str],
        data: Edit,
        services: NamedDependency[Services],
        caller: NamedDependency[Caller],
    ) -> wire.Transcript:
        """Change the text or the speaker of segments; an empty text removes one. `version` is the one that
        was read: if somebody else was first, nothing is changed and the answer is 409.
        """
        async with services.database.writing() as session:
            return await transcripts.edit(session, call_id, data, caller.extension)

    @post(
        "/{call_id:str}/review",
        status_code=HTTP_200_OK,
        summary="Approve or reject",
        responses={
            200: answers.good(wire.Call, answers.TICKETED, "The call as it is now."),
            **answers.errors(400, 404, 409, 410, 413),
        },
    )
    async def review(
        self,
        call_id: FromPath[str],
        data: Decision,
        services: NamedDependency[Services],
        caller: NamedDependency[Caller],
    ) -> wire.Call:
        """Decide on a call. An approved one becomes one ticket: `ticket`, or the draft as it stands when that
        is null. The same decision sent again changes nothing; a ticket that failed is sent once more by it.
        """
        tickets = services.loaded.settings.tickets
        async with services.database.writing() as session:
            draft = await _approved_draft(session, call_id, data, caller, tickets)
            if await reviews.decide(session, call_id, data, draft, tickets.sink, caller.extension):
                await jobs.enqueue_ticket(session, call_id)
            return await _with_draft(session, call_id, tickets)

    @delete(
        "/{call_id:str}",
        summary="Erase a call",
        responses={204: ResponseSpec(None, description="It is gone."), **answers.errors(404)},
    )
    async def erase(
        self,
        call_id: FromPath[str],
        services: NamedDependency[Services],
        resumable: NamedDependency[Resumable],
        caller: NamedDependency[Caller],
    ) -> None:
        """Destroy the recording's key, then its bytes, then everything said in it, and what is being uploaded
        of it. Its id stays, so that it cannot come back by an upload sent again. Asked for again, it is
        answered again.
        """
        try:
            await erasing.erase(services.database, services.recordings, call_id, caller.extension)
        except NotFound:
            if not await resumable.erase(call_id):
                raise
        else:
            # Nothing of it can begin any more; what a crash here would leave, `resumable.run` finds.
            await resumable.erase(call_id)


class StatusController(Controller):
    path = wire.TRANSCRIPTION_STATUS
    tags = ("calls",)

    @get(
        "/{call_id:str}",
        summary="How far a transcription is",
        responses={
            200: answers.good(wire.TranscriptionStatus, answers.STATUS, "Where the call is."),
            **answers.errors(404, 410),
        },
    )
    async def status(
        self, call_id: FromPath[str], services: NamedDependency[Services]
    ) -> wire.TranscriptionStatus:
        """The call's state, its place in the queue, and how much of it is done. `error` says why nothing
        happens: what failed, or that no worker can transcribe.
        """
        async with services.database.reading() as session:
            call = await calls.get(session, call_id)
            waits = call.state == CallState.RECEIVED
            transcribed = await calls.has_transcript(session, call_id)
            return wire.TranscriptionStatus(
                call_id=call_id,
                state=CallState(call.state),
                position=await jobs.position(session, call_id) if waits else 0,
                progress=1.0 if transcribed and not waits else call.progress,
                error=call.error or (await workers.trouble(session) if waits else ""),
                transcript_url=f"{wire.CALLS}/{call_id}/transcript" if transcribed else "",
            )


async def _with_draft(session: AsyncSession, call_id: str, tickets: settings.Tickets) -> wire.Call:
    """The call; its draft too, while a person can still decide that it becomes a ticket."""
    call = await calls.detail(session, call_id)
    if call.summary.state is not CallState.TRANSCRIBED or tickets.sink == "none":
        return call
    return replace(call, draft=draft_for(call, tickets))


async def _approved_draft(
    session: AsyncSession,
    call_id: str,
    decision: wire.ReviewDecision,
    caller: Caller,
    tickets: settings.Tickets,
) -> wire.TicketDraft:
    """The text of the ticket, which says who has just read the transcript."""
    review = wire.Review(decision=decision.decision, reviewer=caller.extension, at=datetime.now(UTC))
    call = replace(await calls.detail(session, call_id), review=review)
    return draft_for(call, tickets) if decision.ticket is None else as_approved(decision.ticket, call)


def _states(given: Sequence[str]) -> Sequence[str]:
    wanted = [state for text in given for state in text.split(",") if state]
    if unknown := set(wanted) - set(CallState):
        raise BadRequest(
            _("there is no state `{state}`").format(state=min(unknown)),
            why=_("`state` is one or more of {states}").format(states=", ".join(CallState)),
        )
    return wanted


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise BadRequest(
            _("this is no moment that can be counted from: {moment}").format(moment=moment)
        ) from None
