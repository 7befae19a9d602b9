"""The watch: what the softphone shows becomes a recording.

Ties hosts/ (signals and sound), detect.py (what they mean) and record.py (where it goes) together, in one
loop on the host's clock. It knows nothing of a server: whether one answers changes nothing here.

A recording that an earlier run left open is taken up again as the next part of the same call, if that call
is still up; until this is known it is not sent.

A person may pause the recording, say that the call is private, or leave a note in it (control.py).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec

from whisperagent import __version__, detect, recovery, wire
from whisperagent.detect import Phase
from whisperagent.discretion import Discretion, Pause
from whisperagent.errors import HostUnavailable, NoRoom, UsageError, WhisperError
from whisperagent.hosts import Block, Host, Source
from whisperagent.hosts.hooks import Hooks
from whisperagent.i18n import _
from whisperagent.keys import Keys
from whisperagent.preroll import PreRoll
from whisperagent.record import Recorder
from whisperagent.settings import Settings
from whisperagent.spool import Item, Spool

LISTEN_S = 0.1
"""How often sound is fetched while recording."""
RINGING_S = 0.05
"""How often signals are looked at while it rings: the answer must not come between two looks."""
RINGING_LIMIT_S = 120.0
"""Who plays for longer does not ring: it is looked at as ever, and no microphone is open for it."""
RESTART_S = 60.0
"""Real seconds that starting the agent again may take, for the call to be the same one."""

log = logging.getLogger(__name__)

Tell = Callable[..., None]
"""tell(event, call_id, **details)"""


class CallWatch:
    """Detects and records on `host`.

    tell: called as `tell("recording", call_id, …)`: detected, dropped, recording, held, resumed, sealed,
    queued, short, unrecorded, paused, unpaused, private, note, silent. problem: why the last call was not
    recorded. notes: what recovery found. ended: how many calls have ended. alarms: the sides of the call
    that have been silent for too long.
    raises ConfigError: a pattern that is not a regular expression.
    """

    def __init__(self, host: Host, spool: Spool, keys: Keys, settings: Settings, tell: Tell) -> None:
        detect.check(settings.detection, settings.accounts)
        self.state = detect.State()
        self.problem: WhisperError | None = None
        self.notes: list[str] = []
        self.ended = 0
        self.alarms: tuple[str, ...] = ()
        self._host = host
        self._spool = spool
        self._keys = keys
        self._settings = settings
        self._tell = tell
        self._discretion = Discretion(spool.root.parent / "discretion.json")
        self._unpaused_at = 0.0
        self._recorder: Recorder | None = None
        self._source: Source | None = None
        self._interrupted: Item | None = None
        self._decide_by = 0.0
        self._continues = False
        self._hooks = Hooks(settings)
        self._ringing = False
        self._rings_since: float | None = None
        self._ahead: PreRoll | None = None
        self._sounded_at = 0.0

    async def run(self) -> None:
        """Until cancelled; a call that is up then is closed as incomplete and queued."""
        self._take_over()
        following = asyncio.create_task(self._hooks.run())
        try:
            while True:
                self._look()
                self._listen()
                await self._host.sleep(self._pause_s())
        except asyncio.CancelledError:
            self._leave()
            raise
        except BaseException:
            self._abandon()
            raise
        finally:
            following.cancel()

    @property
    def hook_problem(self) -> WhisperError | None:
        """Why 3CX does not tell of calls, though it was asked to; they are recorded all the same."""
        return self._hooks.problem

    @property
    def idle(self) -> bool:
        """Nothing is being recorded, and nothing cut off waits for a decision."""
        return self._recorder is None and self._interrupted is None and self.state.phase is Phase.IDLE

    def current(self) -> wire.CurrentCall | None:
        """The call that is being recorded now."""
        if (recorder := self._recorder) is None:
            return None
        return wire.CurrentCall(
            call_id=recorder.metadata.call_id,
            started_at=recorder.metadata.started_at,
            state=str(self.state.phase),
            recorded_s=round(recorder.recorded_s, 1),
            part=recorder.metadata.part,
            remote_party=recorder.metadata.remote_party,
            levels=dict(recorder.levels),
            silent_s=recorder.silent_s(),
            alarms=self.alarms,
        )

    # What a person asks for

    @property
    def pause(self) -> Pause | None:
        """Until when sound is replaced by silence."""
        return self._discretion.pause

    @property
    def private(self) -> bool:
        """A call is up, or was until just now, that is not recorded because somebody said so."""
        return self._discretion.private

    def begin_pause(self, seconds: float | None) -> Pause:
        """Record silence from now on, for so long; without a length until the call is over, or 5 minutes."""
        now, going_on = self._host.clock(), self._discretion.pause
        pause = self._discretion.begin_pause(now, seconds)
        if self._recorder is not None and going_on is None:
            self._recorder.pause(now)
        self._tell("paused", self._call_id(), seconds=round(pause.until - now))
        return pause

    def end_pause(self) -> None:
        """raises UsageError: there is none."""
        if self._discretion.pause is None:
            raise UsageError(
                _("recording is not paused"), fix=_("`wa agent status` tells what the agent does")
            )
        self._unpause()

    def make_private(self) -> tuple[str, bool]:
        """Destroy what there is of this call, and record no more of it.

        returns: its id, and whether the server has, or is just getting, a part of it.
        raises UsageError: there is no call.
        """
        recorder = self._call()
        call_id = recorder.metadata.call_id
        # First of all: whatever happens next, this call is not recorded again.
        self._discretion.begin_private(self._host.clock())
        if self._interrupted is not None and self._interrupted.call_id == call_id:
            self._interrupted = None
        recorder.drop()
        self._let_go()
        sent = self._spool.destroy(call_id)
        self._tell("private", call_id)
        return call_id, sent

    def note(self, text: str) -> str:
        """Leave a mark with these words at this moment of the call; gives its id.

        raises UsageError: there is no call.
        """
        recorder = self._call()
        recorder.mark("note", self._host.clock(), text)
        self._tell("note", recorder.metadata.call_id)
        return recorder.metadata.call_id

    def _call(self) -> Recorder:
        if self._recorder is None:
            raise UsageError(
                _("this call is private already") if self.private else _("no call is being recorded"),
                fix=_("`wa agent status` tells what the agent does"),
            )
        return self._recorder

    def _call_id(self) -> str:
        return self._recorder.metadata.call_id if self._recorder is not None else ""

    def _unpause(self) -> None:
        self._discretion.end_pause()
        self._unpaused_at = self._host.clock()
        if self._recorder is not None:
            self._recorder.unpause(self._unpaused_at)
        self._tell("unpaused", self._call_id())

    def _watch_discretion(self, now: float) -> None:
        """Pauses expire; a private call is private until it is over."""
        if self.pause is not None and now >= self.pause.until:
            self._unpause()
        if not self.private:
            return
        # An agent that was started again has not seen the private call yet.
        if self.state.phase is Phase.IDLE and now > self._decide_by:
            self._discretion.end_private()
        else:
            self._discretion.still_private(now)

    def _watch_silence(self, recorder: Recorder) -> None:
        """A side that nobody hears is told of while the call can still be saved, and not on hold."""
        limit_s = self._settings.recording.silent_alarm_s
        before, self.alarms = self.alarms, ()
        if limit_s and self.state.phase is Phase.CALL and self.pause is None:
            self.alarms = recorder.alarms(limit_s, max(self.state.since, self._unpaused_at))
        for side in self.alarms:
            if side not in before:
                self._tell("silent", recorder.metadata.call_id, side=side, seconds=round(limit_s))

    # The loop

    def _pause_s(self) -> float:
        poll_s = self._settings.detection.poll_s
        if self._recorder is not None:
            return min(poll_s, LISTEN_S)
        return min(poll_s, RINGING_S) if self._ringing else poll_s

    def _look(self) -> None:
        now = self._host.clock()
        signals = self._hooks.add(self._host.signals())
        if self._recorder is not None:
            signals = replace(signals, silent_s=now - self._sounded_at)
        self._watch_ringing(signals, now)
        self.state, events = detect.step(self.state, signals, now, self._settings.detection)
        if self._source is not None and any(isinstance(event, detect.CallSuspected) for event in events):
            # One call follows another at once: the devices stay open, or its first words would be lost.
            self._listen()
            self._ahead, self._source = PreRoll(self._source, 0.0), None
        for event in events:
            self._on(event)
        self._watch_ahead(now)
        self._watch_details(signals)
        self._watch_discretion(now)
        if self._recorder is not None:
            self._recorder.quiet(self.state.quiet_since)
        if self._interrupted is not None and not self._continues and now > self._decide_by:
            self._conclude_interrupted(last=True)

    def _watch_ringing(self, signals: detect.Signals, now: float) -> None:
        rings = signals.ringing and self._recorder is None
        begins = rings and self._rings_since is None
        self._rings_since = (now if begins else self._rings_since) if rings else None
        self._ringing = self._rings_since is not None and now - self._rings_since < RINGING_LIMIT_S
        seconds = self._settings.recording.pre_roll_s
        if begins and seconds and not self.private:
            try:
                self._ahead = PreRoll(self._host.open(), seconds)
            except HostUnavailable as problem:
                # It is tried again when the call is up, and then this PC says so.
                log.warning("nothing is kept from before the answer: %s", problem.why)

    def _watch_ahead(self, now: float) -> None:
        if self._ahead is None:
            return
        if self._ringing and self._recorder is None:
            self._ahead.listen(now)
        else:
            self._ahead.close()
            self._ahead = None

    def _watch_details(self, signals: detect.Signals) -> None:
        """The account that is seen first, and the direction that is told first, stay the call's."""
        if (recorder := self._recorder) is None:
            return
        rules, accounts = self._settings.detection, self._settings.accounts
        if not recorder.metadata.account and (account := detect.account(signals, rules, accounts)):
            recorder.belongs_to(account)
        if signals.direction != "unknown" and recorder.metadata.direction == "unknown":
            recorder.went(signals.direction)

    def _on(self, event: detect.Event) -> None:
        if isinstance(event, detect.CallEnded) and self.private:
            self._discretion.end_private()
        if isinstance(event, detect.CallSuspected) and not self.private:
            self._begin()
        recorder = self._recorder
        if recorder is None:
            return
        match event:
            case detect.CallConfirmed():
                recorder.confirm()
                self.problem = None
                if self._continues:
                    self._conclude_interrupted(last=False)
                self._tell(
                    "recording", recorder.metadata.call_id, remote_party=recorder.metadata.remote_party
                )
            case detect.PartyNamed():
                recorder.name(event.remote_party, event.at)
            case detect.CallHeld():
                recorder.mark("held", event.at)
                self._tell("held", recorder.metadata.call_id)
            case detect.CallResumed():
                recorder.mark("resumed", event.at)
                self._tell("resumed", recorder.metadata.call_id)
            case detect.CallDropped():
                recorder.drop()
                self._let_go()
                self._tell("dropped", recorder.metadata.call_id)
            case detect.CallEnded():
                self._let_go()
                self._end(recorder)
                if self.pause is not None and self.pause.this_call:
                    self._unpause()

    def _listen(self) -> None:
        recorder, source = self._recorder, self._source
        if recorder is None or source is None:
            return
        now = self._host.clock()
        while block := source.read():
            recorder.feed(block)
            if block.pcm.strip(b"\0"):
                self._sounded_at = block.at
        for happening in source.marks():
            recorder.mark(happening.kind, happening.at, happening.note)
        recorder.heard_by(self._host.capture)
        self._watch_silence(recorder)
        for item in recorder.advance(now):
            self._tell("queued", item.call_id, part=item.part)
        if recorder.recorded_s >= self._settings.recording.max_s:
            self._cut(recorder)

    # A recording

    def _begin(self) -> None:
        try:
            source, began, heard = self._open()
            try:
                self._recorder = self._recorder_from(began, self._first_metadata(began))
            except (OSError, WhisperError):
                source.close()
                raise
        except (NoRoom, HostUnavailable) as problem:
            log.error("%s: %s", problem.what, problem.why)
            self.problem = problem
            self._continues = False
            self._tell("unrecorded", "", reason=problem.what)
            return
        self._source = source
        self._sounded_at = self._host.clock()
        if self._continues:
            self._recorder.mark("restarted", began)
        if self.pause is not None:
            self._recorder.pause(max(began, self.pause.since))
        for block in heard:
            self._recorder.feed(block)
        self._tell("detected", self._recorder.metadata.call_id, part=self._recorder.metadata.part)

    def _open(self) -> tuple[Source, float, list[Block]]:
        """The devices, where the recording begins, and what was heard since."""
        if (ahead := self._ahead) is None:
            source = self._host.open()
            return source, source.began, []
        self._ahead = None
        now = self._host.clock()
        ahead.listen(now)
        return ahead.source, *ahead.take(now)

    def _recorder_from(self, began: float, metadata: wire.CallMetadata) -> Recorder:
        return Recorder(self._spool, self._keys, self._settings.recording, began, metadata)

    def _first_metadata(self, began: float) -> wire.CallMetadata:
        """Of a new call, or of the next part of the one that was cut off."""
        party = self.state.remote_party
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

    def _end(self, recorder: Recorder, *, complete: bool = True) -> None:
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
        self._end(recorder)
        party = recorder.metadata.remote_party
        metadata = msgspec.structs.replace(
            self._new_metadata(recorder.ends_at),
            remote_party=party,
            account=recorder.metadata.account,
            direction=recorder.metadata.direction,
        )
        self._recorder = self._recorder_from(recorder.ends_at, metadata)
        self._recorder.confirm()
        if self.pause is not None:
            self._recorder.pause(recorder.ends_at)
        self._tell("recording", metadata.call_id, remote_party=party)

    def _let_go(self) -> None:
        if self._recorder is None and self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self._source is not None:
            self._source.close()
        self._recorder = self._source = None
        self._continues = False
        self.alarms = ()

    def _leave(self) -> None:
        """The agent stops while a call goes on."""
        try:
            self._listen()
            recorder, continues = self._recorder, self._continues
            self._let_go()
            if recorder is None:
                return
            if not recorder.confirmed:
                recorder.drop()
                return
            recorder.mark("agent stopped", self._host.clock())
            if continues:
                self._conclude_interrupted(last=False)
            self._end(recorder, complete=False)
        except (OSError, WhisperError) as problem:
            # The next start finds it as a crash would leave it.
            log.error("the recording could not be closed: %s", problem)
            self._abandon()

    def _abandon(self) -> None:
        """Something broke: what lies on the disk is taken over by the next run."""
        recorder = self._recorder
        self._let_go()
        if recorder is not None:
            recorder.abandon()
        self.state = detect.State()

    # What an earlier run left

    def _take_over(self) -> None:
        """Bring the spool into order; the newest recording that was cut off just now may go on."""
        self._interrupted = None
        gap_s = self._settings.detection.resume_s + RESTART_S
        self._discretion.recall(self._host.clock(), gap_s)
        found = recovery.recover(self._spool, self._new_metadata(self._host.clock()))
        self.notes = found.notes
        for note in found.notes:
            log.warning("%s", note)
        limit = time.time() - gap_s
        for item in sorted(found.interrupted, key=lambda item: item.call_id):
            self._conclude_interrupted(last=True)
            self._interrupted = item
            if item.path.stat().st_mtime < limit:
                self._conclude_interrupted(last=True)
        self._decide_by = self._host.clock() + self._settings.detection.resume_s

    def _conclude_interrupted(self, *, last: bool) -> None:
        item, self._interrupted = self._interrupted, None
        self._continues = False
        if item is None:
            return
        if queued := recovery.conclude(self._spool, item, last=last):
            self._tell("queued", queued.call_id, part=queued.part, complete=False)
