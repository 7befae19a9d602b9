"""Fetch, on any system, the wheels that the agent alone needs on 64-bit Windows: windows_wheels.py DIR

pip reads markers such as `sys_platform == 'win32'` for the Python that runs it, even with `--platform`, so it
would leave out what only Windows needs (pycaw, pywin32-ctypes) and bring what only Linux does. Here they are
read for Windows, wheel by wheel, from what the wheels themselves declare; versions as in constraints.txt.
"""

import email
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYTHON = "3.11"
UNUSED = {"numpy"}
"""What `soundfile` wants, of which the agent only uses the library (encode.py)."""
WINDOWS = {
    "implementation_name": "cpython",
    "os_name": "nt",
    "platform_machine": "AMD64",
    "platform_python_implementation": "CPython",
    "platform_system": "Windows",
    "python_full_version": f"{PYTHON}.9",
    "python_version": PYTHON,
    "sys_platform": "win32",
}


def fetch(folder: Path) -> None:
    """Bring `folder` the wheels of the agent and of all that they require."""
    folder.mkdir(parents=True, exist_ok=True)
    agent = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    wanted = [Requirement(line) for line in agent]
    known: set[tuple[str, str]] = set()
    while wanted := [one for one in wanted if not known >= _names(one) and _counts(one, "")]:
        _download([f"{one.name}{one.specifier}" for one in wanted], folder)
        known.update(*map(_names, wanted))
        wanted = [more for one in wanted for more in _required_by(one, folder)]


def _names(one: Requirement) -> set[tuple[str, str]]:
    """A package counts once by itself and once for each extra that is asked of it."""
    return {(canonicalize_name(one.name), extra) for extra in {"", *one.extras}}


def _counts(one: Requirement, extra: str) -> bool:
    return one.marker is None or one.marker.evaluate(WINDOWS | {"extra": extra})


def _required_by(one: Requirement, folder: Path) -> list[Requirement]:
    with zipfile.ZipFile(_wheel(one.name, folder)) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(name))
    requirements = map(Requirement, metadata.get_all("Requires-Dist", []))
    found = [more for more in requirements if any(_counts(more, extra) for extra in {"", *one.extras})]
    for more in found:
        more.marker = None
    return [more for more in found if canonicalize_name(more.name) not in UNUSED]


def _wheel(name: str, folder: Path) -> Path:
    [found] = [
        path
        for path in folder.glob("*.whl")
        if canonicalize_name(path.name.partition("-")[0]) == canonicalize_name(name)
    ]
    return found


def _download(requirements: list[str], folder: Path) -> None:
    options = ["--no-deps", "--only-binary", ":all:", "--platform", "win_amd64", "--python-version", PYTHON]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", folder]
    subprocess.run([*command, "-c", ROOT / "constraints.txt", *requirements], check=True)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
