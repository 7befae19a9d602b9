"""`wa`: parse, import what runs, print.

`wa --help` and `wa agent status` answer within 150 ms, so this package imports nothing heavier than
Typer and the shared files; each command imports what it runs. Commands that the server brings are found
by the entry-point group `wa.commands`, and no file of the agent names a server module. Every error ends in
`main`, which is the one place that turns it into words and an exit code.
"""

import os
import signal
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

import whisperagent
from whisperagent import console
from whisperagent.errors import ConfigError, NotInstalled, UsageError, WhisperError
from whisperagent.i18n import _

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    # Typer brings its own copy of Click and names its classes nowhere else.
    from typer._click import Command, Context

OWN = ("agent", "queue", "review", "doctor", "config")
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
        elif ctx.resilient_parsing:
            return None
        else:
            raise self._unknown(ctx, cmd_name)
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command

    def _unknown(self, ctx: "Context", name: str) -> UsageError:
        from difflib import get_close_matches  # only a mistake needs it

        near = get_close_matches(name, self.list_commands(ctx), n=1)
        return UsageError(
            _("there is no command `wa {name}`").format(name=name),
            fix=_did_you_mean(f"wa {near[0]}" if near else "", "wa"),
        )


@cache
def _entry_points() -> "EntryPoints":
    # Reads a file of every package that is installed: paid by the help and the server's commands only, once.
    from importlib.metadata import entry_points

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
        Literal["auto", "always", "never"],
        typer.Option(metavar="auto|always|never", help=_("Colour of the output.")),
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
    """Run `wa` and exit: an error's own code, 2 for a wrong command line, 130 at Ctrl+C, 143 at SIGTERM."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    if sys.stderr is None:
        _speak_into_a_file()
    try:
        code = app(prog_name="wa", standalone_mode=False)
        sys.stdout.flush()  # a disk that is full shows only now
    except WhisperError as problem:
        _fail(problem)
    except TyperException as problem:
        _wrong_command_line(problem)
    except typer.Abort:
        # Ctrl+C or the end of input at a question.
        console.say(_("cancelled"))
        sys.exit(130)
    except OSError as problem:
        _let_go_of_stdout()
        if isinstance(problem, BrokenPipeError):
            sys.exit(1)  # as `| head` wants it
        _fail(_refused_by_the_system(problem))
    except ModuleNotFoundError as missing:
        # A command whose libraries come with an extra: say which one, instead of a traceback.
        if (missing.name or "whisper").startswith("whisper"):
            raise
        what = _("this command needs more than the agent: {module} is not installed").format(
            module=missing.name
        )
        _fail(NotInstalled(what, fix='pip install "whisperagent[server]"'))
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _let_go_of_stdout() -> None:
    """What it cannot write it would try to write again at the end, and complain in Python's words."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _speak_into_a_file() -> None:
    """Windows' pythonw, which starts the agent at logon, has no streams: what it says is not to be lost."""
    from whisperagent.settings import paths

    folder = paths().logs
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout = sys.stderr = (folder / "autostart.log").open("w", encoding="utf-8", buffering=1)


def _wrong_command_line(problem: TyperException) -> NoReturn:
    """What Typer says, in the form of our own errors."""
    # Click's own errors; imported late because only a mistake needs them.
    from typer._click.exceptions import NoArgsIsHelpError, NoSuchOption

    if isinstance(problem, NoArgsIsHelpError):
        problem.show()
        sys.exit(2)
    context: Context | None = getattr(problem, "ctx", None)
    command = context.command_path if context is not None else "wa"
    what, near = problem.format_message().rstrip("."), ""
    if isinstance(problem, NoSuchOption):
        what = _("there is no option `{name}`").format(name=problem.option_name)
        near = next(iter(problem.possibilities or ()), "")
    _fail(UsageError(what[:1].lower() + what[1:], fix=_did_you_mean(near, command)))


def _did_you_mean(near: str, command: str) -> str:
    if near:
        return _("did you mean `{near}`?").format(near=near)
    return _("`{command} --help` says what there is").format(command=command)


def _refused_by_the_system(problem: OSError) -> WhisperError:
    """A full disk, a file that cannot be written; `--debug` shows where."""
    why = problem.strerror or str(problem)
    if not isinstance(problem.filename, str | os.PathLike):
        return WhisperError(_("the system refused to go on"), why=why)
    what = _("cannot use {path}").format(path=problem.filename)
    from whisperagent.settings import paths

    place, home = Path(problem.filename).absolute(), paths().home
    if place.is_relative_to(home) or home.is_relative_to(place):
        return ConfigError(what, why=why, fix=_("make that place writable, or set WA_HOME to another one"))
    return WhisperError(what, why=why)


def _fail(problem: WhisperError) -> NoReturn:
    if os.environ.get("WA_DEBUG"):
        import traceback

        traceback.print_exc()
    console.error(problem)
    sys.exit(problem.exit_code)
