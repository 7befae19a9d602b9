"""`wa doctor --bundle FILE`: what support needs to know of a PC, in one zip file, and nothing of any call.

Versions, findings, the settings without their secrets, what the agent said last, the end of its log. No
sound, no text of a call, no token; names of callers are left out, and telephone numbers cut to their ends.
"""

import platform
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from whisperagent import __version__, settings, status
from whisperagent.agent import LOG_NAME
from whisperagent.doctor import Finding
from whisperagent.errors import ConfigError, WhisperError
from whisperagent.i18n import _
from whisperagent.privacy import masked
from whisperagent.settings import Loaded, Paths

LOG_TAIL = 1 << 18
"""Bytes of the log: the last days of a quiet PC."""
NAMED = re.compile(r"remote_party=.*?(?= \w+=|$)")
"""Whom the log names: up to the next field, or the end of the line."""
NO_NUMBER = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|https?://[^\s/]+"
    r"|\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:,\d+)?)?)?)"
)
"""What looks like a telephone number and is none: the id of a call, the address of a server, a time."""


def write(file: Path, loaded: Loaded | ConfigError, findings: Sequence[Finding]) -> None:
    """Pack it into `file`. raises WhisperError: it cannot be written."""
    where = settings.paths()
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in _contents(where, loaded, findings):
                archive.writestr(name, content)
    except OSError as problem:
        raise WhisperError(
            _("cannot write {path}").format(path=file), why=problem.strerror or str(problem)
        ) from None


def _contents(
    where: Paths, loaded: Loaded | ConfigError, findings: Sequence[Finding]
) -> Iterator[tuple[str, bytes]]:
    yield "findings.json", _json([_without_numbers(finding) for finding in findings])
    yield "versions.json", _json(_versions())
    if not isinstance(loaded, ConfigError):
        shown = {key: settings.shown(key, value) for key, value in settings.flat(loaded.settings)}
        yield "settings.json", _json(shown)
    try:
        last = status.read(where.status)
    except WhisperError:
        last = None  # the findings say so
    if last is not None:
        call = msgspec.structs.replace(last.call, remote_party="") if last.call else None
        yield "agent.json", _json(msgspec.structs.replace(last, call=call, error=_line(last.error)))
    if log := _log(where.logs / LOG_NAME):
        yield LOG_NAME, log.encode()


def _versions() -> dict[str, object]:
    return {
        "whisperagent": __version__,
        "python": sys.version,
        "system": platform.platform(),
        "at": datetime.now(UTC),
        "packages": {each.name: each.version for each in distributions() if each.name},
    }


def _log(path: Path) -> str:
    """The end of the log, without people; or why it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    except OSError as problem:
        return str(problem)
    if size > LOG_TAIL:
        del lines[0]  # only the rest of it
    return "\n".join(_line(line) for line in lines)


def _line(text: str) -> str:
    """`text` without names and numbers of people; its times, its calls and its addresses stay."""
    pieces = NO_NUMBER.split(NAMED.sub("remote_party=•••", text))  # what matched stands at the odd places
    return "".join(piece if place % 2 else masked(piece) for place, piece in enumerate(pieces))


def _without_numbers(finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, what=_line(finding.what), why=_line(finding.why))


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
