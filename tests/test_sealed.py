"""The sealed recording: what one writes another reads, and nothing else is read."""

import io
import random
import secrets
import struct
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwcrypto import jwa

from whisperagent import sealed
from whisperagent.box import Box
from whisperagent.envelope import Header
from whisperagent.errors import SealedError

S = 4096
FULL = S + sealed.OVERHEAD
KEY = X25519PrivateKey.generate()
OTHER = X25519PrivateKey.generate()
CALL = bytes(range(16))
ABOUT = b'{"extension": "201", "remote_party": "+33 6 12 34 56 78"}'


def seal(
    plaintext: bytes, *to: X25519PrivateKey, recording_id: bytes = CALL, metadata: bytes = ABOUT
) -> bytes:
    sink = io.BytesIO()
    recipients = [key.public_key() for key in to or (KEY,)]
    writer = sealed.Writer(sink, recipients, recording_id, metadata, segment_log2=12)
    for start in range(0, len(plaintext), 1000):
        writer.write(plaintext[start : start + 1000])
    writer.finish()
    assert writer.bytes_written == len(sink.getvalue())
    return sink.getvalue()


def reader(data: bytes, key: X25519PrivateKey = KEY) -> sealed.Reader:
    return sealed.Reader(io.BytesIO(data), key)


def opened(data: bytes, key: X25519PrivateKey = KEY) -> bytes:
    return b"".join(reader(data, key).segments())


PLAIN = random.Random(1).randbytes(3 * S + 100)
SEALED = seal(PLAIN)
HEADER = len(SEALED) - len(PLAIN) // S * FULL - (16 + 112 + 32)
SEGMENTS = [SEALED[at : at + FULL] for at in range(HEADER, len(SEALED), FULL)]


def with_segments(*segments: bytes) -> bytes:
    return SEALED[:HEADER] + b"".join(segments)


# What is written is read


@pytest.mark.parametrize(
    "size", [0, 1, 15, 16, 17, S - 17, S - 16, S - 1, S, S + 1, 2 * S - 1, 2 * S, 3 * S, 5 * S + 7]
)
def test_a_recording_of_any_length_comes_back(size: int) -> None:
    plaintext = secrets.token_bytes(size)
    data = seal(plaintext)
    found = reader(data)
    assert b"".join(found.segments()) == plaintext
    assert (found.size(), found.complete()) == (size, True)
    assert (found.recording_id, found.metadata, found.segment_size) == (CALL, ABOUT, S)
    assert size - 15 <= sealed.estimated_size(io.BytesIO(data)) <= size


@pytest.mark.parametrize("size", [0, S - 1, S, 3 * S + 100])
def test_any_passage_is_read_like_a_slice(size: int) -> None:
    found = reader(seal(PLAIN[:size]))
    chance = random.Random(size)
    edges = [0, 1, S - 1, S, S + 1, 2 * S, size, size + 1, size + 3 * S]
    for offset in edges:
        for length in [*edges, chance.randrange(3 * S)]:
            assert found.read_at(offset, length) == PLAIN[:size][offset : offset + length]


def test_passages_may_be_read_while_the_whole_is() -> None:
    found = reader(SEALED)
    out = b""
    for segment in found.segments():
        assert found.read_at(S + 10, 20) == PLAIN[S + 10 : S + 30]
        out += segment
    assert out == PLAIN


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1)])
def test_a_passage_before_the_beginning_is_the_callers_mistake(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="counted from 0"):
        reader(SEALED).read_at(offset, length)


def test_a_source_that_gives_less_than_asked_is_asked_again() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    assert b"".join(sealed.Reader(Slow(SEALED), KEY).segments()) == PLAIN


def test_every_recipient_opens_it_and_nobody_else() -> None:
    data = seal(PLAIN, OTHER, KEY)
    assert opened(data, KEY) == opened(data, OTHER) == PLAIN
    assert sealed.recipients(io.BytesIO(data)) == [sealed.key_id(key.public_key()) for key in (OTHER, KEY)]
    assert sealed.recording_id(io.BytesIO(data)) == CALL
    stranger = X25519PrivateKey.generate()
    with pytest.raises(sealed.WrongRecipient) as caught:
        reader(data, stranger)
    assert sealed.key_id(stranger.public_key()).hex() in caught.value.why


def test_nothing_of_the_call_can_be_read_in_the_file() -> None:
    data = seal(b"A" * 20_000, metadata=b"+33612345678")
    assert b"AAAA" not in data
    assert b"3361" not in data


def test_the_same_call_sealed_twice_has_no_byte_string_in_common() -> None:
    first, second = seal(PLAIN), seal(PLAIN)
    assert not {first[at : at + 16] for at in range(HEADER, len(first), 16)} & {
        second[at : at + 16] for at in range(HEADER, len(second), 16)
    }


# What cannot be sealed


