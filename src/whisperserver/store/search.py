"""Words in calls: SQLite's FTS5, accents and case folded. Row `number` of the index is `calls.number`."""

import re
from collections.abc import Sequence

from sqlalchemy import column, table, text
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent import wire

INDEX = table("call_text", column("rowid"))
WORDS_MAX = 32


def expression(q: str) -> str:
    """What a person typed, as an FTS5 query: every word must be there, the last may be just begun.

    Only letters and digits pass, each word in quotes: no operator, no syntax error, nothing to inject.
    Empty when there is no word in it.
    """
    words = re.findall(r"[^\W_]+", q)[:WORDS_MAX]
    return " ".join(f'"{word}"' for word in words) + "*" * bool(words)


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
