"""The recording of the call that is up: the devices, its parts, and what an earlier run left of it.

watch.py says when a call begins and ends; this opens the devices, feeds record.py and closes them again. A
recording that an earlier run left open is taken up again as the next part of the same call, if that call is
still up; until this is known it is not sent.
"""

import logging
import time
from collections.abc import Callable

import msgspec

from whisperagent import __version__, recovery, wire
from whisperagent.detect import Signals
from whisperagent.discretion import Discretion
from whisperagent.errors import HostUnavailable, NoRoom, WhisperError
from whisperagent.hosts import Block, Host, Source
from whisperagent.keys import Keys
from whisperagent.preroll import PreRoll
from whisperagent.record import Recorder
from whisperagent.settings import Settings
from whisperagent.spool import Item, Spool

RINGING_LIMIT_S = 120.0
"""Who plays for longer does not ring: it is looked at as ever, and no microphone is open for it."""
RESTART_S = 60.0
"""Real seconds that starting the agent again may take, for the call to be the same one."""
AGAIN_S = 2.0
"""How long after a recording could not begin it is tried again, while its call is up."""

log = logging.getLogger(__name__)

Tell = Callable[..., None]
"""tell(event, call_id, **details)"""


class CallRecording:
    """Records on `host`, one call after the other.

    recorder: of the call that is up; None when none is recorded. ringing: it rings, perhaps. sounded_at:
    when anything but zeros was heard last. decide_by: until then a call that was cut off may be found to go
    on. problem: why the last call was not recorded. notes: what recovery found. ended: how many have ended.
    """

    def __init__(
        self,
        host: Host,
        spool: Spool,
        keys: Keys,
        settings: Settings,
        discretion: Discretion,
        tell: Tell,
    ) -> None:
        self.recorder: Recorder | None = None
        self.ringing = False
        self.sounded_at = 0.0
        self.decide_by = 0.0
        self.problem: WhisperError | None = None
        self.notes: list[str] = []
        self.ended = 0
        self._host = host
        self._spool = spool
        self._keys = keys
        self._settings = settings
        self._discretion = discretion
        self._tell = tell
        self._source: Source | None = None
        self._ahead: PreRoll | None = None
        self._rings_since: float | None = None
        self._again_at: float | None = None
        self._interrupted: Item | None = None
        self._continues = False

    @property
    def undecided(self) -> bool:
        """Something that was cut off waits to be found going on, or over."""
        return self._interrupted is not None

    # Before a call

    def watch_ringing(self, signals: Signals, now: float) -> None:
        """While it rings what is heard may be kept in memory, so that the answer is whole."""
        rings = signals.ringing and self.recorder is None
        begins = rings and self._rings_since is None
        self._rings_since = (now if begins else self._rings_since) if rings else None
        self.ringing = self._rings_since is not None and now - self._rings_since < RINGING_LIMIT_S
        seconds = self._settings.recording.pre_roll_s
        if begins and seconds and not self._discretion.private:
            try:
                self._ahead = PreRoll(self._host.open(), seconds)
            except HostUnavailable as problem:
                # It is tried again when the call is up, and then this PC says so.
                log.warning("nothing is kept from before the answer: %s", problem.why)

    def listen_ahead(self, now: float) -> None:
        """Hear what comes before a call; when nothing rings any more, forget it."""
        if self._ahead is not None and self.ringing and self.recorder is None:
            self._ahead.listen(now)
        else:
            self._close_ahead()

    def forget_ahead(self, now: float) -> None:
        """What was heard until now is for nobody."""
        if self._ahead is not None:
            self._ahead.listen(now)
            self._ahead.forget()

    # While it is up

    def begin(self, party: str) -> bool:
        """Record from now on, tentatively; False: `problem` says why not. party: as far as it is known."""
        first = self._again_at is None
        try:
            began, heard = self._open()
            try:
                self.recorder = self._recorder_from(began, self._first_metadata(began, party))
            except (OSError, WhisperError):
                self._close_source()
                raise
        except (NoRoom, HostUnavailable) as problem:
            self._again_at = self._host.clock() + AGAIN_S
            self.problem = problem
            self._continues = False
            if first:
                log.error("%s: %s", problem.what, problem.why)
                self._tell("unrecorded", "", reason=problem.what)
            return False
        self._again_at = None
        self.sounded_at = self._host.clock()
        if self._continues:
            self.recorder.mark("restarted", began)
        if (pause := self._discretion.pause) is not None:
            self.recorder.pause(max(began, pause.since))
        for block in heard:
            self.recorder.feed(block)
        self._tell("detected", self.recorder.metadata.call_id, part=self.recorder.metadata.part)
        return True

    def begin_again(self, party: str, *, confirmed: bool) -> None:
        """The call is up, and could not be recorded; perhaps it can now."""
        if self._again_at is None or self._host.clock() < self._again_at or not self.begin(party):
            return
        assert self.recorder is not None  # noqa: S101 - what `begin` says
        if party:
            self.recorder.name(party, self._host.clock())
        if confirmed:
            self.confirm(self.recorder)

    def give_up(self) -> None:
        """The call that could not be recorded is over."""
        self._again_at = None

    def confirm(self, recorder: Recorder) -> None:
        """It is a call."""
        recorder.confirm()
        self.problem = None
        if self._continues:
            self._conclude(last=False)
        self._tell("recording", recorder.metadata.call_id, remote_party=recorder.metadata.remote_party)

    def listen(self) -> None:
        """Take what the devices have, and seal it."""
        recorder, source = self.recorder, self._source
        if recorder is None or source is None:
            return
        now = self._host.clock()
        while block := source.read():
            recorder.feed(block)
            if block.pcm.strip(b"\0"):
                self.sounded_at = block.at
        for happening in source.marks():
            recorder.mark(happening.kind, happening.at, happening.note)
        recorder.heard_by(self._host.capture)
        for item in recorder.advance(now):
            self._tell("queued", item.call_id, part=item.part)
        if recorder.recorded_s >= self._settings.recording.max_s:
            self._cut(recorder)

    def keep_open(self) -> None:
        """One call follows another at once: the devices stay open, or its first words would be lost."""
        if self._source is not None:
            self.listen()
            self._ahead, self._source = PreRoll(self._source, 0.0), None

    # Its end

    def end(self, recorder: Recorder) -> None:
        """The call is over: what was recorded waits for the server."""
        self._let_go()
        self._close(recorder)

    def drop(self, recorder: Recorder) -> None:
        """It was no call."""
        self._let_go()
        recorder.drop()
        self._tell("dropped", recorder.metadata.call_id)

    def destroy(self, recorder: Recorder, destroy: Callable[[str], bool]) -> bool:
        """Nothing of this call is to be left. destroy: of what is on the disk; this gives its answer."""
        call_id = recorder.metadata.call_id
        if self._interrupted is not None and self._interrupted.call_id == call_id:
            self._interrupted = None
        # First of all nobody writes to it any more: a file that cannot be deleted now is deleted later.
        self._let_go()
        recorder.abandon()
        return destroy(call_id)

    def leave(self) -> None:
        """The agent stops while a call goes on."""
        try:
            self.listen()
            recorder, continues = self.recorder, self._continues
            self._let_go()
            self._close_ahead()
            if recorder is None:
                return
            if not recorder.confirmed:
                recorder.drop()
                return
            recorder.mark("agent stopped", self._host.clock())
            if continues:
                self._conclude(last=False)
            self._close(recorder, complete=False)
        except (OSError, WhisperError) as problem:
            # The next start finds it as a crash would leave it.
            log.error("the recording could not be closed: %s", problem)
            self.abandon()

    def abandon(self) -> None:
        """Something broke: what lies on the disk is taken over by the next run."""
        recorder = self.recorder
        self._let_go()
        self._close_ahead()
        self._rings_since = self._again_at = None
        self.ringing = False
        if recorder is not None:
            recorder.abandon()

    # What an earlier run left

    def take_over(self, destroy: Callable[[str], bool]) -> None:
        """Bring the spool into order; the newest recording that was cut off just now may go on.

        destroy: deletes a call that is private, and whose recording an earlier run may have left.
        """
        self._interrupted = None
        gap_s = self._settings.detection.resume_s + RESTART_S
        self._discretion.recall(self._host.clock(), gap_s, destroy)
        found = recovery.recover(self._spool, self._new_metadata(self._host.clock()))
        self.notes = found.notes
        for note in found.notes:
            log.warning("%s", note)
        limit = time.time() - gap_s
        for item in sorted(found.interrupted, key=lambda item: item.call_id):
            self._conclude(last=True)
            self._interrupted = item
            if item.path.stat().st_mtime < limit:
                self._conclude(last=True)
        self.decide_by = self._host.clock() + self._settings.detection.resume_s

    def decide(self, now: float) -> None:
        """What was cut off and has not gone on by now is over."""
        if self._interrupted is not None and not self._continues and now > self.decide_by:
            self._conclude(last=True)

    def _conclude(self, *, last: bool) -> None:
        item, self._interrupted = self._interrupted, None
        self._continues = False
        if item is None:
            return
        if queued := recovery.conclude(self._spool, item, last=last):
            self._tell("queued", queued.call_id, part=queued.part, complete=False)

    # One recording

    def _open(self) -> tuple[float, list[Block]]:
        """Have the devices open; gives where the recording begins, and what was heard since."""
        if (ahead := self._ahead) is None:
            self._source = self._host.open()
            return self._source.began, []
        now = self._host.clock()
        ahead.listen(now)
        self._ahead, self._source = None, ahead.source
        return ahead.take(now)

    def _recorder_from(self, began: float, metadata: wire.CallMetadata) -> Recorder:
        return Recorder(self._spool, self._keys, self._settings.recording, began, metadata)

    def _first_metadata(self, began: float, party: str) -> wire.CallMetadata:
        """Of a new call, or of the next part of the one that was cut off."""
        before = self._interrupted.entry.metadata if self._interrupted is not None else None
        known = before.remote_party if before is not None else ""
        self._continues = before is not None and not (party and known and party != known)
        if before is None or not self._continues:
            return self._new_metadata(began)
        return msgspec.structs.replace(
            before,
            part=before.part + 1,
            started_at=self._host.utc(began),
            duration_s=0.0,
            marks=(),
            last=True,
            complete=True,
        )

    def _new_metadata(self, began: float) -> wire.CallMetadata:
        agent, recording = self._settings.agent, self._settings.recording
        return wire.CallMetadata(
            call_id=wire.new_call_id(),
            extension=agent.extension,
            agent_name=agent.name,
            started_at=self._host.utc(began),
            layout=recording.layout,
            capture=self._host.capture,
            agent_version=__version__,
        )

    def _close(self, recorder: Recorder, *, complete: bool = True) -> None:
        item = recorder.close(complete=complete)
        self.ended += 1
        if item is None:
            self._tell("short", recorder.metadata.call_id)
            return
        self._tell("sealed", item.call_id, part=item.part, duration_s=item.duration_s, size=item.size)
        self._tell("queued", item.call_id, part=item.part)

    def _cut(self, recorder: Recorder) -> None:
        """A call of `max_s`, perhaps one that never ended: close it, and go on as another one."""
        recorder.mark("limit", self._host.clock())
        self._close(recorder)
        party = recorder.metadata.remote_party
        metadata = msgspec.structs.replace(
            self._new_metadata(recorder.ends_at),
            remote_party=party,
            account=recorder.metadata.account,
            direction=recorder.metadata.direction,
        )
        self.recorder = self._recorder_from(recorder.ends_at, metadata)
        self.recorder.confirm()
        if self._discretion.pause is not None:
            self.recorder.pause(recorder.ends_at)
        self._tell("recording", metadata.call_id, remote_party=party)

    def _let_go(self) -> None:
        """The devices are closed, except those that the next call is to have (`keep_open`)."""
        self.recorder = None
        self._continues = False
        self._close_source()

    def _close_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            _close_devices(source)

    def _close_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            _close_devices(ahead)


def _close_devices(devices: Source | PreRoll) -> None:
    """A device that cannot even be closed must not cost the call that it has given."""
    try:
        devices.close()
    except Exception:
        log.exception("the devices could not be closed")
