"""What a person has typed and the server does not have yet: one file a call in `home/drafts`.

The review screen writes with every key, so that a crash, a lost server or a closed terminal costs nobody a
sentence. A draft that says nothing is no file.
"""

from pathlib import Path
from typing import Literal, Self

import msgspec

from whisperagent import files
from whisperagent.wire import TicketDraft


class TicketText(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as it is being written: unlike a `TicketDraft` it may have no subject yet."""

    subject: str = ""
    body: str = ""
    priority: Literal["NONE", "LOW", "MEDIUM", "HIGH"] = "NONE"
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, draft: TicketDraft) -> Self:
        return cls(subject=draft.subject, body=draft.body, priority=draft.priority, tags=draft.tags)

    def draft(self) -> TicketDraft:
        """As the server wants it. subject: must not be empty by then."""
        return TicketDraft(
            subject=self.subject.strip(), body=self.body, priority=self.priority, tags=self.tags
        )


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """texts: segment id -> the text as it was being corrected. ticket: None while it is the server's own."""

    texts: dict[int, str] = {}
    ticket: TicketText | None = None


class Drafts:
    """The drafts in `folder`, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, call_id: str) -> Draft:
        """What was kept for this call; nothing when there is none, or it is damaged."""
        try:
            return msgspec.json.decode(self._path(call_id).read_bytes(), type=Draft)
        except (OSError, msgspec.DecodeError):
            return Draft()

    def keep(self, call_id: str, draft: Draft) -> None:
        """raises OSError: it cannot be written."""
        if draft == Draft():
            self._path(call_id).unlink(missing_ok=True)
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not synced: with every key that would be felt, and only a power cut could take the last seconds.
        files.write(self._path(call_id), msgspec.json.encode(draft), durable=False)

    def keep_text(self, call_id: str, segment_id: int, text: str | None) -> None:
        """text: of that segment; None forgets it. raises OSError: it cannot be written."""
        draft = self.load(call_id)
        texts = {number: kept for number, kept in draft.texts.items() if number != segment_id}
        if text is not None:
            texts[segment_id] = text
        self.keep(call_id, msgspec.structs.replace(draft, texts=texts))

    def keep_ticket(self, call_id: str, ticket: TicketText | None) -> None:
        """ticket: None forgets it. raises OSError: it cannot be written."""
        self.keep(call_id, msgspec.structs.replace(self.load(call_id), ticket=ticket))

    def _path(self, call_id: str) -> Path:
        return self.folder / f"{call_id}.json"
