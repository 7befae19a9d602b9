"""What a crash or a power cut left in the spool, brought back into order.

Runs before recording begins. Half a move is finished or undone, an orphan gets its description from its own
length and name, temporary files go. What is not ours is reported and left alone. A recording that was cut
off is given back to watch.py, because only it can see whether its call still goes on.
"""

import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from whisperagent import files, sealed
from whisperagent.errors import SealedError
from whisperagent.i18n import _
from whisperagent.record import FRAME_BYTES
from whisperagent.spool import (
    DESCRIPTION,
    NAME,
    PREVIOUS,
    RECORDING,
    TOMBSTONES,
    Entry,
    Item,
    Spool,
    read,
)
from whisperagent.wire import SAMPLE_RATE, CallMetadata, SpoolState

DAMAGED = ".damaged"
STALE_S = 60.0
"""A temporary file this old has no writer any more; a younger one may be another process's."""


@dataclass
class Recovered:
    """interrupted: the last part of each call that was being recorded, undecided. notes: for a person."""

    interrupted: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recover(spool: Spool, ours: CallMetadata) -> Recovered:
    """Bring the spool into order; whatever lies in it, this ends without an error of its own.

    ours: what to assume (extension, name, layout) of a recording whose description is lost.
    raises OSError: the disk itself fails.
    """
    found = Recovered()
    names = _survey(spool, found)
    for name, places in sorted(names.items()):
        _mend(spool, name, places, ours, found)
    _sort_out_interrupted(spool, found)
    return found


def _survey(spool: Spool, found: Recovered) -> dict[str, set[Path]]:
    """Our files by `<call_id>.<part>`; stale temporary files are deleted, anything else is noted."""
    names: dict[str, set[Path]] = defaultdict(set)
    for state in SpoolState:
        for path in sorted((spool.root / state).iterdir()):
            if (match := NAME.fullmatch(path.name)) and path.is_file():
                names[match[1]].add(path)
            elif path.name.endswith(files.TEMPORARY) and path.is_file():
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink(missing_ok=True)
            elif not path.name.endswith(DAMAGED):
                found.notes.append(_("{path} is not ours; it stays where it is").format(path=path))
    return names


def _mend(spool: Spool, name: str, places: set[Path], ours: CallMetadata, found: Recovered) -> None:
    recordings = [path for path in places if path.suffix == RECORDING]
    descriptions = [path for path in places if path.suffix != RECORDING]
    if len(recordings) > 1:
        found.notes.append(
            _("{name} lies in several folders: {folders}").format(
                name=name, folders=", ".join(sorted(path.parent.name for path in recordings))
            )
        )
    elif recordings:
        _mend_recording(spool, recordings[0], descriptions, ours, found)
    else:
        _mend_missing(spool, descriptions, found)


def _mend_recording(
    spool: Spool, recording: Path, descriptions: list[Path], ours: CallMetadata, found: Recovered
) -> None:
    """A recording where it belongs: see to it that exactly one description lies beside it."""
    own, previous = recording.with_suffix(DESCRIPTION), recording.with_suffix(PREVIOUS)
    others = [path for path in descriptions if path not in (own, previous)]
    state, entry = SpoolState(recording.parent.name), read(own)
    if entry is None:
        if own.exists():
            files.replace(own, own.with_name(own.name + DAMAGED))
            found.notes.append(_("the description {path} was damaged and is made anew").format(path=own))
        known = (read(path) for path in (previous, *sorted(others)))
        entry = next(filter(None, known), None) or _from_file(recording, ours)
        spool.describe(state, entry)
    for path in others:
        path.unlink(missing_ok=True)
    if state is SpoolState.DONE and entry.receipt is None:
        # Who has lost what the server said asks again; the server stores nothing twice.
        spool.queue(entry)


def _mend_missing(spool: Spool, descriptions: list[Path], found: Recovered) -> None:
    """Descriptions of a recording that is nowhere."""
    newest = [path for path in descriptions if path.suffix == DESCRIPTION]
    told = [path for path in newest if path.parent.name in TOMBSTONES and spool.entry(path)]
    # What the server has said weighs more than that somebody wanted it deleted.
    grave = max(told, key=lambda path: path.parent.name == SpoolState.DONE, default=None)
    for path in descriptions:
        state = path.parent.name
        if grave is not None and path.parent != grave.parent:
            path.unlink(missing_ok=True)
        elif state == SpoolState.RECORDING:
            path.unlink(missing_ok=True)  # the second half of deleting what was no call
        elif path not in newest:
            continue
        elif state not in TOMBSTONES:
            found.notes.append(_("the recording that {path} describes has disappeared").format(path=path))
        elif spool.entry(path) is None:
            found.notes.append(_("{path} is damaged; it stays where it is").format(path=path))


def _from_file(recording: Path, ours: CallMetadata) -> Entry:
    """What a recording's name and age tell, when its description is lost."""
    call_id, part, _suffix = recording.name.split(".")
    identity = uuid.UUID(call_id)
    made = (identity.int >> 80) / 1000 if identity.version == 7 else recording.stat().st_mtime
    return Entry(
        metadata=msgspec.structs.replace(
            ours,
            call_id=call_id,
            part=int(part),
            started_at=datetime.fromtimestamp(made, UTC),
            complete=False,
        )
    )


def _sort_out_interrupted(spool: Spool, found: Recovered) -> None:
    """Queue what was cut off, except the last part of each call: that one may not be its end."""
    calls: dict[str, list[Item]] = defaultdict(list)
    for item in spool.items([SpoolState.RECORDING]):
        try:
            measured = _measured(item)
        except sealed.Truncated:
            spool.drop(item.call_id, item.part)
            found.notes.append(
                _("call {call_id} was cut off before its first sound").format(call_id=item.call_id)
            )
        except SealedError as problem:
            spool.reject(item, problem.what)
            found.notes.append(f"{item.path.name}: {problem.what}")
        else:
            calls[item.call_id].append(measured)
    for parts in calls.values():
        while len(parts) > 1 and parts[-1].duration_s == 0:
            spool.drop(parts[-1].call_id, parts.pop().part)
        for item in parts[:-1]:
            conclude(spool, item, last=False)
        found.interrupted.append(parts[-1])


def _measured(item: Item) -> Item:
    """With the length that its file has. raises Truncated: it has none. SealedError: it is no recording."""
    if item.size == 0:
        raise sealed.Truncated(_("the recording is cut short"), why=_("it is empty"))
    with item.path.open("rb") as source:
        size = sealed.estimated_size(source)
    metadata = item.entry.metadata
    duration_s = round(size / FRAME_BYTES[metadata.layout] / SAMPLE_RATE, 3)
    if size and metadata.codec != "pcm":
        # What is encoded is at least as long as this, and as was noted last; the server measures it.
        duration_s = max(duration_s, metadata.duration_s)
    metadata = msgspec.structs.replace(metadata, duration_s=duration_s, complete=False)
    entry = msgspec.structs.replace(item.entry, metadata=metadata)
    return Item(item.state, entry, item.path, item.size)


def conclude(spool: Spool, item: Item, *, last: bool) -> Item | None:
    """Queue a recording that was cut off; None: it was never sure that it was a call, and it is deleted."""
    if item.part == 1 and last and (not item.entry.confirmed or item.duration_s == 0):
        spool.drop(item.call_id, item.part)
        return None
    metadata = msgspec.structs.replace(item.entry.metadata, last=last)
    return spool.queue(msgspec.structs.replace(item.entry, metadata=metadata, confirmed=True))
