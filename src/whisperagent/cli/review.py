"""`wa review`: read, correct and approve calls, on a screen or in lines of text."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from whisperagent import settings, wire
from whisperagent.errors import ConfigError, UsageError
from whisperagent.i18n import _

if TYPE_CHECKING:
    from whisperagent.client import Client

review = typer.Typer(add_completion=False, rich_markup_mode=None)


@review.command(
    help=_(
        "Read calls, correct them, approve them as tickets.\n\n"
        "Examples: `wa review`, `wa review latest`, `wa review --plain`."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
def main(
    call_id: Annotated[
        str,
        typer.Argument(metavar="[CALL_ID]", help=_("Open this call at once; `latest` is the newest one.")),
    ] = "",
    plain: Annotated[
        bool, typer.Option("--plain", help=_("Lines of text instead of a screen: screen readers, scripts."))
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help=_("Print what differs between this PC's draft and the transcript."))
    ] = False,
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document, with --diff."))] = False,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help=_("Another server than in config.toml."))
    ] = None,
    extension: Annotated[str | None, typer.Option(metavar="EXT", help=_("Review as this extension."))] = None,
) -> None:
    loaded = settings.load({"server.url": server, "agent.extension": extension})
    if not loaded.settings.agent.extension:
        raise ConfigError(
            _("this PC has no extension yet"),
            why=_("the server wants to know who reviews"),
            fix=_("`wa config set agent.extension 201`, with your own number"),
        )
    if call_id not in ("", "latest") and not wire.is_call_id(call_id):
        raise UsageError(
            _("`{text}` is not the id of a call").format(text=call_id),
            fix=_("give the whole id, or `latest`; `wa review` alone shows the list"),
        )
    if json and not diff:
        raise UsageError(_("--json goes with --diff"), fix=_("`wa review CALL_ID --diff --json`"))
    if diff:
        _difference(loaded, call_id, json=json)
    elif plain:
        _in_lines(loaded, call_id)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _on_screen(loaded, call_id)
    else:
        raise UsageError(
            _("there is no terminal to show the calls on"),
            why=_("input or output is not a terminal"),
            fix=_("`wa review --plain` reads commands from its input"),
        )


def _on_screen(loaded: settings.Loaded, call_id: str) -> None:
    from whisperagent.tui.app import WaApp  # Textual: only for those who see it

    app = WaApp(loaded, open_call=call_id, start="calls")
    app.run()
    if app.return_code:
        raise typer.Exit(app.return_code)


def _in_lines(loaded: settings.Loaded, call_id: str) -> None:
    from whisperagent.tui import plain
    from whisperagent.tui.drafts import Drafts
    from whisperagent.tui.own_calls import OwnCalls

    drafts = Drafts(loaded.paths.home / "drafts")
    plain.review(_client(loaded), drafts, OwnCalls(loaded.paths), call_id)


def _difference(loaded: settings.Loaded, call_id: str, *, json: bool) -> None:
    from whisperagent.tui import plain
    from whisperagent.tui.own_calls import OwnCalls

    if not wire.is_call_id(call_id):
        raise UsageError(_("which call?"), fix=_("`wa review CALL_ID --diff`, with the whole id"))
    plain.compare(_client(loaded), OwnCalls(loaded.paths), call_id, json=json)


def _client(loaded: settings.Loaded) -> "Client":
    from whisperagent.client import Client  # httpx: not for `wa review --help`

    chosen = loaded.settings
    return Client(chosen.server.url, chosen.agent.extension, settings.token(), chosen.server.timeout_s)
