"""The accounting: every call that was made is on the server exactly once, or visibly still on the PC.

It looks at the disks when everything has stopped: at what was stored, what waits, and what each says of
itself; and at every sample, since the telephone of pc.py says in each which call it is of and when it was.
"""

import contextlib
import hashlib
import io
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.faults.pc import ANSWER_S, NOISE, ROUND, ROUNDS
from whisperagent import sealed, wire
from whisperagent.errors import SealedError
from whisperagent.spool import Item, Spool
from whisperagent.wire import SAMPLE_RATE, SpoolState

ANSWERED = round(ANSWER_S * SAMPLE_RATE)
PLACES = np.zeros(1 << 16, np.int64)
"""Where in its round a sample of the agent's side is."""
PLACES[np.frombuffer(NOISE, np.int16)] = np.arange(ROUND)
LOSS_MAX_S = 1.0
"""Of sound, at a kill or a power cut."""
COUNTS = (
    *("made", "on_server", "on_pc", "told", "unheard", "parts"),
    *("lost", "duplicated", "torn", "untrue", "unsure", "split"),
)
CONFIRM_S = 1.5
"""`detection.confirm_s` and two looks: what lasts no longer may be no call."""


@dataclass(frozen=True)
class Life:
    """An agent's, during one call. opened, clock: where the call was when it began to listen, and when it
    ended, in frames of the telephone's clock; opened 0: it never listened. died: it was killed.
    disturbed: its disk refused something, so it may have missed more, but must say so. told: it said that
    it cannot record this call. jumped: its wall clock was set to another year.
    """

    opened: int
    clock: int
    died: bool
    disturbed: bool
    told: bool = False
    jumped: bool = False


@dataclass
class Made:
    """A call that was made. heard: how often each of its frames is found in the end."""

    number: int
    frames: int
    lives: list[Life] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heard = np.zeros(self.frames, np.int16)


@dataclass(frozen=True)
class Piece:
    """One recording, on the server or on the PC. complete: it, and its call, are said to be all there was."""

    where: str
    call_id: str
    part: int
    plaintext: bytes
    codec: str
    complete: bool


@dataclass
class Account:
    """What became of the calls. problems: each in words; there must be none. places: where an end came."""

    made: int = 0
    on_server: int = 0
    on_pc: int = 0
    told: int = 0
    unheard: int = 0
    parts: int = 0
    lost: int = 0
    duplicated: int = 0
    torn: int = 0
    untrue: int = 0
    unsure: int = 0
    split: int = 0
    worst_loss_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)

    @property
    def balanced(self) -> bool:
        return not self.problems and self.made == self.on_server + self.on_pc + self.told + self.unheard

    def line(self) -> str:
        """The one line of a run."""
        return (
            f"{self.faults.total()} faults: {self.made} calls made = {self.on_server} on the server exactly "
            f"once + {self.on_pc} on the PC + {self.told} told that they cannot be recorded + {self.unheard} "
            f"over before an agent listened; {self.parts} parts; {self.lost} lost, {self.duplicated} "
            f"duplicated, {self.torn} torn, {self.untrue} said complete that are not; {self.split} in two "
            f"because of a clock, {self.unsure} pieces over before they were sure to be calls; at most "
            f"{self.worst_loss_s:.2f} s lost at a kill"
        )

    def report(self) -> str:
        """The line, what was broken, and what is wrong."""
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        ends = ", ".join(f"{count} {step}" for step, count in self.places.most_common())
        wrong = (f"WRONG: {problem}" for problem in self.problems)
        return "\n".join([self.line(), faults, f"killed or without power at: {ends}", *wrong])

    def add(self, other: "Account") -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.worst_loss_s = max(self.worst_loss_s, other.worst_loss_s)
        self.problems += other.problems
        self.faults += other.faults
        self.places += other.places


