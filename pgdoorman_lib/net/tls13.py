"""TLS 1.3's record layer behind a handshake that somebody else has made: secrets and bytes in, bytes out (RFC 8446).

A connection's handshake is OpenSSL's. From the two application traffic secrets, the cipher suite and the numbers of
the records so far, which ``net.tls_secrets`` knows, another process carries the connection on with a ``Tls13``, which
has as much of ``ssl.SSLObject`` as ``net.stream`` uses. Either side may change its keys at any time (section 4.6.3);
nothing else of a handshake comes behind one, but tickets, which a client may ignore.

``cryptography`` has the ciphers. It takes 100 ms and 7 MB to import, so that it is when a record is opened or made; who
only counts them does without.
"""

from __future__ import annotations

import hmac
import ssl
import struct
from typing import Any, NamedTuple

# ContentType (section 5.1) and HandshakeType (section 4).
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23
_NEW_SESSION_TICKET = 4
KEY_UPDATE = 24

# AlertDescription (section 6).
_CLOSE_NOTIFY = 0
_UNEXPECTED_MESSAGE = 10
_BAD_RECORD_MAC = 20
_RECORD_OVERFLOW = 22
_ILLEGAL_PARAMETER = 47
_DECODE_ERROR = 50
_USER_CANCELED = 90
_WARNING = 1
_FATAL = 2

HEADER_SIZE = 5
TAG_SIZE = 16
#: What a record has beside its content: the type behind it, and the tag (section 5.2).
OVERHEAD = 1 + TAG_SIZE
#: Section 5.1 and 5.2: bytes of content, of what stands behind a header.
MAX_CONTENT = 1 << 14
_MAX_BODY = MAX_CONTENT + 256
#: A KeyUpdate message: type, length, request_update.
KEY_UPDATE_SIZE = 5
_MAX_TICKET = 1 << 17
#: Records under one key before ours is changed: section 5.5 allows AES-GCM 2^24.5.
_MAX_RECORDS = 1 << 23

_HEADER = struct.Struct(">BHH")
_LEGACY_VERSION = 0x0303


class Suite(NamedTuple):
    """A cipher suite: its AEAD in ``cryptography``, bytes of its key, its hash, and its bits as ssl tells them."""

    aead: str
    key_size: int
    hash_name: str
    bits: int


SUITES = {
    "TLS_AES_128_GCM_SHA256": Suite("AESGCM", 16, "sha256", 128),
    "TLS_AES_256_GCM_SHA384": Suite("AESGCM", 32, "sha384", 256),
    "TLS_CHACHA20_POLY1305_SHA256": Suite("ChaCha20Poly1305", 32, "sha256", 256),
}


def load() -> Any:
    """The module with the ciphers: to be called early by who will carry connections on."""
    from cryptography.hazmat.primitives.ciphers import aead

    return aead


class RecordError(Exception):
    """The other side broke the protocol; ``alert`` is the AlertDescription that tells it so."""

    def __init__(self, alert: int, text: str) -> None:
        super().__init__(text)
        self.alert = alert


