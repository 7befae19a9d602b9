"""What the Windows host sees of the softphone: through the interfaces of COM, as pycaw wraps them."""

import pytest

from tests.windows import fakes
from tests.windows.fakes import EXPIRED, INACTIVE, Endpoint, FakeCom, FakeDesktop, Session
from whisperagent.detect import Signals
from whisperagent.hosts.family import Process
from whisperagent.hosts.win_watch import Snapshot, look
from whisperagent.settings import Detection

PHONE, CHILD, OTHER, CHROME = 100, 110, 200, 300
EXPLORER = Process(10, 1, "explorer.exe")
SOFTPHONE = Process(PHONE, 10, "3CXSoftphone.exe")
WEBVIEW = Process(CHILD, PHONE, "msedgewebview2.exe")
MEETING = Process(OTHER, 10, "meeting.exe")
BROWSER = Process(CHROME, 10, "chrome.exe")


def seen(com: FakeCom, desktop: FakeDesktop, rules: Detection | None = None) -> Snapshot:
    with com.entered():
        return look(desktop, com, rules or Detection())


def phone(*more: Process) -> FakeDesktop:
    return FakeDesktop([EXPLORER, SOFTPHONE, MEETING, *more])


def test_a_call_on_a_headset_that_is_not_the_default_device_is_seen() -> None:
    com = FakeCom(
        fakes.microphone("webcam"),
        fakes.microphone("headset-mic", Session(PHONE)),
        fakes.output("speakers"),
        fakes.output("headset", Session(PHONE)),
    )
    com.defaults = {(0, 0): "speakers", (1, 0): "webcam"}
    snapshot = seen(com, phone())
    assert snapshot.signals == Signals(process=True, capture=True, render=True)
    assert (snapshot.microphone, snapshot.output, snapshot.root) == ("headset-mic", "headset", PHONE)


@pytest.mark.parametrize("state", [INACTIVE, EXPIRED])
def test_a_session_that_is_not_active_is_no_stream(state: int) -> None:
    com = FakeCom(fakes.microphone("mic", Session(PHONE, state)), fakes.output("out", Session(PHONE, state)))
    assert seen(com, phone()).signals == Signals(process=True)


def test_another_program_on_the_microphone_is_no_sign() -> None:
    com = FakeCom(fakes.microphone("mic", Session(OTHER)), fakes.output("out", Session(OTHER)))
    assert seen(com, phone()).signals == Signals(process=True)


def test_a_call_in_a_child_with_another_name_is_the_softphones() -> None:
    com = FakeCom(fakes.microphone("mic", Session(CHILD)), fakes.output("out", Session(CHILD)))
    snapshot = seen(com, phone(WEBVIEW))
    assert snapshot.signals.capture
    assert snapshot.root == PHONE


def test_a_program_whose_dead_parents_number_the_softphone_got_is_not_the_softphones() -> None:
    desktop = phone(Process(CHILD, PHONE, "meeting.exe"))
    desktop.start_times = {CHILD: 5, PHONE: 6}
    com = FakeCom(fakes.microphone("mic", Session(CHILD)))
    assert not seen(com, desktop).signals.capture


def test_a_child_that_cannot_be_asked_its_age_is_not_the_softphones() -> None:
    class Closed(FakeDesktop):
        def started(self, pid: int) -> int | None:
            return None if pid == CHILD else pid

    com = FakeCom(fakes.microphone("mic", Session(CHILD), Session(PHONE)))
    desktop = Closed([SOFTPHONE, WEBVIEW])
    assert seen(com, desktop).signals.capture
    com.endpoints[0].sessions.pop()
    assert not seen(com, desktop).signals.capture


def test_a_ring_of_parents_ends() -> None:
    desktop = FakeDesktop([Process(1, 2, "a.exe"), Process(2, 1, "b.exe"), SOFTPHONE])
    assert seen(FakeCom(), desktop).signals.process


def test_a_device_that_vanishes_while_we_look_hides_no_other() -> None:
    gone = Endpoint("gone", 1, "Bluetooth", [Session(PHONE)], vanishes=True)
    com = FakeCom(gone, fakes.microphone("mic", Session(PHONE)))
    snapshot = seen(com, phone())
    assert snapshot.signals.streams
    assert snapshot.microphone == "mic"


def test_a_session_that_dies_while_we_look_hides_no_other() -> None:
    com = FakeCom(fakes.microphone("mic", Session(PHONE, dies=True), Session(PHONE)))
    assert seen(com, phone()).signals.capture


def test_where_no_device_says_who_uses_it_the_privacy_settings_list_stands_in() -> None:
    com = FakeCom(Endpoint("mic", 1, mute=True), Endpoint("out", 0, mute=True))
    desktop = phone()
    desktop.users = ["3CXDMCC.3CX_97f1hnz6y6tba"]
    snapshot = seen(com, desktop)
    assert snapshot.signals == Signals(process=True, streams=False, microphone=True)
    assert snapshot.problem == "this Windows cannot do it"


def test_without_a_softphone_nothing_else_is_looked_at() -> None:
    com = FakeCom(Endpoint("mic", 1, mute=True))
    assert seen(com, FakeDesktop([EXPLORER, MEETING])) == Snapshot()


def test_titles_are_those_of_all_the_softphones_windows_and_of_no_other() -> None:
    desktop = phone(WEBVIEW)
    desktop.windows = [
        (OTHER, "Call with nobody"),
        (PHONE, "3CX"),
        (CHILD, "Appel avec +33 6 12 34 56 78"),
    ]
    assert seen(FakeCom(), desktop).signals.titles == ("3CX", "Appel avec +33 6 12 34 56 78")


WEB = Detection(pbx="pbx.example.com")
WEB_CLIENT = (CHROME, "Call with +33 6 12 34 56 78 - pbx.example.com - Google Chrome")


def in_browser(*sessions: Session) -> FakeCom:
    return FakeCom(fakes.microphone("mic", *sessions), fakes.output("out", *sessions))


def test_the_web_clients_call_is_a_browsers() -> None:
    desktop = FakeDesktop([BROWSER], windows=[WEB_CLIENT], users=["chrome.exe"])
    signals = seen(in_browser(Session(CHROME)), desktop, WEB).signals
    assert signals == Signals(True, True, True, (WEB_CLIENT[1],), microphone=True, browser=True)


def test_a_browser_is_not_looked_at_until_the_settings_say_what_the_web_client_is_called() -> None:
    desktop = FakeDesktop([BROWSER], windows=[WEB_CLIENT])
    assert seen(in_browser(Session(CHROME)), desktop) == Snapshot()


def test_another_tab_does_not_hide_the_web_clients_call() -> None:
    """detect.py tells a call from a meeting, by what was in sight when it began."""
    desktop = phone(BROWSER)
    desktop.windows = [(CHROME, "Weekly meeting - Google Chrome")]
    assert seen(in_browser(Session(CHROME)), desktop, WEB).signals.browser


def test_a_meeting_in_the_browser_does_not_hide_the_softphones_ringing() -> None:
    desktop = phone(BROWSER)
    com = FakeCom(
        fakes.microphone("mic", Session(CHROME)), fakes.output("out", Session(CHROME), Session(PHONE))
    )
    assert seen(com, desktop, WEB).signals == Signals(process=True, render=True)


def test_of_softphone_and_web_client_the_one_that_records_is_seen() -> None:
    desktop = phone(BROWSER)
    desktop.windows = [WEB_CLIENT]
    assert seen(in_browser(Session(CHROME)), desktop, WEB).signals.browser
    assert not seen(in_browser(Session(CHROME), Session(PHONE)), desktop, WEB).signals.browser
