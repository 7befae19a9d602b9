"""`wa`: parse, import what runs, print.

`wa --help` and `wa agent status` answer within 150 ms, so this package imports nothing heavier than
Typer and the shared files; each command imports what it runs. Commands that the server brings are found
by the entry-point group `wa.commands`, and no file of the agent names a server module.
"""

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

import whisperagent
from whisperagent import console
from whisperagent.errors import NotInstalled, WhisperError
from whisperagent.i18n import _

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    # Typer brings its own copy of Click and names its classes nowhere else.
    from typer._click import Command, Context

OWN = ("agent", "queue", "review", "config")
"""Our commands: each is a Typer of that name in a module of that name here."""

ORDER = (*OWN, "server", "transcribe", "demo")


class Commands(TyperGroup):
    """The commands of this package, then those of the entry points; each imported when it is asked for."""

    def list_commands(self, ctx: "Context") -> list[str]:
        names = {*OWN, *_entry_points().names}
        return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        if cmd_name in OWN:
            found = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        elif points := _entry_points().select(name=cmd_name):
            found = next(iter(points)).load()
        else:
            return None
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


def _entry_points() -> "EntryPoints":
    from importlib.metadata import entry_points  # only the help and the server's commands pay for the look

    return entry_points(group="wa.commands")


app = typer.Typer(
    cls=Commands,
    help=_(
        "A helpdesk's 3CX calls: recorded on this PC, sealed, transcribed on your own server, "
        "reviewed, turned into tickets."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        console.print_data(f"wa {whisperagent.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    ctx: typer.Context,
    color: Annotated[
        str, typer.Option(metavar="auto|always|never", help=_("Colour of the output."))
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help=_("Only results and errors."))] = False,
    debug: Annotated[bool, typer.Option("--debug", help=_("Show a traceback with an error."))] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help=_("Show the version and exit.")),
    ] = False,
) -> None:
    console.set_up(color, quiet)
    if debug:
        os.environ["WA_DEBUG"] = "1"
    if ctx.invoked_subcommand is None:
        _without_command(ctx)


def _without_command(ctx: typer.Context) -> None:
    """`wa` alone opens the screens; where there is no terminal it shows the help and fails."""
    if not console.interactive():
        console.say(ctx.get_help())
        raise typer.Exit(2)
    from whisperagent.settings import load
    from whisperagent.tui.app import WaApp  # Textual takes longer to import than most commands take to run

    WaApp(load()).run()


def main() -> None:
    """Run `wa` and exit with the code of the error, 2 for a wrong command line, 130 after Ctrl+C, 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        app(prog_name="wa")
    except WhisperError as problem:
        _fail(problem)
    except ModuleNotFoundError as missing:
        # A command whose libraries come with an extra: say which one, instead of a traceback.
        if (missing.name or "whisper").startswith("whisper"):
            raise
        what = _("this command needs more than the agent: {module} is not installed").format(
            module=missing.name
        )
        _fail(NotInstalled(what, fix='pip install "whisperagent[server]"'))


def _fail(problem: WhisperError) -> None:
    if os.environ.get("WA_DEBUG"):
        import traceback

        traceback.print_exc()
    console.error(problem)
    sys.exit(problem.exit_code)
