"""What every part of the running server shares, made once by app.create_app."""

from dataclasses import dataclass

from whisperagent.sealed import Keyring
from whisperagent.settings import Loaded
from whisperserver.live import Live
from whisperserver.metrics import Metrics
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database


@dataclass(frozen=True)
class Services:
    """key: the server's own, with those before it; one of them opens each recording."""

    loaded: Loaded
    database: Database
    recordings: Recordings
    key: Keyring
    live: Live
    metrics: Metrics
