"""What must not be done, done on purpose in a process of the tests: the suite has to notice each of them."""

import hashlib
import threading
from datetime import datetime
from typing import Any, BinaryIO

from whisperagent import recovery, wire
from whisperagent.recovery import Recovered
from whisperagent.spool import Item, Spool
from whisperserver.store.blobs import Recordings


def no_recovery() -> None:
    """What a crash left in the spool stays as it is."""

    def recover(_spool: Spool, *_more: Any, **_named: Any) -> Recovered:
        return Recovered()

    recovery.recover = recover  # type: ignore[assignment]  # what this is for


def forget_unacknowledged() -> None:
    """The PC takes what could not be sent for sent."""

    def failed(spool: Spool, item: Item, _problem: str, _next_attempt_at: datetime) -> None:
        data = item.path.read_bytes()
        receipt = wire.UploadAnswer(
            call_id=item.call_id,
            part=item.part,
            state=wire.CallState.RECEIVED,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            status_url="",
        )
        spool.done(item, receipt)

    Spool.failed = failed  # type: ignore[assignment, method-assign]  # that is what this is for


def acknowledge_early() -> None:
    """The server says that a recording is stored, and stores it a second later."""
    keep = Recordings.keep

    def later(recordings: Recordings, arrived: BinaryIO, name: str) -> None:
        threading.Timer(1.0, keep, (recordings, arrived, name)).start()

    Recordings.keep = later  # type: ignore[assignment, method-assign]  # as above
