"""The PROXY protocol's header: whole, byte by byte, with TLVs, of every family, and garbage."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgdoorman_lib.errors import ProtocolViolation
from pgdoorman_lib.wire.proxy import MAX_BINARY, MAX_LINE, Origin, parse, wanted

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
NOWHERE = Origin("", 0)


def binary(command: int, family: int, body: bytes = b"", version: int = 2, size: int | None = None) -> bytes:
    """A header of version 2; ``size`` is said instead of the body's."""
    said = len(body) if size is None else size
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", said) + body


def ip4(source: str = "192.0.2.7", port: int = 4711) -> bytes:
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address("198.51.100.1").packed
    return addresses + struct.pack("!HH", port, 5432)


def ip6(source: str = "2001:db8::7", port: int = 4711) -> bytes:
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address("2001:db8::1").packed
    return addresses + struct.pack("!HH", port, 5432)


TLVS = b"\x03\0\x04\0\0\0\0" + b"\xea\0\x02hi"

GOOD = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5432\r\n": Origin("192.0.2.7", 4711),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": Origin("255.255.255.255", 65535),
    b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 5432\r\n": Origin("2001:db8::7", 4711),
    b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 2001:db8::1 0 0\r\n": Origin("2001:db8::7", 0),
    b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 5432\r\n": Origin("192.0.2.7", 4711),
    b"PROXY UNKNOWN\r\n": NOWHERE,
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": NOWHERE,
    b"PROXY UNKNOWN \r\r\n": NOWHERE,
    binary(1, 0x11, ip4()): Origin("192.0.2.7", 4711),
    binary(1, 0x11, ip4() + TLVS): Origin("192.0.2.7", 4711),
    binary(1, 0x21, ip6()): Origin("2001:db8::7", 4711),
    binary(1, 0x21, ip6("::ffff:192.0.2.7") + TLVS): Origin("192.0.2.7", 4711),
    binary(1, 0x11, ip4() + bytes(MAX_BINARY - 28)): Origin("192.0.2.7", 4711),
    binary(0, 0x00): NOWHERE,
    binary(0, 0x11, ip4()): NOWHERE,  # a check of health
    binary(0, 0x11, TLVS[:3]): NOWHERE,
    binary(1, 0x00, TLVS): NOWHERE,
    binary(1, 0x12, ip4()): NOWHERE,
    binary(1, 0x31, bytes(216)): NOWHERE,
}

BAD = [
    b"",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5432 \r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.1 4711 5432\r\n",
    b"PROXY TCP4 192.0.2.07 198.51.100.1 4711 5432\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.1 4711 5432\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 5432\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 5432\r\n",
    b"PROXY TCP6 fe80::1%eth0 fe80::2 4711 5432\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 5432\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 99999\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 5432\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 5432\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5432\n\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 5432\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY unknown\r\n",
    b"proxy UNKNOWN\r\n",
    b"PROXYTCP4 192.0.2.7 198.51.100.1 4711 5432\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 15) + b"\r\n",
    b"PROXY TCP4 " + b"1" * MAX_LINE,
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"GET / HTTP/1.0\r\n\r\n",
    SIGNATURE[:-1] + b"\0" + binary(1, 0x11, ip4())[12:],
    binary(1, 0x11, ip4(), version=1),
    binary(1, 0x11, ip4(), version=3),
    binary(2, 0x11, ip4()),
    binary(15, 0x00),
    binary(1, 0x13, ip4()),
    binary(1, 0x41, bytes(300)),
    binary(1, 0x11, ip4()[:-1]),
    binary(1, 0x21, ip4()),
    binary(1, 0x31, bytes(215)),
    binary(1, 0x11, ip4() + bytes(MAX_BINARY - 27)),
    binary(0, 0x00, size=0xFFFF),
]


class End(Exception):
    """There is nothing more to read."""


def read(data: bytes) -> tuple[Origin, int]:
    """What a reader makes of ``data``, and how many bytes it has taken; End when it wants more than there are."""
    head = b""
    while (more := wanted(head)) > 0:
        assert more <= MAX_BINARY
        head += data[len(head) : len(head) + more]
        if len(head) == len(data) and wanted(head) > 0:
            raise End
    return parse(head), len(head)


@pytest.mark.parametrize("header", GOOD, ids=repr)
@pytest.mark.parametrize("behind", [b"", b"\0\0\0\x08\x04\xd2\x16\x2f", b"\r\n", b"PROXY UNKNOWN\r\n"])
def test_a_whole_header_and_not_a_byte_behind_it(header: bytes, behind: bytes) -> None:
    assert read(header + behind) == (GOOD[header], len(header))


@pytest.mark.parametrize("header", GOOD, ids=repr)
def test_byte_by_byte(header: bytes) -> None:
    """At each byte more is wanted, and never more than there is."""
    for end in range(len(header)):
        assert 0 < wanted(header[:end]) <= len(header) - end
    assert wanted(header) == 0


@pytest.mark.parametrize("header", BAD, ids=repr)
def test_what_is_no_header_or_none_that_is_taken(header: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="PROXY protocol header") as caught:
        read(header + b"\0" * MAX_BINARY)
    assert caught.value.sqlstate == "08P01"


def test_what_does_not_begin_like_one_is_seen_within_five_bytes() -> None:
    """A client of PostgreSQL's waits for the answer to its SSLRequest's eight bytes."""
    for start in (b"\0\0\0\x08\x04", b"PROXX", b"\r\n\r\n\1", b"G"):
        with pytest.raises(ProtocolViolation, match="in proxy_protocol"):
            wanted(start)


@given(st.binary(max_size=200))
@example(b"PROXY \r\n")
def test_garbage(garbage: bytes) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"):
        try:
            origin, taken = read(start + garbage)
        except (ProtocolViolation, End):
            continue
        assert taken <= MAX_BINARY
        assert origin == NOWHERE or ipaddress.ip_address(origin.host)


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(0, 65535),
    st.binary(max_size=50),
    st.binary(max_size=20),
)
def test_any_client(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, tlvs: bytes, behind: bytes) -> None:
    """Both versions say the same of any client."""
    family = 0x11 if host.version == 4 else 0x21
    to = "192.0.2.1" if host.version == 4 else "::1"
    line = f"PROXY TCP{host.version} {host} {to} {port} 5432\r\n".encode()
    body = host.packed + ipaddress.ip_address(to).packed + struct.pack("!HH", port, 5432) + tlvs
    first, second = read(line + behind), read(binary(1, family, body) + behind)
    assert first == (second[0], len(line))
    assert second[1] == 16 + len(body)
    assert first[0].port == port
