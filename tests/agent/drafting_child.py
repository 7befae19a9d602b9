"""Stands in for `wa transcribe --draft`: opens what it is given, says how much sound there is, as words.

    python drafting_child.py NOTES MODEL… FILE…

NOTES is a folder. What the child was given is appended to `runs` there, a line of JSON each. A file `do` in
it says what else to do: `wait` for ever, `exit N`, or `say TEXT`.
"""

import base64
import json
import os
import sys
import threading
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from whisperagent import sealed


def main() -> None:
    notes, arguments = Path(sys.argv[1]), sys.argv[2:]
    keys = [
        X25519PrivateKey.from_private_bytes(base64.b64decode(key))
        for key in sys.stdin.buffer.readline().split()
    ]
    files = [Path(argument) for argument in arguments if argument.endswith(".srec")]
    texts = []
    for file in files:
        with file.open("rb") as source:
            reader = sealed.Reader(source, sealed.Keyring(keys[0], tuple(keys[1:])))
            texts.append(b"".join(reader.segments()).decode())
    run = {
        "pid": os.getpid(),
        "arguments": arguments,
        "token": os.environ.get("WA_TOKEN"),
        "threads": os.environ.get("WA_SPEECH__THREADS"),
        "stdin open": _is_open(),
    }
    with (notes / "runs").open("a") as runs:
        runs.write(json.dumps(run) + "\n")
    order, _space, rest = (
        (notes / "do").read_text().partition(" ") if (notes / "do").exists() else ("", "", "")
    )
    match order:
        case "wait":
            threading.Event().wait()
        case "exit":
            sys.stderr.write("wa: error: this is what went wrong\n    because\n")
            sys.exit(int(rest))
        case "say":
            sys.stdout.write(rest)
            return
    segments = [
        {"id": number, "start_s": float(number), "end_s": number + 1.0, "speaker": "caller", "text": text}
        for number, text in enumerate(texts)
    ]
    written = {"language": "fr", "model": "tiny", "duration_s": float(len(texts)), "segments": segments}
    sys.stdout.write(msgspec.json.encode(written).decode())


def _is_open() -> bool:
    """Has stdin more to come?"""
    ended = threading.Event()

    def read() -> None:
        if not os.read(0, 1):
            ended.set()

    threading.Thread(target=read, daemon=True).start()
    return not ended.wait(0.2)


main()
