"""`wa config`: what the settings are, where they come from, and how to change one."""

import sys
from typing import Annotated

import typer

from whisperagent import console, settings
from whisperagent.i18n import _

config = typer.Typer(
    help=_("Show and change the settings."), no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@config.command(help=_("Every setting, its value and where the value comes from."))
def show(json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False) -> None:
    loaded = settings.load()
    rows = [
        (key, settings.shown(key, value), loaded.source.get(key, "default"))
        for key, value in settings.flat(loaded.settings)
    ]
    if json:
        console.print_json([{"key": key, "value": value, "source": source} for key, value, source in rows])
        return
    console.print_table(
        (_("setting"), _("value"), _("from")),
        [(key, _text(value), _("default") if source == "default" else source) for key, value, source in rows],
        empty="",
    )


@config.command(help=_("Where config.toml is."))
def path() -> None:
    console.print_data(str(settings.paths().config))


@config.command(
    name="set",
    help=_(
        "Write one setting into config.toml; its comments stay.\n\n"
        "Examples: `wa config set server.url http://192.168.1.100:3002`, "
        "`wa config set tickets.client_secret -`."
    ),
)
def set_(
    key: Annotated[str, typer.Argument(metavar="KEY", help=_("For instance server.url"))],
    value: Annotated[
        str,
        typer.Argument(
            metavar="VALUE",
            help=_("The new value; lists as a,b,c; `-` asks for it, or reads a line from standard input."),
        ),
    ],
) -> None:
    if value == "-":
        value = _asked_for(key)
    elif key in settings.SECRETS:
        console.say(_("a secret on the command line stays in the shell's history: `-` instead asks for it"))
    where = settings.paths().config
    written = settings.write(where, key, value)
    console.say(
        _("{key} = {value} in {path}").format(key=key, value=_text(settings.shown(key, written)), path=where)
    )
    console.say(_("a running agent or server reads it at its next start"))


def _asked_for(key: str) -> str:
    if not console.interactive():
        return sys.stdin.readline().rstrip("\r\n")
    from getpass import getpass  # only for a question

    # Nothing of what is typed is shown.
    return getpass(f"{key}: ", sys.stderr)


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(str(item) for item in value)
    return str(value) if value != "" else "-"
