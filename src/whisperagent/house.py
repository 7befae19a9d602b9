"""The housekeeper: what waits for too long is told, what the server has goes in the end, the disk keeps room.

agent.py runs it beside the recording. Nothing here is done for what the PC's clock says: the house counts
the time it has lived (`house.json`), by a clock that nobody sets. Only how long the agent was away does the
PC's clock tell, and more than a day of that counts for nothing, be it a holiday or a clock that was set
wrong. So a recording is kept for too long at times, and not for too short.

What the server has not acknowledged stays, told of after three sevenths of its days, after five and at their
end, when it is overdue. With `on_expiry = "delete_with_notice"` it goes a day after somebody was told.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from whisperagent import files
from whisperagent.ballast import MIB, free_mib
from whisperagent.errors import NoRoom, WhisperError
from whisperagent.i18n import _
from whisperagent.settings import Recording, Upload
from whisperagent.spool import Item, Spool
from whisperagent.wire import SpoolState

LOOK_S = 300.0
DAY_S = 86_400.0
TOLD_AFTER = (3 / 7, 5 / 7)
"""Of the days that a recording may wait: the third and the fifth of seven."""
GRACE_S = DAY_S
"""Between the notice that a recording is to be deleted and its deletion."""
TOMBSTONE_S = 90 * DAY_S
"""How long it is known that a recording was here, after it was deleted."""
OURSELVES = "agent"

log = logging.getLogger(__name__)


class Known(msgspec.Struct, kw_only=True):
    """since: the age of the house when it was first seen in its state. told: how often it was told of.

    warned: the age at which somebody was told that it is to be deleted.
    """

    since: float
    told: int = 0
    warned: float | None = None


class Book(msgspec.Struct, kw_only=True):
    """`house.json`. age_s: how long the house has lived. known: by `state/call_id.part`."""

    age_s: float = 0.0
    looked_at: datetime | None = None
    known: dict[str, Known] = {}


class Housekeeper:
    """path: `house.json`.

    tell: called as `tell("late", call_id, part=…, days=…)`: late, overdue, expired. warn: shows a person that
    these are to be deleted, and gives whether it was shown.
    """

    def __init__(
        self,
        path: Path,
        spool: Spool,
        recording: Recording,
        upload: Upload,
        tell: Callable[..., None],
        warn: Callable[[Sequence[Item]], Awaitable[bool]],
    ) -> None:
        self._path = path
        self._spool = spool
        self._recording = recording
        self._upload = upload
        self._tell = tell
        self._warn = warn
        self._looked_at: float | None = None
        self._problem: WhisperError | None = None
        self._book = _read(path)

    @property
    def problem(self) -> WhisperError | None:
        """What is wrong with the room on the disk."""
        if self._spool.ballast.thrown:
            return NoRoom(
                _("the disk is full"),
                why=_("what was kept in reserve is used to bring the call to its end"),
                fix=_("free some space, before the next call"),
            )
        return self._problem

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look(datetime.now(UTC), _clock())
            await asyncio.sleep(LOOK_S)

    async def look(self, now: datetime, clock: float) -> None:
        """Once around the house. now: what the PC's clock says. clock: seconds that nobody can set."""
        self._grow_older(now, clock)
        items = self._spool.items()
        self._meet(items)
        for item in items:
            self._judge(item)
        if self._upload.on_expiry == "delete_with_notice":
            await self._expire(self._spool.items([SpoolState.OVERDUE]))
        self._make_room([item for item in items if item.state is SpoolState.DONE and item.entry.receipt])
        await asyncio.to_thread(self._lay_ballast)
        self._keep()

    # Time

    def _grow_older(self, now: datetime, clock: float) -> None:
        book = self._book
        if self._looked_at is not None:
            passed_s = clock - self._looked_at
        else:
            passed_s = (now - book.looked_at).total_seconds() if book.looked_at else 0.0
            if not 0 <= passed_s <= DAY_S:
                log.warning("the agent was away for %.1f days, or the clock was set", passed_s / DAY_S)
                passed_s = 0.0
        book.age_s += passed_s
        book.looked_at, self._looked_at = now, clock

    def _meet(self, items: Sequence[Item]) -> None:
        known = self._book.known
        self._book.known = {_key(it): known.get(_key(it)) or Known(since=self._book.age_s) for it in items}

    def _known(self, item: Item) -> Known:
        # What another process has just brought here is a newcomer.
        return self._book.known.setdefault(_key(item), Known(since=self._book.age_s))

    def _age_s(self, item: Item) -> float:
        """How long it has been in its state."""
        return self._book.age_s - self._known(item).since

    # What becomes of a recording

    def _judge(self, item: Item) -> None:
        age_s, keep_s = self._age_s(item), self._upload.keep_days * DAY_S
        match item.state:
            case SpoolState.QUEUED if age_s >= keep_s:
                self._spool.overdue(item)
                del self._book.known[_key(item)]  # who sends it again gives it all its days again
                self._tell("overdue", item.call_id, part=item.part)
            case SpoolState.QUEUED:
                self._tell_of(item, age_s, keep_s)
            case SpoolState.DONE if item.size and age_s >= keep_s and item.entry.receipt:
                self._bury(item, _("the server has it"))
            case SpoolState.DONE | SpoolState.DROPPED if not item.size and age_s >= TOMBSTONE_S:
                self._spool.forget(item)

    def _tell_of(self, item: Item, age_s: float, keep_s: float) -> None:
        known = self._known(item)
        due = sum(age_s >= keep_s * share for share in TOLD_AFTER)
        if due > known.told:
            known.told = due
            self._tell("late", item.call_id, part=item.part, days=int(age_s / DAY_S))

    async def _expire(self, overdue: Sequence[Item]) -> None:
        """Delete what somebody was told of a day ago, and tell of the others."""
        unknown = [item for item in overdue if self._known(item).warned is None]
        if unknown and await self._warn(unknown):
            for item in unknown:
                self._known(item).warned = self._book.age_s
        for item in overdue:
            warned = self._known(item).warned
            if warned is None or self._book.age_s - warned < GRACE_S:
                continue
            if self._bury(item, _("not sent within its days; somebody was told a day before")):
                self._tell("expired", item.call_id, part=item.part)

    def _bury(self, item: Item, why: str) -> bool:
        try:
            self._spool.bury(item, OURSELVES, why)
        except (OSError, WhisperError) as problem:
            log.info("%s is not deleted yet: %s", item.path, problem)
            return False
        log.info("%s is deleted: %s", item.path, why)
        return True

    # Room

    def _make_room(self, sent: Sequence[Item]) -> None:
        """What the server has goes sooner when there is little room; what it has not got stays."""
        used, quota = self._spool.size(), self._recording.quota_mib * MIB
        for item in sent:
            if not (quota and used > quota) and self._free_mib() >= self._recording.free_mib:
                break
            if item.path.exists() and self._bury(item, _("the server has it, and there is little room")):
                used -= item.size
        self._problem = self._too_little_room(used, quota)

    def _too_little_room(self, used: int, quota: int) -> WhisperError | None:
        free, floor = self._free_mib(), self._recording.free_mib
        if free < floor:
            return NoRoom(
                _("the next call will not be recorded: the disk is too full"),
                why=_("{free} MiB are free, {floor} are wanted").format(free=free, floor=floor),
                fix=_("free some space, or lower `free_mib` under [recording]"),
            )
        if quota and used > quota:
            return NoRoom(
                _("recordings that wait for the server take more room than they may"),
                why=_("{used} MiB of {quota}").format(used=used // MIB, quota=quota // MIB),
                fix=_("`wa queue list` shows why they wait; nothing is deleted"),
            )
        return None

    def _free_mib(self) -> int:
        return free_mib(self._spool.root)

    def _lay_ballast(self) -> None:
        rules = self._recording
        try:
            if not self._spool.ballast.lay(rules.ballast_mib, rules.free_mib):
                log.warning("there is no room for a reserve of %s MiB", rules.ballast_mib)
        except OSError as problem:
            log.warning("there is no reserve on the disk: %s", problem)

    def _keep(self) -> None:
        try:
            files.write(self._path, msgspec.json.encode(self._book), durable=False)
        except OSError as problem:
            # Without it the house is younger tomorrow than it is, and everything is kept for longer.
            log.warning("cannot keep %s: %s", self._path, problem)


def _clock() -> float:
    """Seconds that nobody sets; on Linux those that the PC has slept are among them, as Windows' are."""
    since_boot = getattr(time, "CLOCK_BOOTTIME", None)
    if since_boot is not None and hasattr(time, "clock_gettime"):
        return float(time.clock_gettime(since_boot))
    return time.monotonic()


def _key(item: Item) -> str:
    return f"{item.state}/{item.call_id}.{item.part}"


def _read(path: Path) -> Book:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Book)
    except FileNotFoundError:
        return Book()
    except (OSError, msgspec.MsgspecError) as problem:
        log.warning("cannot read %s, a new one is begun: %s", path, problem)
        return Book()
