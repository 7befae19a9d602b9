"""Which processes are the softphone: those with its name, and all that they started."""

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """name: of its program's file, e.g. `3CXSoftphone.exe`."""

    pid: int
    parent: int
    name: str


@functools.lru_cache(4096)
def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Is a program or package of this name meant by one of the patterns?"""
    name = re.sub(r"\.exe$", "", name, flags=re.IGNORECASE)
    return any(re.fullmatch(pattern, name, re.IGNORECASE) for pattern in patterns)


def family(
    processes: Sequence[Process], patterns: tuple[str, ...], started: Callable[[int], int | None]
) -> dict[int, int]:
    """The programs that `patterns` mean and all that they started: pid -> pid of the topmost of them.

    The newer clients draw and play through children with other names (msedgewebview2.exe). Windows gives the
    number of a process that ended to another one, so a child must not be older than its parent.
    """
    by_pid = {process.pid: process for process in processes}
    named = {process.pid for process in processes if matches(process.name, patterns)}
    roots: dict[int, int] = {}
    for pid in by_pid:
        line = [pid]
        while (parent := by_pid[line[-1]].parent) in by_pid and parent not in line:
            line.append(parent)
        meant = [ancestor for ancestor in line if ancestor in named]
        if meant and _is_line(line[: line.index(meant[-1]) + 1], started):
            roots[pid] = meant[-1]
        elif pid in named:
            roots[pid] = pid
    return roots


def _is_line(line: list[int], started: Callable[[int], int | None]) -> bool:
    """Did each of these start the one before it?"""
    if len(line) == 1:
        return True
    times = [started(pid) for pid in line]
    return all(
        child is not None and parent is not None and child >= parent
        for child, parent in itertools.pairwise(times)
    )
