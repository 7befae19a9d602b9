"""A system's own programs, as small real ones on the PATH that write down what they were asked."""

import json
from pathlib import Path

import pytest

SCRIPT = """#!/usr/bin/env python3
import json, sys
with open({log!r}, "a", encoding="utf-8") as log:
    log.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
print({words!r}, file=sys.stderr)
sys.exit({codes!r}.get(sys.argv[1] if len(sys.argv) > 1 else "", {code}))
"""


class Programs:
    """The PATH of a test has these and the interpreter, nothing else of the system's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._log = folder / "asked"
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin/nowhere")

    def add(self, name: str, *, code: int = 0, words: str = "", **codes: int) -> None:
        """code: what it exits with; codes: with that first argument."""
        import sys

        program = self._folder / name
        text = SCRIPT.format(log=str(self._log), name=name, words=words, code=code, codes=codes)
        program.write_text(text.replace("/usr/bin/env python3", sys.executable), "utf-8")
        program.chmod(0o755)

    def asked(self) -> list[list[str]]:
        """The command lines so far."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines()]
