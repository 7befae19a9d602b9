"""A spool that two agents want, and one that is full of what is none of ours."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.faults.house import CALM, House, Weather
from whisperagent import sealed, wire
from whisperagent.errors import AlreadyRunning
from whisperagent.spool import Spool
from whisperagent.wire import SpoolState

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

PAIRS = 12
LITTER = 60
NAMES = ("desktop.ini", ".DS_Store", "call.wav", "Thumbs.db", "é🙂.srec", "x" * 200, "agent.log", "1.json")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "house", 5, Weather(network=0.2, fail=0, jumps=0))
    yield house
    house.close()


def test_of_two_agents_on_one_spool_one_records_and_the_other_says_so(tmp_path: Path) -> None:
    house = House(tmp_path / "house", 6, CALM)
    try:
        for _pair in range(PAIRS):
            agents = house.live_twice()
            refused = [agent for agent in agents if agent.exit_code == AlreadyRunning.exit_code]
            assert len(refused) == 1
            assert refused[0].control["opened"] == 0
        house.calm()
        account = house.account()
    finally:
        house.close()
    assert account.balanced, account.report()
    assert account.on_server > 0


def test_a_spool_full_of_garbage_costs_no_call_and_nothing_of_it_is_taken_for_one(house: House) -> None:
    junk = litter(house.pc / "spool", Random(5))
    house.littered = {name.split(".")[0] for name in junk}
    house.storm(40, 60)
    house.calm()
    account = house.account()
    assert account.balanced, account.report()
    assert account.on_server > 0
    # A call that was up may have been taken for the rest of such a recording: then it is a further part.
    stored = (house.server_home / "server/recordings").rglob("*.srec")
    assert not {f"{path.parent.name}.{path.name}" for path in stored} & junk
    # Whatever was in it, nobody has deleted it.
    assert {path.name for path in (house.pc / "spool").rglob("*.srec")} >= junk


def litter(root: Path, chance: Random) -> set[str]:
    """Fill every folder of a spool with what crashes, people and other programs leave; gives the names
    of what looks like a recording."""
    spool = Spool(root)
    found = set()
    for _number in range(LITTER):
        folder = root / chance.choice(list(SpoolState))
        call_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        path = folder / f"{call_id}.{chance.randint(1, 3)}.srec"
        junk = chance.randbytes(chance.randint(1, 5000))
        match chance.randrange(7):
            case 0:
                path.write_bytes(junk)
            case 1:
                path.write_bytes(junk)
                path.with_suffix(".json").write_bytes(junk)
            case 2:
                path.write_bytes(sealed.MAGIC + junk)
                path.with_suffix(".json").write_text('{"version": 1}', "utf-8")
            case 3:
                path.write_bytes(_for_somebody_else(call_id))
            case 4:
                path.with_suffix(".json").write_bytes(junk)
                continue
            case 5:
                path.mkdir()
                continue
            case _:
                (folder / chance.choice(NAMES)).write_bytes(junk)
                continue
        found.add(path.name)
    assert not spool.waiting()
    return found


def _for_somebody_else(call_id: str) -> bytes:
    """A recording that is whole, and that no key of this house opens."""
    metadata = wire.CallMetadata(call_id=call_id, extension="201", started_at=datetime.now(UTC))
    sink = BytesIO()
    writer = sealed.Writer(
        sink,
        [X25519PrivateKey.generate().public_key()],
        uuid.UUID(call_id).bytes,
        repr(metadata).encode(),
    )
    writer.write(bytes(64_000))
    writer.finish()
    return sink.getvalue()
