"""A WhisperAgent server in memory: the routes that the screens use, with versions, conflicts and events.

It runs by uvicorn on a free loopback port, in a thread, so that the screens speak real HTTP and a real
websocket. The words it holds are `wire` structs; nothing is checked that the screens do not send.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import uvicorn
from litestar import Litestar, Response, WebSocket, get, patch, post, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from whisperagent import wire

PAGE = 50


class FakeServer:
    """calls: by id; change one with `put`. commands: what clients said on the review channel.

    failing: the status that every list and correction is answered with, while it is not 0.

    Methods that a test calls are safe from its own thread: they only swap whole values and append.
    """

    def __init__(self) -> None:
        self.calls: dict[str, wire.Call] = {}
        self.events: list[wire.Event] = []
        self.commands: list[tuple[str, str, str]] = []
        self.decisions: list[wire.ReviewDecision] = []
        self.asked: list[dict[str, str]] = []
        self.failing = 0
        self.makes_tickets = True
        self.url = ""

    def put(self, call: wire.Call, kind: str = "call.state", **data: Any) -> None:
        """Store `call` and tell the review channel."""
        self.calls[call.summary.call_id] = call
        self.tell(kind, call.summary.call_id, **{"state": str(call.summary.state), **data})

    def tell(self, kind: str, call_id: str, **data: Any) -> None:
        event = wire.Event(
            seq=len(self.events) + 1, kind=kind, call_id=call_id, at=datetime.now(UTC), data=data
        )
        self.events.append(event)

    def change(self, call_id: str, **changes: Any) -> None:
        """Change fields of a call's summary."""
        call = self.calls[call_id]
        summary = msgspec.structs.replace(call.summary, **changes)
        self.put(msgspec.structs.replace(call, summary=summary))

    def say(self, call_id: str, segment_id: int, text: str) -> None:
        """Somebody else corrects a segment."""
        self.put(
            _edited(self.calls[call_id], [wire.SegmentEdit(id=segment_id, text=text)]), "transcript.edited"
        )

    def make_ticket(self, call_id: str, number: str = "4711") -> None:
        """The ticket system has answered."""
        call = self.calls[call_id]
        assert call.ticket is not None
        ticket = msgspec.structs.replace(call.ticket, state=wire.TicketState.CREATED, id=number)
        summary = msgspec.structs.replace(call.summary, state=wire.CallState.TICKETED, ticket_id=number)
        self.put(msgspec.structs.replace(call, ticket=ticket, summary=summary))

    def app(self) -> Litestar:
        return Litestar(
            [self._calls(), self._call(), self._edit(), self._review(), self._channel()],
            openapi_config=None,
            logging_config=None,
        )

    # Routes

    def _calls(self) -> Any:
        @get(wire.CALLS)
        async def calls(
            q: FromQuery[str] = "",
            # Litestar keeps the name `state` for itself.
            view: Annotated[str, QueryParameter(name="state")] = "",
            cursor: FromQuery[str] = "",
            limit: FromQuery[int] = PAGE,
        ) -> Response[bytes]:
            self.asked.append({"q": q, "state": view, "cursor": cursor})
            if self.failing:
                return _problem(self.failing)
            wanted = [part for part in view.split(",") if part]
            found = [
                call.summary for call in sorted(self.calls.values(), key=_age, reverse=True) if _has(call, q)
            ]
            found = [summary for summary in found if not wanted or summary.state in wanted]
            begin = int(cursor or 0)
            more = str(begin + limit) if begin + limit < len(found) else ""
            return _json(wire.CallPage(items=tuple(found[begin : begin + limit]), next_cursor=more))

        return calls

    def _call(self) -> Any:
        @get(wire.CALLS + "/{call_id:str}")
        async def call(call_id: FromPath[str]) -> Response[bytes]:
            return _json(self.calls[call_id]) if call_id in self.calls else _problem(404)

        return call

    def _edit(self) -> Any:
        @patch(wire.CALLS + "/{call_id:str}/transcript")
        async def edit(call_id: FromPath[str], data: JSONBody[wire.TranscriptEdit]) -> Response[bytes]:
            if self.failing:
                return _problem(self.failing)
            call = self.calls[call_id]
            assert call.transcript is not None
            if data.version != call.transcript.version:
                return _problem(409)
            changed = _edited(call, data.segments)
            self.put(changed, "transcript.edited")
            return _json(changed.transcript)

        return edit

    def _review(self) -> Any:
        @post(wire.CALLS + "/{call_id:str}/review")
        async def review(call_id: FromPath[str], data: JSONBody[wire.ReviewDecision]) -> Response[bytes]:
            call = self.calls[call_id]
            assert call.transcript is not None
            if data.version != call.transcript.version or call.summary.state != "transcribed":
                return _problem(409)
            self.decisions.append(data)
            answer = _decided(call, data)
            self.put(answer)
            if self.makes_tickets and answer.ticket is not None:
                asyncio.get_running_loop().call_later(0.1, self.make_ticket, call_id)
            return _json(answer)

        return review

    def _channel(self) -> Any:
        @websocket(wire.REVIEW_CHANNEL)
        async def channel(socket: WebSocket[Any, Any, Any], last_seq: FromQuery[int] = 0) -> None:
            await socket.accept()
            extension = socket.headers.get(wire.EXTENSION_HEADER, "")
            listening = asyncio.create_task(self._listen(socket, extension))
            try:
                while not listening.done():
                    for event in self.events[last_seq:]:
                        await socket.send_data(msgspec.json.encode(event).decode())
                        last_seq = event.seq
                    await asyncio.sleep(0.02)
            finally:
                listening.cancel()

        return channel

    async def _listen(self, socket: "WebSocket[Any, Any, Any]", extension: str) -> None:
        try:
            while True:
                command = msgspec.json.decode(await socket.receive_data(mode="text"), type=wire.Command)
                self.commands.append((command.action, command.call_id, extension))
                self.change(command.call_id, claimed_by=extension if command.action == "claim" else "")
        except WebSocketDisconnect:
            return


