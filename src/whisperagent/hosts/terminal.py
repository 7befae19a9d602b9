"""A terminal of its own for the screens, opened from where there is none."""

import subprocess
import sys

from whisperagent.hosts import notify
from whisperagent.i18n import _


def run_wa(*arguments: str) -> None:
    """Start `wa` with these arguments where a person sees it, and leave it to them."""
    program = [sys.executable, "-m", "whisperagent", *arguments]
    if sys.platform == "win32":
        # Who asks runs without a console, by pythonw; the screens need both.
        program[0] = program[0].replace("pythonw.exe", "python.exe")
        subprocess.Popen(program, creationflags=subprocess.CREATE_NEW_CONSOLE)
    elif sys.platform == "darwin":
        line = subprocess.list2cmdline(program).replace("\\", "\\\\").replace('"', '\\"')
        subprocess.Popen(["osascript", "-e", f'tell application "Terminal" to do script "{line}"'])
    else:
        try:
            subprocess.Popen(["x-terminal-emulator", "-e", *program])
        except FileNotFoundError:
            notify.send(_("no terminal was found"), _("run `wa review` in one"))
