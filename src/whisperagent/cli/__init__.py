"""`wa`: parse, import what runs, print.

`wa --help` and `wa agent status` answer within 150 ms, so this package imports nothing heavier than
Typer and the shared files; each command imports what it runs. Commands that the server brings are found
by the entry-point group `wa.commands`, and no file of the agent names a server module.
"""

import os
import signal
import sys
from importlib import import_module
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

import whisperagent
from whisperagent import console
from whisperagent.errors import NotInstalled, WhisperError
from whisperagent.i18n import _

OWN = {
    "agent": ("whisperagent.cli.agent", "agent"),
    "queue": ("whisperagent.cli.queue", "queue"),
    "review": ("whisperagent.cli.review", "review"),
    "config": ("whisperagent.cli.config", "config"),
}
"""Our commands and where they are; imported when they are asked for, or for the help."""

ORDER = ("agent", "queue", "review", "config", "server", "transcribe", "demo")


class Commands(TyperGroup):
    """The commands of this package, then those of the entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = {*OWN, *(point.name for point in _entry_points())}
        return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in OWN:
            module, attribute = OWN[cmd_name]
            return _command(getattr(import_module(module), attribute), cmd_name)
        for point in _entry_points():
            if point.name == cmd_name:
                return _command(point.load(), cmd_name)
        return None


def _entry_points() -> Any:
    from importlib.metadata import entry_points  # 15 ms, so only for the help and for the server's commands

    return entry_points(group="wa.commands")


def _command(app: typer.Typer, name: str) -> click.Command:
    command = typer.main.get_command(app)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    help=_("A helpdesk's 3CX calls: recorded on this PC, sealed, transcribed on your own server, reviewed, turned into tickets."),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        console.print_data(f"wa {whisperagent.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    color: Annotated[str, typer.Option(metavar="auto|always|never", help=_("Colour of the output."))] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help=_("Only results and errors."))] = False,
    debug: Annotated[bool, typer.Option(help=_("Show a traceback with an error."))] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help=_("Show the version and exit."))
    ] = False,
) -> None:
    console.set_up(color, quiet)
    if debug:
        os.environ["WA_DEBUG"] = "1"


def main() -> None:
    """Run `wa` and exit with the code of `errors`, 130 after Ctrl+C, 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        app(standalone_mode=False)
    except WhisperError as problem:
        _fail(problem, problem.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as usage:
        console.say(usage.format_message())
        sys.exit(2)
    except click.ClickException as usage:
        usage.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        console.say(_("stopped"))
        sys.exit(130)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("whisper"):
            raise
        # A command whose libraries come with an extra: say which, instead of a traceback.
        problem = NotInstalled(
            _("this command needs more than the agent: {module} is not installed").format(module=missing.name),
            fix='pip install "whisperagent[server]"',
        )
        _fail(problem, problem.exit_code)


def _fail(problem: WhisperError, code: int) -> None:
    if os.environ.get("WA_DEBUG"):
        import traceback

        traceback.print_exc()
    console.error(problem)
    sys.exit(code)