@contextmanager
def running(server: FakeServer, port: int = 0) -> Iterator[FakeServer]:
    """`server` on loopback; its `url` is known inside."""
    config = uvicorn.Config(
        server.app(), host="127.0.0.1", port=port, log_level="error", lifespan="off", ws="websockets-sansio"
    )
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    while not runner.started:
        thread.join(0.01)
        assert thread.is_alive(), "the fake server did not start"
    server.url = f"http://127.0.0.1:{runner.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        runner.should_exit = True
        runner.force_exit = True
        thread.join(10)


def _json(value: object) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json", status_code=200)


def _problem(status: int) -> Response[bytes]:
    titles = {404: "there is no such call", 409: "someone else was first", 503: "the server is too busy"}
    problem = wire.Problem(type="about:blank", title=titles[status], status=status)
    return Response(msgspec.json.encode(problem), media_type="application/problem+json", status_code=status)


def _age(call: wire.Call) -> datetime:
    return call.summary.started_at


def _has(call: wire.Call, q: str) -> bool:
    text = " ".join(segment.text for segment in call.transcript.segments) if call.transcript else ""
    return q.lower() in f"{text} {call.summary.remote_party}".lower()


def _edited(call: wire.Call, edits: Any) -> wire.Call:
    assert call.transcript is not None
    changes = {edit.id: edit for edit in edits}
    segments = []
    for segment in call.transcript.segments:
        edit = changes.get(segment.id, wire.SegmentEdit(id=segment.id))
        if edit.text != "":
            segments.append(
                msgspec.structs.replace(
                    segment,
                    text=segment.text if edit.text is None else edit.text,
                    speaker=segment.speaker if edit.speaker is None else edit.speaker,
                )
            )
    transcript = msgspec.structs.replace(
        call.transcript, version=call.transcript.version + 1, segments=tuple(segments)
    )
    return msgspec.structs.replace(call, transcript=transcript)


def _decided(call: wire.Call, decision: wire.ReviewDecision) -> wire.Call:
    state = wire.CallState.APPROVED if decision.decision == "approved" else wire.CallState.REJECTED
    draft = decision.ticket or call.draft
    ticket = None
    if decision.decision == "approved" and draft is not None:
        ticket = wire.Ticket(sink="ninjaone", state=wire.TicketState.SENDING, draft=draft)
    summary = msgspec.structs.replace(call.summary, state=state)
    return msgspec.structs.replace(call, summary=summary, ticket=ticket)
