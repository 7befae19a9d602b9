"""What this PC has written down of its own calls, while no server has: a draft each.

drafting.py makes them, the screens show them, and a person may correct them. A draft is
`drafts/<call_id>.srec`: JSON, sealed to this PC's own key (localkey.py), for the words of a call lie nowhere
on the PC in clear. It lives as long as a recording of its call does.
"""

import io
import logging
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Meta

from whisperagent import files, sealed
from whisperagent.errors import SealedError, WhisperError
from whisperagent.i18n import _
from whisperagent.localkey import LocalKey
from whisperagent.sealed import Keyring
from whisperagent.spool import RECORDING
from whisperagent.wire import Segment, is_call_id

ASK_AGAIN_S = 30.0

log = logging.getLogger(__name__)


class OwnDraft(msgspec.Struct, frozen=True, kw_only=True):
    """made_at: UTC. model, language, duration_s: as of a `wire.Transcript`. corrected: text by segment id."""

    call_id: str
    made_at: datetime
    model: str
    language: str
    duration_s: Annotated[float, Meta(ge=0)]
    segments: tuple[Segment, ...]
    corrected: dict[int, str] = {}

    def as_corrected(self) -> tuple[Segment, ...]:
        """What is said, as a person has left it: a segment without any text is gone."""
        texts = self.corrected
        told = (
            msgspec.structs.replace(it, text=texts[it.id], words=()) if it.id in texts else it
            for it in self.segments
        )
        return tuple(segment for segment in told if segment.text)


class OwnDrafts:
    """The drafts in `home/drafts`, which is made when the first one is kept."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "drafts"
        self._own = LocalKey(home)
        self._private: X25519PrivateKey | None = None
        self._ask_again_at = 0.0

    def call_ids(self) -> set[str]:
        """Which calls have one."""
        return {path.stem for path in self._folder.glob(f"*{RECORDING}") if is_call_id(path.stem)}

    def made_at(self, call_id: str) -> datetime | None:
        """When it was made or corrected last; None when there is none. Needs no key."""
        try:
            return datetime.fromtimestamp(self._path(call_id).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def opened_by(self, ring: Keyring | None) -> bool:
        """Has `ring` the key that drafts are sealed to? raises OSError: a file cannot be read."""
        own = self._own.public()
        return own is not None and ring is not None and sealed.key_id(own) in ring.by_id()

    def keep(self, draft: OwnDraft) -> None:
        """raises WhisperError: this PC has no key. OSError: it cannot be written."""
        public = self._own.public()
        if public is None:
            raise no_key()
        content = io.BytesIO()
        writer = sealed.Writer(content, [public], uuid.UUID(draft.call_id).bytes)
        writer.write(msgspec.json.encode(draft))
        writer.finish()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(self._path(draft.call_id), content.getvalue(), durable=False)

    def load(self, call_id: str) -> OwnDraft | None:
        """What was kept for this call; None when there is none. It may wait for the system's keyring.

        raises WhisperError: it cannot be opened. OSError: it cannot be read.
        """
        try:
            content = self._path(call_id).read_bytes()
        except FileNotFoundError:
            return None
        private = self._key()
        try:
            reader = sealed.Reader(io.BytesIO(content), private)
            draft = msgspec.json.decode(b"".join(reader.segments()), type=OwnDraft)
        except (SealedError, msgspec.MsgspecError) as problem:
            raise WhisperError(_("the draft of this call cannot be opened"), why=str(problem)) from None
        if (draft.call_id, reader.recording_id) != (call_id, uuid.UUID(call_id).bytes):
            raise WhisperError(_("the draft of this call cannot be opened"), why=_("it is another call's"))
        return draft

    def correct(self, call_id: str, segment_id: int, text: str) -> None:
        """text: of that segment from now on. raises as `load` and `keep`."""
        draft = self.load(call_id)
        if draft is None:
            return
        said = next((segment.text for segment in draft.segments if segment.id == segment_id), None)
        others = {number: known for number, known in draft.corrected.items() if number != segment_id}
        mine = {} if said in (None, text) else {segment_id: text}
        self.keep(msgspec.structs.replace(draft, corrected=others | mine))

    def remove(self, call_id: str) -> None:
        """There is none any more; on Windows it may be open at this moment, and stays until the next time."""
        try:
            self._path(call_id).unlink(missing_ok=True)
        except PermissionError as problem:
            log.info("%s", problem)

    def _key(self) -> X25519PrivateKey:
        """raises WhisperError: it is not to be had now. A keyring that is locked is not asked every time."""
        if self._private is None and time.monotonic() >= self._ask_again_at:
            self._private = self._own.private()
            self._ask_again_at = time.monotonic() + ASK_AGAIN_S
        if self._private is None:
            raise no_key()
        return self._private

    def _path(self, call_id: str) -> Path:
        return self._folder / f"{call_id}{RECORDING}"


def no_key() -> WhisperError:
    """What is said where this PC's own key is not to be had."""
    return WhisperError(
        _("the key of this PC cannot be had"),
        why=_("the system's keyring does not give it"),
        fix=_("unlock the keyring, then try again"),
    )
