"""Which programs run on Linux, and what their windows are called: helpers beside the softphone's streams.

A thread looks, for reading /proc takes longer than the agent's loop may wait.
"""

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from whisperagent.hosts.x11 import Display, DisplayLost

log = logging.getLogger(__name__)

PROCESSES_S, TITLES_S, REST_S = 5.0, 1.0, 0.1
"""Between two looks at the processes; at the titles, while the softphone runs; at anything."""


class Running(NamedTuple):
    """pids: of the programs that were asked for. titles: of all their windows."""

    pids: frozenset[int] = frozenset()
    titles: tuple[str, ...] = ()


class Names:
    """Names of programs, as regular expressions: `3cx.*` is `/opt/3CX/3CXDesktopApp.exe` as well."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._pattern = re.compile(
            "|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)", re.IGNORECASE
        )

    def fit(self, names: Iterable[str]) -> bool:
        return any(self._pattern.fullmatch(_plain(name)) for name in names)


class Programs:
    """Follows the programs that `phones` and `browsers` name. now: what was seen last, of each.

    display: the windows can be seen.
    """

    def __init__(self, phones: Names, browsers: Names) -> None:
        self.now = (Running(), Running())
        self.display = False
        self._names = (phones, browsers)
        self._display: Display | None = None
        self._looked = threading.Event()
        self._closing = threading.Event()
        self._soon = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="programs", daemon=True)
        self._thread.start()
        self._looked.wait(TITLES_S)

    def look_again(self) -> None:
        """Something has changed: do not wait for the next look."""
        self._soon.set()

    def close(self) -> None:
        self._closing.set()
        self._soon.set()
        self._thread.join(TITLES_S)

    def _follow(self) -> None:
        pids: list[frozenset[int]] = []
        listed_at = 0.0
        failing = False
        while not self._closing.is_set():
            try:
                if self._soon.is_set() or time.monotonic() - listed_at > PROCESSES_S or not pids:
                    self._soon.clear()
                    listed_at = time.monotonic()
                    named = list(_processes())
                    pids = [frozenset(pid for pid, name in named if names.fit(name)) for names in self._names]
                phones, browsers = (
                    Running(found, self._titles(found, names))
                    for found, names in zip(pids, self._names, strict=True)
                )
                self.now = (phones, browsers)
                failing = False
            except Exception as problem:
                # One look that fails, as for want of a file handle, must not be the last one.
                if not failing:
                    log.warning("the programs cannot be seen: %s", problem, exc_info=True)
                failing = True
            phones, browsers = self.now
            self._looked.set()
            # Never more often than this, however often the streams change.
            self._closing.wait(REST_S)
            self._soon.wait(TITLES_S if self.display and (phones.pids or browsers.pids) else PROCESSES_S)
        if self._display is not None:
            self._display.close()

    def _titles(self, pids: frozenset[int], names: Names) -> tuple[str, ...]:
        try:
            if self._display is None:
                self._display = Display()
            self.display = True
            windows = self._display.windows()
        except DisplayLost:
            if self._display is not None:
                self._display.close()
            self._display, self.display = None, False
            return ()
        return tuple(
            window.title
            for window in windows
            if window.title and (window.pid in pids or names.fit(window.program))
        )


def _processes() -> Iterable[tuple[int, tuple[str, ...]]]:
    """Every process but our own: (pid, what it is called by the kernel and on its command line)."""
    own = os.getpid()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != own:
            # It may end while we look, and others' may not be seen.
            with contextlib.suppress(OSError):
                name = Path(entry.path, "comm").read_text("utf-8", "replace").strip()
                called = (
                    Path(entry.path, "cmdline").read_bytes().split(b"\0", 1)[0].decode("utf-8", "replace")
                )
                yield int(entry.name), (name, called)


def _plain(name: str) -> str:
    """The name of a program without its folder and `.exe`; ALSA's plug-in names it in brackets."""
    if inner := re.fullmatch(r"ALSA plug-in \[(.+)\]", name):
        name = inner[1]
    return re.split(r"[/\\]", name)[-1].removesuffix(".exe").removesuffix(".EXE")
