"""Who uses the microphone, as Windows keeps it in the registry; which names are a softphone's."""

import sys
from typing import Any

import pytest

from tests.windows.fakes import FakeRegistry
from whisperagent.hosts.family import matches
from whisperagent.hosts.win_desktop import CONSENT, Desktop
from whisperagent.settings import Detection

IN_USE = {"LastUsedTimeStart": 133_700_000_000_000_000, "LastUsedTimeStop": 0}
USED = {"LastUsedTimeStart": 133_700_000_000_000_000, "LastUsedTimeStop": 133_700_000_100_000_000}
NEVER = {"LastUsedTimeStart": 0, "LastUsedTimeStop": 0}
ASKED, DENIED = {"Value": "Allow"}, {"Value": "Deny"}


def rooted(store: dict[str, Any] | None) -> dict[str, Any]:
    """`store` where the registry has it; None: this Windows has none."""
    root: dict[str, Any] = {}
    if store is not None:
        inner = root
        for name in CONSENT.split("\\"):
            inner[name] = inner = {}
        inner.update(store)
    return root


def users(monkeypatch: pytest.MonkeyPatch, store: dict[str, Any] | None) -> list[str] | None:
    monkeypatch.setitem(sys.modules, "winreg", FakeRegistry(rooted(store)))
    return Desktop().microphone_users()


@pytest.mark.parametrize(
    ("person", "machine", "switch"),
    [
        (ASKED, DENIED, "Microphone access"),
        (DENIED | {"NonPackaged": ASKED}, ASKED, "Let apps access your microphone"),
        (ASKED | {"NonPackaged": DENIED}, ASKED, "Let desktop apps access your microphone"),
        (ASKED | {"NonPackaged": ASKED, "3CXDMCC.3CX_97f1hnz6y6tba": DENIED}, ASKED, ""),
        (None, None, ""),
    ],
    ids=["for the PC", "for apps", "for desktop apps", "for another one", "never set"],
)
def test_the_privacy_setting_that_forbids_the_microphone_is_named(
    monkeypatch: pytest.MonkeyPatch,
    person: dict[str, Any] | None,
    machine: dict[str, Any] | None,
    switch: str,
) -> None:
    monkeypatch.setitem(sys.modules, "winreg", FakeRegistry(rooted(person), rooted(machine)))
    assert Desktop().microphone_denied() == switch


def test_apps_of_the_store_and_other_programs_that_use_the_microphone_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = {
        "Value": "Allow",
        "3CXDMCC.3CX_97f1hnz6y6tba": IN_USE,
        "Microsoft.WindowsSoundRecorder_8wekyb3d8bbwe": USED,
        "Microsoft.WindowsCamera_8wekyb3d8bbwe": ASKED,
        "NonPackaged": {
            "C:#Users#x#AppData#Local#Programs#3CXDesktopApp#3CXDesktopApp.exe": IN_USE,
            "C:#Program Files#Meeting#meeting.exe": USED,
            "C:#Program Files#Idle#idle.exe": NEVER,
        },
    }
    assert users(monkeypatch, store) == ["3CXDMCC.3CX_97f1hnz6y6tba", "3CXDesktopApp.exe"]


def test_a_pc_without_other_programs_lists_the_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert users(monkeypatch, {"3CXDMCC.3CX_97f1hnz6y6tba": IN_USE}) == ["3CXDMCC.3CX_97f1hnz6y6tba"]


def test_a_windows_that_keeps_no_list_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert users(monkeypatch, None) is None


@pytest.mark.parametrize(
    "name",
    [
        "3CXSoftphone.exe",
        "3cxdesktopapp.EXE",
        "3CXWin8Phone.exe",
        "3CXPhone.exe",
        "3CXDMCC.3CX_97f1hnz6y6tba",
    ],
)
def test_every_known_softphone_is_one(name: str) -> None:
    assert matches(name, Detection().processes)


@pytest.mark.parametrize("name", ["wa.exe", "not3CXSoftphone.exe", "chrome.exe", ""])
def test_no_other_program_is(name: str) -> None:
    assert not matches(name, Detection().processes)
