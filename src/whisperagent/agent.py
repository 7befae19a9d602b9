"""The agent: one process on the technician's PC that sees calls, records them and sends them.

One lock, one TaskGroup: the watch (watch.py) records, the uploader (upload.py) sends, the listener follows
the server's review channel, the housekeeper (house.py) tidies the spool, the reporter keeps `agent.json`
true; others take orders (control.py), have private calls erased, and tell the person on the desktop. They
share the spool. What fails is shown, logged and started again; recording never waits for a server.
"""

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import filelock
import msgspec

from whisperagent import __version__, control, detect, files, status, wire
from whisperagent.client import Client, ReviewChannel
from whisperagent.control import Answer, Order, Orders
from whisperagent.drafting import Drafter
from whisperagent.drafts import OwnDrafts
from whisperagent.erasing import Eraser
from whisperagent.errors import (
    AlreadyRunning,
    ConfigError,
    NotAuthenticated,
    ServerRefused,
    ServerUnreachable,
    UsageError,
    WhisperError,
)
from whisperagent.hosts import Host
from whisperagent.house import Housekeeper
from whisperagent.i18n import _, ngettext
from whisperagent.keys import Keys
from whisperagent.notices import Notices, notice_of, notice_of_deletion
from whisperagent.privacy import masked
from whisperagent.settings import Loaded, token
from whisperagent.spool import Item, Spool
from whisperagent.upload import Uploader, in_words
from whisperagent.watch import CallWatch

STATUS_S = 1.0
REFUSED_S = 60.0
"""Between two tries of a review channel that the server refuses."""
RESTART_S = (1.0, 2.0, 5.0, 10.0, 30.0)
FORGIVEN_S = 60.0
"""A task that has run this long since it broke is well."""
TROUBLE_S = 2.0
"""A device or a sound server that is back within this was not worth a word."""
LOG_BYTES, LOG_FILES = 1 << 20, 5
LOG_NAME = "agent.log"
NOTES_SHOWN = 3
"""Of what recovery found: the log has all of it."""

log = logging.getLogger(__name__)


class Moment(msgspec.Struct, frozen=True):
    """A change worth a line.

    event: what watch.py tells, then `uploaded` or `refused`, `late`, `overdue`, `expired` (deleted unsent),
    `drafted` or `undrafted`, and the server's own states; of no call, `unsent` when nothing can be sent any
    more (`stuck`: and waiting does not help), and `sendable`; `trouble` with what gives signals and sound
    here, and `mended`; `cramped` when the disk is too full, and `roomy`.
    """

    at: datetime
    event: str
    call_id: str
    details: dict[str, Any] = {}


class _Place(msgspec.Struct, frozen=True):
    """`review.json`: how far we have read the review channel of this server."""

    server_url: str
    last_seq: int


