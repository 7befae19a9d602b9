"""The picture in the README is the review screen as it is now.

To draw it anew: delete docs/review.svg, run this test, look at what it drew, commit it.
"""

import asyncio
import html
import re
from pathlib import Path

from rich.cells import cell_len
from textual.pilot import Pilot

from tests.tui import samples
from tests.tui.conftest import MakeApp
from tests.tui.looking import CELL, until_shown
from tests.tui.pc import Pc
from whisperagent.tui.transcript import Transcript

PICTURE = Path(__file__).parents[2] / "docs" / "review.svg"


def drawn(app: MakeApp) -> str:
    """The review of a French call, as an SVG that asks no other host for anything."""
    made = app(start="calls", open_call=samples.OUTLOOK)

    async def draw() -> str:
        async with made.run_test(size=(112, 24)) as pilot:
            await settle(pilot)
            return made.export_screenshot(title="wa review")

    return portable(asyncio.run(draw()))


async def settle(pilot: Pilot[None]) -> None:
    """Until everything that comes later has come: the connection, the agent, the claim."""
    await until_shown(pilot, "connected to 127.0.0.1")
    await until_shown(pilot, "agent waits for a call")
    await until_shown(pilot, "Infogérance")
    pilot.app.screen.query_one(Transcript).action_doubt(1)
    await pilot.pause()


def portable(svg: str) -> str:
    """Without Textual's random ids and web fonts; one element a line, so that changes can be read."""
    svg = re.sub(r"\s*@font-face \{[^}]*\}|\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    svg = re.sub(r'(<text class="[^"]*") x="([\d.]+)"(.*?) textLength="[\d.]+"(.*?)>([^<]*)<', _trimmed, svg)
    return svg.replace("><", ">\n<")


def _trimmed(text: re.Match[str]) -> str:
    """A text without blanks at its ends: some viewers leave those out, and all slips to the left."""
    kind, x, middle, rest, words = text.groups()
    words = html.unescape(words)
    kept = words.strip()
    begin = float(x) + CELL * (len(words) - len(words.lstrip()))
    return f'{kind} x="{begin:g}"{middle} textLength="{CELL * cell_len(kept):g}"{rest}>{html.escape(kept)}<'


def test_the_picture_in_the_readme_shows_the_screen_as_it_is(app: MakeApp, pc: Pc) -> None:
    pc.agent()
    picture = drawn(app)
    if not PICTURE.exists():
        PICTURE.write_text(picture, "utf-8")
    assert PICTURE.read_text("utf-8") == picture, f"{PICTURE} is stale: see the first lines of this file"


def test_the_picture_asks_no_other_host_for_anything() -> None:
    addresses = re.findall(r"https?://[^\s\"')<]+", PICTURE.read_text("utf-8"))
    assert [address for address in addresses if not address.startswith("http://www.w3.org/")] == []
