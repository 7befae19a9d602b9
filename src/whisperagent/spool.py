"""The spool: sealed recordings waiting for the server, one file and its description each.

record.py writes, upload.py reads, recovery.py mends what a crash left, house.py keeps it tidy. The folder a
recording is in is its state: `recording`, `queued`, `overdue`, `rejected`, `done`. `<call_id>.<part>.srec` is
the recording, the `.json` beside it says what it is, and `.json.1` what was said before, for the day a power
cut damages the newest. A move writes the description into the new folder, renames the recording there, then
takes the old description after it: whenever that stops, the recording is in exactly one folder.

Nothing that the server has not acknowledged is ever deleted here, except a recording that was no call, and
what a person, or the rule that a person set, had deleted: of that a description stays in `dropped`.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from whisperagent import files
from whisperagent.ballast import Ballast
from whisperagent.errors import UsageError, WhisperError
from whisperagent.i18n import _
from whisperagent.wire import CallMetadata, SpoolState, UploadAnswer

VERSION = 1
RECORDING, DESCRIPTION, PREVIOUS = ".srec", ".json", ".json.1"
WAITING = (SpoolState.QUEUED, SpoolState.OVERDUE)
TOMBSTONES = (SpoolState.DONE, SpoolState.DROPPED)
"""States in which a description may stay when its recording is deleted."""
NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[1-9][0-9]{0,3})(\.srec|\.json(?:\.1)?)")
"""1: `<call_id>.<part>`. 2: which of its files."""
CLOCK_TICK_NS = 100_000_000
"""How coarse the clock of a file system may be."""


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """at: UTC. by: a person's name on this PC, or `agent`. why: in words."""

    at: datetime
    by: str
    why: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The description of one recording.

    confirmed: False while it is not sure that this is a call. attempts, error: of sending it.
    next_attempt_at, queued_at, acknowledged_at: UTC. receipt: what the server answered. deleted: how the
    recording went.
    """

    metadata: CallMetadata
    confirmed: bool = True
    attempts: int = 0
    error: str = ""
    next_attempt_at: datetime | None = None
    queued_at: datetime | None = None
    acknowledged_at: datetime | None = None
    receipt: UploadAnswer | None = None
    deleted: Deletion | None = None


class _Sealed(msgspec.Struct, frozen=True):
    """A description on the disk; sha256: of `entry`'s own bytes, so that a torn or altered one is noticed."""

    version: int
    sha256: str
    entry: msgspec.Raw


@dataclass(frozen=True)
class Item:
    """One part of one call, where it stands. size: bytes on the disk, 0 when the recording is deleted.

    path: of the recording.
    """

    state: SpoolState
    entry: Entry
    path: Path
    size: int

    @property
    def call_id(self) -> str:
        return self.entry.metadata.call_id

    @property
    def part(self) -> int:
        return self.entry.metadata.part

    @property
    def started_at(self) -> datetime:
        return self.entry.metadata.started_at

    @property
    def duration_s(self) -> float:
        return self.entry.metadata.duration_s

    @property
    def remote_party(self) -> str:
        return self.entry.metadata.remote_party

    @property
    def attempts(self) -> int:
        return self.entry.attempts

    @property
    def error(self) -> str:
        return self.entry.error

    @property
    def next_attempt_at(self) -> datetime | None:
        return self.entry.next_attempt_at