class Agent:
    """The daemon of this PC.

    once: stop when a call is over and everything is sent. report: called with every change. notify: shows a
    title and a text on the desktop, and gives whether it could; it may block.
    raises ConfigError: no extension, a pattern that is none, a key that is none. OSError: it has no home.
    """

    def __init__(
        self,
        loaded: Loaded,
        host: Host,
        *,
        once: bool = False,
        report: Callable[[Moment], None] | None = None,
        notify: Callable[[str, str], bool] | None = None,
    ) -> None:
        settings = loaded.settings
        if not settings.agent.extension:
            raise ConfigError(
                _("this PC has no extension yet"),
                why=_("every call belongs to an extension"),
                fix=_("`wa config set agent.extension 201`, with your own number"),
            )
        detect.check(settings.detection, settings.accounts)
        self.settings = settings
        self.spool = Spool(loaded.paths.spool)
        self._paths = loaded.paths
        self._lock = filelock.FileLock(loaded.paths.lock)
        self._host = host
        self._once = once
        self._report = report
        self._keys = Keys(
            loaded.paths.home,
            settings.server.key,
            own=settings.recording.local_key or settings.offline.enabled,
        )
        self._client = Client(
            settings.server.url,
            settings.agent.extension,
            token=token(),
            timeout_s=settings.server.timeout_s,
        )
        self._uploader = Uploader(self.spool, self._client, self._keys, settings.upload, self._sent)
        self._eraser = Eraser(loaded.paths.home / "erase.json", self.spool, self._client)
        self._watch = CallWatch(host, self.spool, self._keys, settings, self._tell, self._eraser.destroy)
        self._drafter = self._new_drafter() if settings.offline.enabled else None
        self._notices = Notices(notify) if notify is not None and settings.agent.notify else None
        self._house = Housekeeper(
            loaded.paths.home / "house.json",
            self.spool,
            settings.recording,
            settings.upload,
            self._tell,
            self._warn_of_deletion,
        )
        self._channel: ReviewChannel | None = None
        self._channel_problem: WhisperError | None = None
        self._errors: dict[str, tuple[float, str]] = {}
        self._refused: list[Item] = []
        self._started_at = datetime.now(UTC)
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._connected = False
        self._told_problem = ""
        self._away_since: float | None = None
        self._told_trouble = ""
        self._told_room = ""
        self._trouble = (0.0, "")
        self._saved_seq = 0

    async def run(self) -> None:
        """Until `stop`; a call that is up then is closed and queued within a second.

        raises as `claimed`. With `once`: why a recording was not taken.
        """
        with self.claimed(), _log_to(self._paths.logs):
            log.info("agent %s starts, extension %s", __version__, self.settings.agent.extension)
            try:
                async with self._client, asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._supervised(name, work)) for name, work in self._works()]
                    await self._stopping.wait()
                    for task in tasks:
                        task.cancel()
            finally:
                self._host.close()
                self._write_status(stopped=True)
                log.info("agent stops")
        if self._once:
            self._raise_what_failed()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """This home is ours alone; may be entered again, so that `run` is certain to start.

        raises AlreadyRunning: another agent has this home. OSError: it cannot be written.
        """
        try:
            # The system frees this lock when the process dies, however it dies.
            self._lock.acquire(timeout=0.2)
        except filelock.Timeout:
            raise AlreadyRunning(
                _("an agent runs on this PC already"),
                why=_("process {pid} holds {lock}").format(pid=self._other_pid(), lock=self._paths.lock),
                fix=_("`wa agent status` tells how it is, `wa` shows it"),
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Ask `run` to end; call it in the event loop's own thread."""
        self._stopping.set()

    def status(self) -> wire.AgentStatus:
        """What `agent.json` says, as of now."""
        problem = self._uploader.problem or self._channel_problem
        return wire.AgentStatus(
            pid=os.getpid(),
            version=__version__,
            state=str(self._watch.state.phase),
            started_at=self._started_at,
            updated_at=datetime.now(UTC),
            extension=self.settings.agent.extension,
            host=self._host.name,
            server_url=self.settings.server.url,
            server_connected=self._connected,
            server_seen_at=self._uploader.server_seen_at,
            server_error=in_words(problem) if problem else "",
            call=self._watch.current(),
            queue=self.spool.counts(),
            calls_today=_today(self.spool.call_ids()),
            paused_until=self._watch.pause.until_utc if self._watch.pause else None,
            private=self._watch.private,
            error="; ".join(self._troubles()),
        )

    # The tasks

    def _works(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What runs side by side, by its name."""
        works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            (_("recording"), self._watch.run),
            (_("housekeeping"), self._house.run),
            (_("status"), self._report_status),
            (_("orders"), self._take_orders),
            (_("erasing"), self._eraser.run),
        ]
        if self.settings.server.url:
            works += [(_("sending"), self._uploader.run), (_("review channel"), self._listen)]
        if self._drafter is not None:
            works.append((_("drafting"), self._drafter.run))
        if self._notices is not None:
            works.append((_("notices"), self._notices.run))
        return works

    async def _supervised(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` again whenever it breaks; the others never notice."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await work()
            except Exception as problem:
                log.exception("%s broke off", name)
                self._errors[name] = (
                    time.monotonic(),
                    _("{what}: {why}").format(what=name, why=in_words(problem)),
                )
            failures = 0 if time.monotonic() - began > FORGIVEN_S else failures + 1
            await asyncio.sleep(RESTART_S[min(failures, len(RESTART_S) - 1)])

    async def _listen(self) -> None:
        """Follow the review channel, from where we left it."""
        self._saved_seq = self._read_place()
        while True:
            self._channel = self._client.channel(self._saved_seq)
            try:
                async with contextlib.aclosing(self._channel.events()) as events:
                    async for event in events:
                        self._heard(event)
            except (NotAuthenticated, ServerRefused) as problem:
                self._channel_problem = problem
                self._uploader.server_seen()  # a refusal is an answer
            await asyncio.sleep(REFUSED_S)

    def _heard(self, event: wire.Event) -> None:
        state = "received" if event.kind == "call.received" else event.data.get("state")
        if event.kind in ("call.received", "call.state") and event.call_id in self.spool.call_ids():
            self._tell(str(state), event.call_id)

    async def _warn_of_deletion(self, items: Sequence[Item]) -> bool:
        """Say that these are to be deleted unsent; False: nobody can have seen it."""
        for item in items:
            log.warning("call %s, part %s, was never sent and is to be deleted", item.call_id, item.part)
        return self._notices is not None and await self._notices.show(notice_of_deletion(len(items)))

    async def _take_orders(self) -> None:
        orders = Orders(self._paths.control)
        while True:
            for name, order in orders.take():
                try:
                    answer = self._obey(order)
                except (OSError, WhisperError) as problem:
                    log.warning("%s: %s", order.action, problem)
                    answer = control.refusal(problem)
                self._write_status()
                orders.answer(name, answer)
            await asyncio.sleep(control.LOOK_S)

    def _obey(self, order: Order) -> Answer:
        match order.action:
            case "pause":
                return Answer(paused_until=self._watch.begin_pause(order.seconds).until_utc)
            case "resume":
                self._watch.end_pause()
                return Answer()
            case "private":
                call_id, sent = self._watch.make_private()
                return Answer(call_id=call_id, sent=sent)
            case "note":
                return Answer(call_id=self._watch.note(order.text[: control.NOTE_LIMIT]))

    async def _report_status(self) -> None:
        while True:
            self._notice_connection()
            self._notice_problem()
            self._notice_host()
            self._notice_room()
            self._write_status()
            if self._once and self._is_over():
                self.stop()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_S):
                    await self._changed.wait()

    def _notice_connection(self) -> None:
        channel = self._channel
        connected = channel is not None and channel.connected
        if connected and not self._connected:
            log.info("connected to %s", self.settings.server.url)
            self._channel_problem = None
            self._uploader.server_seen()
        self._connected = connected
        if channel is not None and channel.last_seq != self._saved_seq:
            self._saved_seq = channel.last_seq
            place = _Place(self.settings.server.url, channel.last_seq)
            files.write(self._place_path, msgspec.json.encode(place))

    def _notice_problem(self) -> None:
        problem = self._uploader.problem
        words = in_words(problem) if problem else ""
        if not words:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = time.monotonic()
        if words != self._told_problem:
            self._told_problem = words
            event = "stuck" if self._needs_a_person() else "unsent" if words else "sendable"
            self._tell(event, "", **({"reason": words} if words else {}))

    def _notice_host(self) -> None:
        """What is wrong with the sound of this PC is told before a call suffers from it."""
        problem = self._host.problem
        words, now = problem.in_words() if problem is not None else "", time.monotonic()
        if words != self._trouble[1]:
            self._trouble = (now, words)
        lasts = now - self._trouble[0] >= TROUBLE_S
        if words != self._told_trouble and (lasts or not words):
            self._told_trouble = words
            self._tell("trouble" if words else "mended", "", **({"reason": words} if words else {}))

    def _new_drafter(self) -> Drafter:
        return Drafter(
            OwnDrafts(self._paths.home),
            self.spool,
            self._keys,
            self.settings.offline,
            away_s=self._away_s,
            idle=lambda: self._watch.idle,
            tell=self._tell,
        )

    def _away_s(self) -> float:
        """For how long nothing could be sent; where there is no server, for ever."""
        if not self.settings.server.url:
            return math.inf
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    def _notice_room(self) -> None:
        problem = self._house.problem
        what = problem.what if problem is not None else ""
        if what != self._told_room:
            self._told_room = what
            if problem is not None:
                self._tell("cramped", "", reason=problem.in_words())
            else:
                self._tell("roomy", "")

    def _is_over(self) -> bool:
        """With `once`: the call has ended and all is sent, or what waits needs a person."""
        if not self._watch.idle or not (self._watch.ended or self._host.finished):
            return False
        if not self.settings.server.url:
            return True
        return not self.spool.waiting() or self._needs_a_person()

    def _needs_a_person(self) -> bool:
        """Is something in the way of sending that waiting does not help?"""
        problem = self._uploader.problem
        return problem is not None and not isinstance(problem, ServerUnreachable)

    def _raise_what_failed(self) -> None:
        if self._uploader.problem is not None and self.spool.waiting() and self._needs_a_person():
            raise self._uploader.problem
        if self._refused:
            item = self.spool.find(self._refused[0].call_id)[0]
            raise WhisperError(
                _("the server did not take call {call_id}").format(call_id=item.call_id),
                why=item.error,
                fix=_("`wa queue show {call_id}`").format(call_id=item.call_id),
            )

    # What they report

    def _tell(self, event: str, call_id: str, **details: Any) -> None:
        shown = {
            key: masked(str(value)) if key == "remote_party" else value for key, value in details.items()
        }
        log.info(" ".join(filter(None, [event, call_id, *(f"{key}={it}" for key, it in shown.items())])))
        self._changed.set()
        if self._notices is not None:
            self._notices.add(notice_of(event, lambda: self._party(call_id), details))
        if self._report is not None:
            self._report(Moment(datetime.now(UTC), event, call_id, details))

    def _party(self, call_id: str) -> str:
        """Whom a call is with, as far as it is known here."""
        current = self._watch.current()
        if current is not None and current.call_id == call_id:
            return current.remote_party
        with contextlib.suppress(UsageError):
            return self.spool.find(call_id)[0].remote_party
        return ""

    def _troubles(self) -> list[str]:
        """What a person should know: this PC's sound, tasks that broke, a call that was not recorded, what
        recovery found."""
        recent = time.monotonic() - FORGIVEN_S
        broken = [words for at, words in self._errors.values() if at > recent]
        watch, house = self._watch, self._house
        drafting = self._drafter.problem if self._drafter is not None else None
        problems = (self._host.problem, watch.problem, house.problem, watch.hook_problem, drafting)
        here = [problem.in_words() for problem in problems if problem is not None]
        notes = self._watch.notes[:NOTES_SHOWN]
        if more := len(self._watch.notes) - len(notes):
            notes.append(
                ngettext(
                    "{count} more such thing in {log}", "{count} more such things in {log}", more
                ).format(count=more, log=self._paths.logs / LOG_NAME)
            )
        # A call is often not recorded for what is wrong here anyway.
        return list(dict.fromkeys([*broken, *here, *notes]))

    def _sent(self, event: str, item: Item) -> None:
        if event == "refused":
            self._refused.append(item)
        else:
            self._eraser.sent(item.call_id)
        self._tell(event, item.call_id, part=item.part)

    def _write_status(self, *, stopped: bool = False) -> None:
        now = self.status()
        if stopped:
            now = msgspec.structs.replace(now, state="stopped", server_connected=False, call=None)
        files.write(self._paths.status, msgspec.json.encode(now), durable=False)

    # Files of its own

    @property
    def _place_path(self) -> Path:
        return self._paths.home / "review.json"

    def _read_place(self) -> int:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            place = msgspec.json.decode(self._place_path.read_bytes(), type=_Place)
            if place.server_url == self.settings.server.url:
                return place.last_seq
        return 0

    def _other_pid(self) -> int | str:
        with contextlib.suppress(WhisperError):
            if other := status.read(self._paths.status):
                return other.pid
        return "?"


def _today(call_ids: set[str]) -> int:
    """How many of these calls began today: a UUIDv7 begins with its time, in milliseconds."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    first = f"{round(midnight.timestamp() * 1000):012x}"
    return sum(call_id[:8] + call_id[9:13] >= first for call_id in call_ids)


@contextlib.contextmanager
def _log_to(folder: Path) -> Iterator[None]:
    """Our own log in `folder`, a few files of a megabyte."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        folder / LOG_NAME, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("whisperagent")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()
