"""The watch: what the softphone shows becomes a recording.

Ties hosts/ (signals), detect.py (what they mean), discretion.py (what a person asked for) and recording.py
(what is done about it) together, in one loop on the host's clock. It knows nothing of a server: whether one
answers changes nothing here.

A person may pause the recording, say that the call is private, or leave a note in it (control.py).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from whisperagent import detect, wire
from whisperagent.detect import Phase
from whisperagent.discretion import Discretion, Pause
from whisperagent.errors import UsageError, WhisperError
from whisperagent.hosts import Host
from whisperagent.hosts.hooks import Hooks
from whisperagent.i18n import _
from whisperagent.keys import Keys
from whisperagent.record import Recorder
from whisperagent.recording import CallRecording, Tell
from whisperagent.settings import Settings
from whisperagent.spool import Spool

LISTEN_S = 0.1
"""How often sound is fetched while recording."""
RINGING_S = 0.05
"""How often signals are looked at while it rings: the answer must not come between two looks."""


class CallWatch:
    """Detects and records on `host`.

    tell: called as `tell("recording", call_id, …)`: detected, dropped, recording, held, resumed, sealed,
    queued, short, unrecorded, paused, unpaused, private, note, silent. destroy: deletes all there is of a
    private call, and tells whether the server may have some of it; by default from the spool. alarms: the
    sides of the call that have been silent for too long.
    raises ConfigError: a pattern that is not a regular expression.
    """

    def __init__(
        self,
        host: Host,
        spool: Spool,
        keys: Keys,
        settings: Settings,
        tell: Tell,
        destroy: Callable[[str], bool] | None = None,
    ) -> None:
        detect.check(settings.detection, settings.accounts)
        self.state = detect.State()
        self.alarms: tuple[str, ...] = ()
        self._host = host
        self._settings = settings
        self._tell = tell
        self._destroy = destroy or spool.destroy
        self._discretion = Discretion(spool.root.parent / "discretion.json")
        self._recording = CallRecording(host, spool, keys, settings, self._discretion, tell)
        self._hooks = Hooks(settings)
        self._unpaused_at = 0.0

    async def run(self) -> None:
        """Until cancelled; a call that is up then is closed as incomplete and queued."""
        self._recording.take_over(self._destroy)
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
    def problem(self) -> WhisperError | None:
        """Why the last call was not recorded."""
        return self._recording.problem

    @property
    def hook_problem(self) -> WhisperError | None:
        """Why 3CX does not tell of calls, though it was asked to; they are recorded all the same."""
        return self._hooks.problem

    @property
    def notes(self) -> list[str]:
        """What recovery found."""
        return self._recording.notes

    @property
    def ended(self) -> int:
        """How many calls have ended."""
        return self._recording.ended

    @property
    def idle(self) -> bool:
        """Nothing is being recorded, and nothing cut off waits for a decision."""
        recording = self._recording
        return recording.recorder is None and not recording.undecided and self.state.phase is Phase.IDLE

    def current(self) -> wire.CurrentCall | None:
        """The call that is being recorded now."""
        if (recorder := self._recording.recorder) is None:
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
        now, going_on = self._host.clock(), self.pause
        pause = self._discretion.begin_pause(now, seconds)
        if (recorder := self._recording.recorder) is not None and going_on is None:
            recorder.pause(now)
        self._tell("paused", self._call_id(), seconds=round(pause.until - now))
        return pause

    def end_pause(self) -> None:
        """raises UsageError: there is none."""
        if self.pause is None:
            raise UsageError(
                _("recording is not paused"), fix=_("`wa agent status` tells what the agent does")
            )
        self._unpause()

    def make_private(self) -> tuple[str, bool]:
        """Destroy what there is of this call, and record no more of it.

        returns: its id, empty when nothing of it was recorded yet, and whether the server has, or is just
        getting, a part of it.
        raises UsageError: there is no call.
        """
        recorder = self._recording.recorder
        if recorder is None and (self.private or self.state.phase is Phase.IDLE):
            raise self._no_call()
        call_id = self._call_id()
        # First of all: whatever happens next, this call is not recorded again, and what is left goes.
        self._discretion.begin_private(self._host.clock(), call_id)
        sent = recorder is not None and self._recording.destroy(recorder, self._destroy)
        self._recording.give_up()
        self.alarms = ()
        self._tell("private", call_id)
        return call_id, sent

    def note(self, text: str) -> str:
        """Leave a mark with these words at this moment of the call; gives its id.

        raises UsageError: there is no call.
        """
        if (recorder := self._recording.recorder) is None:
            raise self._no_call()
        recorder.mark("note", self._host.clock(), text)
        self._tell("note", recorder.metadata.call_id)
        return recorder.metadata.call_id

    def _no_call(self) -> UsageError:
        return UsageError(
            _("this call is private already") if self.private else _("no call is being recorded"),
            fix=_("`wa agent status` tells what the agent does"),
        )

    def _call_id(self) -> str:
        recorder = self._recording.recorder
        return recorder.metadata.call_id if recorder is not None else ""

    def _unpause(self) -> None:
        self._discretion.end_pause()
        self._unpaused_at = self._host.clock()
        self._recording.forget_ahead(self._unpaused_at)
        if (recorder := self._recording.recorder) is not None:
            recorder.unpause(self._unpaused_at)
        self._tell("unpaused", self._call_id())

    def _watch_discretion(self, now: float) -> None:
        """Pauses expire; a private call is private until it is over."""
        if self.pause is not None and self.pause.is_over(now):
            self._unpause()
        if not self.private:
            return
        # An agent that was started again has not seen the private call yet.
        if self.state.phase is Phase.IDLE and now > self._recording.decide_by:
            self._discretion.end_private()
        else:
            self._discretion.still_private(now)

    # The loop

    def _pause_s(self) -> float:
        poll_s = self._settings.detection.poll_s
        if self._recording.recorder is not None:
            return min(poll_s, LISTEN_S)
        return min(poll_s, RINGING_S) if self._recording.ringing else poll_s

    def _look(self) -> None:
        now, recording = self._host.clock(), self._recording
        signals = self._hooks.add(self._host.signals())
        if recording.recorder is not None:
            signals = replace(signals, silent_s=now - recording.sounded_at)
        recording.watch_ringing(signals, now)
        self.state, events = detect.step(self.state, signals, now, self._settings.detection)
        if any(isinstance(event, detect.CallSuspected) for event in events):
            recording.keep_open()
        for event in events:
            self._on(event)
        recording.listen_ahead(now)
        self._watch_unrecorded()
        self._watch_details(signals)
        self._watch_discretion(now)
        if (recorder := recording.recorder) is not None:
            recorder.quiet(self.state.quiet_since)
        recording.decide(now)

    def _watch_unrecorded(self) -> None:
        """A sound system that is back, or a disk that has room again, saves the rest of the call."""
        phase = self.state.phase
        if phase is Phase.IDLE:
            self._recording.give_up()
        elif phase is not Phase.ENDING:
            self._recording.begin_again(self.state.remote_party, confirmed=phase is not Phase.TENTATIVE)

    def _watch_details(self, signals: detect.Signals) -> None:
        """The account that is seen first, and the direction that is told first, stay the call's."""
        if (recorder := self._recording.recorder) is None:
            return
        rules, accounts = self._settings.detection, self._settings.accounts
        if not recorder.metadata.account and (account := detect.account(signals, rules, accounts)):
            recorder.belongs_to(account)
        if signals.direction != "unknown" and recorder.metadata.direction == "unknown":
            recorder.went(signals.direction)

    def _on(self, event: detect.Event) -> None:
        if isinstance(event, detect.CallEnded) and self.private:
            self._discretion.end_private()
        if isinstance(event, detect.CallSuspected):
            self._recording.give_up()
            if not self.private:
                self._recording.begin(self.state.remote_party)
        recorder = self._recording.recorder
        if recorder is None:
            return
        match event:
            case detect.CallConfirmed():
                self._recording.confirm(recorder)
            case detect.PartyNamed():
                recorder.name(event.remote_party, event.at)
            case detect.CallHeld():
                recorder.mark("held", event.at)
                self._tell("held", recorder.metadata.call_id)
            case detect.CallResumed():
                recorder.mark("resumed", event.at)
                self._tell("resumed", recorder.metadata.call_id)
            case detect.CallDropped():
                self.alarms = ()
                self._recording.drop(recorder)
            case detect.CallEnded():
                self.alarms = ()
                self._recording.end(recorder)
                if self.pause is not None and self.pause.this_call:
                    self._unpause()

    def _listen(self) -> None:
        self._recording.listen()
        if (recorder := self._recording.recorder) is not None:
            self._watch_silence(recorder)

    def _watch_silence(self, recorder: Recorder) -> None:
        """A side that nobody hears is told of while the call can still be saved, and not on hold."""
        limit_s = self._settings.recording.silent_alarm_s
        before, self.alarms = self.alarms, ()
        if limit_s and self.state.phase is Phase.CALL and self.pause is None:
            self.alarms = recorder.alarms(limit_s, max(self.state.since, self._unpaused_at))
        for side in self.alarms:
            if side not in before:
                self._tell("silent", recorder.metadata.call_id, side=side, seconds=round(limit_s))

    def _leave(self) -> None:
        """The agent stops while a call goes on."""
        self._recording.leave()
        self.alarms = ()

    def _abandon(self) -> None:
        """Something broke: what lies on the disk is taken over by the next run."""
        self._recording.abandon()
        self.alarms = ()
        self.state = detect.State()