@pytest.mark.parametrize(
    ("recipients", "recording_id", "metadata", "segment_log2"),
    [
        ([], CALL, b"", 16),
        ([KEY.public_key()] * 9, CALL, b"", 16),
        ([X25519PublicKey.from_public_bytes(bytes(32))], CALL, b"", 16),
        ([KEY.public_key()], CALL, bytes(65_536), 16),
        ([KEY.public_key()], CALL[:15], b"", 16),
        ([KEY.public_key()], CALL, b"", 11),
        ([KEY.public_key()], CALL, b"", 21),
    ],
    ids=["nobody", "nine", "low-order key", "long metadata", "short id", "small segments", "large segments"],
)
def test_what_cannot_be_sealed_is_refused_before_a_byte_is_written(
    recipients: list[X25519PublicKey], recording_id: bytes, metadata: bytes, segment_log2: int
) -> None:
    sink = io.BytesIO()
    with pytest.raises(SealedError):
        sealed.Writer(sink, recipients, recording_id, metadata, segment_log2)
    assert sink.getvalue() == b""


def test_a_finished_recording_takes_no_more() -> None:
    writer = sealed.Writer(io.BytesIO(), [KEY.public_key()], CALL)
    writer.finish()
    with pytest.raises(SealedError, match="finished"):
        writer.write(b"more")
    with pytest.raises(SealedError, match="finished"):
        writer.finish()


def test_a_segment_that_could_not_be_written_goes_with_the_next() -> None:
    class FullOnce(io.BytesIO):
        full = False

        def write(self, data: object, /) -> int:
            if self.full:
                self.full = False
                raise OSError("no space left")
            return super().write(data)  # type: ignore[arg-type]  # typeshed's Buffer

    sink = FullOnce()
    writer = sealed.Writer(sink, [KEY.public_key()], CALL, segment_log2=12)
    sink.full = True
    with pytest.raises(OSError, match="no space left"):
        writer.write(PLAIN[: S + 5])
    writer.write(PLAIN[S + 5 :])
    writer.finish()
    assert opened(sink.getvalue()) == PLAIN


# What is not as it was written


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_header_with_any_byte_altered_is_refused(bit: int) -> None:
    for at in range(HEADER):
        altered = SEALED[:at] + bytes([SEALED[at] ^ bit]) + SEALED[at + 1 :]
        with pytest.raises(SealedError):
            reader(altered)


