"""`wa config`: what the settings are, where they come from, and how to change one."""

from typing import Annotated

import typer

from whisperagent import console, settings
from whisperagent.i18n import _

config = typer.Typer(
    help=_("Show and change the settings."), no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

SECRET = ("serve.signing_key", "tickets.client_secret")


@config.command(help=_("Every setting, its value and where the value comes from."))
def show(json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False) -> None:
    loaded = settings.load()
    rows = [
        (key, "***" if key in SECRET and value else value, loaded.source.get(key, _("default")))
        for key, value in settings.flat(loaded.settings)
    ]
    if json:
        console.print_json([{"key": key, "value": value, "source": source} for key, value, source in rows])
        return
    console.print_table(
        (_("setting"), _("value"), _("from")),
        [(key, _text(value), source) for key, value, source in rows],
        empty="",
    )


@config.command(help=_("Where config.toml is."))
def path() -> None:
    console.print_data(str(settings.paths().config))


@config.command(name="set", help=_("Write one setting into config.toml; comments in the file stay."))
def set_(
    key: Annotated[str, typer.Argument(help=_("For instance server.url"))],
    value: Annotated[str, typer.Argument(help=_("The new value; lists as a,b,c"))],
) -> None:
    where = settings.paths().config
    written = settings.write(where, key, value)
    console.say(_("{key} = {value} in {path}").format(key=key, value=_text(written), path=where))
    console.say(_("a running agent or server reads it at its next start"))


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(str(item) for item in value)
    return str(value) if value != "" else "-"
