"""Offline mode: calls that the server cannot transcribe now are drafted on this PC.

Where no server is named, or none was there for `offline.after_s`, a child with this PC's own small model
(`wa transcribe`, from the extra `offline`) writes down what waits in the spool, the newest call first, one at
a time. It has low priority and ends as soon as a call may be up: recording comes first. It is given the names
of the sealed files and, on its stdin, the keys that open them, so no sound touches the disk; stdin stays open
as long as we live. The recordings wait for the server as ever.
"""

import asyncio
import base64
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from whisperagent import sealed
from whisperagent.drafts import OwnDraft, OwnDrafts, no_key
from whisperagent.errors import NotInstalled, WhisperError
from whisperagent.i18n import _
from whisperagent.keys import Keys
from whisperagent.sealed import Keyring
from whisperagent.settings import Offline
from whisperagent.spool import CLOCK_TICK_NS, RECORDING, Item, Spool
from whisperagent.wire import Segment, SpoolState

LOOK_S = 2.0
TIDY_S = 60.0
WATCH_S = 0.25
"""How soon a child ends when a call comes."""
TRIES = 3
"""A call that cannot be drafted so often is left to the server."""
AGAIN_S = 300.0
"""Before a call is tried again, doubled each time; and before anything is, where this PC cannot draft."""
START_S, PACE = 300.0, 20.0
"""A child may take this long, and so many times the length of its call."""
NOT_READY = 2
"""What a child ends with when no call can be drafted here."""
NEEDED = ("faster_whisper", "av")
PROGRAM = (sys.executable, "-m", "whisperagent", "--quiet", "transcribe", "--draft", "--json")

log = logging.getLogger(__name__)

Tell = Callable[..., None]
"""tell(event, call_id, **details): `drafted`, `undrafted`"""


class Interrupted(Exception):
    """A call is up, or the one that is drafted has gone."""


class _Written(msgspec.Struct, frozen=True):
    """What `wa transcribe --json` says."""

    language: str
    model: str
    duration_s: float
    segments: tuple[Segment, ...]


class _Model(msgspec.Struct, frozen=True):
    """What `wa server model list --json` says of each."""

    name: str


@dataclass
class _Failed:
    """again_at: by the monotonic clock."""

    times: int
    again_at: float


