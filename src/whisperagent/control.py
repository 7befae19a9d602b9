"""Orders to the agent that runs: pause, resume, private, note.

`wa agent pause`, the screens and the tray give them from their own processes, by a file in `control/` of the
home, which only its owner can write to; agent.py looks there five times a second, obeys and puts an answer
beside it. An order is taken before it is obeyed, so it is obeyed once at most; one that nobody waits for any
more is not obeyed at all.
"""

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from whisperagent import files, status
from whisperagent.errors import NoAgent, UsageError, WhisperError
from whisperagent.i18n import _
from whisperagent.settings import Paths

LOOK_S = 0.2
"""How often the agent looks for orders."""
PATIENCE_S = 5.0
"""How long who gave an order waits for its answer; an older one is not obeyed."""
NOTE_LIMIT = 1000
LONGEST_PAUSE_S = 12 * 3600.0
Action = Literal["pause", "resume", "private", "note"]
ORDER, ANSWER = ".order", ".answer"
UNITS_S = {"s": 1, "m": 60, "h": 3600}


class Order(msgspec.Struct, frozen=True):
    """at: when it was given. seconds: of a pause; None: until `resume`, but not for ever. text: of a note."""

    action: Action
    at: datetime
    seconds: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_PAUSE_S)] | None = None
    text: str = ""


class Answer(msgspec.Struct, frozen=True):
    """what, why, fix: why it was not done; empty when it was.

    call_id: the call it was about, if one is up. paused_until: UTC. sent: the server has some of a call that
    is private now, and is asked to erase it.
    """

    what: str = ""
    why: str = ""
    fix: str = ""
    call_id: str = ""
    paused_until: datetime | None = None
    sent: bool = False


class Orders:
    """The agent's end of `folder`, which is emptied: what was asked of another run is void."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        for path in folder.iterdir():
            path.unlink(missing_ok=True)

    def take(self) -> Iterator[tuple[str, Order]]:
        """(name, order) of each that somebody waits for; `name` is for `answer`."""
        now = datetime.now(UTC)
        for path in sorted(self._folder.glob(f"*{ORDER}")):
            try:
                order = msgspec.json.decode(path.read_bytes(), type=Order)
                path.unlink()
            except msgspec.MsgspecError:
                path.unlink(missing_ok=True)
                continue
            except OSError:
                continue  # withdrawn just now; or held for a moment, and the next look takes it
            if abs(now - order.at) < timedelta(seconds=PATIENCE_S):
                yield path.stem, order

    def answer(self, name: str, answer: Answer) -> None:
        files.write(self._folder / (name + ANSWER), msgspec.json.encode(answer), durable=False)


def refusal(problem: Exception) -> Answer:
    """The answer that tells why an order was not obeyed."""
    if isinstance(problem, WhisperError):
        return Answer(what=problem.what, why=problem.why, fix=problem.fix)
    return Answer(what=_("the agent could not do it"), why=str(problem))


def give(paths: Paths, action: Action, **details: object) -> Answer:
    """Have the agent of this home do that, and wait until it has; blocks for five seconds at most.

    details: `seconds`, `text`, as of `Order`.
    raises NoAgent: none runs, or it does not answer. UsageError, WhisperError: it says why not.
    """
    _see_that_one_runs(paths)
    folder, name = paths.control, os.urandom(8).hex()
    order, answered = folder / (name + ORDER), folder / (name + ANSWER)
    given = msgspec.convert({"action": action, "at": datetime.now(UTC), **details}, Order)
    files.write(order, msgspec.json.encode(given), durable=False)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            answer = msgspec.json.decode(answered.read_bytes(), type=Answer)
        except (FileNotFoundError, PermissionError):
            time.sleep(LOOK_S / 10)
            continue
        answered.unlink(missing_ok=True)
        if answer.what:
            raise WhisperError(answer.what, why=answer.why, fix=answer.fix)
        return answer
    try:
        order.unlink()
        why = _("it did not look for orders within {seconds} s; this one is withdrawn")
    except FileNotFoundError:
        why = _("it took the order {seconds} s ago, and is not done with it")
    raise NoAgent(
        _("the agent does not answer"),
        why=why.format(seconds=round(PATIENCE_S)),
        fix=_("`wa agent status` tells how it is"),
    )


def seconds(text: str) -> float:
    """A length such as `30m`, `90s`, `1h` or `5`, in minutes. raises UsageError: it is none, or too long."""
    found = re.fullmatch(r"(\d{1,6}(?:[.,]\d{1,3})?)\s*([smh]?)(?:in)?", text.strip().lower())
    length_s = float(found[1].replace(",", ".")) * UNITS_S[found[2] or "m"] if found else 0.0
    if not 0 < length_s <= LONGEST_PAUSE_S:
        raise UsageError(
            _("`{text}` is no length of a pause").format(text=text),
            why=_("it is up to {hours} hours").format(hours=round(LONGEST_PAUSE_S / 3600)) if found else "",
            fix=_("`30m`, `90s` or `1h`"),
        )
    return length_s


def _see_that_one_runs(paths: Paths) -> None:
    found = status.read(paths.status)
    if found is None or not status.runs(found, datetime.now(UTC)):
        raise NoAgent(
            _("no agent runs on this PC"),
            why=_("calls are not recorded now, so there is nothing to do"),
            fix=_("`wa agent run` starts one"),
        )
