"""`wa agent`: run the agent on this PC, and ask how it is. Orders to it are in `orders`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from whisperagent import console, settings
from whisperagent.cli.orders import orders
from whisperagent.i18n import _

if TYPE_CHECKING:
    from typer._click import Context

    from whisperagent.agent import Agent, Moment
    from whisperagent.wire import AgentStatus

ORDER = (
    *("run", "status", "pause", "resume", "private", "note"),
    *("devices", "test", "tray", "install", "uninstall"),
)
"""What is used every day first, what is done once last."""


class InOrder(TyperGroup):
    def list_commands(self, ctx: "Context") -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


agent = typer.Typer(
    cls=InOrder,
    help=_("Detect, record and send the calls of this PC."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
agent.add_typer(orders)


@agent.command(
    help=_("Run the agent: a dashboard, or lines of text.\n\nThe dashboard on a terminal, lines elsewhere.")
)
def run(
    headless: Annotated[
        bool, typer.Option("--headless", help=_("No dashboard, even on a terminal."))
    ] = False,
    simulate: Annotated[
        Path | None,
        typer.Option(metavar="FILE.wav", help=_("Play this call instead of watching a softphone.")),
    ] = None,
    speed: Annotated[float, typer.Option(help=_("How fast to play it, times real time."))] = 1.0,
    once: Annotated[bool, typer.Option("--once", help=_("Stop when a call has ended and is sent."))] = False,
    server: Annotated[str | None, typer.Option(metavar="URL", help=_("The server to send to."))] = None,
    extension: Annotated[str | None, typer.Option(help=_("The extension of this PC."))] = None,
    json: Annotated[bool, typer.Option("--json", help=_("One JSON object a line on stdout."))] = False,
) -> None:
    loaded = settings.load({"server.url": server, "agent.extension": extension})
    if not (headless or json or once) and console.interactive():
        _dashboard(loaded, simulate, speed)
    else:
        _headless(loaded, simulate, speed, once=once, json=json)


@agent.command(help=_("Tell whether the agent runs, and what it does.\n\nExit code 1: it does not run."))
def status(json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False) -> None:
    from datetime import UTC, datetime

    from whisperagent import status as last_words

    found = last_words.read(settings.load().paths.status)
    running = found is not None and last_words.runs(found, datetime.now(UTC))
    if json:
        console.print_json({"running": running, "status": found})
    elif found is None:
        console.say(_("the agent has not run on this PC yet: `wa agent run` starts it"))
    else:
        _print_status(found, running)
    raise typer.Exit(0 if running else 1)


@agent.command(help=_("List microphones and outputs, and how loud each is."))
def devices(
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
) -> None:
    from whisperagent.cli import sound
    from whisperagent.hosts import this_pc

    sound.devices(this_pc(settings.load().settings), json=json)


@agent.command(
    name="test",
    help=_("Listen to both sides for 5 s and say what was heard.\n\nExit code 1: a side gave no sound."),
)
def listen(
    simulate: Annotated[
        Path | None,
        typer.Option(metavar="FILE.wav", help=_("Play this call instead of listening to a softphone.")),
    ] = None,
    speed: Annotated[float, typer.Option(help=_("How fast to play it, times real time."))] = 1.0,
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
) -> None:
    from whisperagent.cli import sound

    sound.test(settings.load(), simulate, speed, json=json)


def _dashboard(loaded: settings.Loaded, simulate: Path | None, speed: float) -> None:
    from whisperagent.agent import Agent
    from whisperagent.hosts import choose, notify
    from whisperagent.tui.app import WaApp

    host = choose(loaded.settings, simulate, speed, loaded.paths.home)
    daemon = Agent(loaded, host, notify=notify.send)
    # Claimed before the screens open: a second agent is an error, not a screen that records nothing.
    with daemon.claimed():
        app = WaApp(loaded, agent=daemon)
        app.run()
    if app.return_code:
        raise typer.Exit(app.return_code)


def _headless(
    loaded: settings.Loaded, simulate: Path | None, speed: float, *, once: bool, json: bool
) -> None:
    import asyncio

    from whisperagent.agent import Agent
    from whisperagent.hosts import choose, notify

    daemon = Agent(
        loaded,
        choose(loaded.settings, simulate, speed, loaded.paths.home),
        once=once,
        report=_print_json_line if json else _print_line,
        # `--once` is for scripts and demonstrations: nobody sits there.
        notify=None if once else notify.send,
    )
    if number := asyncio.run(_until_stopped(daemon)):
        raise typer.Exit(128 + number)


async def _until_stopped(daemon: "Agent") -> int:
    """Run `daemon` until it ends by itself (0) or a signal asks it to; gives the signal's number."""
    import asyncio
    import signal

    received: list[int] = []
    loop = asyncio.get_running_loop()

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        loop.call_soon_threadsafe(daemon.stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    await daemon.run()
    return received[0] if received else 0


def _print_line(moment: "Moment") -> None:
    details = [_detail(key, value) for key, value in moment.details.items()]
    at = f"{moment.at.astimezone():%H:%M:%S}"
    console.say("  ".join(filter(None, [at, _words(moment.event), moment.call_id, *details])))


def _print_json_line(moment: "Moment") -> None:
    import sys

    import msgspec

    sys.stdout.write(msgspec.json.encode(moment).decode() + "\n")
    sys.stdout.flush()


def _words(event: str) -> str:
    """An event as a person reads it; the states of the server as well."""
    return {
        "detected": _("a call begins"),
        "dropped": _("it was no call: deleted unheard"),
        "recording": _("recording"),
        "held": _("on hold"),
        "resumed": _("the call goes on"),
        "short": _("too short to keep: deleted"),
        "unrecorded": _("this call is NOT recorded"),
        "sealed": _("sealed"),
        "queued": _("queued"),
        "uploaded": _("on the server"),
        "refused": _("refused by the server"),
        "paused": _("paused: silence is recorded"),
        "unpaused": _("recording goes on"),
        "private": _("private: the recording is destroyed"),
        "note": _("noted"),
        "silent": _("a side of this call is silent"),
        "stuck": _("nothing can be sent until somebody sees to it; what is recorded waits on this PC"),
        "unsent": _("nothing can be sent now; what is recorded waits on this PC"),
        "sendable": _("the server takes recordings again"),
        "trouble": _("something is wrong with the sound of this PC"),
        "mended": _("the sound of this PC is in order again"),
        "drafted": _("drafted on this PC"),
        "undrafted": _("could not be drafted on this PC; the server will transcribe it"),
        "cramped": _("the disk is too full"),
        "roomy": _("the disk has room again"),
        "late": _("still waits for the server"),
        "expired": _("was never sent, and is deleted as the settings want it"),
        "overdue": _("waits for very long; it is kept, and tried again"),
        "received": _("received"),
        "transcribing": _("being transcribed"),
        "transcribed": _("transcribed: ready for review"),
        "approved": _("approved"),
        "ticketed": _("ticket made"),
        "failed": _("could not be transcribed"),
        "rejected": _("discarded"),
        "erased": _("erased"),
        "quarantined": _("quarantined"),
    }.get(event, event)


def _detail(key: str, value: object) -> str:
    from whisperagent.tui import words

    if key == "duration_s" and isinstance(value, float):
        return words.clock(value)
    if key == "part" and value != 1:
        return _("part {number}").format(number=value)
    return words.clean(str(value)) if key in ("remote_party", "reason") else ""


def _print_status(found: "AgentStatus", running: bool) -> None:
    from whisperagent.tui import words
    from whisperagent.wire import SpoolState

    yes, no = console.glyph("●", "*"), console.glyph("○", "-")
    if running:
        state = f"{yes} {_('does not record this call') if found.private else _state(found.state)}"
    elif found.state == "stopped":
        state = f"{no} {_('stopped')}"
    else:
        state = f"{no} {_('dead: it ended without saying so')}"
    last = f"{found.updated_at.astimezone():%Y-%m-%d %H:%M:%S}"
    linked = _("{url}, connected") if found.server_connected else _("{url}, not connected")
    if not found.server_url:
        linked = _("none is named: calls stay on this PC")
    server = "" if found.server_connected else found.server_error
    process = _("process {pid}, version {version}").format(pid=found.pid, version=found.version)
    waiting = ", ".join(
        f"{words.spool_state(state).text} {count}"
        for state in SpoolState
        if (count := found.queue.get(state))
    )
    rows = [
        (_("agent"), f"{state}, {process}"),
        (_("seen at"), last),
        (_("extension"), f"{found.extension} ({found.host})"),
        (_("server"), server or linked.format(url=found.server_url)),
        (_("calls today"), str(found.calls_today)),
        (_("queue"), waiting or _("empty")),
    ]
    if running and found.call is not None:
        call = found.call
        rows.append((_("call"), f"{call.remote_party or call.call_id}, {words.clock(call.recorded_s)}"))
    warnings = [(_("recording"), text) for text in _not_recorded(found)] if running else []
    if found.error:
        rows.append((_("trouble"), found.error))
    width = max(len(label) for label, _value in [*rows, *warnings])
    for label, value in rows:
        console.print_data(f"{label.ljust(width)}  {words.clean(value)}")
    for label, value in warnings:
        console.print_data(f"{label.ljust(width)}  {console.styled(words.clean(value), 'red')}")


def _not_recorded(found: "AgentStatus") -> list[str]:
    """What of the calls is not recorded now, and should not be overlooked."""
    from whisperagent.tui import words

    texts = []
    if found.paused_until is not None:
        time = f"{found.paused_until.astimezone():%H:%M:%S}"
        texts.append(_("paused until {time}: `wa agent resume` records again").format(time=time))
    if found.private:
        texts.append(_("this call is private and not recorded"))
    if found.call is not None:
        texts += [
            _("{side}: silent for {seconds} s").format(
                side=words.speaker(side), seconds=int(found.call.silent_s.get(side, 0))
            )
            for side in found.call.alarms
        ]
    return texts


def _state(state: str) -> str:
    return {
        "idle": _("waits for a call"),
        "tentative": _("perhaps a call"),
        "call": _("records a call"),
        "held": _("records a call, on hold"),
        "ending": _("a call is ending"),
    }.get(state, state)
