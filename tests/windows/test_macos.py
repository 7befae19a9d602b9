"""What can be tried of macOS without one: what Core Audio's answers mean, and that it is missed in words."""

import struct

import pytest

from whisperagent.errors import HostUnavailable
from whisperagent.hosts.macos import MacHost, Stream, streams
from whisperagent.settings import Settings

SYSTEM = 1


def core_audio(*processes: tuple[int, int, int]) -> dict[tuple[int, str], bytes]:
    """Its properties, for processes of (pid, records, plays)."""
    objects = range(40, 40 + len(processes))
    found = {(SYSTEM, "prs#"): struct.pack(f"={len(processes)}I", *objects)}
    for number, values in zip(objects, processes, strict=True):
        found |= {
            (number, name): struct.pack("=i", value)
            for name, value in zip(("ppid", "piri", "piro"), values, strict=True)
        }
    return found


def test_who_records_and_who_plays_is_known() -> None:
    found = core_audio((100, 1, 1), (200, 0, 1), (300, 0, 0))
    assert streams(lambda process, name: found.get((process, name))) == [
        Stream(100, records=True, plays=True),
        Stream(200, records=False, plays=True),
        Stream(300, records=False, plays=False),
    ]


def test_a_process_that_ends_while_it_is_asked_does_nothing() -> None:
    found = core_audio((100, 1, 1))
    del found[40, "piri"], found[40, "piro"]
    assert streams(lambda process, name: found.get((process, name))) == [Stream(100, False, False)]


def test_an_older_macos_says_nothing() -> None:
    assert streams(lambda _process, _name: None) is None


def test_elsewhere_than_on_a_mac_it_says_what_is_missing() -> None:
    with pytest.raises(HostUnavailable, match="there is no Core Audio"):
        MacHost(Settings())
