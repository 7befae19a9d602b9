"""A Windows to install on: wine, with a prefix of its own; and the installer, made from these sources."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("wine", "wineserver", "makensis", "x86_64-w64-mingw32-gcc")
UNINSTALL = r"Software\Microsoft\Windows\CurrentVersion\Uninstall\WhisperAgent"
PATIENCE_S = 60.0
MISSING_IN_WINE = """
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(void *, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T size)
{
    return SystemFunction036(data, (ULONG)size);
}
"""
"""bcryptprimitives.dll, where cryptography takes its random bytes: every Windows has it, wine 8 does not."""


class Windows:
    """One Windows. drive: its C:, as a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self.drive = folder / "prefix" / "drive_c"
        self.home = self.drive / "users" / "technician" / "AppData" / "Local" / "WhisperAgent"
        self.programs = self.home.parent / "Programs" / "WhisperAgent"
        self.log = self.home.parents[2] / "Temp" / "WhisperAgent-Setup.log"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("WA_")} | {
            "USER": "technician",
            "WINEPREFIX": str(folder / "prefix"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "WA_UI__LANGUAGE": "en",
        }
        (folder / "prefix").mkdir()
        # No program that a test starts is then the one that starts wine's own services, and their streams.
        subprocess.run(["wineserver", "-p"], env=self._environment, check=True)
        self.quietly("wineboot", "--init")
        self.quietly("wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
        graphics = r"HKCU\Software\Wine\Drivers"
        self.quietly("wine", "reg", "add", graphics, "/v", "Graphics", "/d", "null", "/f")
        source = folder / "bcryptprimitives.c"
        source.write_text(MISSING_IN_WINE, "ascii")
        library = self.drive / "windows" / "system32" / "bcryptprimitives.dll"
        compiler = ["x86_64-w64-mingw32-gcc", "-shared", "-o", library, source, "-ladvapi32"]
        subprocess.run(compiler, check=True)

    def quietly(self, *command: str) -> None:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, env=self._environment, check=True, **streams)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """A Windows program, to its end; stdout and stderr together.

        What it started may go on and, under wine, has its streams: so we do not wait for their end.
        """
        ours, theirs = os.pipe()
        with os.fdopen(ours, "rb", buffering=0) as words:
            os.set_blocking(ours, False)
            process = subprocess.Popen(
                self._command(command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
            )
            os.close(theirs)
            said = b""
            end = time.monotonic() + PATIENCE_S
            while True:
                ended = process.poll() is not None
                select.select([words], [], [], 0.05)
                said += words.read() or b""
                if ended:
                    break
                if time.monotonic() > end:
                    process.kill()
                    pytest.fail(f"{command} does not end: {said!r}")
        return subprocess.CompletedProcess(command, process.wait(), said.decode("utf-8", "replace"))

    def start(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self._command(command), env=self._environment, **streams)

    def path(self, path: Path) -> str:
        """Of a file here, as Windows names it: on C:, or on Z:, which is our /."""
        if path.is_relative_to(self.drive):
            return "C:\\" + str(path.relative_to(self.drive)).replace("/", "\\")
        return "Z:" + str(path).replace("/", "\\")

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        return ["wine", *(word if isinstance(word, str) else self.path(word) for word in words)]

    def wa(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.programs / "bin" / "wa.exe", *arguments)

    def registry(self, key: str, value: str) -> str | None:
        """What the registry has there; None when there is no such value."""
        asked = self.run("reg", "query", key, "/v", value)
        lines = [line.split(None, 2) for line in asked.stdout.splitlines() if line.startswith("    ")]
        return next((words[2] if len(words) > 2 else "" for words in lines if words[0] == value), None)

    def close(self) -> None:
        subprocess.run(["wineserver", "-k"], env=self._environment, check=False)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"still waiting: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def setup_exe() -> Path:
    """dist/WhisperAgent-Setup.exe, of the sources as they are."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (scripts/test brings wine, nsis and mingw-w64)")
    subprocess.run([ROOT / "scripts" / "windows-installer"], check=True)
    return ROOT / "dist" / "WhisperAgent-Setup.exe"


@pytest.fixture(scope="session")
def windows(setup_exe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    made = Windows(tmp_path_factory.mktemp("windows"))
    yield made
    made.close()