def test_a_recording_with_a_byte_altered_is_refused_from_there_on() -> None:
    for at in range(HEADER, len(SEALED), 37):
        altered = SEALED[:at] + bytes([SEALED[at] ^ 1]) + SEALED[at + 1 :]
        with pytest.raises(SealedError):
            opened(altered)
        assert b"".join(reader(altered).salvage()) == PLAIN[: (at - HEADER) // FULL * S]


def test_a_recording_cut_anywhere_is_cut_short_and_its_beginning_is_kept() -> None:
    boundaries = [HEADER + index * FULL + more for index in range(4) for more in (-1, 0, 1, 16, 64)]
    for length in sorted({*range(1, len(SEALED), 61), *boundaries, len(SEALED) - 16, len(SEALED) - 1}):
        cut = SEALED[:length]
        if length < HEADER:
            with pytest.raises(sealed.Truncated):
                reader(cut)
            continue
        found = reader(cut)
        with pytest.raises(sealed.Truncated):
            list(found.segments())
        with pytest.raises(sealed.Truncated):
            found.size()
        with pytest.raises(sealed.Truncated):
            found.read_at(0, 1)
        assert not found.complete()
        assert b"".join(found.salvage()) == PLAIN[: (length - HEADER) // FULL * S]


@pytest.mark.parametrize("data", [b"", b"\x89", b"RIFF", b"\x89SREC\n\x1a" + bytes(100), bytes(200)])
def test_what_is_no_recording_is_refused(data: bytes) -> None:
    for look in (sealed.recipients, sealed.recording_id, sealed.estimated_size):
        with pytest.raises(SealedError):
            look(io.BytesIO(data))
    with pytest.raises(SealedError):
        reader(data)


def other_segments() -> Iterator[tuple[str, list[bytes], int]]:
    """name, segments, how many of them are authentic"""
    zero, one, two, last = SEGMENTS
    sibling = seal(PLAIN, recording_id=CALL)
    strange = [sibling[at : at + FULL] for at in range(HEADER, len(sibling), FULL)]
    yield "swapped", [one, zero, two, last], 0
    yield "repeated", [zero, zero, one, two, last], 1
    yield "inner one dropped", [zero, two, last], 1
    yield "first one dropped", [one, two, last], 0
    yield "last but one dropped", [zero, one, last], 2
    yield "last one alone", [last], 0
    yield "last one twice", [zero, one, two, last, last], 3
    yield "last one in the middle", [zero, last, two, last], 1
    yield "spliced from the same call sealed again", [zero, strange[1], two, last], 1
    yield "ended by the same call sealed again", [zero, one, two, strange[3]], 3
    yield "all from the same call sealed again", strange, 0
    yield "a byte after the end", [*SEGMENTS, b"\0"], 3
    yield "a segment after the end", [*SEGMENTS, zero], 3


@pytest.mark.parametrize(
    ("segments", "authentic"),
    [pytest.param(segments, count, id=name) for name, segments, count in other_segments()],
)
def test_segments_in_any_other_order_are_refused(segments: list[bytes], authentic: int) -> None:
    data = with_segments(*segments)
    with pytest.raises(SealedError):
        opened(data)
    assert b"".join(reader(data).salvage()) == PLAIN[: authentic * S]


def test_a_recipient_cannot_be_moved_to_another_recording() -> None:
    recipient = slice(66, 66 + 11 + 80)
    other = seal(PLAIN)
    with pytest.raises(SealedError):
        reader(SEALED[: recipient.start] + other[recipient] + SEALED[recipient.stop :])


@pytest.mark.parametrize(("at", "value"), [(8, 0), (8, 2), (9, 0), (9, 2), (10, 11), (10, 13), (11, 1)])
def test_another_version_suite_size_or_flag_is_refused(at: int, value: int) -> None:
    with pytest.raises(SealedError):
        reader(SEALED[:at] + bytes([value]) + SEALED[at + 1 :])


def test_a_thousand_random_alterations_are_refused_with_the_one_error() -> None:
    chance = random.Random(7)
    for _number in range(1000):
        altered = bytearray(SEALED)
        for _edit in range(chance.randint(1, 5)):
            at = chance.randrange(max(1, len(altered)))
            match chance.randrange(5):
                case 0:
                    altered[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del altered[at : at + chance.randint(1, 200)]
                case 2:
                    altered[at:at] = chance.randbytes(chance.randint(1, 200))
                case 3:
                    altered[12:16] = struct.pack(">I", chance.randrange(1 << 32))
                case 4:
                    altered[64:66] = struct.pack(">H", chance.randrange(12))
        if altered != SEALED:
            with pytest.raises(SealedError):
                opened(bytes(altered))


# Wrapping for another key


def test_a_rewrapped_recording_opens_with_the_new_key_and_not_with_the_old() -> None:
    sink = io.BytesIO()
    sealed.rewrap(io.BytesIO(SEALED), sink, KEY, [OTHER.public_key()])
    data = sink.getvalue()
    assert opened(data, OTHER) == PLAIN
    assert (reader(data, OTHER).metadata, reader(data, OTHER).recording_id) == (ABOUT, CALL)
    assert data[HEADER:] == SEALED[HEADER:]
    with pytest.raises(sealed.WrongRecipient):
        reader(data, KEY)


def test_a_cut_recording_stays_cut_when_it_is_rewrapped() -> None:
    sink = io.BytesIO()
    sealed.rewrap(io.BytesIO(SEALED[:-1]), sink, KEY, [OTHER.public_key()])
    found = reader(sink.getvalue(), OTHER)
    assert not found.complete()
    assert b"".join(found.salvage()) == PLAIN[: 3 * S]


def test_only_an_authentic_header_is_rewrapped() -> None:
    altered = SEALED[: HEADER - 1] + bytes([SEALED[HEADER - 1] ^ 1]) + SEALED[HEADER:]
    for data, key in [(altered, KEY), (SEALED, OTHER), (SEALED[:100], KEY)]:
        sink = io.BytesIO()
        with pytest.raises(SealedError):
            sealed.rewrap(io.BytesIO(data), sink, key, [OTHER.public_key()])
        assert sink.getvalue() == b""


# RFC 7518


def test_the_known_answer_of_rfc_7518_appendix_b_3() -> None:
    key = bytes(range(64))
    plaintext = (
        b"A cipher system must not be required to be secret, and it must be able to fall into "
        b"the hands of the enemy without inconvenience"
    )
    aad = b"The second principle of Auguste Kerckhoffs"
    box = bytes.fromhex(
        "1af38c2dc2b96ffdd86694092341bc04"
        "4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd822c301dd67c373bccb584ad3e9279c2"
        "e6d12a1374b77f077553df829410446b36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3"
        "a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950bbe2638d09dd7a4930930806d0703b1f6"
        "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5"
    )
    assert Box(key).open(box, aad) == plaintext


def test_another_implementation_opens_and_makes_our_segments() -> None:
    theirs = jwa.JWA.encryption_alg("A256CBC-HS512")
    header = Header.read(io.BytesIO(SEALED))
    info = b"srec/v1 keys\0" + SEALED[:12] + CALL
    key = HKDF(SHA512(), 160, header.salt, info).derive(header.file_key(KEY))[:64]
    resealed = []
    for index, segment in enumerate(SEGMENTS):
        aad = b"SREC1seg" + CALL + struct.pack(">QB", index, index == len(SEGMENTS) - 1)
        plaintext = theirs.decrypt(key, aad, segment[:16], segment[16:-32], segment[-32:])
        assert plaintext == PLAIN[index * S : (index + 1) * S]
        resealed.append(b"".join(theirs.encrypt(key, aad, plaintext)))
    assert opened(with_segments(*resealed)) == PLAIN
