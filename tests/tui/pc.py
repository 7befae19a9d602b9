"""This PC as an agent leaves it: agent.json and a spool, written by the agent's own code."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from tests.tui import samples
from whisperagent import wire
from whisperagent.spool import Entry, Item, Spool


class Pc:
    """One home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.spool = Spool(home / "spool")

    def agent(
        self,
        *,
        call: wire.CurrentCall | None = None,
        updated_at: datetime = samples.NOW,
        calls_today: int = 0,
        paused_until: datetime | None = None,
        private: bool = False,
    ) -> None:
        """The agent says this of itself."""
        status = wire.AgentStatus(
            pid=os.getpid(),
            version="0.1.0",
            state=call.state if call else "idle",
            started_at=samples.NOW - timedelta(hours=6),
            updated_at=updated_at,
            extension=samples.US,
            host="simulated",
            server_url="http://127.0.0.1:3002",
            server_seen_at=samples.NOW - timedelta(minutes=2),
            call=call,
            calls_today=calls_today,
            paused_until=paused_until,
            private=private,
        )
        temporary = self.home / "agent.tmp"
        temporary.write_bytes(msgspec.json.encode(status))
        temporary.replace(self.home / "agent.json")

    def queued(self, call_id: str, party: str, attempts: int = 0) -> Item:
        metadata = wire.CallMetadata(
            call_id=call_id,
            extension=samples.US,
            started_at=samples.NOW - timedelta(minutes=4),
            duration_s=95.0,
            remote_party=party,
        )
        file = self.spool.create(metadata)
        file.write(b"sealed")
        file.close()
        item = self.spool.queue(Entry(metadata=metadata))
        for _attempt in range(attempts):
            self.spool.failed(item, "no answer", samples.NOW + timedelta(minutes=5))
            item = self.spool.find(call_id)[0]
        return item

    def rejected(self, call_id: str, party: str, why: str) -> None:
        self.spool.reject(self.queued(call_id, party), why)

    def done(self, call_id: str, party: str) -> None:
        receipt = wire.UploadAnswer(
            call_id=call_id, part=1, state=wire.CallState.RECEIVED, sha256="0" * 64, size=6, status_url="/"
        )
        self.spool.done(self.queued(call_id, party), receipt)
