"""Words in calls: SQLite's FTS5, accents and case folded. Row `number` of the index is `calls.number`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, false, text
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import wire

WORDS_MAX = 32


def expression(q: str) -> str:
    """What a person typed, as an FTS5 query: every word must be there, the last may be just begun.

    Only letters and digits pass, each word in quotes: no operator, no syntax error, nothing to inject.
    Empty when there is no word in it.
    """
    words = re.findall(r"[^\W_]+", q)[:WORDS_MAX]
    return " ".join(f'"{word}"' for word in words) + "*" * bool(words)


def matching(words: str, number: Any) -> ColumnElement[bool]:
    """That the call of this `number` has the words. words: an `expression`; where it is empty, nobody has."""
    if not words:
        return false()
    found = text("SELECT rowid FROM call_text WHERE call_text MATCH :words").bindparams(words=words)
    condition: ColumnElement[bool] = number.in_(found)
    return condition


async def passages(session: AsyncSession, words: str, numbers: Sequence[int]) -> Mapping[int, str]:
    """Where these calls have the words, by their numbers.

    Asked for the calls of one page: in every call that a word of one letter finds, it would take minutes.
    """
    if not words or not numbers:
        return {}
    query = text(
        "SELECT rowid, snippet(call_text, 0, '', '', '…', 16) FROM call_text"
        # IN alone has the index searched anew for each number.
        " WHERE call_text MATCH :words AND rowid BETWEEN :first AND :last AND +rowid IN :numbers"
    ).bindparams(bindparam("numbers", expanding=True))
    bounds = {"first": min(numbers), "last": max(numbers)}
    rows = await session.execute(query, {"words": words, "numbers": list(numbers), **bounds})
    return dict(rows.tuples().all())


async def index(
    session: AsyncSession, number: int, remote_party: str, segments: Sequence[wire.Segment] = ()
) -> None:
    """Make a call findable by the other party and by these words, and by nothing else."""
    await forget(session, number)
    words = "\n".join(segment.text for segment in segments)
    await session.execute(
        text("INSERT INTO call_text (rowid, text, remote_party) VALUES (:number, :words, :party)"),
        {"number": number, "words": words, "party": remote_party},
    )


async def purge(session: AsyncSession) -> None:
    """Write the index anew without what was forgotten, which otherwise stays in it until a later merge."""
    await session.execute(text("INSERT INTO call_text (call_text) VALUES ('optimize')"))


async def forget(session: AsyncSession, number: int) -> None:
    await session.execute(text("DELETE FROM call_text WHERE rowid = :number"), {"number": number})
