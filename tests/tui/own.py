"""Drafts that this PC has made of its own calls."""

from datetime import timedelta
from pathlib import Path

from tests.tui import samples
from whisperagent.drafts import OwnDraft, OwnDrafts
from whisperagent.keys import Keys
from whisperagent.wire import Segment

DRAFT = (
    samples.spoken(0.8, "agent", "Infogérance Dupont, bonjour, Claire à l'appareil.", 0),
    samples.spoken(4.2, "caller", "Bonjour, c'est Marc le fèvre du cabinet Moreau.", 1),
    samples.spoken(8.9, "caller", "Depuis ce matin Outlook me redemande mon mot de passe.", 2),
)


def drafted(home: Path, call_id: str = samples.OUTLOOK, segments: tuple[Segment, ...] = DRAFT) -> OwnDrafts:
    """Keep a draft; the key of this PC lies in its home."""
    Keys(home, own=True)
    drafts = OwnDrafts(home)
    drafts.keep(
        OwnDraft(
            call_id=call_id,
            made_at=samples.NOW - timedelta(minutes=3),
            model="small",
            language="fr",
            duration_s=41.0,
            segments=segments,
        )
    )
    return drafts
