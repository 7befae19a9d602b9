"""The programs that the fault suite kills: real processes, forked from one that has imported everything.

A process that starts in a few hundredths of a second can be killed a few hundred times in a minute. It is a
process all the same: SIGKILL ends it in the middle of whatever it does, and all it leaves is on the disk.
"""

import asyncio
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.faults.disk import FIELDS, NONE, Control, library

ROOT = Path(__file__).parents[2]
UNKNOWN = 255
"""What multiprocessing says where it cannot tell how a process ended."""


@dataclass(frozen=True)
class Orders:
    """What a process needs to know. settings: of WA_HOME `home`, e.g. `{"serve.port": 3002}`.

    arm: watch `home` with the disk of disk.c. sabotage: `module:function` called first: a negative control.
    """

    home: Path
    page: Path
    settings: dict[str, Any]
    call: int = 0
    seconds: float = 0.0
    speed: float = 40.0
    once: bool = False
    arm: bool = True
    sabotage: str = ""


def agent(orders: Orders) -> None:
    """`wa agent run --headless`, on the telephone of pc.py. Exit codes are those of `wa`."""
    from tests.faults.pc import Telephone
    from whisperagent.agent import Agent, Moment

    def run(loaded: Any, control: Control) -> None:
        telephone = Telephone(orders.call, orders.seconds, orders.speed, control)

        def told(moment: Moment) -> None:
            control["unrecorded"] += moment.event == "unrecorded"

        asyncio.run(Agent(loaded, telephone, once=orders.once, report=told).run())

    _as_wa(orders, run)


def server(orders: Orders) -> None:
    """`wa server serve`."""
    from whisperserver import logs
    from whisperserver.serve import serve

    logs.set_up()
    _as_wa(orders, lambda loaded, _control: serve(loaded))


def worker(orders: Orders) -> None:
    """`wa server worker`."""
    from whisperserver import logs
    from whisperserver.worker import run

    logs.set_up()
    _as_wa(orders, lambda loaded, _control: run(loaded))


def retry(orders: Orders) -> None:
    """`wa server retry --all`."""
    from whisperserver.cli.server import retry as begin_anew

    _as_wa(orders, lambda _loaded, _control: begin_anew(None, everything=True))


def standin(orders: Orders) -> None:
    """`wa server standin ninjaone`: it is not what is tested, so nothing of it fails."""
    from whisperserver.tickets import standin as ninjaone

    port, file = orders.settings["port"], orders.home / "tickets.json"
    _as_wa(replace(orders, settings={}, arm=False), lambda _loaded, _control: ninjaone.serve(port, file))


def _as_wa(orders: Orders, run: Callable[[Any, Control], None]) -> None:
    from whisperagent import settings
    from whisperagent.errors import WhisperError

    log = orders.home.with_name(orders.home.name + ".log").open("ab", buffering=0)
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    for name in [name for name in os.environ if name.startswith("WA_")]:
        del os.environ[name]
    os.environ |= {"WA_HOME": str(orders.home), "WA_UI__LANGUAGE": "en"}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if orders.sabotage:
        module, _colon, name = orders.sabotage.partition(":")
        getattr(importlib.import_module(module), name)()
    control = Control(orders.page)
    loaded = settings.load(orders.settings)
    if orders.arm:
        control.arm(orders.home, orders.home.with_name(orders.home.name + ".kept"))
    try:
        run(loaded, control)
    except WhisperError as problem:
        print(problem.in_words(), file=sys.stderr, flush=True)
        os._exit(problem.exit_code)


_context: ForkServerContext | None = None


def context() -> ForkServerContext:
    """The process that all others are forked from, started with the first of them."""
    global _context
    if _context is None:
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(["tests.faults.preload"])
        before = dict(os.environ)
        os.environ["LD_PRELOAD"] = str(library())
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(ROOT / "src"), before.get("PYTHONPATH", "")]
        )
        try:
            from multiprocessing import forkserver

            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)
    return _context


class Program:
    """One life of a program. control: its page, where the disk and the telephone are steered and read."""

    def __init__(self, run: Callable[[Orders], None], orders: Orders, **fields: int) -> None:
        self.orders = orders
        self.control = Control(orders.page)
        for name in FIELDS:
            if name != "clock":  # the telephone's, and it goes on
                self.control[name] = 0
        for name, value in fields.items():
            self.control[name] = value
        self._killed = False
        self._process: BaseProcess = context().Process(target=run, args=(orders,), daemon=False)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    def wait(self, seconds: float) -> bool:
        """For it to end; has it?"""
        self._process.join(seconds)
        return not self.runs

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> bool:
        """kill -9; was there still something to kill?"""
        lived = self.runs
        self._process.kill()
        self._process.join()
        self._killed = self._killed or lived
        return lived

    def stop(self) -> None:
        """Ask it to end."""
        self._process.terminate()
        if not self.wait(20):
            self.kill()
            raise AssertionError(f"it does not stop; its words are in {self.orders.home}.log")

    @property
    def died(self) -> bool:
        """Was it ended by a kill, from outside or by its disk?"""
        # Of a process that is killed as it starts, the fork server does not always tell how it ended.
        return self._killed or self.control["ended"] != NONE or self.exit_code in (-signal.SIGKILL, UNKNOWN)
