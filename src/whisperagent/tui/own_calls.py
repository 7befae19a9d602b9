"""Calls of this PC as the review shows them while the server cannot: what the spool knows, and their drafts.

Everything here blocks, opens what is sealed and may wait for the system's keyring: for a thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from textwrap import shorten

import msgspec

from whisperagent import wire
from whisperagent.drafts import OwnDraft, OwnDrafts
from whisperagent.errors import WhisperError
from whisperagent.settings import Paths
from whisperagent.spool import Item, Spool
from whisperagent.tui import words
from whisperagent.wire import CallState, SpoolState

SNIPPET = 200


@dataclass(frozen=True)
class OwnCall:
    """call: as the server would tell it, with the draft for a transcript. state: of its recording here.

    problem: why its draft cannot be shown.
    """

    call: wire.Call
    state: SpoolState
    draft: OwnDraft | None = None
    problem: str = ""

    @property
    def word(self) -> words.Word:
        return words.own_draft() if self.draft else words.spool_state(self.state)


class OwnCalls:
    """What lies in one home."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._drafts = OwnDrafts(paths.home)
        self._opened: dict[str, tuple[datetime, OwnDraft]] = {}

    def items(self) -> Sequence[Item]:
        """What the spool holds; nothing when it cannot be read, which the dashboard tells."""
        try:
            return Spool(self._paths.spool).items() if self._paths.spool.is_dir() else ()
        except OSError:
            return ()

    def look(self, items: Sequence[Item]) -> list[OwnCall]:
        """The calls of which these are the parts, newest first; without those whose recordings are gone."""
        there = (item for item in items if item.size)
        calls = [self._own(list(parts)) for _call, parts in groupby(there, lambda item: item.call_id)]
        return calls[::-1]

    def find(self, call_id: str) -> OwnCall | None:
        """One of them."""
        found = self.look([item for item in self.items() if item.call_id == call_id])
        return found[0] if found else None

    def has_draft(self, call_id: str) -> bool:
        """Asks only whether there is a file."""
        return self._drafts.made_at(call_id) is not None

    def draft(self, call_id: str) -> OwnDraft | None:
        """None: there is none. raises WhisperError, OSError: it cannot be opened or read."""
        made_at = self._drafts.made_at(call_id)
        if made_at is None:
            return None
        known = self._opened.get(call_id)
        if known is not None and known[0] == made_at:
            return known[1]
        draft = self._drafts.load(call_id)
        if draft is not None:
            self._opened[call_id] = made_at, draft
        return draft

    def correct(self, call_id: str, segment_id: int, text: str) -> None:
        """raises WhisperError, OSError: the correction cannot be kept."""
        self._drafts.correct(call_id, segment_id, text)
        self._opened.pop(call_id, None)

    def _own(self, parts: list[Item]) -> OwnCall:
        state = min((item.state for item in parts), key=list(SpoolState).index)
        try:
            draft = self.draft(parts[0].call_id)
        except OSError as problem:
            return OwnCall(_call(parts, None), state, problem=str(problem))
        except WhisperError as problem:
            return OwnCall(_call(parts, None), state, problem=problem.in_words())
        return OwnCall(_call(parts, draft), state, draft)


def with_draft(call: wire.Call, draft: OwnDraft) -> wire.Call:
    """`call`, with the draft for a transcript."""
    transcript = wire.Transcript(
        call_id=draft.call_id,
        version=0,
        language=draft.language,
        model=draft.model,
        duration_s=draft.duration_s,
        segments=draft.as_corrected(),
    )
    return msgspec.structs.replace(call, transcript=transcript)


def _call(parts: list[Item], draft: OwnDraft | None) -> wire.Call:
    first = parts[0].entry.metadata
    said = " ".join(segment.text for segment in draft.as_corrected()) if draft else ""
    summary = wire.CallSummary(
        call_id=first.call_id,
        state=CallState.RECEIVED,
        extension=first.extension,
        started_at=first.started_at,
        duration_s=draft.duration_s if draft else sum(item.duration_s for item in parts),
        agent_name=first.agent_name,
        remote_party=first.remote_party,
        direction=first.direction,
        language=draft.language if draft else "",
        snippet=shorten(said, SNIPPET, placeholder=" …"),
    )
    call = wire.Call(summary=summary, parts=())
    return with_draft(call, draft) if draft else call
