"""One call, from both sides' sound to sealed files in the spool.

watch.py feeds it between hosts/ and spool.py. Sound is encoded (encode.py) and sealed as it comes: a fraction
of a second in memory, then a synced segment on the disk, so that a power cut costs less than a second and no
sound ever lies on the disk in clear. A part that grows to `part_mib` is closed and queued while the call goes
on in the next.

What is heard after the streams have gone is kept in memory only, half a second excepted: it is written if
the call comes back, and forgotten if it does not, for what is said after hanging up is not the call.
"""

import logging
import math
import shutil
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import msgspec

from whisperagent import encode, sealed
from whisperagent.errors import NoRoom
from whisperagent.files import Appending
from whisperagent.hosts import Block
from whisperagent.i18n import _
from whisperagent.keys import Keys
from whisperagent.settings import Recording
from whisperagent.sides import Sides
from whisperagent.spool import Entry, Item, Spool
from whisperagent.wire import SAMPLE_RATE, SIDES, CallMetadata, Capture, Mark, SpoolState

CHANNELS = {"split": 2, "mono": 1}
FRAME_BYTES = {"split": 4, "mono": 2}
RAW_SEGMENT_LOG2 = {"split": 14, "mono": 13}
"""A quarter of a second in a segment."""
SEGMENT_LOG2 = 12
"""Of what is encoded: a seventh of a second of speech, half a second of a quiet room. Perfect silence becomes
nearly nothing, so of that more may be missing when the PC dies; the sound before and after it is not."""
DESCRIBED_S = 10.0
"""How far behind the length in the description may be: nobody here can measure what is encoded and sealed."""
MIB = 1 << 20
PART_MARGIN = 1 << 16
"""What sealing adds, and the segment that still waits."""
TAIL_S = 0.5
"""Kept after the last stream was seen: the last word may be on its way through the devices."""
LOWEST_DBFS = -96.0
SILENT_DBFS = -60.0
MARK_GAP_S = 1.0
MARKS_LIMIT = 500
LEVEL_STEP = 4
"""Every fourth sample is enough for a meter."""

log = logging.getLogger(__name__)


