"""The sealed recording under everything: any sound in any pieces, any damage, and authentic nonsense.

Whatever the bytes are, a reader gives the authentic beginning and says SealedError, and nothing else.
"""

import importlib.util
import io
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from whisperagent import sealed, succession
from whisperagent.envelope import Header
from whisperagent.errors import SealedError

KEYS = [X25519PrivateKey.generate() for _number in range(3)]
KEY = KEYS[0]
CALL = bytes(range(16))
S = 4096
FULL = S + sealed.OVERHEAD

many = settings(max_examples=150, deadline=None)
sounds = st.builds(
    lambda seed, size: (seed * (size // len(seed) + 1))[:size], st.binary(min_size=1), st.integers(0, 3 * S)
)
sizes = st.lists(st.integers(0, 2 * S + 1), max_size=12)


def written(sound: bytes, pieces: list[int], **how: Any) -> bytes:
    sink = io.BytesIO()
    writer = sealed.Writer(sink, [KEY.public_key()], CALL, segment_log2=12, **how)
    rest = memoryview(sound)
    for size in pieces:
        writer.write(rest[:size])
        rest = rest[size:]
    writer.write(rest)
    writer.finish()
    return sink.getvalue()


SOUND = bytes(range(256)) * 40
SEALED = written(SOUND, [])
HEADER = Header.read(io.BytesIO(SEALED)).length


def survived(data: bytes, key: sealed.PrivateKey = KEY) -> bytes:
    """Every door a file can come in by: nothing but SealedError comes out. Gives what was salvaged."""
    for look in (sealed.recipients, sealed.recording_id, sealed.estimated_size):
        with suppress(SealedError):
            look(io.BytesIO(data))
    with suppress(SealedError):
        sealed.rewrap(io.BytesIO(data), io.BytesIO(), key, [KEYS[1].public_key()])
    try:
        reader = sealed.Reader(io.BytesIO(data), key)
    except SealedError:
        return b""
    salvaged = b"".join(reader.salvage())
    whole = True
    try:
        assert b"".join(reader.segments()) == salvaged
    except SealedError:
        whole = False
    if whole:
        assert reader.complete()
        assert reader.read_at(0, len(salvaged) + 1) == salvaged
    try:
        reader.read_at(S - 1, 2)
        reader.size()
    except SealedError:
        assert not whole
    return salvaged


@given(sound=sounds, pieces=sizes, log2=st.integers(12, 20), count=st.integers(1, 3), metadata=st.binary())
@many
def test_any_sound_in_any_pieces_comes_back_to_each_recipient(
    sound: bytes, pieces: list[int], log2: int, count: int, metadata: bytes
) -> None:
    sink = io.BytesIO()
    to = [key.public_key() for key in KEYS[:count]]
    writer = sealed.Writer(sink, to, CALL, metadata, log2)
    rest = bytearray(sound)
    for size in pieces:
        writer.write(rest[:size])
        del rest[:size]
    writer.write(rest)
    writer.finish()
    for key in (KEYS[count - 1], sealed.Keyring(X25519PrivateKey.generate(), (KEYS[0],))):
        reader = sealed.Reader(io.BytesIO(sink.getvalue()), key)
        assert b"".join(reader.segments()) == sound
        assert (reader.metadata, reader.size(), reader.complete()) == (metadata, len(sound), True)


@given(sound=sounds, offset=st.integers(0, 4 * S), length=st.integers(0, 4 * S))
@many
def test_any_passage_is_a_slice(sound: bytes, offset: int, length: int) -> None:
    reader = sealed.Reader(io.BytesIO(written(sound, [])), KEY)
    assert reader.read_at(offset, length) == sound[offset : offset + length]


@given(sound=sounds, pieces=sizes, full=st.sets(st.integers(2, 9)))
@many
def test_no_byte_is_lost_or_doubled_however_often_the_disk_is_full(
    sound: bytes, pieces: list[int], full: set[int]
) -> None:
    class Sink(io.BytesIO):
        turn = 0
        full: set[int] = set()

        def write(self, data: Any, /) -> int:
            self.turn += 1
            if self.turn in self.full:
                raise OSError("no space left")
            return super().write(data)

    sink = Sink()
    writer = sealed.Writer(sink, [KEY.public_key()], CALL, segment_log2=12)
    sink.full = full
    rest = memoryview(sound)
    for size in [*pieces, len(sound)]:
        with suppress(OSError):  # it goes with the next
            writer.write(rest[:size])
        rest = rest[size:]
    sink.full = set()
    writer.write(b"")
    writer.finish()
    assert b"".join(sealed.Reader(io.BytesIO(sink.getvalue()), KEY).segments()) == sound


@given(length=st.integers(0, len(SEALED) - 1))
@many
def test_a_file_cut_anywhere_gives_its_whole_segments(length: int) -> None:
    assert survived(SEALED[:length]) == SOUND[: max(0, length - HEADER) // FULL * S]


@given(
    data=st.one_of(
        st.binary(), st.binary().map(sealed.MAGIC.__add__), st.binary().map(SEALED[:HEADER].__add__)
    )
)
@many
def test_no_bytes_bring_a_reader_to_fail(data: bytes) -> None:
    assert survived(data) == b""


edits = st.lists(
    st.tuples(
        st.sampled_from(["alter", "delete", "insert", "swap", "repeat"]),
        st.one_of(st.integers(0, HEADER), st.integers(0, len(SEALED) - 1)),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=4,
)


@given(edits=edits)
@settings(max_examples=600, deadline=None)
def test_an_altered_file_gives_nothing_that_was_not_written(edits: list[tuple[str, int, bytes]]) -> None:
    data = bytearray(SEALED)
    for kind, at, content in edits:
        match kind:
            case "alter":
                data[at : at + len(content)] = content
            case "delete":
                del data[at : at + 37 * len(content)]
            case "insert":
                data[at:at] = content
            case "swap":
                data[at : at + 2 * FULL] = data[at + FULL : at + 2 * FULL] + data[at : at + FULL]
            case "repeat":
                data[at:at] = data[at : at + FULL]
    salvaged = survived(bytes(data))
    assert salvaged == SOUND[: len(salvaged)]
    assert bytes(data) == SEALED or len(salvaged) % S == 0


def vectors_script() -> ModuleType:
    """The second writer: it makes files whose MACs are right and whose content is whatever one likes."""
    path = Path(__file__).resolve().parent.parent / "scripts" / "vectors"
    loader = SourceFileLoader("vectors_script", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


SCRIPT = vectors_script()
blocks = st.builds(
    lambda count, end: bytes(16 * count) + end, st.integers(0, 257), st.binary(min_size=16, max_size=16)
)
nonsense = st.fixed_dictionaries(
    {},
    optional={
        "version": st.integers(0, 255),
        "suite": st.integers(0, 255),
        "log2": st.integers(0, 31),
        "flags": st.integers(0, 255),
        "file_key_size": st.integers(0, 64),
        "count": st.integers(0, 0xFFFF),
        "metadata": st.binary(max_size=70_000),
        "metadata_length": st.integers(0, 0xFFFFFFFF),
        "spare": st.binary(max_size=100),
        "before_recipients": st.binary(max_size=200),
        "metadata_box": st.binary(max_size=200).map(lambda box: lambda _box: box),
        "wrap_body": st.binary(max_size=200).map(lambda body: lambda _body: body),
        "segments": st.lists(st.tuples(blocks, st.integers(0, 3), st.integers(0, 1)), max_size=4),
    },
)


@given(how=nonsense)
@many
def test_authentic_nonsense_is_refused_with_the_one_error(how: dict[str, Any]) -> None:
    """Whoever has the server's public key can make every MAC right."""
    survived(SCRIPT.Recording("nonsense", **how).bytes(), SCRIPT.SERVER)


@given(challenge=st.one_of(st.text(), st.binary().map(bytes.hex)))
@many
def test_no_challenge_brings_the_server_to_fail(challenge: str) -> None:
    assert succession.answer(challenge, sealed.Keyring(KEY, (KEYS[1],))) == ""