class Spool:
    """The folders under `root`, made when they are missing.

    Another process may look and retry while the agent works: every change is one whole file or one rename.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ballast = Ballast(root)
        for state in SpoolState:
            (root / state).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._counted: dict[SpoolState, tuple[int, list[str]]] = {}
        self._destroyed: set[str] = set()

    # Recording

    def create(self, metadata: CallMetadata) -> files.Appending:
        """The file of a recording that begins now. raises OSError: it cannot be made."""
        path = self.path(SpoolState.RECORDING, metadata.call_id, metadata.part)
        return files.Appending(path, self.ballast.throw)

    def describe(self, state: SpoolState, entry: Entry) -> None:
        """Say what the recording of that name in `state` is. raises OSError: as the system says."""
        body = msgspec.json.encode(entry)
        document = _Sealed(VERSION, hashlib.sha256(body).hexdigest(), msgspec.Raw(body))
        where = self.path(state, entry.metadata.call_id, entry.metadata.part).with_suffix(DESCRIPTION)
        try:
            _write(where, msgspec.json.encode(document))
        except OSError as problem:
            if problem.errno not in files.FULL or not self.ballast.throw():
                raise
            _write(where, msgspec.json.encode(document))

    def queue(self, entry: Entry) -> Item:
        """A recording has ended: from now on it waits for the server."""
        return self._move(SpoolState.QUEUED, msgspec.structs.replace(entry, queued_at=datetime.now(UTC)))

    def drop(self, call_id: str, part: int) -> None:
        """Delete a recording that was no call; one that has left `recording` is out of reach here."""
        path = self.path(SpoolState.RECORDING, call_id, part)
        for suffix in (RECORDING, DESCRIPTION, PREVIOUS):
            files.remove(path.with_suffix(suffix))
        files.sync_folder(path.parent)

    def destroy(self, call_id: str) -> bool:
        """Delete every part of a call, and what is known of it; True when the server may have some of it.

        On Windows a part that somebody has open at this moment stays: see `holds`.
        """
        self._destroyed.add(call_id)
        sent = self.left_recording(call_id)
        for state in SpoolState:
            for path in self._of(call_id, state):
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)
            files.sync_folder(self.root / state)
        return sent

    def holds(self, call_id: str) -> bool:
        """Is any file of this call here?"""
        return any(self._of(call_id, state) for state in SpoolState)

    def left_recording(self, call_id: str) -> bool:
        """Has a part of this call been queued, so that the server may have it?"""
        return any(self._of(call_id, state) for state in SpoolState if state is not SpoolState.RECORDING)

    def _of(self, call_id: str, state: SpoolState) -> list[Path]:
        return list((self.root / state).glob(f"{call_id}.*"))

    # Sending

    def waiting(self) -> list[Item]:
        """What the server does not have yet, oldest first."""
        return self.items(WAITING)

    def failed(self, item: Item, problem: str, next_attempt_at: datetime) -> None:
        """It could not be sent now; it stays where it is."""
        entry = msgspec.structs.replace(
            item.entry, attempts=item.attempts + 1, error=problem, next_attempt_at=next_attempt_at
        )
        self._move(item.state, entry)

    def reject(self, item: Item, problem: str) -> None:
        """The server will never take it as it is; a person may look, and send it again with `retry`."""
        entry = msgspec.structs.replace(
            item.entry, attempts=item.attempts + 1, error=problem, next_attempt_at=None
        )
        self._move(SpoolState.REJECTED, entry)

    def done(self, item: Item, receipt: UploadAnswer) -> None:
        """The server has stored and synced these very bytes."""
        metadata = msgspec.structs.replace(item.entry.metadata, sha256=receipt.sha256, size=receipt.size)
        entry = msgspec.structs.replace(
            item.entry,
            metadata=metadata,
            attempts=item.attempts + 1,
            error="",
            next_attempt_at=None,
            acknowledged_at=datetime.now(UTC),
            receipt=receipt,
        )
        self._move(SpoolState.DONE, entry)

    def retry(self, items: Iterable[Item]) -> int:
        """Send these again now, the rejected and overdue ones as well; gives how many there were."""
        count = 0
        for item in items:
            if item.state in (*WAITING, SpoolState.REJECTED):
                self._move(SpoolState.QUEUED, msgspec.structs.replace(item.entry, next_attempt_at=None))
                count += 1
        return count

    def overdue(self, item: Item) -> Item:
        """It has waited for all its days; it is kept, and tried again."""
        return self._move(SpoolState.OVERDUE, item.entry)

    # Deleting

    def bury(self, item: Item, by: str, why: str = "") -> Item:
        """Delete a recording, and leave word of it, without the other party's name.

        Of one that the server has the receipt stays in `done`, of any other the description in `dropped`.
        raises UsageError: it is being recorded, or not there any more. OSError: somebody has it open.
        """
        if item.state is SpoolState.RECORDING:
            raise UsageError(
                _("call {call_id} is being recorded").format(call_id=item.call_id),
                fix=_("wait until it is over, or say that it is private: `wa agent private`"),
            )
        if item.size and not item.path.exists():
            raise UsageError(
                _("call {call_id} has just moved on").format(call_id=item.call_id),
                fix=_("`wa queue list` shows where it is"),
            )
        metadata = msgspec.structs.replace(item.entry.metadata, remote_party="", marks=(), size=item.size)
        entry = msgspec.structs.replace(
            item.entry,
            metadata=metadata,
            next_attempt_at=None,
            deleted=Deletion(at=datetime.now(UTC), by=by, why=why),
        )
        state = SpoolState.DONE if item.state is SpoolState.DONE else SpoolState.DROPPED
        # Word of it first: whenever this stops, there is a recording, or what says how it went.
        self.describe(state, entry)
        try:
            files.remove(item.path)
        except OSError:
            if state is SpoolState.DONE:
                self.describe(state, item.entry)
            else:
                _forget(self.path(state, item.call_id, item.part))
            raise
        grave = self.path(state, item.call_id, item.part)
        if grave != item.path:
            _forget(item.path)
        # What was said before knows whom the call was with.
        files.remove(grave.with_suffix(PREVIOUS))
        files.sync_folder(item.path.parent)
        return Item(state, entry, grave, 0)

    def forget(self, item: Item) -> None:
        """Delete the word that was left of a recording which is deleted."""
        if not item.size:
            _forget(item.path)

    # Looking

    def items(self, states: Iterable[SpoolState] = tuple(SpoolState)) -> list[Item]:
        """Every recording in `states`, oldest first; those whose description cannot be read are left out."""
        found = [item for state in states for item in self._in(state)]
        return sorted(found, key=lambda item: (item.call_id, item.part))

    def find(self, call_id: str) -> list[Item]:
        """The parts of the call whose id begins like this.

        raises UsageError: there is none, or more than one such call.
        """
        found = [item for item in self.items() if item.call_id.startswith(call_id.lower())]
        calls = {item.call_id for item in found}
        if not call_id or not found:
            raise UsageError(
                _("no call {call_id} in the queue").format(call_id=call_id),
                fix=_("`wa queue list` shows all"),
            )
        if len(calls) > 1:
            raise UsageError(
                _("{call_id} is the beginning of {count} calls").format(call_id=call_id, count=len(calls)),
                fix=_("give more of it"),
            )
        return found

    def counts(self) -> dict[str, int]:
        """How many parts are in each state."""
        return {str(state): len(self._names(state)) for state in SpoolState}

    def size(self) -> int:
        """Bytes of all recordings."""
        recordings = (path for state in SpoolState for path in (self.root / state).glob(f"*{RECORDING}"))
        return sum(_size(path) or 0 for path in recordings)

    def call_ids(self) -> set[str]:
        """Every call that is known here."""
        return {name.partition(".")[0] for state in SpoolState for name in self._names(state)}

    def changed(self) -> tuple[int, ...]:
        """A value that differs when something that waits was added, moved or described anew."""
        return tuple((self.root / state).stat().st_mtime_ns for state in WAITING)

    def path(self, state: SpoolState, call_id: str, part: int) -> Path:
        return self.root / state / f"{call_id}.{part}{RECORDING}"

    def entry(self, description: Path) -> Entry | None:
        """What a description says, or where that is damaged the one before it; None: neither is whole."""
        return read(description) or read(description.with_suffix(PREVIOUS))

    def _in(self, state: SpoolState) -> Iterator[Item]:
        for name in self._names(state):
            description = self.root / state / (name + DESCRIPTION)
            if entry := self.entry(description):
                path = description.with_suffix(RECORDING)
                size = _size(path)
                if size is not None or state in TOMBSTONES:  # it may have been moved just now
                    yield Item(state, entry, path, size or 0)

    def _names(self, state: SpoolState) -> list[str]:
        """`<call_id>.<part>` of each recording; read again only when the folder has changed."""
        folder = self.root / state
        stamp = folder.stat().st_mtime_ns
        if state not in self._counted or self._counted[state][0] != stamp:
            ours = [match for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
            names = {match[1] for match in ours if match[2] != RECORDING}
            if state not in TOMBSTONES:
                # A description without its recording is half a move.
                names &= {match[1] for match in ours if match[2] == RECORDING}
            # A folder that has just changed may change again within the same tick of its clock.
            settled = time.time_ns() - stamp > CLOCK_TICK_NS
            self._counted[state] = (stamp if settled else 0, sorted(names))
        return self._counted[state][1]

    def _move(self, target: SpoolState, entry: Entry) -> Item:
        """Describe the recording in `target`, and bring it there from wherever it is.

        raises WhisperError: it is in no folder, and not done.
        """
        call_id, part = entry.metadata.call_id, entry.metadata.part
        there = self.path(target, call_id, part)
        if call_id in self._destroyed:
            return Item(target, entry, there, 0)  # it was being sent meanwhile
        buried = self.path(SpoolState.DROPPED, call_id, part)
        places = [self.path(state, call_id, part) for state in SpoolState]
        here = next((place for place in places if place.exists()), None)
        if here is None and target is not SpoolState.DONE and read(buried.with_suffix(DESCRIPTION)):
            return Item(SpoolState.DROPPED, entry, buried, 0)  # a person dropped it while it was being sent
        if here is None and target is not SpoolState.DONE:
            raise WhisperError(
                _("the recording of call {call_id} has disappeared").format(call_id=call_id),
                why=_("somebody or something deleted it from {folder}").format(folder=self.root),
            )
        self.describe(target, entry)
        if here is None:
            _forget(buried)  # the server has it after all
            return Item(target, entry, there, 0)
        if here != there:
            files.replace(here, there)
            _follow(here, there)
        return Item(target, entry, there, there.stat().st_size)


def read(description: Path) -> Entry | None:
    """What this very file says; None when it is not there or not whole."""
    try:
        document = msgspec.json.decode(description.read_bytes(), type=_Sealed)
        body = bytes(document.entry)
        if document.version != VERSION or document.sha256 != hashlib.sha256(body).hexdigest():
            return None
        entry = msgspec.json.decode(body, type=Entry)
    except (OSError, msgspec.MsgspecError):
        return None
    name = f"{entry.metadata.call_id}.{entry.metadata.part}{DESCRIPTION}"
    return entry if description.name in (name, name + ".1") else None


def _write(description: Path, content: bytes) -> None:
    """Put a new description in its place, and keep the one that was there if it is whole."""
    if read(description):
        files.replace(description, description.with_suffix(PREVIOUS), durable=False)
    files.write(description, content)


def _follow(left: Path, arrived: Path) -> None:
    """The description of a recording that has moved on is what was said of it before."""
    files.remove(left.with_suffix(PREVIOUS))
    if read(left.with_suffix(DESCRIPTION)) and not read(arrived.with_suffix(PREVIOUS)):
        files.replace(left.with_suffix(DESCRIPTION), arrived.with_suffix(PREVIOUS), durable=False)
    else:
        files.remove(left.with_suffix(DESCRIPTION))


def _forget(recording: Path) -> None:
    """Delete what is said of a recording."""
    for suffix in (DESCRIPTION, PREVIOUS):
        files.remove(recording.with_suffix(suffix))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
