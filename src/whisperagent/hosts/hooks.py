"""What others say of a call, beside what this PC shows: 3CX itself, and the softphone's log."""

from dataclasses import replace

from whisperagent.detect import Signals
from whisperagent.errors import WhisperError
from whisperagent.hosts.callcontrol import CallControl
from whisperagent.hosts.loglines import LogLines
from whisperagent.settings import Settings


class Hooks:
    """Those that the settings name; none by default."""

    def __init__(self, settings: Settings) -> None:
        rules, asked = settings.detection, settings.callcontrol
        self._log = LogLines(rules) if rules.log_files else None
        self._control = None
        if asked.url:
            extension = asked.extension or settings.agent.extension
            self._control = CallControl(asked.url, asked.client_id, asked.client_secret, extension)

    @property
    def problem(self) -> WhisperError | None:
        """Why 3CX tells nothing, though it was asked to."""
        return self._control.problem if self._control is not None else None

    def add(self, signals: Signals) -> Signals:
        """`signals`, and what the hooks say now."""
        if self._log is not None:
            signals = replace(signals, log=self._log.look())
        if (control := self._control) is not None and (said := control.look()).hook:
            signals = replace(
                signals,
                hook=said.hook,
                hook_call=said.hook_call,
                remote_party=said.remote_party,
                direction=said.direction,
                account=control.extension if said.hook == "connected" else "",
            )
        return signals

    async def run(self) -> None:
        """Follow 3CX until cancelled."""
        if self._control is not None:
            await self._control.run()
