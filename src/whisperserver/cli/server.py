"""`wa server`: run the server, and what its administrator needs beside it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from whisperagent import console, settings
from whisperagent.errors import UsageError
from whisperagent.i18n import _
from whisperserver.cli.key import key
from whisperserver.cli.model import model

server = typer.Typer(
    help=_("Receive, transcribe and keep the calls of all PCs."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
standin = typer.Typer(
    help=_("Programs that stand in for others, to try things out."),
    no_args_is_help=True,
    rich_markup_mode=None,
)
server.add_typer(key, name="key")
server.add_typer(model, name="model")
server.add_typer(standin, name="standin")


@server.command(help=_("Run the server: uploads, transcription, review, tickets."))
def serve(
    host: Annotated[
        str | None, typer.Option(help=_("The address to listen on; 0.0.0.0 is all of them."))
    ] = None,
    port: Annotated[int | None, typer.Option(help=_("The port; 0 takes a free one."))] = None,
    speech_model: Annotated[
        str | None, typer.Option("--model", help=_("The speech model: a name, a folder, or `demo`."))
    ] = None,
    workers: Annotated[int | None, typer.Option(help=_("How many calls are transcribed at once."))] = None,
) -> None:
    loaded = settings.load(
        {
            "serve.host": host,
            "serve.port": port,
            "speech.model": speech_model,
            "serve.workers": workers,
        }
    )
    from whisperserver import logs
    from whisperserver.serve import serve as run

    logs.set_up()
    run(loaded)


@server.command(help=_("Run one more worker, beside those of the server."))
def worker(
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    loaded = settings.load()
    from whisperserver import logs
    from whisperserver.worker import run

    logs.set_up()
    run(loaded, until_eof=until_eof)


@server.command(help=_("Have calls transcribed again that failed or were laid aside."))
def retry(
    call_ids: Annotated[list[str] | None, typer.Argument(metavar="CALL_ID…", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help=_("All that failed or were laid aside."))] = False,
) -> None:
    if bool(call_ids) == everything:
        raise UsageError(
            _("which calls?"), fix=_("`wa server retry CALL_ID`, or `wa server retry --all` for all of them")
        )
    loaded = settings.load()
    import asyncio

    from whisperserver.store import database, transcripts

    where = database.location(loaded.settings, loaded.paths)
    if not where.exists():
        raise UsageError(_("there are no calls in {path}").format(path=where))

    async def begin_anew() -> Sequence[str]:
        async with database.opened(where) as store, store.writing() as session:
            return await transcripts.retry(session, call_ids or ())

    for call_id in asyncio.run(begin_anew()):
        console.print_data(call_id)


@server.command(help=_("Make the token by which a PC proves its extension."))
def token(
    extension: Annotated[str, typer.Argument(metavar="EXTENSION", help=_("For instance 201."))],
    days: Annotated[float, typer.Option(min=0.01, max=3650, help=_("How long it is valid."))] = 365,
) -> None:
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,32}", extension):
        raise UsageError(
            _("`{text}` is not an extension").format(text=extension),
            why=_("an extension has up to 32 letters, digits, dots and dashes"),
            fix=_("`wa server token 201`"),
        )
    loaded = settings.load()
    from whisperserver import auth

    console.print_data(auth.make_token(loaded.settings.serve, extension, days))
    console.say(
        _(
            "give it to the PC of extension {extension} as WA_TOKEN, or in the file `token` of its folder"
        ).format(extension=extension)
    )


@standin.command(help=_("Answer as NinjaOne's API does, and show the tickets."))
def ninjaone(
    port: Annotated[int, typer.Option(help=_("The port; 0 takes a free one."))] = 3100,
    file: Annotated[Path | None, typer.Option(help=_("Keep the tickets in this JSON file."))] = None,
) -> None:
    settings.load()
    from whisperserver.tickets import standin as stand_in

    stand_in.serve(port, file)
