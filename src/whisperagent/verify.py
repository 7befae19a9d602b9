"""Is everything in the spool what it says it is? `wa queue verify` looks and touches nothing.

Without a key: every description, the header of each recording, and that its length is one that whole
segments have. With a key that opens a recording: every segment of it.
"""

import contextlib
import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from whisperagent import files, sealed
from whisperagent.envelope import Header
from whisperagent.errors import SealedError
from whisperagent.i18n import _
from whisperagent.recovery import DAMAGED
from whisperagent.spool import DESCRIPTION, NAME, PREVIOUS, RECORDING, TOMBSTONES, Entry, Spool, read
from whisperagent.wire import SpoolState

BLOCK = 16
"""What is sealed is a multiple of this (AES)."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong. name: `<call_id>.<part>`, or empty for what is not ours."""

    name: str
    path: Path
    what: str


@dataclass
class Report:
    """recordings: how many were looked at. opened: how many of them to the last segment, with a key."""

    recordings: int = 0
    opened: int = 0
    faults: list[Fault] = field(default_factory=list)


def verify(spool: Spool, key: sealed.PrivateKey | None, calls: tuple[str, ...] = ()) -> Report:
    """Look at the whole spool, or at the calls whose ids begin like these.

    raises OSError: a folder cannot be read.
    """
    report = Report()
    places: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(path for state in SpoolState for path in (spool.root / state).iterdir()):
        if (match := NAME.fullmatch(path.name)) and path.is_file():
            if not calls or match[1].startswith(calls):
                places[match[1]].append(path)
        elif not calls and not path.name.endswith((files.TEMPORARY, DAMAGED)):
            report.faults.append(Fault("", path, _("this is not ours")))
    for name, paths in sorted(places.items()):
        report.faults += [Fault(name, path, what) for path, what in _of(name, paths, key, report)]
    return report


def _of(
    name: str, paths: list[Path], key: sealed.PrivateKey | None, report: Report
) -> Iterator[tuple[Path, str]]:
    """What is wrong with one recording and what is said of it, in whatever folders."""
    recordings = [path for path in paths if path.suffix == RECORDING]
    if len(recordings) > 1:
        folders = ", ".join(path.parent.name for path in recordings)
        yield recordings[0], _("it lies in several folders: {folders}").format(folders=folders)
    for folder in sorted({path.parent for path in paths}):
        recording = folder / (name + RECORDING)
        if recording not in recordings:
            yield from _without_recording(recording, recordings)
            continue
        found = [*_description(recording), *_recording(recording, key, report)]
        # Where the agent works meanwhile, what has moved on is another folder's matter.
        yield from ((recording, what) for what in found if recording.exists())


def _without_recording(gone: Path, recordings: list[Path]) -> Iterator[tuple[Path, str]]:
    description = gone.with_suffix(DESCRIPTION)
    entry = read(description) or read(gone.with_suffix(PREVIOUS))
    if gone.parent.name in TOMBSTONES:
        if entry is None:
            yield description, _("its description is damaged")
    elif not recordings and gone.parent.name != SpoolState.RECORDING and description.exists():
        yield description, _("its recording has disappeared")


def _description(recording: Path) -> Iterator[str]:
    description = recording.with_suffix(DESCRIPTION)
    if recording.parent.name == SpoolState.DROPPED:
        yield _("it is said to be deleted, and is here")
    if read(description):
        return
    damaged = description.exists()
    if read(recording.with_suffix(PREVIOUS)):
        yield _("its newest description is damaged; the one before it is used")
    elif damaged:
        yield _("its description is damaged; the agent makes it anew when it starts")
    else:
        yield _("it has no description; the agent makes one when it starts")


def _recording(path: Path, key: sealed.PrivateKey | None, report: Report) -> Iterator[str]:
    report.recordings += 1
    entry = read(path.with_suffix(DESCRIPTION)) or read(path.with_suffix(PREVIOUS))
    try:
        with path.open("rb") as source:
            header = Header.read(source)
            if header.recording_id != uuid.UUID(path.name.partition(".")[0]).bytes:
                yield _("it is the recording of another call")
            body = path.stat().st_size - header.length
            if path.parent.name == SpoolState.RECORDING:
                return  # it grows
            if (reader := _opened(source, key)) is not None:
                report.opened += 1
                yield from _segments(reader, entry)
            elif _is_whole(entry) and not _may_end(body, header.segment_size):
                yield _("it is cut short, and said to be complete")
            if entry is not None and entry.receipt is not None:
                source.seek(0)
                if hashlib.file_digest(source, "sha256").hexdigest() != entry.receipt.sha256:
                    yield _("it is not what the server says that it has")
    except SealedError as problem:
        yield problem.in_words()
    except OSError as problem:
        yield _("it cannot be read: {why}").format(why=problem.strerror or problem)


def _opened(source: BinaryIO, key: sealed.PrivateKey | None) -> sealed.Reader | None:
    """None: the key does not open it. raises SealedError: it does, and the header is damaged."""
    if key is None:
        return None
    source.seek(0)
    with contextlib.suppress(sealed.WrongRecipient):
        return sealed.Reader(source, key)
    return None


def _segments(reader: sealed.Reader, entry: Entry | None) -> Iterator[str]:
    try:
        for _segment in reader.segments():
            pass
    except sealed.Truncated as problem:
        if _is_whole(entry):
            yield problem.in_words()
    except SealedError as problem:
        yield problem.in_words()


def _is_whole(entry: Entry | None) -> bool:
    return entry is not None and entry.metadata.complete


def _may_end(body: int, segment_size: int) -> bool:
    """Can so many bytes be whole segments and a last one?"""
    rest = body % (segment_size + sealed.OVERHEAD)
    return rest >= sealed.OVERHEAD and rest % BLOCK == 0
