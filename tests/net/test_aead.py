"""The ciphers of records: what one makes the other opens, libcrypto's and those of the package cryptography."""

from __future__ import annotations

import random
import ssl
from typing import Any

import pytest
from fix_certs import Certificates

from pgdoorman_lib.net import aead, pyca
from pgdoorman_lib.net.tls_terms import HEADER_SIZE, MAX_CONTENT, OVERHEAD

KEYS = [("AESGCM", 16), ("AESGCM", 32), ("ChaCha20Poly1305", 32)]
IV = bytes(range(100, 112))
#: Content that is given in one part and in two.
SIZES = [0, 1, 100, 2047, 2048, MAX_CONTENT]
EVERY_PAIR = [(made, there) for made in (aead.Aead, pyca.Aead) for there in (aead.Aead, pyca.Aead)]


@pytest.mark.parametrize(("sealing", "opening"), EVERY_PAIR, ids=str)
@pytest.mark.parametrize(("name", "size"), KEYS)
def test_each_opens_what_another_sealed(sealing: Any, opening: Any, name: str, size: int) -> None:
    key = bytes(range(size))
    chance = random.Random(size)
    ours, theirs = sealing(name, key, IV), opening(name, key, IV)
    for number, length in enumerate(SIZES, 1 << 40):
        data = bytearray(b"before" + chance.randbytes(length) + b"behind")
        out = bytearray(b"\xff" * (length + 50))
        end = ours.seal(number, 23, data, 6, length, out, 3)
        assert end == 3 + HEADER_SIZE + length + OVERHEAD
        assert out[:3] == b"\xff" * 3 and out[end:] == b"\xff" * (50 - 3 - HEADER_SIZE - OVERHEAD)
        assert out[3:8] == b"\x17\3\3" + (length + OVERHEAD).to_bytes(2, "big")
        into = bytearray(length + 10)
        assert theirs.open(number, out, 3, length + OVERHEAD, into, 4) == length + 1
        assert into[4 : 4 + length + 1] == data[6:-6] + b"\x17"
        assert theirs.open(number, out, 3, length + OVERHEAD, out, 3 + HEADER_SIZE) == length + 1
        assert out[8 : 8 + length + 1] == data[6:-6] + b"\x17"


@pytest.mark.parametrize("made", [aead.Aead, pyca.Aead], ids=str)
@pytest.mark.parametrize("where", [0, 3, 5, 20, 50])
def test_a_changed_bit_is_noticed(made: Any, where: int, certs: Certificates) -> None:
    cipher = made("AESGCM", bytes(32), IV)
    out = bytearray(60)
    end = cipher.seal(7, 23, bytearray(30), 0, 30, out, 0)
    out[where] ^= 1
    assert cipher.open(7, out, 0, end - HEADER_SIZE, bytearray(60), 0) == -1
    out[where] ^= 1
    assert cipher.open(8, out, 0, end - HEADER_SIZE, bytearray(60), 0) == -1
    # OpenSSL keeps a list of errors, which must not be taken for another connection's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certs.ca)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost").do_handshake()
    assert cipher.open(7, out, 0, end - HEADER_SIZE, bytearray(60), 0) == 31


@pytest.mark.parametrize("made", [aead.Aead, pyca.Aead], ids=str)
@pytest.mark.parametrize(
    ("start", "size", "room", "at"),
    [(-1, 5, 99, 0), (0, 11, 99, 0), (6, 5, 99, 0), (0, 5, 26, 0), (0, 5, 99, 73), (0, 5, 99, -1)],
)
def test_nothing_is_sealed_outside_the_buffers(made: Any, start: int, size: int, room: int, at: int) -> None:
    with pytest.raises(ValueError):
        made("AESGCM", bytes(32), IV).seal(0, 23, bytearray(10), start, size, bytearray(room), at)


@pytest.mark.parametrize("made", [aead.Aead, pyca.Aead], ids=str)
@pytest.mark.parametrize(
    ("at", "body", "room", "to"),
    [(-1, 30, 99, 0), (0, 36, 99, 0), (6, 30, 99, 0), (0, 15, 99, 0), (0, 30, 13, 0), (0, 30, 99, -1)],
)
def test_nothing_is_opened_outside_the_buffers(made: Any, at: int, body: int, room: int, to: int) -> None:
    with pytest.raises(ValueError):
        made("AESGCM", bytes(32), IV).open(0, bytearray(40), at, body, bytearray(room), to)


@pytest.mark.parametrize("made", [aead.Aead, pyca.Aead], ids=str)
def test_no_more_than_a_record_holds(made: Any) -> None:
    with pytest.raises(ValueError):
        made("AESGCM", bytes(32), IV).seal(0, 23, bytearray(20_000), 0, MAX_CONTENT + 1, bytearray(20_000), 0)


@pytest.mark.parametrize("made", [aead.Aead, pyca.Aead], ids=str)
@pytest.mark.parametrize(
    ("name", "key", "iv"),
    [("AESGCM", 24, 12), ("AESGCM", 0, 12), ("ChaCha20Poly1305", 16, 12), ("AESGCM", 16, 8), ("RC4", 16, 12)],
)
def test_a_key_that_is_none(made: Any, name: str, key: int, iv: int) -> None:
    with pytest.raises(ValueError):
        made(name, bytes(key), bytes(iv))
