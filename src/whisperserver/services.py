"""What every part of the running server shares, made once by app.create_app."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent.settings import Loaded
from whisperserver.live import Live
from whisperserver.metrics import Metrics
from whisperserver.store.blobs import Recordings
from whisperserver.store.database import Database


@dataclass(frozen=True)
class Services:
    """key: the server's own; it opens every recording."""

    loaded: Loaded
    database: Database
    recordings: Recordings
    key: X25519PrivateKey
    live: Live
    metrics: Metrics
