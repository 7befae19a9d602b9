"""`wa agent pause`, `resume`, `private`, `note`: to the agent that runs. `install`, `uninstall`, `tray`."""

from typing import Annotated

import typer

from whisperagent import console, settings
from whisperagent.i18n import _

orders = typer.Typer(add_completion=False, rich_markup_mode=None)


@orders.command(help=_("Record silence, for card numbers: until `resume`."))
def pause(
    length: Annotated[
        str | None,
        typer.Argument(metavar="[LENGTH]", help=_("30m, 90s or 1h; else the call's end, 5 min at most.")),
    ] = None,
) -> None:
    from whisperagent import control

    given = {} if length is None else {"seconds": control.seconds(length)}
    answer = control.give(settings.load().paths, "pause", **given)
    until = f"{answer.paused_until.astimezone():%H:%M:%S}" if answer.paused_until else "?"
    console.say(
        _("paused until {time} at the latest: what is said is not recorded, on neither side").format(
            time=until
        )
    )


@orders.command(help=_("Record again, after a pause."))
def resume() -> None:
    from whisperagent import control

    control.give(settings.load().paths, "resume")
    console.say(_("recorded again"))


@orders.command(help=_("Do not record this call, and destroy what there is of it."))
def private() -> None:
    from whisperagent import control

    answer = control.give(settings.load().paths, "private")
    console.say(_("this call is private: its recording is destroyed, and no more of it is recorded"))
    if answer.sent:
        console.say(_("a part of it was sent or on its way; the server is asked to erase it"))


@orders.command(help=_("Leave a note at this moment of the call."))
def note(text: Annotated[list[str], typer.Argument(metavar="TEXT...", help=_("The words."))]) -> None:
    from whisperagent import control

    control.give(settings.load().paths, "note", text=" ".join(text))
    console.say(_("noted"))


@orders.command(help=_("Start the agent whenever you log in to this PC."))
def install(
    now: Annotated[bool, typer.Option("--now", help=_("Start it now as well."))] = False,
    show: Annotated[bool, typer.Option("--print", help=_("Only show what would be installed."))] = False,
) -> None:
    from whisperagent.hosts import autostart

    found = autostart.this_pc(settings.paths())
    if show:
        console.print_data(found.text)
        return
    found.install(now=now)
    console.say(_("the agent starts when you log in: {where}").format(where=found.where))
    if now:
        console.say(_("and it is started now; `wa agent status` tells how it is"))


@orders.command(help=_("Start it at login no more; recordings stay."))
def uninstall() -> None:
    from whisperagent.hosts import autostart

    found = autostart.this_pc(settings.paths())
    if found.uninstall():
        console.say(_("the agent does not start by itself any more; recordings stay where they are"))
    else:
        console.say(_("the agent did not start by itself"))


@orders.command(help=_("An icon beside the clock, with pause and private."))
def tray() -> None:
    from whisperagent import tray as icon

    icon.run(settings.load())
