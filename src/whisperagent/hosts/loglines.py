"""What the softphone's log says of a call: off unless somebody has found out what to look for.

No version of the softphone documents its log, so there are no patterns of our own. A line is one sign among
others (detect.py): it can help to confirm a call, never make one.
"""

import glob
import math
import os
import re
import time
from pathlib import Path
from typing import Literal

from whisperagent.settings import Detection

ENDED_S = 5.0
"""How long `ended` is said: as long as a sound may linger after a call."""
READ_BYTES = 1 << 20
"""Of one file at one look; a log that grows faster says nothing to us."""
LINE_BYTES = 1 << 14


class LogLines:
    """Follows the files that `log_files` names, from their present end on."""

    def __init__(self, rules: Detection) -> None:
        self._files = rules.log_files
        self._connected = _pattern(rules.log_connected)
        self._ended = _pattern(rules.log_ended)
        self._read: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self._up = False
        self._ended_at = -math.inf
        self._follow(first=True)

    def look(self) -> Literal["", "connected", "ended"]:
        """What was said last."""
        self._follow(first=False)
        if self._up:
            return "connected"
        return "ended" if time.monotonic() - self._ended_at < ENDED_S else ""

    def _follow(self, *, first: bool) -> None:
        for pattern in self._files:
            where = os.path.expanduser(os.path.expandvars(pattern))  # noqa: PTH111 - may hold a pattern
            for name in glob.glob(where):  # noqa: PTH207 - Path.glob knows no absolute patterns
                path = Path(name)
                try:
                    size = path.stat().st_size
                    if first:
                        # What is old by now says nothing.
                        self._read[path] = size
                    else:
                        self._hear(path, size)
                except OSError:
                    continue  # it is being replaced, or not ours to read: the next look may be luckier

    def _hear(self, path: Path, size: int) -> None:
        begin = self._read.get(path, 0)
        if size < begin:  # a new file of the same name
            begin, self._rest[path] = 0, b""
        if size == begin:
            return
        if size - begin > READ_BYTES:
            begin, self._rest[path] = size - READ_BYTES, b""
        with path.open("rb") as file:
            file.seek(begin)
            text = self._rest.get(path, b"") + file.read(size - begin)
        self._read[path] = size
        *lines, rest = text.split(b"\n")
        self._rest[path] = rest[-LINE_BYTES:]
        for line in lines:
            self._take(line.decode("utf-8", "replace"))

    def _take(self, line: str) -> None:
        if self._ended is not None and self._ended.search(line):
            self._up, self._ended_at = False, time.monotonic()
        elif self._connected is not None and self._connected.search(line):
            self._up = True


def _pattern(text: str) -> re.Pattern[str] | None:
    return re.compile(text, re.IGNORECASE) if text else None