def expand_label(suite: Suite, secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label (section 7.1) with an empty context, of at most one hash's ``size`` in bytes."""
    full = b"tls13 " + label.encode()
    info = struct.pack(">HB", size, len(full)) + full + b"\0"
    return hmac.digest(secret, info + b"\1", suite.hash_name)[:size]


class Direction:
    """The protection of what goes one way: the traffic secret of now, and the number of the next record."""

    __slots__ = ("_aead", "_iv", "secret", "sequence", "suite")

    def __init__(self, suite: Suite, secret: bytes, sequence: int = 0) -> None:
        self.suite = suite
        self.secret = secret
        self.sequence = sequence
        self._aead: Any = None  # made when it is used: who only counts does not need it
        self._iv = 0

    def _keys(self) -> Any:
        if self._aead is None:
            suite = self.suite
            key = expand_label(suite, self.secret, "key", suite.key_size)
            self._aead = getattr(load(), suite.aead)(key)
            self._iv = int.from_bytes(expand_label(suite, self.secret, "iv", 12), "big")
        return self._aead

    def update(self) -> None:
        """Go on to the next secret (section 7.2)."""
        self.secret = expand_label(self.suite, self.secret, "traffic upd", len(self.secret))
        self.sequence = 0
        self._aead = None

    def _nonce(self) -> bytes:
        return (self._iv ^ self.sequence).to_bytes(12, "big")  # section 5.3

    def seal(self, kind: int, content: bytes) -> bytes:
        """The next record."""
        aead = self._keys()
        header = _HEADER.pack(APPLICATION_DATA, _LEGACY_VERSION, len(content) + OVERHEAD)
        body = aead.encrypt(self._nonce(), content + bytes((kind,)), header)
        self.sequence += 1
        return header + bytes(body)

    def open(self, record: bytes) -> tuple[int, bytes]:
        """Type and content of the next record, which is given whole; RecordError."""
        if record[0] != APPLICATION_DATA:
            raise RecordError(_UNEXPECTED_MESSAGE, f"a record of type {record[0]} in clear")
        aead = self._keys()
        from cryptography.exceptions import InvalidTag  # there by now

        try:
            inner = bytes(aead.decrypt(self._nonce(), record[HEADER_SIZE:], record[:HEADER_SIZE]))
        except InvalidTag:
            raise RecordError(_BAD_RECORD_MAC, "a record that is not authentic") from None
        self.sequence += 1
        content = inner.rstrip(b"\0")  # padding (section 5.4)
        if len(inner) > MAX_CONTENT + 1:
            raise RecordError(_RECORD_OVERFLOW, "a record with too much in it")
        if not content:
            raise RecordError(_UNEXPECTED_MESSAGE, "a record without a type")
        return content[-1], content[:-1]


class Tls13:
    """A TLS 1.3 connection behind its handshake, in place of an ``ssl.SSLObject``.

    ``state`` is what ``export`` of ours or of ``net.tls_secrets.Tracker`` gave; ValueError when it is none. Errors are
    those of the ssl module: SSLWantReadError, SSLZeroReturnError behind close_notify, SSLError when the connection is
    broken.
    """

    def __init__(self, state: dict[str, Any], incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        cipher, unread, alpn = state.get("cipher"), state.get("unread", b""), state.get("alpn")
        if not isinstance(cipher, str) or cipher not in SUITES:
            raise ValueError(f"no cipher suite of TLS 1.3 is {cipher!r}")
        if not isinstance(unread, bytes) or not (alpn is None or isinstance(alpn, str)):
            raise ValueError("no bytes to go on from")
        suite = SUITES[cipher]
        self._cipher = cipher
        self._read = _direction(suite, state, "read")
        self._write = _direction(suite, state, "write")
        self._update_due = bool(state.get("update_due"))
        self._alpn: str | None = alpn
        self._incoming = incoming
        self._outgoing = outgoing
        self._raw = bytearray(unread)  # records not opened yet, the last one maybe in part
        self._plain = b""
        self._position = 0
        self._messages = bytearray()  # of the handshake's kind, the last one maybe in part
        self._error = ""
        self._ended = False  # by the other side's close_notify
        self._closed = False  # by ours

    def read(self, size: int, buffer: Any) -> int:
        """Put at most ``size`` bytes into ``buffer``, at least one; how many they are."""
        if self._position == len(self._plain):
            self._plain = self._next_data()
            self._position = 0
        part = self._plain[self._position : self._position + size]
        buffer[: len(part)] = part
        self._position += len(part)
        if self._position == len(self._plain):
            self._plain = b""
            self._position = 0
        return len(part)

    def write(self, data: Any) -> int:
        """Send all of ``data``; how many bytes they are."""
        if self._error or self._closed:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._error or "the connection was closed")
        view = memoryview(data)
        for start in range(0, len(view), MAX_CONTENT):
            if self._update_due or self._write.sequence >= _MAX_RECORDS:
                self._update_due = False
                self._outgoing.write(self._write.seal(HANDSHAKE, bytes((KEY_UPDATE, 0, 0, 1, 0))))
                self._write.update()
            self._outgoing.write(self._write.seal(APPLICATION_DATA, bytes(view[start : start + MAX_CONTENT])))
        return len(view)

    def pending(self) -> int:
        """Bytes that ``read`` gives without more records."""
        return len(self._plain) - self._position

    def unwrap(self) -> None:
        """Send close_notify, once; the other's is not waited for (section 6.1)."""
        if not (self._closed or self._error):
            self._closed = True
            self._outgoing.write(self._write.seal(ALERT, bytes((_WARNING, _CLOSE_NOTIFY))))

    def version(self) -> str:
        """As ``ssl.SSLObject.version``."""
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        """As ``ssl.SSLObject.cipher``."""
        return self._cipher, "TLSv1.3", self._read.suite.bits

    def selected_alpn_protocol(self) -> str | None:
        """As ``ssl.SSLObject.selected_alpn_protocol``."""
        return self._alpn

    def export(self) -> dict[str, Any]:
        """What carries the connection on elsewhere, and changes nothing here. ValueError if it can't be any more.

        What ``read`` would give at once must have been read.
        """
        self._raw += self._incoming.read()
        if self._error or self._ended or self._closed or self.pending() or self._messages:
            raise ValueError(self._error or "the connection has ended, or there is something to be read")
        return exported(self._cipher, self._read, self._write, self._update_due, bytes(self._raw), self._alpn)

    def _next_data(self) -> bytes:
        if self._error:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._error)
        self._raw += self._incoming.read()
        try:
            while not self._ended:
                record = self._next_record()
                if record is None:
                    raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more records are needed")
                kind, content = self._read.open(record)
                if self._messages and kind != HANDSHAKE:
                    raise RecordError(_UNEXPECTED_MESSAGE, "something else within a handshake message")
                if kind == APPLICATION_DATA:
                    if content:
                        return content
                elif kind == HANDSHAKE:
                    self._handshake(content)
                elif kind == ALERT:
                    self._alert(content)
                else:
                    raise RecordError(_UNEXPECTED_MESSAGE, f"a record of type {kind}")
        except RecordError as exc:
            self._fail(str(exc))
            if not self._closed:
                self._outgoing.write(self._write.seal(ALERT, bytes((_FATAL, exc.alert))))
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, str(exc)) from exc
        raise ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "the connection was closed by the other side")

    def _next_record(self) -> bytes | None:
        raw = self._raw
        if len(raw) < HEADER_SIZE:
            return None
        kind, _, size = _HEADER.unpack_from(raw)
        if kind != APPLICATION_DATA:
            raise RecordError(_UNEXPECTED_MESSAGE, f"a record of type {kind} in clear")
        if size > _MAX_BODY:
            raise RecordError(_RECORD_OVERFLOW, f"a record of {size} bytes")
        if size < OVERHEAD:
            raise RecordError(_DECODE_ERROR, f"a record of {size} bytes")
        end = HEADER_SIZE + size
        if len(raw) < end:
            return None
        record = bytes(raw[:end])
        del raw[:end]
        return record

    def _handshake(self, content: bytes) -> None:
        if not content:
            raise RecordError(_UNEXPECTED_MESSAGE, "an empty handshake record")
        messages = self._messages
        messages += content
        while len(messages) >= 4:
            kind, size = messages[0], int.from_bytes(messages[1:4], "big")
            if kind not in (KEY_UPDATE, _NEW_SESSION_TICKET):
                raise RecordError(_UNEXPECTED_MESSAGE, f"a handshake message of type {kind}")
            if size > _MAX_TICKET or (kind == KEY_UPDATE and size != 1):
                raise RecordError(_DECODE_ERROR, f"a handshake message of {size} bytes")
            if len(messages) < 4 + size:
                return
            body = bytes(messages[4 : 4 + size])
            del messages[: 4 + size]
            if kind == KEY_UPDATE:
                if messages:
                    raise RecordError(_UNEXPECTED_MESSAGE, "a message under the keys before a KeyUpdate")
                if body[0] > 1:
                    raise RecordError(_ILLEGAL_PARAMETER, f"a KeyUpdate that asks for {body[0]}")
                self._read.update()
                self._update_due = self._update_due or body[0] == 1

    def _alert(self, content: bytes) -> None:
        if len(content) != 2:
            raise RecordError(_DECODE_ERROR, "an alert that is none")
        description = content[1]
        if description == _CLOSE_NOTIFY:
            self._ended = True
        elif description != _USER_CANCELED:
            self._fail(f"the other side sent alert {description}")
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._error)

    def _fail(self, text: str) -> None:
        self._error = text
        self._raw.clear()
        self._messages.clear()


def exported(
    cipher: str, read: Direction, write: Direction, update_due: bool, unread: bytes, alpn: str | None
) -> dict[str, Any]:
    """The state that ``Tls13`` goes on from. It holds secrets: whoever has it can read and write as this side."""
    return {
        "cipher": cipher,
        "read_secret": read.secret,
        "read_sequence": read.sequence,
        "write_secret": write.secret,
        "write_sequence": write.sequence,
        #: the other side asked for new keys of ours, and has not got them yet
        "update_due": update_due,
        #: the beginning of the record ``read_sequence``, as received
        "unread": unread,
        "alpn": alpn,
    }


def _direction(suite: Suite, state: dict[str, Any], which: str) -> Direction:
    secret, sequence = state.get(f"{which}_secret"), state.get(f"{which}_sequence")
    size = 48 if suite.hash_name == "sha384" else 32
    if not (isinstance(secret, bytes) and len(secret) == size and isinstance(sequence, int) and sequence >= 0):
        raise ValueError(f"no secret and number to {which} with")
    return Direction(suite, secret, sequence)
