"""The review channel: from the outbox to every socket, nothing missed and nothing twice.

One tailer reads the events table and the progress of running transcriptions, a few times a second, and hands
each message to every subscription. A socket subscribes first, then replays what the table has after
`last_seq`, then goes on with what was handed to it meanwhile, without what it replayed. A socket that cannot
keep up is closed, and comes back with its `last_seq`.

Every authenticated extension is told of every call: whoever may review may read all calls. Events carry ids,
states and numbers, never words.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from whisperagent import wire
from whisperserver.store import events
from whisperserver.store.database import Database
from whisperserver.store.models import CallRow

POLL_S = 0.25
PAGE = 500
BACKLOG = 1000
"""Messages a socket may lag behind."""

log = logging.getLogger(__name__)


class Lagging(Exception):
    """A socket that does not read what it is sent."""


class Subscription:
    """What one socket has not been sent yet."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[wire.Event] = asyncio.Queue(BACKLOG)
        self._lagging = False

    def put(self, event: wire.Event) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._lagging = True

    async def next(self) -> wire.Event:
        """raises Lagging: messages were lost; only a replay brings them back."""
        if self._lagging:
            raise Lagging
        return await self._queue.get()


class Live:
    """The subscriptions of this process, and the tailer that feeds them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscriptions: set[Subscription] = set()
        self._progress: dict[str, float] = {}
        self._seq = 0

    @property
    def clients(self) -> int:
        return len(self._subscriptions)

    async def begin(self) -> None:
        """Before the first socket: what comes from here on is fed, what came before is replayed."""
        async with self._database.reading() as session:
            self._seq = await events.newest(session)

    async def run(self) -> None:
        """Feed the subscriptions until cancelled."""
        while True:
            try:
                await self._look()
            except SQLAlchemyError as problem:
                log.error("cannot read the events: %s", getattr(problem, "orig", problem))
            await asyncio.sleep(POLL_S)

    async def messages(self, subscription: Subscription, last_seq: int) -> AsyncIterator[str]:
        """Everything after `last_seq`, for ever. raises Lagging."""
        async for event in self._replay(last_seq):
            last_seq = event.seq
            yield _text(event)
        while True:
            event = await subscription.next()
            if event.seq == 0 or event.seq > last_seq:
                last_seq = max(last_seq, event.seq)
                yield _text(event)

    @contextmanager
    def subscription(self) -> Iterator[Subscription]:
        """A subscription that begins now; what it misses before, `messages` replays."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def _replay(self, last_seq: int) -> AsyncIterator[wire.Event]:
        while True:
            async with self._database.reading() as session:
                page = await events.since(session, last_seq, PAGE)
            for event in page:
                last_seq = event.seq
                yield event
            if len(page) < PAGE:
                return

    async def _look(self) -> None:
        async with self._database.reading() as session:
            news = await events.since(session, self._seq, PAGE)
            running = select(CallRow.call_id, CallRow.progress).where(
                CallRow.state == wire.CallState.TRANSCRIBING
            )
            progress = dict((await session.execute(running)).tuples().all())
        for event in news:
            self._seq = event.seq
            self._publish(event)
        for call_id, share in progress.items():
            if share != self._progress.get(call_id, 0.0):
                # Not stored, so without a place in the order: nobody needs yesterday's progress.
                data = {"progress": share}
                self._publish(
                    wire.Event(seq=0, kind="call.progress", call_id=call_id, at=datetime.now(UTC), data=data)
                )
        self._progress = progress

    def _publish(self, event: wire.Event) -> None:
        for subscription in self._subscriptions:
            subscription.put(event)


def _text(event: wire.Event) -> str:
    return msgspec.json.encode(event).decode()
