"""What waits on this PC, and the last call."""

from whisperagent.doctor.findings import Finding
from whisperagent.i18n import _, ngettext
from whisperagent.settings import Paths
from whisperagent.spool import Item, Spool
from whisperagent.wire import SpoolState


def spool(where: Paths) -> Finding:
    """What the server does not have yet."""
    if not where.spool.exists():
        return Finding("spool", "ok", _("nothing waits for the server"))
    box = Spool(where.spool)
    counts = box.counts()
    waiting, overdue = counts[SpoolState.QUEUED], counts[SpoolState.OVERDUE]
    said = [
        ngettext(
            "{count} recording waits for the server", "{count} recordings wait for the server", waiting
        ).format(count=waiting)
        if waiting
        else "",
        ngettext(
            "{count} recording has waited for days", "{count} recordings have waited for days", overdue
        ).format(count=overdue)
        if overdue
        else "",
    ]
    if refused := counts[SpoolState.REJECTED]:
        said.append(
            ngettext(
                "{count} recording was refused by the server",
                "{count} recordings were refused by the server",
                refused,
            ).format(count=refused)
        )
        why = next((item.error for item in reversed(box.items([SpoolState.REJECTED])) if item.error), "")
        cure = _("`wa queue list` shows them, `wa queue retry` sends them again")
        return Finding("spool", "failed", "; ".join(filter(None, said)), why, cure)
    if overdue:
        why = next((item.error for item in box.items([SpoolState.OVERDUE]) if item.error), "")
        cure = _("they are kept and tried again; mend what is wrong with the server")
        return Finding("spool", "warning", "; ".join(filter(None, said)), why, cure)
    return Finding("spool", "ok", said[0] or _("nothing waits for the server"))


def last_call(where: Paths) -> Finding:
    items = Spool(where.spool).items() if where.spool.exists() else []
    if not items:
        return Finding("last_call", "not here", _("no call was recorded on this PC yet"))
    item = items[-1]
    what = _("the last call was on {at:%Y-%m-%d} at {at:%H:%M}, {seconds} s long: {state}").format(
        at=item.started_at.astimezone(), seconds=round(item.duration_s), state=_state(item)
    )
    return Finding("last_call", "ok", what)


def _state(item: Item) -> str:
    return {
        SpoolState.RECORDING: _("being recorded"),
        SpoolState.QUEUED: _("waiting"),
        SpoolState.OVERDUE: _("overdue"),
        SpoolState.REJECTED: _("refused"),
        SpoolState.DONE: _("sent"),
        SpoolState.DROPPED: _("deleted unsent"),
    }[item.state]
