"""`wa server model`: which speech models are here, and fetching one."""

from typing import Annotated

import typer

from whisperagent import console, settings
from whisperagent.i18n import _

model = typer.Typer(
    help=_("The speech models of this server."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@model.command(
    help=_("Fetch a model from the Hugging Face hub.\n\nExample: `wa server model pull large-v3-turbo`.")
)
def pull(
    name: Annotated[str, typer.Argument(help=_("A name that faster-whisper knows, or owner/repository"))],
) -> None:
    from whisperserver.transcribe import models

    loaded = settings.load()
    with console.progress(_("fetching {name}").format(name=name), 1.0) as bar:
        folder = models.pull(name, loaded.paths.server / "models", bar.update)
    console.say(_("the model {name} is in {folder}").format(name=name, folder=folder))
    offline = loaded.settings.offline
    if name not in (loaded.settings.speech.model, offline.model if offline.enabled else ""):
        console.say(_("to use it: `wa config set speech.model {name}`").format(name=name))


@model.command(name="list", help=_("The models that are here."))
def list_(json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False) -> None:
    from whisperserver.transcribe import models

    loaded = settings.load()
    where = loaded.paths.server / "models"
    used = loaded.settings.speech.model
    found = [
        {"name": name, "used": name == used, "folder": str(models.folder(name, where))}
        for name in models.installed(where)
    ]
    if json:
        console.print_json(found)
        return
    console.print_table(
        (_("model"), _("used"), _("folder")),
        [(str(each["name"]), _("yes") if each["used"] else "", str(each["folder"])) for each in found],
        empty="",
    )
