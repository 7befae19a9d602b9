"""`wa queue export`, `drop`, `verify`: the recordings themselves, for whoever must do without the server."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whisperagent import console, settings
from whisperagent.errors import UsageError, WhisperError
from whisperagent.i18n import _, ngettext
from whisperagent.tui import words
from whisperagent.wire import SpoolState

if TYPE_CHECKING:
    from whisperagent.sealed import Keyring
    from whisperagent.spool import Item

recordings = typer.Typer(add_completion=False, rich_markup_mode=None)

CallIds = Annotated[
    list[str] | None, typer.Argument(metavar="[CALL_ID]…", help=_("Calls, or the beginnings of their ids"))
]
Json = Annotated[bool, typer.Option("--json", help=_("One JSON document."))]


@recordings.command(
    help=_("Copy a call into a folder, sealed and, with a key, to hear.")
    + "\n\n"
    + _(
        "The sealed file is what the server gets. Beside it lies a WAV file, in clear, when a key of this PC "
        "opens the recording (`recording.local_key`); else you are told why there is none. A file that is "
        "there is never replaced.\n\nExit code 1: a file could not be written."
    )
)
def export(
    call_id: Annotated[str, typer.Argument(help=_("The call, or the beginning of its id"))],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help=_("The folder; it is made."))],
    json: Json = False,
) -> None:
    from whisperagent.spool import Spool

    parts = [item for item in Spool(settings.load().paths.spool).find(call_id) if item.size]
    if not parts:
        raise UsageError(
            _("the recording of this call is not on this PC any more"),
            fix=_("`wa queue show {call_id}` tells how it went").format(call_id=call_id),
        )
    key = _key()
    try:
        to.mkdir(parents=True, exist_ok=True)
        exported = [_exported(item, to, key) for item in parts]
    except OSError as problem:
        raise WhisperError(
            _("cannot export to {folder}").format(folder=to), why=problem.strerror or str(problem)
        ) from None
    if json:
        console.print_json(exported)
        return
    for part in exported:
        console.print_data(part["sealed"])
        if part["wav"]:
            console.print_data(part["wav"])
        console.say(f"{Path(part['sealed']).name}: {part['why']}")


@recordings.command(
    help=_("Delete recordings from this PC; word of it stays.")
    + "\n\n"
    + _(
        "What the server does not have is lost by it. You are asked, unless you say --yes; `wa queue list` "
        "shows afterwards what was deleted, when and by whom.\n\nExit code 130: you said no."
    )
)
def drop(
    call_ids: Annotated[
        list[str], typer.Argument(metavar="CALL_ID…", help=_("Calls, or the beginnings of their ids"))
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=_("Do not ask."))] = False,
    json: Json = False,
) -> None:
    from whisperagent.spool import Spool

    spool = Spool(settings.load().paths.spool)
    named = {(item.call_id, item.part): item for call_id in call_ids for item in spool.find(call_id)}
    for item in named.values():
        if item.state is SpoolState.RECORDING:
            raise UsageError(
                _("call {call_id} is being recorded").format(call_id=item.call_id),
                fix=_("wait until it is over, or say that it is private: `wa agent private`"),
            )
    lost = [item for item in named.values() if item.size]
    if not lost:
        raise UsageError(_("the recordings of these calls are deleted already"))
    for item in lost:
        console.say(_described(item))
    if not yes:
        _ask(len(lost))
    try:
        buried = [spool.bury(item, _who(), _("`wa queue drop`")) for item in lost]
    except OSError as problem:
        raise WhisperError(
            _("a recording cannot be deleted now"),
            why=problem.strerror or str(problem),
            fix=_("perhaps it is being sent: try again in a minute"),
        ) from None
    if json:
        console.print_json(
            [{"call_id": it.call_id, "part": it.part, "state": str(it.state)} for it in buried]
        )
    count = len(buried)
    console.say(
        ngettext("{count} recording deleted", "{count} recordings deleted", count).format(count=count)
    )


@recordings.command(
    help=_("Check that every recording is what it says it is.")
    + "\n\n"
    + _(
        "Of each the description, the header and whether its segments are whole; and where a key of this PC "
        "opens it, every segment. Changes nothing.\n\nExit code 1: something is wrong."
    )
)
def verify(call_ids: CallIds = None, json: Json = False) -> None:
    from whisperagent.spool import Spool
    from whisperagent.verify import verify as look

    spool = Spool(settings.load().paths.spool)
    if call_ids:
        for call_id in call_ids:
            spool.find(call_id)
    report = look(spool, _key(), tuple(call_id.lower() for call_id in call_ids or ()))
    if json:
        console.print_json(
            {
                "recordings": report.recordings,
                "opened": report.opened,
                "faults": [
                    {"name": fault.name, "path": str(fault.path), "what": fault.what}
                    for fault in report.faults
                ],
            }
        )
    else:
        for fault in report.faults:
            console.print_data(f"{words.clean(str(fault.path))}: {words.clean(fault.what)}")
        console.say(_counted(report.recordings, report.opened, len(report.faults)))
    raise typer.Exit(1 if report.faults else 0)


def _key() -> "Keyring | None":
    """What opens recordings on this PC."""
    from whisperagent.keys import Keys

    loaded = settings.load()
    try:
        return Keys(loaded.paths.home, loaded.settings.server.key).mine()
    except OSError as problem:
        raise WhisperError(
            _("the key of this PC cannot be read"), why=problem.strerror or str(problem)
        ) from None


def _exported(item: "Item", to: Path, key: "Keyring | None") -> dict[str, Any]:
    """Copy one part; gives where, and why there is a WAV file or none. raises OSError: it cannot be."""
    import shutil

    from whisperagent.errors import AudioError, SealedError
    from whisperagent.playable import write_wav
    from whisperagent.sealed import WrongRecipient

    sealed_copy = to / item.path.name
    wav = sealed_copy.with_suffix(".wav")
    with item.path.open("rb") as source, sealed_copy.open("xb") as sink:
        try:
            shutil.copyfileobj(source, sink)
        except OSError:
            sealed_copy.unlink(missing_ok=True)
            raise
    made: Path | None = None
    if key is None:
        why = _("sealed only: no key on this PC opens it, the server does")
    elif wav.exists():
        why = _("sealed only: {path} is there already").format(path=wav)
    else:
        try:
            whole = write_wav(item.path, wav, key)
        except WrongRecipient:
            why = _("sealed only: it is sealed to other keys than this PC's, the server opens it")
        except (AudioError, SealedError) as problem:
            why = _("sealed only: {why}").format(why=problem.in_words())
        else:
            made = wav
            opened = _("sealed, and in clear as WAV: a key of this PC opens it")
            why = opened if whole else _("{opened}; it is cut short").format(opened=opened)
    return {
        "call_id": item.call_id,
        "part": item.part,
        "sealed": str(sealed_copy),
        "wav": str(made) if made else None,
        "why": why,
    }


def _described(item: "Item") -> str:
    """What would be lost, on one line."""
    there = _("the server has it") if item.state is SpoolState.DONE else _("the server does NOT have it")
    what = _("{call_id}, part {part}: {begun:%Y-%m-%d %H:%M}, {length}, {party}; {there}")
    return what.format(
        call_id=item.call_id,
        part=item.part,
        begun=item.started_at.astimezone(),
        length=words.clock(item.duration_s),
        party=words.clean(item.remote_party) or _("unknown caller"),
        there=there,
    )


def _ask(count: int) -> None:
    if not console.interactive():
        raise UsageError(_("nobody is here to be asked"), fix=_("say --yes if they are to be deleted"))
    question = ngettext("delete this recording?", "delete these {count} recordings?", count)
    typer.confirm(question.format(count=count), abort=True, err=True)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "?"  # an account without a name


def _counted(recordings: int, opened: int, faults: int) -> str:
    looked = ngettext(
        "{count} recording looked at, {opened} of them with a key",
        "{count} recordings looked at, {opened} of them with a key",
        recordings,
    ).format(count=recordings, opened=opened)
    if not faults:
        return _("{looked}: all is in order").format(looked=looked)
    wrong = ngettext("{count} thing is wrong", "{count} things are wrong", faults).format(count=faults)
    return f"{looked}: {wrong}"
