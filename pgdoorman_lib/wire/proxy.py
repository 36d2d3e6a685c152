"""The PROXY protocol's header, versions 1 and 2: what a load balancer says of a client, ahead of its first byte.

A header is taken in steps: ``wanted`` says how many bytes more are sure to be part of it, so that nothing behind it is
touched, and ``parse`` reads the whole. Nothing is guessed: the receiver knows from whom it expects one.

HAProxy, "The PROXY protocol, versions 1 & 2" (doc/proxy-protocol.txt), whose sections the comments name.
"""

from __future__ import annotations

import ipaddress
import re

from pgdoorman_lib.errors import ProtocolViolation
from pgdoorman_lib.record import record

#: Longest line of version 1, CRLF included (section 2.1), and the shortest: ``PROXY UNKNOWN``.
MAX_LINE = 107
MIN_LINE = 15
#: Longest header of version 2 that is taken. TLVs may make it 64 KiB long; nginx takes as many as we do.
MAX_BINARY = 4096

#: A header of version 1 that tells of no client: the connection is the sender's own.
UNKNOWN = b"PROXY UNKNOWN\r\n"

_WORD = b"PROXY"
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_CRLF = b"\r\n"
_LINE = re.compile(
    rb"PROXY (?:(?P<unknown>UNKNOWN)(?: .*)?|TCP(?P<version>[46]) (?P<host>[0-9A-Fa-f:.]+) (?P<to>[0-9A-Fa-f:.]+) "
    rb"(?P<port>0|[1-9][0-9]{0,4}) (?P<to_port>0|[1-9][0-9]{0,4}))\r\n",
    re.DOTALL,
)

_VERSION = 2
_LOCAL = 0
_PROXY = 1
#: By address family, the bytes of its addresses and ports: none, IPv4, IPv6, unix (section 2.2).
_ADDRESS_SIZES = (0, 12, 36, 216)
_INET = 1
_INET6 = 2
#: The highest kind of transport there is: none, stream, datagram.
_STREAM = 1
_DATAGRAM = 2


@record(frozen=True)
class Origin:
    """Where a client comes from: its numeric address and port.

    An empty ``host``: the connection is the balancer's own (LOCAL, a check of health), or its client has no address
    for us (UNKNOWN, a datagram or unix socket); then the connection's own address counts.
    """

    host: str
    port: int


_NOWHERE = Origin("", 0)


def wanted(head: bytes) -> int:
    """How many bytes at least are still to come of a header that begins with ``head``; 0: it is whole.

    ProtocolViolation when it can't become one that is taken.
    """
    size = len(head)
    if size < len(_WORD):
        if not (_WORD.startswith(head) or _SIGNATURE.startswith(head)):
            raise missing()
        return len(_WORD) - size
    if head.startswith(_WORD):
        return _wanted_of_line(head)
    if not _SIGNATURE.startswith(head[: len(_SIGNATURE)]):
        raise missing()
    if size < _FIXED:
        return _FIXED - size
    return _FIXED + _binary_size(head) - size


def parse(header: bytes) -> Origin:
    """What a whole header says; ProtocolViolation when it is malformed."""
    if not header.startswith(_WORD):
        return _parse_binary(header)
    match = _LINE.fullmatch(header)
    if match is None:
        raise _malformed(1, "expected PROXY, TCP4, TCP6 or UNKNOWN, two addresses and two ports")
    if match["unknown"]:
        return _NOWHERE
    kind = ipaddress.IPv4Address if match["version"] == b"4" else ipaddress.IPv6Address
    try:
        host, _ = kind(match["host"].decode()), kind(match["to"].decode())
    except ValueError:
        raise _malformed(1, "an address is none of the family it names") from None
    if max(int(match["port"]), int(match["to_port"])) > 0xFFFF:
        raise _malformed(1, "a port is above 65535")
    return Origin(_text(host), int(match["port"]))


def missing() -> ProtocolViolation:
    """The error for a connection that should begin with a header, and does not."""
    return ProtocolViolation(
        "expected a PROXY protocol header: the connection comes from an address in proxy_protocol, and begins with "
        "something else"
    )


def _malformed(version: int, why: str) -> ProtocolViolation:
    return ProtocolViolation(f"malformed PROXY protocol header (version {version}): {why}")


def _wanted_of_line(head: bytes) -> int:
    size = len(head)
    if head.endswith(_CRLF):
        return 0
    left = max(MIN_LINE - size, 1 if head.endswith(_CRLF[:1]) else 2)
    if size + left > MAX_LINE:
        raise _malformed(1, f"no end of line within {MAX_LINE} bytes")
    return left


def _binary_size(head: bytes) -> int:
    """Bytes behind the fixed part, which must be there: they are passed over even where they say nothing to us."""
    version, command = head[12] >> 4, head[12] & 0xF
    family, transport = head[13] >> 4, head[13] & 0xF
    size = int.from_bytes(head[14:16], "big")
    if version != _VERSION:
        raise _malformed(2, f"its version is {version}")
    if command not in (_LOCAL, _PROXY):
        raise _malformed(2, f"no such command: {command}")
    if family >= len(_ADDRESS_SIZES) or transport > _DATAGRAM:
        raise _malformed(2, f"no such family or transport: {head[13]:#04x}")
    if _FIXED + size > MAX_BINARY:
        raise _malformed(2, f"it is {_FIXED + size} bytes long, of at most {MAX_BINARY}")
    if command == _PROXY and size < _ADDRESS_SIZES[family]:
        raise _malformed(2, f"{size} bytes have no room for the addresses")
    return size


def _parse_binary(header: bytes) -> Origin:
    # "Other values than LOCAL: use the addresses"; families and transports that don't concern us count as unspecified.
    command, family, transport = header[12] & 0xF, header[13] >> 4, header[13] & 0xF
    if command == _LOCAL or transport != _STREAM:
        return _NOWHERE
    if family == _INET:
        return Origin(_text(ipaddress.IPv4Address(header[16:20])), int.from_bytes(header[24:26], "big"))
    if family == _INET6:
        return Origin(_text(ipaddress.IPv6Address(header[16:32])), int.from_bytes(header[48:50], "big"))
    return _NOWHERE


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # A balancer that has one side by IPv6 writes both so: to rules for IPv4 the client must stay what it is.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
