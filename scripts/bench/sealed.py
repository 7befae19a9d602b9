"""How fast recordings are sealed and opened, beside the bare cipher and MAC in the same run.

`python scripts/bench/sealed.py [--mib 64]` prints MB/s of plaintext, median of five turns. A call makes
0.03 to 0.2 MB/s.
"""

import argparse
import hashlib
import hmac
import io
import os
import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from whisperagent import sealed

PIECE = 1 << 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=64)
    size = parser.parse_args().mib << 20
    key = X25519PrivateKey.generate()
    piece = os.urandom(PIECE)
    recording = seal(key, piece, size)

    def read() -> None:
        for _segment in sealed.Reader(io.BytesIO(recording), key).segments():
            pass

    def jump() -> None:
        reader = sealed.Reader(io.BytesIO(recording), key)
        for offset in range(0, size, PIECE):
            reader.read_at(offset, PIECE)

    def wrap() -> None:
        sealed.rewrap(io.BytesIO(recording), io.BytesIO(), key, [key.public_key()])

    works: dict[str, Callable[[], object]] = {
        "bare AES-256-CBC + HMAC-SHA-512": lambda: bare(piece, size),
        "seal": lambda: seal(key, piece, size),
        "read from the beginning": read,
        "read by jumps of 64 KiB": jump,
        "wrap for another key": wrap,
    }
    taken_s: dict[str, list[float]] = {name: [] for name in works}
    for _turn in range(5):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            taken_s[name].append(time.perf_counter() - began)
    bare_s = statistics.median(taken_s["bare AES-256-CBC + HMAC-SHA-512"])
    for name, all_s in taken_s.items():
        median_s = statistics.median(all_s)
        print(f"{name:32} {size / median_s / 1e6:7.0f} MB/s  {bare_s / median_s:5.2f}x")
    print(f"{'grows by':32} {(len(recording) - size) / size:7.3%}")


def bare(piece: bytes, size: int) -> None:
    encryptor = Cipher(algorithms.AES(bytes(32)), modes.CBC(bytes(16))).encryptor()
    mac = hmac.new(bytes(32), digestmod=hashlib.sha512)
    for _number in range(size // len(piece)):
        mac.update(encryptor.update(piece))


def seal(key: X25519PrivateKey, piece: bytes, size: int) -> bytes:
    sink = io.BytesIO()
    writer = sealed.Writer(sink, [key.public_key()], bytes(16))
    for _number in range(size // len(piece)):
        writer.write(piece)
    writer.finish()
    return sink.getvalue()


if __name__ == "__main__":
    main()