def missing() -> NotInstalled | None:
    """That the extra `offline` is not installed; None: it is. Imports nothing of it."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if not absent:
        return None
    return NotInstalled(
        _("this PC cannot draft calls: {module} is not installed").format(module=", ".join(absent)),
        fix='pip install "whisperagent[offline]"',
    )


def no_model(name: str) -> WhisperError | None:
    """That this PC has no such speech model; None: it has. Asks `wa server model`, which takes a second."""
    if Path(name).expanduser().is_dir():
        return None
    listed = subprocess.run(
        [sys.executable, "-m", "whisperagent", "server", "model", "list", "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    if listed.returncode:
        return WhisperError(_("this PC cannot draft calls"), why=_said(listed.stderr))
    if name in {model.name for model in msgspec.json.decode(listed.stdout, type=list[_Model])}:
        return None
    return WhisperError(
        _("this PC cannot draft calls: there is no speech model `{name}`").format(name=name),
        fix=_("`wa server model pull {name}`, or name another one as `offline.model`").format(name=name),
    )


class Drafter:
    """Drafts what `spool` holds into `drafts`.

    away_s: for how long nothing could be sent. idle: no call is up, nor may be. program: is given the model
    and the files.
    """

    def __init__(
        self,
        drafts: OwnDrafts,
        spool: Spool,
        keys: Keys,
        rules: Offline,
        *,
        away_s: Callable[[], float],
        idle: Callable[[], bool],
        tell: Tell,
        program: Sequence[str] = PROGRAM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._problem: WhisperError | None = None
        self._drafts = drafts
        self._spool = spool
        self._keys = keys
        self._rules = rules
        self._away_s = away_s
        self._idle = idle
        self._tell = tell
        self._program = program
        self._clock = clock
        self._failed: dict[str, _Failed] = {}
        self._closed: set[str] = set()
        self._not_before = clock()
        self._nothing_in: tuple[int, ...] = ()
        self._tidy_at = self._not_before

    @property
    def problem(self) -> WhisperError | None:
        """Why no call can be drafted here, while some should be."""
        return self._problem if self._away_s() >= self._rules.after_s else None

    async def run(self) -> None:
        """Until cancelled; a child that is at work then ends."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One draft, if this is the time for it and there is a call."""
        if self._clock() >= self._tidy_at:
            self._tidy()
        if not self._idle() or self._away_s() < self._rules.after_s or self._clock() < self._not_before:
            return
        stamp = self._spool.changed()
        if stamp == self._nothing_in:
            return
        parts = self._next()
        if parts is None:
            # A call that is to be tried again waits for a time, not for a change; and a folder that has just
            # changed may change again within the same tick of its clock.
            waits = any(failed.times < TRIES for failed in self._failed.values())
            settled = time.time_ns() - max(stamp) > CLOCK_TICK_NS
            self._nothing_in = stamp if settled and not waits else ()
            return
        try:
            await self._try(parts)
        except Interrupted:
            return
        except FileNotFoundError:
            return  # it has just moved on; the next look finds it
        except OSError as problem:
            self._not_ready(
                WhisperError(_("this PC cannot draft calls"), why=problem.strerror or str(problem))
            )
        except WhisperError as problem:
            self._not_ready(problem)

    def _tidy(self) -> None:
        """A draft goes with the recordings of its call, however these went."""
        self._tidy_at = self._clock() + TIDY_S
        if drafted := self._drafts.call_ids():
            recorded = {path.name.partition(".")[0] for path in self._spool.root.glob(f"*/*{RECORDING}")}
            for call_id in drafted - recorded:
                self._drafts.remove(call_id)

    # Which call

    def _next(self) -> Sequence[Item] | None:
        """The parts of the newest call that is whole, not yet drafted, and not given up."""
        calls: dict[str, list[Item]] = defaultdict(list)
        for item in self._spool.waiting():
            calls[item.call_id].append(item)
        self._failed = {call_id: failed for call_id, failed in self._failed.items() if call_id in calls}
        now = self._clock()
        for call_id in sorted(calls.keys() - self._drafts.call_ids() - self._closed, reverse=True):
            failed = self._failed.get(call_id)
            if failed is not None and (failed.times >= TRIES or now < failed.again_at):
                continue
            if whole := self._whole(calls[call_id]):
                return whole
        return None

    def _whole(self, waiting: Sequence[Item]) -> Sequence[Item] | None:
        """All parts of the call that these belong to, from the first to the last; None: they are not here."""
        if _complete(waiting):
            return waiting
        # The server may have had the first ones before it went away.
        call_id = waiting[0].call_id
        parts = [
            item
            for item in self._spool.items()
            if item.call_id == call_id and item.size and item.state is not SpoolState.RECORDING
        ]
        return parts if _complete(parts) else None

    # One draft

    async def _try(self, parts: Sequence[Item]) -> None:
        """raises Interrupted. NotInstalled: the extra is not here. WhisperError: no call can be drafted here.

        OSError: as the system says.
        """
        if (problem := missing()) is not None:
            raise problem
        ring = await asyncio.to_thread(self._keys.mine)
        if ring is None or not self._drafts.opened_by(ring):
            raise no_key()
        if _opens(ring, parts):
            await self._draft(parts, ring)
        else:
            self._closed.add(parts[0].call_id)

    async def _draft(self, parts: Sequence[Item], ring: Keyring) -> None:
        """raises as `_try`."""
        call_id = parts[0].call_id
        began = self._clock()
        code, out, err = await self._child([item.path for item in parts], ring, _limit_s(parts))
        if code == NOT_READY:
            raise WhisperError(_("this PC cannot draft calls"), why=_said(err))
        self._problem = None
        try:
            written = msgspec.json.decode(out, type=_Written) if code == 0 else None
        except msgspec.MsgspecError:
            written = None
        if written is None:
            self._give_up(
                call_id, _said(err) or _("the program that does it ended with {code}").format(code=code)
            )
            return
        self._drafts.keep(
            OwnDraft(
                call_id=call_id,
                made_at=datetime.now(UTC),
                model=written.model,
                language=written.language,
                duration_s=written.duration_s,
                segments=written.segments,
            )
        )
        self._tidy()  # it may have been made private, or been dropped, while its words were written down
        if self._drafts.made_at(call_id) is not None:
            seconds = round(self._clock() - began, 1)
            self._tell("drafted", call_id, model=written.model, seconds=seconds)

    async def _child(self, files: Sequence[Path], ring: Keyring, limit_s: float) -> tuple[int, bytes, bytes]:
        """Exit code, stdout, stderr. raises Interrupted."""
        child = await asyncio.create_subprocess_exec(
            *self._program,
            *("--model", self._rules.model, *map(str, files)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(self._rules.threads),
            # Elsewhere the child lowers its priority by itself, and has no window.
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
            | getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert child.stdin and child.stdout and child.stderr  # noqa: S101, PT018 - for the type checker
        reading = asyncio.gather(child.stdout.read(), child.stderr.read())
        try:
            child.stdin.write(_keys_of(ring))
            until = self._clock() + limit_s
            while not (await asyncio.wait({reading}, timeout=WATCH_S))[0]:
                if not self._idle() or not self._recorded(files):
                    raise Interrupted
                if self._clock() > until:
                    return -1, b"", _("it took too long").encode()
            out, err = await reading
            return await child.wait(), out, err
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await asyncio.gather(reading, return_exceptions=True)
            await child.wait()

    def _recorded(self, files: Iterable[Path]) -> bool:
        """Is any of these still in the spool, wherever?"""
        return any((self._spool.root / state / file.name).exists() for state in SpoolState for file in files)

    def _not_ready(self, problem: WhisperError) -> None:
        self._problem = problem
        self._not_before = self._clock() + AGAIN_S

    def _give_up(self, call_id: str, why: str) -> None:
        """For now, and in the end for good."""
        times = self._failed[call_id].times + 1 if call_id in self._failed else 1
        self._failed[call_id] = _Failed(times, self._clock() + AGAIN_S * 2 ** (times - 1))
        log.warning("call %s is not drafted, try %d of %d: %s", call_id, times, TRIES, why)
        if times == TRIES:
            self._tell("undrafted", call_id, reason=why)


def _complete(parts: Sequence[Item]) -> bool:
    numbers = [item.part for item in parts]
    return bool(parts) and parts[-1].entry.metadata.last and numbers == [*range(1, len(parts) + 1)]


def _limit_s(parts: Iterable[Item]) -> float:
    return START_S + PACE * sum(item.duration_s for item in parts)


def _opens(ring: Keyring, parts: Iterable[Item]) -> bool:
    """Can all of these be opened here? Those from before offline mode cannot."""
    known = ring.by_id().keys()
    for item in parts:
        with item.path.open("rb") as source:
            if not known & set(sealed.recipients(source)):
                return False
    return True


def _keys_of(ring: Keyring) -> bytes:
    """One line: each key in base64."""
    keys = (ring.current, *ring.older)
    return b" ".join(base64.b64encode(key.private_bytes_raw()) for key in keys) + b"\n"


def _environment(threads: int) -> dict[str, str]:
    """Ours, less the token, which is for the server alone."""
    ours = {name: value for name, value in os.environ.items() if name != "WA_TOKEN"}
    return ours | {"WA_SPEECH__THREADS": str(threads)}


def _said(stderr: bytes) -> str:
    """Our own error, in one line; else the last line there is."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    ours = lines[:1] and lines[0].startswith("wa: ")
    return "; ".join(lines if ours else lines[-1:]).removeprefix("wa: ")
