"""`wa server key`: the public key that PCs pin, and a new one in its place."""

from typing import Annotated

import typer

from whisperagent import console, settings
from whisperagent.i18n import _

key = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help=_("One JSON document."))]


@key.callback(help=_("Show the server's public key, which PCs pin as `server.key`."))
def show(context: typer.Context, json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    loaded = settings.load()
    from whisperserver import keys
    from whisperserver.store import database

    where = database.location(loaded.settings, loaded.paths)
    ring = keys.load_or_make(loaded.paths, where)
    shown = keys.shown(ring)
    if json:
        console.print_json(shown)
        return
    console.print_data(shown.public_key)
    console.say(
        _("key id {kid}; the private half is {path}: back it up").format(
            kid=shown.kid, path=keys.path(loaded.paths)
        )
    )
    if ring.older:
        console.say(
            _("earlier recordings are opened by the keys in {folder}: back them up too").format(
                folder=keys.old_keys(loaded.paths)
            )
        )


@key.command(help=_("Make a new key; the one before still opens what was sealed to it."))
def rotate(json: Json = False) -> None:
    loaded = settings.load()
    from whisperserver import keys
    from whisperserver.store import database

    where = database.location(loaded.settings, loaded.paths)
    shown = keys.shown(keys.rotate(loaded.paths, where))
    if json:
        console.print_json(shown)
    else:
        console.print_data(shown.public_key)
    console.say(
        _("key id {kid}; back up {path} and {folder}").format(
            kid=shown.kid, path=keys.path(loaded.paths), folder=keys.old_keys(loaded.paths)
        )
    )
    console.say(_("restart the server and its workers: PCs follow by themselves when they next ask"))
    console.say(_("where `server.key` is set, set it to this key: `wa config set server.key …`"))
