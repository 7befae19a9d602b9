"""`wa agent test`: listen to both sides for a few seconds, and say in plain words what was heard.

The sound stays in memory and is forgotten; only its levels are told. `hear` listens, the rest judges.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from statistics import correlation, pstdev

from whisperagent.detect import Signals
from whisperagent.doctor import Finding
from whisperagent.doctor.sound import caller, used, way_words
from whisperagent.hosts import Device, Host, Way
from whisperagent.i18n import _
from whisperagent.record import LOWEST_DBFS, SILENT_DBFS, level_dbfs
from whisperagent.sides import Sides
from whisperagent.wire import SAMPLE_RATE, Capture

TEST_S = 5.0
LISTEN_S = 0.1
CLIPPED = 32_700
"""A sample from here on is taken for one that was cut off."""
CLIPPED_SHARE = 0.001
SAME = 0.85
"""Loudness over time of two sides that carry one sound; two people who talk to each other stay far below."""
SAME_LAG = 30
SAME_PIECES = 100
"""Hundredths of a second: how far one side may be late, and how long both must sound to be compared."""
STEADY_DB = 3.0
"""What rises and falls by less, such as a tone or a hiss, is like nothing."""
PIECE_FRAMES = SAMPLE_RATE // 100


@dataclass(frozen=True)
class Side:
    """What one side sounded like. delivered_s: how much a device sent. level, peak: dBFS."""

    delivered_s: float
    level_dbfs: float
    peak_dbfs: float
    clipped_share: float


@dataclass(frozen=True)
class Heard:
    """same: 0..1, how much the sides rise and fall together."""

    agent: Side
    caller: Side
    same: float


async def hear(host: Host, seconds: float = TEST_S, progress: Callable[[float], None] | None = None) -> Heard:
    """Listen to both sides. progress: called with the seconds heard so far.

    raises HostUnavailable: the PC gives no sound.
    """
    source = host.open()
    try:
        began = host.clock()
        sides = Sides(source.began, "split")
        delivered = [0, 0]
        pcm = bytearray()
        while (now := host.clock()) - began < seconds:
            while (block := source.read()) is not None:
                delivered[block.side] += len(block.pcm) // 2
                sides.feed(block)
            sides.advance(now)
            pcm += sides.take()
            if progress is not None:
                progress(now - began)
            await host.sleep(LISTEN_S)
        pcm += sides.finish()
    finally:
        source.close()
    both = array("h", bytes(pcm))
    agent, caller = both[0::2], both[1::2]
    return Heard(_side(agent, delivered[0]), _side(caller, delivered[1]), alike(agent, caller))


def alike(one: "array[int]", other: "array[int]") -> float:
    """How much both rise and fall together while both sound, 0..1, whichever of them comes later."""
    first, second = _envelope(one), _envelope(other)
    best = 0.0
    for lag in range(-SAME_LAG, SAME_LAG + 1):
        together = [
            (ours, theirs)
            for ours, theirs in zip(first[max(0, lag) :], second[max(0, -lag) :], strict=False)
            if min(ours, theirs) > SILENT_DBFS
        ]
        if len(together) >= SAME_PIECES:
            ours, theirs = zip(*together, strict=True)
            if min(pstdev(ours), pstdev(theirs)) > STEADY_DB:
                best = max(best, correlation(ours, theirs))
    return best


def judge(
    heard: Heard, seen: Signals, devices: list[Device], ways: list[Way], wanted: str, capture: Capture
) -> list[Finding]:
    """In words: the technician's side, the caller's, and whether they are the same sound.

    ways: how the caller can be heard here at all. wanted: `recording.microphone`. capture: how each side was
    heard.
    """
    microphone = used(devices, "microphone", wanted)
    output = used(devices, "output")
    found = [
        _agent(heard.agent, microphone.name if microphone else "", capture.agent),
        _caller(heard.caller, seen, output, ways, capture.caller),
    ]
    if heard.same >= SAME:
        found.append(
            Finding(
                "both",
                "warning",
                _("both sides carry the same sound"),
                _("the microphone hears the loudspeaker, or is itself the sound of an output"),
                _("use a headset; `wa agent devices` lists microphones to choose from"),
            )
        )
    return found


def _agent(side: Side, device: str, capture: str) -> Finding:
    name = device or way_words(capture)
    if not side.delivered_s:
        return Finding(
            "agent",
            "failed",
            _("technician side: the microphone gave no sound at all"),
            _("nothing came from {device}").format(device=name),
            _("plug it in again, or choose another one with `wa config set recording.microphone`"),
        )
    if side.peak_dbfs <= LOWEST_DBFS:
        return Finding(
            "agent",
            "failed",
            _("technician side silent: {device} sends nothing but zeros").format(device=name),
            _("it is muted by a switch or in the system, or this program may not use it"),
            _("unmute it, and allow this PC's programs to use the microphone"),
        )
    if side.level_dbfs < SILENT_DBFS:
        return Finding(
            "agent",
            "warning",
            _("technician side nearly silent: {levels}").format(levels=_levels(side)),
            _("nobody spoke, or the microphone is muted or turned down"),
            _("try again and speak"),
        )
    if side.clipped_share > CLIPPED_SHARE:
        return Finding(
            "agent",
            "warning",
            _("technician side distorted: {levels}").format(levels=_levels(side)),
            _("the microphone is turned up too far"),
            _("turn it down in the system's settings"),
        )
    return Finding(
        "agent", "ok", _("technician heard by {device}: {levels}").format(device=name, levels=_levels(side))
    )


def _caller(side: Side, seen: Signals, output: Device | None, ways: list[Way], capture: str) -> Finding:
    if ways and not any(way.available for way in ways):
        return caller(ways)
    way = way_words(capture)
    if not side.delivered_s or side.peak_dbfs <= LOWEST_DBFS:
        return Finding(
            "caller",
            "failed",
            _("caller side silent: {why}").format(why=_why_silent(seen, output)),
            fix=_("call somebody, or an echo test, and try again while you hear it"),
        )
    if side.level_dbfs < SILENT_DBFS:
        return Finding(
            "caller",
            "warning",
            _("caller side nearly silent: {levels}").format(levels=_levels(side)),
            _("nobody spoke there, or the softphone is turned down"),
            _("try again while you hear the caller"),
        )
    if side.clipped_share > CLIPPED_SHARE:
        return Finding(
            "caller",
            "warning",
            _("caller side distorted: {levels}").format(levels=_levels(side)),
            _("the softphone is turned up too far"),
            _("turn its volume down"),
        )
    return Finding("caller", "ok", _("caller heard by {way}: {levels}").format(way=way, levels=_levels(side)))


def _why_silent(seen: Signals, output: Device | None) -> str:
    if not seen.process:
        return _("no softphone runs on this PC")
    if output is None:
        return _("this PC has no output that could be heard")
    if output.in_use:
        return _("the softphone plays on {device}, which gave no sound").format(device=output.name)
    return _("the softphone plays nothing now")


def _levels(side: Side) -> str:
    return _("{level} dBFS, loudest {peak} dBFS").format(
        level=round(side.level_dbfs), peak=round(side.peak_dbfs)
    )


def _side(samples: "array[int]", delivered: int) -> Side:
    clipped = sum(abs(sample) >= CLIPPED for sample in samples)
    return Side(
        delivered_s=delivered / SAMPLE_RATE,
        level_dbfs=level_dbfs(samples.tobytes()),
        peak_dbfs=max(_envelope(samples, LOWEST_DBFS), default=LOWEST_DBFS),
        clipped_share=clipped / len(samples) if samples else 0.0,
    )


def _envelope(samples: "array[int]", floor: float = SILENT_DBFS) -> list[float]:
    """The level of every hundredth of a second, in dBFS; nothing is below `floor`."""
    pieces = (samples[at : at + PIECE_FRAMES] for at in range(0, len(samples), PIECE_FRAMES))
    return [max(floor, level_dbfs(piece.tobytes())) for piece in pieces]
