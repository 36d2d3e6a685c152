"""The first packet of a connection, the only kind without a type byte, and the options in it.

Everything a packet claims is checked before it is used; ProtocolViolation and UnsupportedFeature carry PostgreSQL's
SQLSTATEs and words. (PostgreSQL docs, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.)
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from pgdoorman_lib.errors import OtherProtocol, ProtocolViolation, UnsupportedFeature
from pgdoorman_lib.record import record
from pgdoorman_lib.wire import consts

_int = int

#: Longest secret of a CancelRequest in protocol 3.2, in bytes; in 3.0 it has exactly 4.
MAX_CANCEL_KEY = 256

#: Values of the startup parameter ``replication`` that ask for physical and for logical replication.
PHYSICAL = "true"
LOGICAL = "database"

#: What other protocols begin with, and what to say of it.
_PROXY = "a PROXY protocol header (version {}) from an address that is not in proxy_protocol"
_HTTP = "an HTTP request"
_OTHERS = {
    b"PROX": _PROXY.format(1),
    b"\r\n\r\n": _PROXY.format(2),
    **dict.fromkeys((b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN", b"PRI "), _HTTP),
    b"SSH-": "the greeting of an SSH client",
}
_TLS = "a TLS handshake where TLS was refused"
_TLS_RECORD = b"\x16\x03"
_OPTION_PREFIX = "_pq_."
_SPACES = " \t\n\v\f\r"
# Words are parted by white space; a backslash takes the next character as it is (PostgreSQL's pg_split_opts).
_WORD = re.compile(rf"(?:\\.|[^\\{_SPACES}]|\\\Z)+", re.DOTALL)
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


@dataclass(frozen=True)  # compiled it is a cdef class, whose methods Cython makes
class StartupMessage:
    """A login: the version asked for as an int32 (major << 16 | minor), the parameters, and ``_pq_.`` options."""

    protocol: int
    parameters: dict[str, str]
    #: names of protocol options, of which none is known to us
    unknown_options: list[str]

    @property
    def minor(self) -> int:
        """The minor version asked for."""
        return self.protocol & 0xFFFF


@record(frozen=True)
class SSLRequest:
    """The client wants TLS."""


@record(frozen=True)
class GSSENCRequest:
    """The client wants encryption by GSSAPI."""


@record(frozen=True)
class CancelRequest:
    """The client of another connection wants its statement cancelled; ``pid`` is a signed int32."""

    pid: int
    secret: bytes = field(repr=False)


def parse_startup(packet: bytes) -> StartupMessage | SSLRequest | GSSENCRequest | CancelRequest:
    """What a packet, without its length word, asks for.

    ProtocolViolation (08P01) when it is malformed, UnsupportedFeature (0A000) for another major version than 3.
    """
    if len(packet) < 4:
        raise _invalid_length()
    code = int.from_bytes(packet[:4], "big")
    if code in (consts.SSL_REQUEST, consts.GSSENC_REQUEST):
        if len(packet) != 4:
            raise _invalid_length()
        return SSLRequest() if code == consts.SSL_REQUEST else GSSENCRequest()
    if code == consts.CANCEL_REQUEST:
        if not 8 < len(packet) <= 8 + MAX_CANCEL_KEY:
            raise _invalid_length()
        return CancelRequest(struct.unpack_from("!i", packet, 4)[0], packet[8:])
    if code >> 16 != 3:
        raise unsupported_protocol(code)
    return _parse_parameters(code, packet)


def unsupported_protocol(code: int) -> UnsupportedFeature:
    """The error for a version, or request code, that is not spoken here."""
    return UnsupportedFeature(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0 to 3.2")


def not_a_length(word: bytes) -> ProtocolViolation:
    """The error for four bytes that can't be the length of a first packet: OtherProtocol when they tell what it is."""
    seen = _OTHERS.get(word) or (_TLS if word.startswith(_TLS_RECORD) else None)
    return OtherProtocol(f"invalid length of startup packet: received {seen}") if seen else _invalid_length()


def _invalid_length() -> ProtocolViolation:
    return ProtocolViolation("invalid length of startup packet")


def _parse_parameters(protocol: _int, packet: bytes) -> StartupMessage:
    parameters: dict[str, str] = {}
    unknown: list[str] = []
    # Names and values in turn, each ended by a NUL; an empty name ends the list, and nothing may follow.
    words = packet[4:].split(b"\0")
    last = len(words) - 2
    if last < 0 or last & 1 or words[last] or words[last + 1]:
        raise _invalid_layout()
    for index in range(0, last, 2):
        word = words[index]
        if not word:
            raise _invalid_layout()
        name = word.decode("utf-8", "replace")
        if name.startswith(_OPTION_PREFIX):
            unknown.append(name)
        else:
            parameters[name] = words[index + 1].decode("utf-8", "replace")
    return StartupMessage(protocol, parameters, unknown)


def _invalid_layout() -> ProtocolViolation:
    return ProtocolViolation("invalid startup packet layout: expected terminator as last byte")


def parse_replication(text: str) -> str:
    """What the startup parameter ``replication`` asks for: PHYSICAL, LOGICAL, or an empty string: neither.

    ProtocolViolation (22023) for what is no boolean as PostgreSQL spells them: a beginning of a word will do.
    """
    if text == LOGICAL:
        return LOGICAL
    word = text.lower()
    if word in ("1", "on") or (word and ("true".startswith(word) or "yes".startswith(word))):
        return PHYSICAL
    if word in ("", "0", "of", "off") or "false".startswith(word) or "no".startswith(word):
        return ""
    raise ProtocolViolation(
        f'invalid value for parameter "replication": "{text}"',
        hint='Valid values are: "false", 0, "true", 1, "database".',
        sqlstate="22023",
    )


def parse_options(text: str) -> dict[str, str]:
    """The settings in the startup parameter ``options``: ``-c name=value``, ``-cname=value`` and ``--name=value``.

    A ``-`` in a name is an ``_``, a later setting of one name replaces an earlier one. ProtocolViolation with
    PostgreSQL's 42601 for everything else: of its other switches none is for clients to set.
    """
    settings: dict[str, str] = {}
    words = iter(_ESCAPE.sub(r"\1", word) for word in _WORD.findall(text))
    for word in words:
        if word.startswith("--") and len(word) > 2:
            switch, assignment = "--", word[2:]
        elif word.startswith("-c"):
            switch, assignment = "-c ", word[2:] or next(words, "")
        else:
            raise ProtocolViolation(f"invalid command-line argument for server process: {word}", sqlstate="42601")
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise ProtocolViolation(f"{switch}{assignment} requires a value", sqlstate="42601")
        settings[name.replace("-", "_")] = value
    return settings
