"""What the softphone does on Windows: looked at twice a second, in a thread of its own.

A call is seen by the sessions of the softphone's processes at every endpoint (wasapi.py), by its windows and
by the list of who uses the microphone (win_desktop.py). What it means is for detect.py to say.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from whisperagent.detect import Signals
from whisperagent.hosts.family import Process, family, matches
from whisperagent.hosts.wasapi import CAPTURE, RENDER, Com, Session, Sound, in_words
from whisperagent.hosts.win_desktop import Desktop
from whisperagent.settings import Detection

ABSENT_S = 2.0
"""How often we look whether the softphone has been started."""
AROUND_LOOKS = 10
"""How many looks at the softphone come between two around."""
AUDIBLE = 0.01
PATIENCE_S = 2.0

NOTHING = Signals()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The softphone at one moment. root: the topmost of its processes, 0: none.

    microphone, output: the endpoints that it records from and plays on now. loud: it plays something that can
    be heard. problem: why its streams cannot be seen.
    """

    signals: Signals = NOTHING
    root: int = 0
    microphone: str = ""
    output: str = ""
    loud: bool = False
    problem: str = ""


class Watch:
    """Looks at the softphone in a thread of its own, and has looked once when it is made.

    look_around: what else is to be seen now and then; it is called in that thread, and never raises.
    now: what it saw last.
    """

    def __init__(self, desktop: Desktop, com: Com, rules: Detection, look_around: Callable[[], None]) -> None:
        self.now = Snapshot()
        self._look_around = look_around
        self._desktop = desktop
        self._com = com
        self._rules = rules
        self._looked = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="softphone", daemon=True)
        self._thread.start()
        self._looked.wait(PATIENCE_S)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(PATIENCE_S)

    def _watch(self) -> None:
        failing, looks = False, 0
        with self._com.entered():
            while not self._closing.is_set():
                try:
                    self.now = look(self._desktop, self._com, self._rules)
                    failing = False
                except Exception as problem:
                    # One look that fails ends no call, whatever it was: what was seen last stands.
                    if not failing:
                        log.warning("the softphone cannot be seen: %s", problem, exc_info=True)
                    failing = True
                if looks % AROUND_LOOKS == 0:
                    self._look_around()
                looks += 1
                self._looked.set()
                absent = not self.now.signals.process
                self._closing.wait(max(self._rules.poll_s, ABSENT_S) if absent else self._rules.poll_s)


def look(desktop: Desktop, com: Com, rules: Detection) -> Snapshot:
    """See the softphone now; this thread has entered COM. raises OSError: Windows does not list processes.

    A browser is looked at only where `detection.pbx` says what the web client's title has in it, and only
    while it records and the softphone has no stream. Whether it is a call is for detect.py to say: during
    one of the web client the technician may look at another tab, which changes the title.
    """
    processes = desktop.processes()
    softphone = family(processes, rules.processes, desktop.started)
    browser = family(processes, rules.browsers, desktop.started) if rules.pbx else {}
    if not softphone and not browser:
        return Snapshot()
    problem = ""
    sessions: list[Session] = []
    try:
        sessions = [session for session in Sound(com).sessions() if session.active]
    except com.Error as refused:
        problem = in_words(refused)
    titles = desktop.titles({*softphone, *browser})
    users = desktop.microphone_users() or []

    def seen(members: dict[int, int], patterns: tuple[str, ...], *, is_browser: bool) -> Snapshot:
        ours = [session for session in sessions if session.pid in members]
        captures = [session for session in ours if session.flow == CAPTURE]
        renders = [session for session in ours if session.flow == RENDER]
        root = _root(members, captures + renders, processes)
        return Snapshot(
            Signals(
                process=bool(members),
                capture=bool(captures),
                render=bool(renders),
                titles=tuple(title for pid, title in titles if pid in members),
                streams=not problem,
                microphone=any(matches(user, patterns) for user in users),
                browser=is_browser,
            ),
            root,
            captures[0].endpoint if captures else "",
            renders[0].endpoint if renders else "",
            any(session.peak > AUDIBLE for session in renders),
            problem,
        )

    phone = seen(softphone, rules.processes, is_browser=False)
    web = seen(browser, rules.browsers, is_browser=True)
    busy = phone.signals.capture or phone.signals.render
    return web if not softphone or (web.signals.capture and not busy) else phone


def _root(members: dict[int, int], sessions: list[Session], processes: list[Process]) -> int:
    """The topmost process of who has a session, else of the oldest in the list that is meant."""
    for session in sessions:
        return members[session.pid]
    return next((members[process.pid] for process in processes if process.pid in members), 0)