class Recorder:
    """Records one call from `began` on.

    began: the host's clock at the first sample. first: what is known of the call; its `started_at` is
    `began` in UTC. metadata: of the part that is being recorded now.
    raises NoRoom: too little free disk. OSError: the file cannot be made.
    """

    metadata: CallMetadata
    _file: Appending
    _writer: sealed.Writer
    _encoder: encode.Encoder

    def __init__(self, spool: Spool, keys: Keys, rules: Recording, began: float, first: CallMetadata) -> None:
        self.confirmed = first.part > 1
        self.levels = dict.fromkeys(SIDES, LOWEST_DBFS)
        self._spool = spool
        self._keys = keys
        self._rules = rules
        self._began = began
        self._started_at = first.started_at
        self._sides = Sides(began, first.layout)
        self._first_frame = 0
        self._heard_at = dict.fromkeys(SIDES, began)
        self._ever_heard: set[str] = set()
        self._clock = began
        self._check_room()
        self._open(first)

    # While the call runs

    def feed(self, block: Block) -> None:
        """Sound of one side; it waits in memory for `advance`."""
        side = SIDES[block.side]
        gap_s = self._sides.feed(block)
        if gap_s >= MARK_GAP_S:
            self.mark("gap", block.at - gap_s, f"{side} {gap_s:.1f} s")
        self.levels[side] = level_dbfs(block.pcm)
        if self.levels[side] > SILENT_DBFS:
            self._heard_at[side] = block.at
            self._ever_heard.add(side)

    def advance(self, now: float) -> list[Item]:
        """Seal what both sides have by `now`; gives the parts that were closed by it.

        raises NoRoom: it cannot be written.
        """
        self._clock = now
        self._sides.advance(now)
        pcm = self._sides.take()
        closed = []
        if self._writer.bytes_written + len(pcm) > self._rules.part_mib * MIB - PART_MARGIN:
            closed.append(self._next_part(self._sides.frames - len(pcm) // FRAME_BYTES[self.metadata.layout]))
        self._encoder.write(pcm)
        if self._part_s(self._sides.frames) - self.metadata.duration_s >= DESCRIBED_S:
            self._know(duration_s=self._part_s(self._sides.frames))
        return closed

    def confirm(self) -> None:
        """It is a call: from now on it survives whatever happens."""
        self.confirmed = True
        self._describe()

    def quiet(self, since: float | None) -> None:
        """The streams have gone since then, or (None) are there again."""
        self._sides.until = None if since is None else since + TAIL_S

    def name(self, remote_party: str, at: float) -> None:
        """Whom the call is with; another name later is a transfer, and a mark."""
        if self.metadata.remote_party:
            self.mark("party", at, remote_party)
        else:
            self._know(remote_party=remote_party)

    def belongs_to(self, account: str) -> None:
        """One of several accounts of this technician, e.g. `305 Contoso`."""
        self._know(account=account)

    def went(self, direction: Literal["inbound", "outbound"]) -> None:
        """Who called whom."""
        self._know(direction=direction)

    def heard_by(self, capture: Capture) -> None:
        """How each side is heard now; the last way is what the metadata tells."""
        if capture != self.metadata.capture:
            self._know(capture=capture)

    def mark(self, kind: str, at: float, note: str = "") -> None:
        """Note what happened at `at`, on the host's clock."""
        # A device that gives nothing in silence makes many gaps; what a person does must still find room.
        if len(self.metadata.marks) < (MARKS_LIMIT // 2 if kind == "gap" else MARKS_LIMIT):
            at_s = round(max(0.0, at - self._began - self._first_frame / SAMPLE_RATE), 3)
            self._know(marks=(*self.metadata.marks, Mark(at_s=at_s, kind=kind, note=note)))

    def pause(self, at: float) -> None:
        """From `at` on both sides are silence: a card number is being said."""
        self._sides.mute(at)
        self.mark("paused", at)

    def unpause(self, at: float) -> None:
        """From `at` on it is recorded again."""
        self._sides.unmute(at)
        self.mark("pause over", at)

    @property
    def recorded_s(self) -> float:
        """Seconds of this recording so far, all its parts together."""
        return self._sides.frames / SAMPLE_RATE

    @property
    def ends_at(self) -> float:
        """The host's clock at the end of what was recorded so far."""
        return self._began + self.recorded_s

    def silent_s(self) -> dict[str, float]:
        """How long each side has been silent."""
        return {side: round(max(0.0, self._clock - at), 1) for side, at in self._heard_at.items()}

    def alarms(self, limit_s: float, since: float) -> tuple[str, ...]:
        """The sides that have been silent for `limit_s`, of the time from `since` on.

        A technician may listen for long, so that side is none if it was ever heard.
        """
        return tuple(
            side
            for side, heard_at in self._heard_at.items()
            if self._clock - max(heard_at, since) >= limit_s
            and not (side == SIDES[0] and side in self._ever_heard)
        )

    # Its end

    def close(self, *, complete: bool = True) -> Item | None:
        """The call is over: finish the file and queue it as the last part; None: it was too short to keep.

        complete: False when the call goes on without us. raises NoRoom: the end cannot be written; the
        recording then lies in the spool as one that was cut short.
        """
        try:
            self._encoder.write(self._sides.finish())
            self._encoder.finish()
            self._writer.finish()
        finally:
            self._let_go()
        if complete and self.metadata.part == 1 and self.recorded_s < self._rules.min_s:
            self._spool.drop(self.metadata.call_id, 1)
            return None
        self.metadata = self._ended(self._sides.frames, last=True, complete=complete)
        return self._spool.queue(Entry(metadata=self.metadata))

    def drop(self) -> None:
        """It was no call: delete it unheard."""
        self._let_go()
        self._spool.drop(self.metadata.call_id, self.metadata.part)

    def abandon(self) -> None:
        """Something broke: leave the file as a crash would, for recovery to find."""
        self._let_go()

    def _let_go(self) -> None:
        self._encoder.close()
        self._file.close()

    # Parts

    def _open(self, metadata: CallMetadata) -> None:
        codec = encode.usable(self._rules.codec)
        metadata = msgspec.structs.replace(metadata, codec=codec)
        file = self._spool.create(metadata)
        try:
            writer = sealed.Writer(
                file,
                self._keys.recipients(),
                uuid.UUID(metadata.call_id).bytes,
                msgspec.json.encode(metadata),
                RAW_SEGMENT_LOG2[metadata.layout] if codec == "pcm" else SEGMENT_LOG2,
            )
            encoder = encode.Encoder(writer, codec, CHANNELS[metadata.layout])
            self._spool.describe(SpoolState.RECORDING, Entry(metadata=metadata, confirmed=self.confirmed))
        except (OSError, NoRoom):
            file.close()
            self._spool.drop(metadata.call_id, metadata.part)
            raise
        self.metadata, self._file, self._writer, self._encoder = metadata, file, writer, encoder

    def _next_part(self, first_frame: int) -> Item:
        """Go on in a new part; it is there before the old one leaves, so that one is always the last."""
        ended, ended_file, ended_writer = self._ended(first_frame, last=False), self._file, self._writer
        ended_encoder = self._encoder
        started_at = self._started_at + timedelta(seconds=first_frame / SAMPLE_RATE)
        self._open(
            msgspec.structs.replace(
                ended, part=ended.part + 1, started_at=started_at, last=True, duration_s=0.0, marks=()
            )
        )
        self._first_frame = first_frame
        ended_encoder.finish()
        ended_writer.finish()
        ended_file.close()
        return self._spool.queue(Entry(metadata=ended))

    def _ended(self, frame: int, *, last: bool, complete: bool = True) -> CallMetadata:
        duration_s = self._part_s(frame)
        return msgspec.structs.replace(self.metadata, duration_s=duration_s, last=last, complete=complete)

    def _part_s(self, frame: int) -> float:
        """How long the part is that is recorded now, when it ends before `frame` of the call."""
        return round((frame - self._first_frame) / SAMPLE_RATE, 3)

    def _know(self, **more: object) -> None:
        """What is known now is on the disk now, so that it survives as the sound does."""
        self.metadata = msgspec.structs.replace(self.metadata, **more)
        self._describe()

    def _describe(self) -> None:
        try:
            self._spool.describe(
                SpoolState.RECORDING, Entry(metadata=self.metadata, confirmed=self.confirmed)
            )
        except OSError as problem:
            # An antivirus holds it, or the disk is full: the sound goes on, and within `DESCRIBED_S` this is
            # tried again with what is known then.
            log.warning("what is known of %s is not on the disk yet: %s", self.metadata.call_id, problem)

    def _check_room(self) -> None:
        free_mib = shutil.disk_usage(self._spool.root).free // MIB
        if free_mib < self._rules.free_mib:
            raise NoRoom(
                _("this call is not recorded: the disk is too full"),
                why=_("{free} MiB are free, {floor} are wanted").format(
                    free=free_mib, floor=self._rules.free_mib
                ),
                fix=_("free some space, or lower `free_mib` under [recording]"),
            )


def level_dbfs(pcm: bytes) -> float:
    """RMS level of int16 samples, 0 at full scale; -96 for digital silence."""
    samples: Sequence[int] = memoryview(pcm).cast("h")[::LEVEL_STEP].tolist() if pcm else []
    if not samples:
        return LOWEST_DBFS
    power = sum(sample * sample for sample in samples) / len(samples)
    return round(max(LOWEST_DBFS, 10 * math.log10(power / 32768**2)), 1) if power else LOWEST_DBFS
