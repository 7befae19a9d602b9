"""Recordings in a spool, as the tests of what becomes of them want them."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import sealed, wire
from whisperagent.spool import Entry, Item, Spool
from whisperagent.wire import CallMetadata, CallState, UploadAnswer

KEY = X25519PrivateKey.generate()
SECOND = bytes(4 * wire.SAMPLE_RATE)


def queued(spool: Spool, *, call_id: str = "", part: int = 1, seconds: int = 1, party: str = "Ada") -> Item:
    """A recording of silence that waits."""
    metadata = CallMetadata(
        call_id=call_id or wire.new_call_id(),
        extension="201",
        started_at=datetime.now(UTC),
        duration_s=float(seconds),
        part=part,
        remote_party=party,
    )
    file = spool.create(metadata)
    writer = sealed.Writer(
        file, [KEY.public_key()], bytes.fromhex(metadata.call_id.replace("-", "")), segment_log2=14
    )
    for _second in range(seconds):
        writer.write(SECOND)
    writer.finish()
    file.close()
    return spool.queue(Entry(metadata=metadata))


def receipt(item: Item) -> UploadAnswer:
    """What a server says that has stored it."""
    return UploadAnswer(
        call_id=item.call_id,
        part=item.part,
        state=CallState.RECEIVED,
        sha256="a" * 64,
        size=item.size,
        status_url="",
    )


def sent(spool: Spool, *, seconds: int = 1) -> Item:
    """A recording that the server has."""
    item = queued(spool, seconds=seconds)
    spool.done(item, receipt(item))
    return spool.find(item.call_id)[0]
