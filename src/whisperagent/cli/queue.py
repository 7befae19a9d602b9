"""`wa queue`: the recordings on this PC, what waits and why, and sending again; the rest in `recordings`.

Works on the folders, so it does not matter whether the agent runs; a running one notices within a second.
"""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from whisperagent import console, settings
from whisperagent.cli.recordings import recordings
from whisperagent.errors import UsageError
from whisperagent.i18n import _, ngettext
from whisperagent.tui import words
from whisperagent.wire import SpoolState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from typer._click import Context

    from whisperagent.spool import Item, Spool

LOOK_S = 0.2
"""How often what is being sent is looked at."""
WAITING = (SpoolState.QUEUED, SpoolState.OVERDUE)
ORDER = ("list", "show", "retry", "export", "drop", "verify")


class InOrder(TyperGroup):
    def list_commands(self, ctx: "Context") -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


queue = typer.Typer(
    cls=InOrder,
    help=_("What waits on this PC for the server."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
queue.add_typer(recordings)


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


@queue.command(
    help=_("Send recordings again now, also refused and overdue ones.")
    + "\n\n"
    + _(
        "On a terminal, and with --wait, it stays until the server has them; Ctrl+C leaves, and the agent "
        "goes on.\n\nExit code 1: the server refused one, or no agent runs that could send; 3: not all are "
        "sent within --timeout."
    )
)
def retry(
    call_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CALL_ID]…", help=_("Calls, or the beginnings of their ids")),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=_("All that the server does not have yet."))
    ] = False,
    wait: Annotated[bool | None, typer.Option(help=_("Stay until they are sent."))] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help=_("As --wait, but no longer than this."))
    ] = None,
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
) -> None:
    if bool(call_ids) == everything:
        raise UsageError(
            _("which recordings?"), fix=_("name calls, or give --all; `wa queue list` shows what there is")
        )
    spool = _spool()
    named = [item for call_id in call_ids or [] for item in spool.find(call_id)]
    again = [item for item in (spool.items() if everything else named) if _may_be_sent(item)]
    count = spool.retry(again)
    if count == 0 and named:
        raise UsageError(
            _("nothing to send again"), why=_("the server has it already, or it is being recorded")
        )
    console.say(
        ngettext("{count} recording is sent again", "{count} recordings are sent again", count).format(
            count=count
        )
    )
    names = {(item.call_id, item.part) for item in again}
    asked = bool(wait) or (wait is None and timeout is not None)
    if names and (asked or (wait is None and console.interactive())):
        _follow(spool, again, math.inf if timeout is None else timeout, asked=asked)
    left = [item for item in spool.items() if (item.call_id, item.part) in names]
    if json:
        console.print_json([_document(item) for item in left])
    if refused := [item for item in left if item.state is SpoolState.REJECTED]:
        console.say(
            _("refused: {call_id}, {why}").format(
                call_id=refused[0].call_id, why=words.clean(refused[0].error)
            )
        )
        raise typer.Exit(1)


def _may_be_sent(item: "Item") -> bool:
    """Is it something that `retry` sends?"""
    return bool(item.size) and item.state in (*WAITING, SpoolState.REJECTED)


def _follow(spool: "Spool", items: "Sequence[Item]", timeout_s: float, *, asked: bool) -> None:
    """Show how the agent sends these, until all are sent or refused.

    asked: somebody wanted it. raises NoAgent: nobody sends them. ServerUnreachable: out of time.
    """
    import time

    from whisperagent.errors import NoAgent, ServerUnreachable

    until = time.monotonic() + timeout_s
    where = settings.load().paths.status
    names = {(item.call_id, item.part) for item in items}
    total, told = sum(item.size for item in items), ""
    with console.progress(_("sending"), total) as bar:
        while left := [item for item in spool.waiting() if (item.call_id, item.part) in names]:
            trouble = _trouble(where)
            if trouble is None:
                if asked:
                    raise NoAgent(_("no agent runs on this PC"), fix=_("`wa agent run` sends what waits"))
                console.say(_("no agent runs on this PC; they are sent when it does"))
                return
            if time.monotonic() >= until:
                raise ServerUnreachable(
                    ngettext(
                        "{count} recording is not sent yet", "{count} recordings are not sent yet", len(left)
                    ).format(count=len(left)),
                    why=trouble or left[0].error,
                    fix=_("they are tried again for as long as it takes: `wa queue list`"),
                )
            if trouble != told:
                bar.clear()
                console.say(words.clean(trouble or _("the server takes recordings again")))
                told = trouble
            bar.update(total - sum(item.size for item in left))
            time.sleep(LOOK_S)


def _trouble(where: "Path") -> str | None:
    """Why nothing can be sent now; empty: it can be; None: no agent runs."""
    from datetime import UTC, datetime

    from whisperagent import status

    found = status.read(where)
    return found.server_error if found is not None and status.runs(found, datetime.now(UTC)) else None


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
        "deleted": item.entry.deleted,
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
        (_("file"), f"{item.path} ({_size(item.size)})" if item.size else _gone(item)),
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


def _gone(item: "Item") -> str:
    """How the recording went."""
    deleted = item.entry.deleted
    if deleted is None:
        return _("deleted: the server has it")
    return _("deleted on {at:%Y-%m-%d %H:%M} by {who}: {why}").format(
        at=deleted.at.astimezone(), who=words.clean(deleted.by), why=words.clean(deleted.why)
    )


def _drafted_at(item: "Item") -> "datetime | None":
    from whisperagent.drafts import OwnDrafts

    return OwnDrafts(settings.paths().home).made_at(item.call_id)


def _state(item: "Item") -> str:
    """The state as word and glyph."""
    word = words.spool_state(item.state)
    return f"{console.glyph(word.glyph, words.ASCII.get(word.glyph, ''))} {word.text}".lstrip()


def _size(size: int) -> str:
    return _("{size} MB").format(size=f"{size / 1e6:.1f}") if size else "-"
