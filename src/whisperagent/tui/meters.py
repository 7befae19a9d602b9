"""The call that is being recorded: the red word and clock, and how loud each side is."""

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from whisperagent.i18n import _
from whisperagent.tui import words
from whisperagent.tui.observed import Pc
from whisperagent.wire import SIDES, AgentStatus, CurrentCall

QUIETEST_DBFS = -60.0
LOUD_DBFS = -6.0
BESIDE = 33
"""Columns for the number and the warning beside a bar."""


class CurrentCallPanel(Static):
    """pc: what was last seen of the agent."""

    pc: reactive[Pc] = reactive(Pc())

    def __init__(self) -> None:
        super().__init__(markup=False, id="current")

    def on_mount(self) -> None:
        self.border_title = _("Current call")

    def watch_pc(self, pc: Pc) -> None:
        self.set_class(pc.recording, "-recording")
        self.refresh(layout=True)

    def render(self) -> Content:
        status = self.pc.status
        if status is None or not self.pc.alive:
            return Content(
                _("No agent runs on this PC, so calls are not recorded. `wa agent run` starts it.")
            )
        warning = _not_recorded(status)
        if status.call is None:
            text = _("No call. When the softphone is in a call, recording begins by itself.")
            return warning if warning is not None else Content(text)
        call = status.call
        names = max(len(words.speaker(side)) for side in SIDES) + 1
        bar = max(10, self.size.width - names - BESIDE)
        sides = (_side(call, side, words.speaker(side).ljust(names), bar) for side in SIDES)
        return Content("\n").join([self._headline(call), *([warning] if warning is not None else []), *sides])

    def _headline(self, call: CurrentCall) -> Content:
        state = {
            "tentative": _("perhaps a call"),
            "held": _("on hold"),
            "ending": _("ending"),
        }.get(call.state, "")
        party = words.clean(call.remote_party) or _("unknown caller")
        part = _("part {number}").format(number=call.part) if call.part > 1 else ""
        rest = " · ".join(text for text in (party, state, part) if text)
        return Content.assemble(
            ("● REC ", "bold $text-error"), (words.clock(call.recorded_s), "bold"), f"   {rest}"
        )


def _not_recorded(status: AgentStatus) -> Content | None:
    """The red line of a pause or a private call."""
    if status.paused_until is not None:
        text = _("PAUSED until {time}: silence is recorded. p records again.").format(
            time=f"{status.paused_until.astimezone():%H:%M}"
        )
    elif status.private:
        text = _("PRIVATE: this call is not recorded, and what there was of it is destroyed.")
    else:
        return None
    return Content.styled(text, "bold $text-error")


def _side(call: CurrentCall, side: str, name: str, width: int) -> Content:
    level = call.levels.get(side, QUIETEST_DBFS)
    full = round(width * min(1.0, max(0.0, 1 - level / QUIETEST_DBFS)))
    style = "$text-warning" if level > LOUD_DBFS else "$text-success"
    number = f"{level:4.0f} dB" if level > QUIETEST_DBFS else _("silent")
    silent_s = call.silent_s.get(side, 0.0)
    warning = _("⚠ silent for {seconds} s").format(seconds=int(silent_s)) if side in call.alarms else ""
    return Content.assemble(
        name,
        ("█" * full, style),
        ("░" * (width - full), "$text-disabled"),
        f" {number:<8}",
        (warning, "bold $text-warning"),
    )
