"""What a person sees on the screen, and waiting until they see it."""

import html
import re
from collections.abc import Callable
from time import monotonic

from textual.app import App
from textual.pilot import Pilot

PATIENCE_S = 15.0


CELL = 12.2
"""Width of a column in the exported picture."""


def shown(app: App[None]) -> str:
    """The screen as text, line by line and column by column, without colours."""
    lines: dict[float, str] = {}
    for x, y, text in re.findall(
        r'<text class="[^"]*-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', app.export_screenshot()
    ):
        before = lines.get(float(y), "").ljust(round(float(x) / CELL))
        lines[float(y)] = before + html.unescape(text).replace("\N{NO-BREAK SPACE}", " ")
    return "\n".join(lines[y].rstrip() for y in sorted(lines))


async def until(pilot: Pilot[None], condition: Callable[[], bool], what: str) -> None:
    """Go on when `condition` holds; fail with `what` and the screen when it never does."""
    end = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < end, f"{what}\n{shown(pilot.app)}"
        await pilot.pause(0.02)
    await pilot.pause()


async def until_shown(pilot: Pilot[None], text: str) -> None:
    await until(pilot, lambda: text in shown(pilot.app), f"never shown: {text}")


async def until_gone(pilot: Pilot[None], text: str) -> None:
    await until(pilot, lambda: text not in shown(pilot.app), f"still shown: {text}")
