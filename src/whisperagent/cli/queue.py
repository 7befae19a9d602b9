"""`wa queue`: the recordings on this PC, what waits and why, and sending again.

Works on the folders, so it does not matter whether the agent runs; a running one notices within a second.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whisperagent import console, settings
from whisperagent.errors import UsageError
from whisperagent.i18n import _, ngettext
from whisperagent.tui import words

if TYPE_CHECKING:
    from datetime import datetime

    from whisperagent.spool import Item, Spool

queue = typer.Typer(
    help=_("What waits on this PC for the server."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@queue.command(name="list", help=_("Every recording on this PC, oldest first."))
def list_(json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False) -> None:
    items = _spool().items()
    if json:
        console.print_json([_document(item) for item in items])
        return
    console.print_table(
        (_("call"), _("part"), _("state"), _("begun"), _("length"), _("size"), _("tries"), _("trouble")),
        [_row(item) for item in items],
        empty=_("nothing is recorded on this PC"),
    )


@queue.command(help=_("One call: its parts, what was tried, what the server said."))
def show(
    call_id: Annotated[str, typer.Argument(help=_("The call, or the beginning of its id"))],
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
) -> None:
    parts = _spool().find(call_id)
    if json:
        console.print_json([_document(item) for item in parts])
        return
    for item in parts:
        width = max(len(label) for label, _value in _lines(item))
        for label, value in _lines(item):
            console.print_data(f"{label.ljust(width)}  {value}")
        console.print_data()


@queue.command(help=_("Send recordings again now, also refused and overdue ones."))
def retry(
    call_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CALL_ID]…", help=_("Calls, or the beginnings of their ids")),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=_("All that the server does not have yet."))
    ] = False,
) -> None:
    if bool(call_ids) == everything:
        raise UsageError(
            _("which recordings?"), fix=_("name calls, or give --all; `wa queue list` shows what there is")
        )
    spool = _spool()
    named = [item for call_id in call_ids or [] for item in spool.find(call_id)]
    count = spool.retry(spool.items() if everything else named)
    if count == 0 and named:
        raise UsageError(
            _("nothing to send again"), why=_("the server has it already, or it is being recorded")
        )
    console.say(
        ngettext("{count} recording is sent again", "{count} recordings are sent again", count).format(
            count=count
        )
    )


def _spool() -> "Spool":
    from whisperagent.spool import Spool

    return Spool(settings.load().paths.spool)


def _document(item: "Item") -> dict[str, Any]:
    return {
        "call_id": item.call_id,
        "part": item.part,
        "last": item.entry.metadata.last,
        "complete": item.entry.metadata.complete,
        "state": str(item.state),
        "started_at": item.started_at,
        "duration_s": item.duration_s,
        "remote_party": item.remote_party,
        "size": item.size,
        "attempts": item.attempts,
        "error": item.error,
        "next_attempt_at": item.next_attempt_at,
        "queued_at": item.entry.queued_at,
        "acknowledged_at": item.entry.acknowledged_at,
        "sha256": item.entry.metadata.sha256,
        "path": str(item.path) if item.size else None,
        "draft_made_at": _drafted_at(item),
    }


def _row(item: "Item") -> tuple[str, ...]:
    return (
        item.call_id,
        str(item.part),
        _state(item),
        f"{item.started_at.astimezone():%Y-%m-%d %H:%M}",
        words.clock(item.duration_s),
        _size(item.size),
        str(item.attempts),
        words.clean(item.error),
    )


def _lines(item: "Item") -> list[tuple[str, str]]:
    entry = item.entry
    ending = _("goes on in another part") if not entry.metadata.last else _("the end of the call")
    whole = _("complete") if entry.metadata.complete else _("cut short")
    lines = [
        (_("call"), item.call_id),
        (_("part"), f"{item.part}, {ending}, {whole}"),
        (_("state"), _state(item)),
        (_("other party"), words.clean(item.remote_party) or "-"),
        (_("begun"), f"{item.started_at.astimezone():%Y-%m-%d %H:%M:%S}"),
        (_("length"), words.clock(item.duration_s)),
        (_("file"), f"{item.path} ({_size(item.size)})" if item.size else _("deleted: the server has it")),
        (_("tries"), str(item.attempts)),
    ]
    if item.error:
        lines.append((_("trouble"), words.clean(item.error)))
    if item.next_attempt_at is not None:
        lines.append((_("next try"), f"{item.next_attempt_at.astimezone():%Y-%m-%d %H:%M:%S}"))
    if entry.acknowledged_at is not None:
        lines.append((_("on the server since"), f"{entry.acknowledged_at.astimezone():%Y-%m-%d %H:%M:%S}"))
    if (made_at := _drafted_at(item)) is not None:
        made = _("made on this PC, {at:%Y-%m-%d %H:%M}: `wa review {call_id}`")
        lines.append((_("draft"), made.format(at=made_at.astimezone(), call_id=item.call_id)))
    return lines


def _drafted_at(item: "Item") -> "datetime | None":
    from whisperagent.drafts import OwnDrafts

    return OwnDrafts(settings.paths().home).made_at(item.call_id)


def _state(item: "Item") -> str:
    """The state as word and glyph."""
    word = words.spool_state(item.state)
    return f"{console.glyph(word.glyph, words.ASCII.get(word.glyph, ''))} {word.text}".lstrip()


def _size(size: int) -> str:
    return _("{size} MB").format(size=f"{size / 1e6:.1f}") if size else "-"
