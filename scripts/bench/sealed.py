"""How fast recordings are sealed and opened, beside the bare primitives in the same run.

`python scripts/bench/sealed.py [--mib 32] [--turns 9]` prints MB/s of plaintext, the best of all turns: what
other programs take from a turn is not ours. A call makes 0.03 to 0.2 MB/s; what matters is a server that
seals and opens what many PCs send at once.

AES-256-CBC is serial when it encrypts and parallel when it decrypts; HMAC-SHA-512 is serial. So the floor of
sealing is encrypt and hash, one after the other, and that of opening hash and decrypt. `two at once` is two
recordings in two threads: Python's lock is not held meanwhile, so idle cores are used by other recordings,
and a recording is not spread over several.
"""

import argparse
import hmac
import io
import os
import threading
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from whisperagent import sealed

SEGMENT = 1 << 16
BLOCK = 4 * SEGMENT
"""What the server hands over in one go (`arriving.BLOCK`)."""
UNEVEN = BLOCK - 4097


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, data: bytes, /) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=32)
    parser.add_argument("--turns", type=int, default=9)
    chosen = parser.parse_args()
    size = chosen.mib << 20
    key = X25519PrivateKey.generate()
    content = os.urandom(BLOCK)
    recording = io.BytesIO()
    seal(key, recording, content, size)
    data = recording.getvalue()

    works: dict[str, Callable[[], object]] = {
        "AES-256-CBC encrypt": lambda: encrypt(content[:SEGMENT], size),
        "AES-256-CBC decrypt": lambda: decrypt(content[:SEGMENT], size),
        "HMAC-SHA-512": lambda: mac(content[:SEGMENT], size),
        "seal, blocks of 256 KiB": lambda: seal(key, Nowhere(), content, size),
        "seal, uneven blocks": lambda: seal(key, Nowhere(), content[:UNEVEN], size),
        "seal, two at once": lambda: twice(lambda: seal(key, Nowhere(), content, size)),
        "open from the beginning": lambda: read(data, key),
        "open by jumps of 64 KiB": lambda: jump(data, key, size),
        "open, two at once": lambda: twice(lambda: read(data, key)),
        "wrap for another key": lambda: sealed.rewrap(io.BytesIO(data), Nowhere(), key, [key.public_key()]),
    }
    best_s = dict.fromkeys(works, float("inf"))
    for _turn in range(chosen.turns):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            best_s[name] = min(best_s[name], time.perf_counter() - began)
    floors_s = {
        "seal": best_s["AES-256-CBC encrypt"] + best_s["HMAC-SHA-512"],
        "open": best_s["HMAC-SHA-512"] + best_s["AES-256-CBC decrypt"],
    }
    for name, taken_s in best_s.items():
        amount = 2 * size if name.endswith("two at once") else size
        floor_s = floors_s.get(name[:4])
        ratio = f"{floor_s * amount / size / taken_s:6.2f} x its primitives" if floor_s else ""
        print(f"{name:26} {amount / taken_s / 1e6:6.0f} MB/s {ratio}")
    print(f"{'grows by':26} {(len(data) - size) / size:7.3%}")


def encrypt(segment: bytes, size: int) -> None:
    run(Cipher(algorithms.AES(bytes(32)), modes.CBC(bytes(16))).encryptor(), segment, size)


def decrypt(segment: bytes, size: int) -> None:
    run(Cipher(algorithms.AES(bytes(32)), modes.CBC(bytes(16))).decryptor(), segment, size)


def run(cipher: CipherContext, segment: bytes, size: int) -> None:
    out = bytearray(SEGMENT + 16)
    for _number in range(size // SEGMENT):
        cipher.update_into(segment, out)


def mac(segment: bytes, size: int) -> None:
    code = hmac.new(bytes(32), digestmod="sha512")
    for _number in range(size // SEGMENT):
        code.update(segment)


def seal(key: X25519PrivateKey, sink: sealed.Sink, block: bytes, size: int) -> None:
    writer = sealed.Writer(sink, [key.public_key()], bytes(16))
    for at in range(0, size, len(block)):
        writer.write(block[: size - at])
    writer.finish()


def read(data: bytes, key: X25519PrivateKey) -> None:
    for _segment in sealed.Reader(io.BytesIO(data), key).segments():
        pass


def jump(data: bytes, key: X25519PrivateKey, size: int) -> None:
    reader = sealed.Reader(io.BytesIO(data), key)
    for offset in range(0, size, SEGMENT):
        reader.read_at(offset, SEGMENT)


def twice(work: Callable[[], object]) -> None:
    other = threading.Thread(target=work)
    other.start()
    work()
    other.join()


if __name__ == "__main__":
    main()