def close(calls: list[Made], pc: Path, server: Path, litter: Collection[str] = ()) -> Account:
    """Count. pc, server: their homes; nothing runs in either. litter: ids of what was never recorded."""
    account = Account(made=len(calls))
    by_number = {call.number: call for call in calls}
    pieces = [*_stored(server, account), *_waiting(pc, server, account, litter)]
    account.parts = len(pieces)
    places: dict[int, set[str]] = defaultdict(set)
    ids: dict[int, set[str]] = defaultdict(set)
    numbers: dict[str, set[int]] = defaultdict(set)
    said_complete: dict[int, bool] = {}
    for piece in pieces:
        found = _hear(piece, by_number, account)
        for number in found:
            places[number].add(piece.where)
            ids[number].add(piece.call_id)
            numbers[piece.call_id].add(number)
            said_complete[number] = said_complete.get(number, True) and piece.complete
    for call_id, several in numbers.items():
        if len(several) > 1:
            account.torn += 1
            account.problems.append(f"{call_id} holds the sound of calls {sorted(several)}")
    for call in calls:
        if len(ids[call.number]) > 1 and any(life.jumped for life in call.lives):
            account.split += 1  # to an agent that starts ten years later, what was cut off is long over
        elif len(ids[call.number]) > 1:
            account.duplicated += 1
            account.problems.append(f"call {call.number} became {sorted(ids[call.number])}")
        _judge(call, places[call.number], said_complete.get(call.number, False), account)
    return account


def _stored(server: Path, account: Account) -> Iterator[Piece]:
    """What the server has, each part once, whole, and with the bytes that its row says."""
    key = X25519PrivateKey.from_private_bytes((server / "server/key").read_bytes())
    folder = server / "server/recordings"
    with sqlite3.connect(server / "server/calls.db") as database:
        rows = database.execute(
            "SELECT p.call_id, p.part, p.metadata, p.path, p.sha256, p.interrupted, c.interrupted, c.whole "
            "FROM parts p LEFT JOIN calls c USING (call_id) ORDER BY p.call_id, p.part"
        ).fetchall()
    database.close()
    for call_id, part, text, path, sha256, cut, call_cut, whole in rows:
        said = msgspec.json.decode(text, type=wire.CallMetadata)
        name = f"{call_id}.{part} on the server"
        try:
            data = (folder / path).read_bytes()
            plaintext = b"".join(sealed.Reader(io.BytesIO(data), key).segments())
        except (OSError, SealedError) as problem:
            account.torn += 1
            account.problems.append(f"{name}: {problem}")
            continue
        if not cut and hashlib.sha256(data).hexdigest() != sha256:
            account.torn += 1
            account.problems.append(f"{name}: its bytes are not those of its row")
        if whole is None:
            account.torn += 1
            account.problems.append(f"{name}: it is of no call")
        yield Piece("server", call_id, part, plaintext, said.codec, not (cut or call_cut) and bool(whole))


def _waiting(pc: Path, server: Path, account: Account, litter: Collection[str]) -> Iterator[Piece]:
    """What the PC shows that it still has; and are the receipts of what it sent true?"""
    with sqlite3.connect(server / "server/calls.db") as database:
        rows = database.execute("SELECT call_id, part, sha256, size FROM parts").fetchall()
    database.close()
    stored = {(call_id, part): (sha256, size) for call_id, part, sha256, size in rows}
    keys = [
        X25519PrivateKey.from_private_bytes(path.read_bytes())
        for path in (server / "server/key", pc / "local.key")
        if path.exists()
    ]
    for item in Spool(pc / "spool").items():
        if item.call_id in litter:
            continue
        name = f"{item.call_id}.{item.part} in `{item.state}`"
        if item.state is SpoolState.DONE:
            _check_receipt(item, stored.get((item.call_id, item.part)), name, account)
            continue
        if (item.call_id, item.part) in stored:
            account.duplicated += 1
            account.problems.append(f"{name}: the server has it too; {item.error}")
            continue
        if item.state is SpoolState.RECORDING:
            account.problems.append(f"{name}: nobody records it, and nobody sends it")
        try:
            yield Piece("pc", item.call_id, item.part, _opened(item, keys), item.entry.metadata.codec, False)
        except SealedError as problem:
            account.problems.append(f"{name}: {problem}")


def _check_receipt(item: Item, stored: tuple[str, int] | None, name: str, account: Account) -> None:
    receipt = item.entry.receipt
    if receipt is None or stored is None or stored != (receipt.sha256, receipt.size):
        account.lost += 1
        account.problems.append(f"{name}: the PC takes it for sent; the server has {stored}")
    elif item.size and hashlib.sha256(item.path.read_bytes()).hexdigest() != stored[0]:
        account.torn += 1
        account.problems.append(f"{name}: other bytes lie here than were stored")


def _opened(item: Item, keys: list[X25519PrivateKey]) -> bytes:
    for key in keys:
        try:
            reader = sealed.Reader(io.BytesIO(item.path.read_bytes()), key)
        except sealed.WrongRecipient:
            continue
        return b"".join(reader.salvage())
    raise SealedError("no key of this house opens it")


