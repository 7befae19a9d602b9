"""What a check says, and what a look that cannot be taken says instead."""

from collections.abc import Callable
from typing import Literal

import msgspec

from whisperagent.errors import WhisperError
from whisperagent.i18n import _

Result = Literal["ok", "warning", "failed", "not here"]

UNSEEN = (WhisperError, ImportError, OSError)
"""What a look at the PC may end with."""


class Finding(msgspec.Struct, frozen=True):
    """What one check found. check: its name, for programs. why, fix: may be empty."""

    check: str
    result: Result
    what: str
    why: str = ""
    fix: str = ""


def failed(check: str, problem: WhisperError) -> Finding:
    return Finding(check, "failed", problem.what, problem.why, problem.fix)


def looked(check: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except UNSEEN as problem:
        return unseen(check, problem)


def unseen(check: str, problem: WhisperError | ImportError | OSError) -> Finding:
    """A look that cannot be taken is a finding of its own."""
    if isinstance(problem, WhisperError):
        return failed(check, problem)
    if isinstance(problem, ImportError):
        what = _("a part that this PC needs is not installed: {module}").format(module=problem.name)
        return Finding(check, "failed", what, str(problem), _("install WhisperAgent again"))
    what = (
        _("cannot use {path}").format(path=problem.filename)
        if problem.filename
        else _("the system refused to go on")
    )
    return Finding(check, "failed", what, problem.strerror or str(problem))
