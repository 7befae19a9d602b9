"""`wa agent devices` and `wa agent test`: what this PC hears, for a person who sets it up."""

import asyncio
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from whisperagent import console, soundcheck
from whisperagent.cli import findings
from whisperagent.doctor import Finding
from whisperagent.doctor.findings import failed
from whisperagent.doctor.sound import look, softphone
from whisperagent.hosts import Device, Host, Listening, choose, this_pc
from whisperagent.i18n import _
from whisperagent.record import LOWEST_DBFS
from whisperagent.settings import Loaded, Settings
from whisperagent.tui.words import clean

LIVE_S = 5.0
GLIMPSE_S = 0.5
"""How long to listen where nobody watches."""
OPENING_S = 3.0
"""How long devices may take until the first of them is heard."""
REDRAW_S = 0.1
BAR = 24
QUIETEST_DBFS = -60.0
CALL_WAIT_S = 30.0
"""How long a simulated call may take to begin."""


def devices(pc: Listening, *, json: bool) -> None:
    """Show every device with its level: live bars on a terminal, then the loudest that was heard."""
    try:
        found = pc.devices()
        watched = not json and sys.stdout.isatty() and sys.stderr.isatty()
        loudest = _measured(pc, found, LIVE_S if watched else GLIMPSE_S, draw=watched)
        if (problem := pc.problem) is not None:
            console.error(problem)
    finally:
        pc.close()
    if json:
        console.print_json(
            [
                {
                    "id": device.id,
                    "name": device.name,
                    "kind": device.kind,
                    "default": device.default,
                    "in_use": device.in_use,
                    "level_dbfs": loudest.get(device.id),
                }
                for device in found
            ]
        )
        return
    console.print_table(
        (_("kind"), _("name"), _("default"), _("in use"), _("level"), _("id")),
        [
            (
                _kind(device),
                clean(device.name),
                _("yes") if device.default else "",
                _("by the softphone") if device.in_use else "",
                _level(loudest.get(device.id)),
                clean(device.id),
            )
            for device in found
        ],
        empty=_("this PC has no microphone and no output"),
    )


def test(loaded: Loaded, simulate: Path | None, speed: float, *, json: bool) -> None:
    """Listen to both sides, say what was heard; ends with 1 when a side gave no sound."""
    if simulate is None:
        pc = this_pc(loaded.settings)
        found = _tested(pc, pc, loaded.settings)
    else:
        # Not the agent's home: a simulated call keeps there when it began, and this one is not the agent's.
        with TemporaryDirectory() as home:
            host = choose(loaded.settings, simulate, speed, Path(home))
            found = _tested(host, None, loaded.settings)
    if json:
        console.print_json(found)
    else:
        for finding in found:
            findings.show(finding)
    raise typer.Exit(1 if any(finding.result == "failed" for finding in found) else 0)


def _tested(host: Host, pc: Listening | None, settings: Settings) -> list[Finding]:
    """pc: the host once more, where it is not simulated."""
    try:
        return asyncio.run(_heard(host, pc, settings))
    finally:
        host.close()


async def _heard(host: Host, pc: Listening | None, settings: Settings) -> list[Finding]:
    seen = await look(host)
    # A real call is for the person at the telephone to make; a simulated one begins after a moment.
    until = host.clock() + (CALL_WAIT_S if pc is None else 0.0)
    while not seen.capture and host.clock() < until:
        await host.sleep(soundcheck.LISTEN_S)
        seen = host.signals()
    console.say(
        _("listening to both sides for {seconds} s: speak, and let the caller speak").format(
            seconds=round(soundcheck.TEST_S)
        )
    )
    with console.progress(_("listening"), soundcheck.TEST_S) as bar:
        heard = await soundcheck.hear(host, progress=bar.update)
    known, ways = (pc.devices(), pc.caller_ways()) if pc is not None else ([], [])
    problem = host.problem
    return [
        softphone(seen, settings.detection),
        *([failed("host", problem)] if problem is not None else []),
        *soundcheck.judge(heard, seen, known, ways, settings.recording.microphone, host.capture),
    ]


def _measured(pc: Listening, devices: list[Device], seconds: float, *, draw: bool) -> dict[str, float]:
    """The loudest level of each device in so many seconds, in dBFS; draw: bars that move meanwhile."""
    loudest: dict[str, float] = {}
    meter = pc.meter()
    until = time.monotonic() + OPENING_S
    try:
        while time.monotonic() < until:
            time.sleep(REDRAW_S)
            levels = meter.read()
            if levels and not loudest:
                until = time.monotonic() + seconds
            for name, level in levels.items():
                loudest[name] = max(loudest.get(name, LOWEST_DBFS), level)
            if draw:
                _draw([_bar(device, levels.get(device.id)) for device in devices])
    finally:
        meter.close()
        if draw:
            sys.stderr.write(f"\x1b[{len(devices)}B" if devices else "")
    return loudest


def _draw(lines: Iterable[str]) -> None:
    """The lines, on stderr, with the cursor left where it was."""
    shown = [f"\x1b[2K{line}\n" for line in lines]
    sys.stderr.write("".join(shown) + (f"\x1b[{len(shown)}A" if shown else ""))
    sys.stderr.flush()


def _bar(device: Device, level: float | None) -> str:
    share = 0.0 if level is None else min(1.0, max(0.0, 1 - level / QUIETEST_DBFS))
    full, empty = console.glyph("█", "#", sys.stderr), console.glyph("░", ".", sys.stderr)
    filled = round(share * BAR)
    return f"{full * filled}{empty * (BAR - filled)}  {_level(level).rjust(9)}  {clean(device.name)}"


def _level(level: float | None) -> str:
    if level is None:
        return "-"
    return _("silent") if level <= LOWEST_DBFS else f"{level:.0f} dBFS"


def _kind(device: Device) -> str:
    return _("microphone") if device.kind == "microphone" else _("output")