def _hear(piece: Piece, calls: dict[int, Made], account: Account) -> set[int]:
    """Count the frames of a recording where they belong; gives the calls that they are of."""
    sound = _decoded(piece)
    agent, caller = PLACES[sound[:, 0]], -sound[:, 1].astype(np.int64) - 1
    real = (sound[:, 0] != 0) & (sound[:, 1] != 0)
    if not real.any():
        return set()
    places = np.flatnonzero(real)
    frames = agent[real] + ROUND * (caller[real] % ROUNDS)
    found = {int(number) for number in np.unique(caller[real] // ROUNDS)}
    name = f"{piece.call_id}.{piece.part} ({piece.where})"
    if unknown := found - set(calls):
        account.torn += 1
        account.problems.append(f"{name}: sound of no call that was made: {sorted(unknown)[:3]}")
        return set()
    # One unbroken piece of the call: every sample at its own distance from the first.
    if np.unique(frames - places).size > 1:
        account.torn += 1
        account.problems.append(f"{name}: its sound is not one piece")
    for number in found:
        own = frames[caller[real] // ROUNDS == number]
        inside = own[own < calls[number].frames]
        np.add.at(calls[number].heard, inside, 1)
    return found


def _decoded(piece: Piece) -> "np.ndarray[tuple[int, int], np.dtype[np.int16]]":
    """Both sides, a row for each frame."""
    if piece.codec == "pcm" or not piece.plaintext:
        whole = len(piece.plaintext) // 4 * 4
        return np.frombuffer(piece.plaintext[:whole], "<i2").reshape(-1, 2)
    import av

    blocks: list[np.ndarray[tuple[int, ...], np.dtype[np.int16]]] = []
    with av.open(io.BytesIO(piece.plaintext), "r") as container, contextlib.suppress(av.error.FFmpegError):
        # The last frame of a recording that was cut may be half a one.
        blocks.extend(np.asarray(frame.to_ndarray(), np.int16) for frame in container.decode(audio=0))
    flat = np.concatenate([block.reshape(-1) for block in blocks]) if blocks else np.zeros(0, np.int16)
    return flat.reshape(-1, 2)


def _judge(call: Made, places: set[str], complete: bool, account: Account) -> None:
    listened = [life for life in call.lives if life.opened]
    if not places:
        if any(life.told for life in listened):
            account.told += 1
        elif not any(_due(call, life) for life in listened):
            account.unheard += 1
        else:
            account.lost += 1
            account.problems.append(f"call {call.number} is nowhere: {call.lives}")
        return
    if "pc" in places:
        account.on_pc += 1
    else:
        account.on_server += 1
    if (call.heard > 1).any():
        account.duplicated += 1
        account.problems.append(f"call {call.number}: {int((call.heard > 1).sum())} frames are there twice")
    for life in listened:
        later = call.lives[call.lives.index(life) + 1 :]
        _judge_life(call, life, account, jumped=any(other.jumped for other in later))
    if complete and not call.heard[int(np.flatnonzero(call.heard)[0]) :].all():
        account.untrue += 1
        account.problems.append(f"call {call.number} is said to be complete, and is not")


def _judge_life(call: Made, life: Life, account: Account, *, jumped: bool) -> None:
    """jumped: to an agent that came later, all of this was years ago."""
    first, end = max(0, life.opened - ANSWERED), min(life.clock - ANSWERED, call.frames)
    missing = np.flatnonzero(call.heard[first:end] == 0)
    if not missing.size or life.disturbed:
        return
    lost_s = missing.size / SAMPLE_RATE
    over = jumped or life.clock - ANSWERED >= call.frames
    if over and missing.size == end - first and lost_s <= CONFIRM_S:
        account.unsure += 1  # it was over before it was sure to be a call
        return
    if not life.died:
        where = f"{missing[0]}..{missing[-1]} of {end - first}"
        account.problems.append(
            f"call {call.number}: {lost_s:.3f} s are missing without a kill: {where}, {life}"
        )
    elif missing[0] + missing.size != end - first:
        account.problems.append(f"call {call.number}: {lost_s:.3f} s are missing before the end of {life}")
    account.worst_loss_s = max(account.worst_loss_s, lost_s)
    if lost_s > LOSS_MAX_S:
        account.problems.append(f"call {call.number}: {lost_s:.3f} s lost at a kill: {life}")


def _due(call: Made, life: Life) -> bool:
    """Did this agent hear so much that some of it must be found?"""
    heard_s = (min(life.clock - ANSWERED, call.frames) - max(0, life.opened - ANSWERED)) / SAMPLE_RATE
    return heard_s > LOSS_MAX_S if life.died else heard_s > 0
