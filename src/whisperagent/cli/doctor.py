"""`wa doctor`: every check of this PC, a line each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whisperagent import console, settings
from whisperagent.errors import ConfigError
from whisperagent.i18n import _, ngettext

if TYPE_CHECKING:
    from whisperagent.doctor import Finding

doctor = typer.Typer(add_completion=False, rich_markup_mode=None)


@doctor.command(
    help=_("Check this PC and the server, and say how to mend them.\n\nExit code 1: a check failed.")
)
def run(
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help=_("Pack findings, versions, settings and the log's end for support; nothing of any call."),
        ),
    ] = None,
) -> None:
    import asyncio  # with what it brings: only here, `wa --help` reads this file too

    loaded: settings.Loaded | ConfigError
    try:
        loaded = settings.load()
    except ConfigError as problem:
        loaded = problem
    findings = asyncio.run(_examined(loaded, show=not json))
    if json:
        console.print_json(findings)
    if bundle is not None:
        from whisperagent import bundle as packing

        packing.write(bundle, loaded, findings)
        console.say(_("packed in {path}: look into it before you send it").format(path=bundle))
    failed = sum(finding.result == "failed" for finding in findings)
    if failed and not json:
        console.say(ngettext("{count} check failed", "{count} checks failed", failed).format(count=failed))
    raise typer.Exit(1 if failed else 0)


async def _examined(loaded: settings.Loaded | ConfigError, *, show: bool) -> "list[Finding]":
    """Every finding; shown as soon as it is there, for a server that does not answer takes its time."""
    from whisperagent.cli import findings
    from whisperagent.doctor import examine

    found = []
    async for finding in examine(loaded):
        found.append(finding)
        if show:
            findings.show(finding)
    return found
