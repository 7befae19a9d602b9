"""The server's log: one line an event to stderr, JSON for machines, key=value for a terminal.

Rules: only the fields of FIELDS are written; ids of calls are, words of calls, tokens and bodies never are;
telephone numbers are masked wherever they come up, in tracebacks too. Libraries log through the same door.
"""

import asyncio
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from whisperagent.privacy import masked

FIELDS = ("timestamp", "level", "logger", "event", "call_id", "exception")
OURS = ("timestamp", "level", "logger", "call_id")
"""Fields that nobody else's words can be in."""
CALL_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NO_NUMBER = re.compile(rf"({CALL_ID}|https?://[^\s/]+)")
"""What looks like a telephone number and is none: the id of a call, the address of a server."""

QUIET = ("httpx", "httpcore", "uvicorn", "alembic", "aiosqlite", "websockets", "faster_whisper")
"""Their INFO lines show addresses, and what was looked for, or say nothing to whoever runs a server."""


def set_up(level: str = "INFO") -> None:
    """Log to stderr from now on, whoever logs. level: as in `logging`."""
    renderer: Any = (
        structlog.processors.LogfmtRenderer(key_order=FIELDS, drop_missing=True)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
            processors=[_allowed, renderer],
        )
    )
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    """Not so is the connection that SQLAlchemy gives up because the task that had it was ended."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _allowed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if call := re.search(CALL_ID, str(event.get("event"))):
        event["call_id"] = call[0]
    return {
        key: str(event[key]) if key in OURS else _without_numbers(str(event[key]))
        for key in FIELDS
        if key in event
    }


def _without_numbers(text: str) -> str:
    pieces = NO_NUMBER.split(text)  # what matched stands at the odd places
    return "".join(piece if place % 2 else masked(piece) for place, piece in enumerate(pieces))
