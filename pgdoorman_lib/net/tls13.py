"""TLS 1.3's records behind a handshake that somebody else has made: secrets and bytes in, bytes out (RFC 8446).

The handshake is OpenSSL's, in this process or in another. From the two application traffic secrets, the cipher suite
and the numbers of the records so far, a ``Tls13`` carries the connection on. Either side may change its keys at any
time (section 4.6.3); nothing else of a handshake comes behind one, but tickets, which a client may ignore.

What has been received stands in ``raw`` as long as it has not been opened; whose buffers that and the others are is the
stream's business.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net import tls_terms
from pgdoorman_lib.net.syscalls import copy
from pgdoorman_lib.net.traffic import SUITES, Direction, RecordError, Suite

_int = int

#: Room for what a stream has not been able to read: a whole record, and half a buffer more.
RAW_SIZE = 32768
#: What records need beside content: a change of keys before it, its own overhead, and an alert behind it.
SMALL_RECORDS = 96

_MAX_TICKET = 1 << 17
#: Records in a row without a byte of data or a pause, as OpenSSL has it for empty ones: who sends more wants to keep us
#: busy. Behind a pause they count anew: who only listens, or receives, may change keys at any time for years.
_MAX_VAIN = 32


class Tls13:
    """A TLS 1.3 connection behind its handshake.

    ``state`` is what ``export`` gave, of ours or of ``net.tls_secrets``; ValueError when it is none. ``unread``, what
    came before, is the stream's to give to ``raw``. Behind ``over`` nothing more is opened; there may be content that
    came before.
    """

    __slots__ = (
        "_alpn",
        "_cipher",
        "_messages",
        "alert",
        "closed",
        "content_end",
        "content_start",
        "error",
        "over",
        "raw",
        "raw_end",
        "raw_start",
        "read",
        "unread",
        "update_due",
        "vain",
        "write",
    )

    def __init__(self, state: dict[str, Any]) -> None:
        cipher, unread, alpn = state.get("cipher"), state.get("unread", b""), state.get("alpn")
        if not isinstance(cipher, str) or cipher not in SUITES:
            raise ValueError(f"no cipher suite of TLS 1.3 is {cipher!r}")
        if not isinstance(unread, bytes) or len(unread) > RAW_SIZE or not (alpn is None or isinstance(alpn, str)):
            raise ValueError("no bytes to go on from")
        suite = SUITES[cipher]
        self._cipher = cipher
        self._alpn: str | None = alpn
        self.read = _direction(suite, state, "read")
        self.write = _direction(suite, state, "write")
        #: the other side asked for new keys of ours, and has not got them yet
        self.update_due = bool(state.get("update_due"))
        self.unread = unread
        #: received, and not opened: raw[raw_start:raw_end]; opened there and not read: raw[content_start:content_end]
        self.raw: bytearray | None = None
        self.raw_start = 0
        self.raw_end = 0
        self.content_start = 0
        self.content_end = 0
        #: handshake messages, the last one maybe in part
        self._messages = bytearray()
        #: records without data since one with data, or since there was nothing to be received
        self.vain = 0
        #: the other side has closed the connection (``error`` is empty), or broken it
        self.over = False
        self.error = ""
        #: the AlertDescription that is to be sent, -1 for none; behind it nothing is
        self.alert = -1
        self.closed = False

    # What comes.

    def take(self, block: bytearray, filled: _int) -> _int:
        """Put what has come behind ``block[:filled]``, as much as there is and as there is room for; where it ends."""
        room = len(block)
        while True:
            size = self.content_end - self.content_start
            if size > 0:
                if size > room - filled:
                    size = room - filled
                copy(block, filled, self._raw(), self.content_start, size)
                self.content_start += size
                filled += size
                if self.content_start < self.content_end:
                    return filled
                self.content_start = self.content_end = 0
            if self.over:
                self.raw_start = self.raw_end
                return filled
            try:
                size = self._open_next(block, filled)
            except RecordError as exc:
                self._break(str(exc), exc.alert)
                size = 0
            if size < 0:
                break
            filled += size
        if self.raw_start > 0:
            if self.raw_start < self.raw_end:
                copy(self._raw(), 0, self._raw(), self.raw_start, self.raw_end - self.raw_start)
            self.raw_end -= self.raw_start
            self.raw_start = 0
        return filled

    def _raw(self) -> bytearray:
        raw = self.raw
        assert raw is not None
        return raw

    def _open_next(self, block: bytearray, filled: _int) -> _int:
        """Open the next record, into ``block[filled:]`` if that has room; how much came there, -1: none is whole."""
        start = self.raw_start
        there = self.raw_end - start
        if there < tls_terms.HEADER_SIZE:
            return -1
        raw = self._raw()
        body = self.read.body_size(raw, start)
        if there < tls_terms.HEADER_SIZE + body:
            return -1
        self.raw_start = start + tls_terms.HEADER_SIZE + body
        out, to = block, filled
        if body - tls_terms.TAG_SIZE > len(block) - filled:
            out, to = raw, start + tls_terms.HEADER_SIZE
        size = self.read.open(raw, start, body, out, to)
        kind = self.read.kind
        if size > 0 and kind == tls_terms.APPLICATION_DATA:
            self.vain = 0
        else:
            self.vain += 1
            if self.vain > _MAX_VAIN:
                raise RecordError(tls_terms.UNEXPECTED_MESSAGE, "too many records without data")
        if self._messages and kind != tls_terms.HANDSHAKE:
            raise RecordError(tls_terms.UNEXPECTED_MESSAGE, "something else within a handshake message")
        if kind == tls_terms.APPLICATION_DATA:
            if out is block:
                return size
            self.content_start = to
            self.content_end = to + size
        elif kind == tls_terms.HANDSHAKE:
            self._handshake(bytes(out[to : to + size]))
        elif kind == tls_terms.ALERT:
            self._alert(bytes(out[to : to + size]))
        else:
            raise RecordError(tls_terms.UNEXPECTED_MESSAGE, f"a record of type {kind}")
        return 0

    def has_more(self) -> bool:
        """Whether ``take`` would do something without more bytes."""
        if self.content_start < self.content_end or self.over:
            return True
        there = self.raw_end - self.raw_start
        if there < tls_terms.HEADER_SIZE:
            return False
        raw, at = self._raw(), self.raw_start
        body = raw[at + 3] << 8 | raw[at + 4]
        return there >= tls_terms.HEADER_SIZE + body or body > tls_terms.MAX_BODY

    def _handshake(self, content: bytes) -> None:
        if not content:
            raise RecordError(tls_terms.UNEXPECTED_MESSAGE, "an empty handshake record")
        messages = self._messages
        messages += content
        while len(messages) >= tls_terms.MESSAGE_HEADER:
            kind, size = messages[0], int.from_bytes(messages[1:4], "big")
            if kind not in (tls_terms.KEY_UPDATE, tls_terms.NEW_SESSION_TICKET):
                raise RecordError(tls_terms.UNEXPECTED_MESSAGE, f"a handshake message of type {kind}")
            if size > _MAX_TICKET or (kind == tls_terms.KEY_UPDATE and size != 1):
                raise RecordError(tls_terms.DECODE_ERROR, f"a handshake message of {size} bytes")
            if len(messages) < tls_terms.MESSAGE_HEADER + size:
                return
            body = bytes(messages[tls_terms.MESSAGE_HEADER : tls_terms.MESSAGE_HEADER + size])
            del messages[: tls_terms.MESSAGE_HEADER + size]
            if kind == tls_terms.KEY_UPDATE:
                if messages:
                    raise RecordError(tls_terms.UNEXPECTED_MESSAGE, "a message under the keys before a KeyUpdate")
                if body[0] > 1:
                    raise RecordError(tls_terms.ILLEGAL_PARAMETER, f"a KeyUpdate that asks for {body[0]}")
                self.read.update()
                self.update_due = self.update_due or body[0] == 1

    def _alert(self, content: bytes) -> None:
        if len(content) != 2:
            raise RecordError(tls_terms.DECODE_ERROR, "an alert that is none")
        description = content[1]
        if description == tls_terms.CLOSE_NOTIFY:
            self.over = True
        elif description != tls_terms.USER_CANCELED:
            self._break(f"the other side sent alert {description}", -1)

    def _break(self, text: str, alert: _int) -> None:
        """The connection is broken: tell the other side by ``alert``, unless it knows (-1) or ours is closed."""
        self.over = True
        self.error = text
        self._messages.clear()
        if not self.closed:
            self.alert = alert
        self.closed = True

    # What goes.

    def seal(self, data: bytearray, start: _int, size: _int, out: bytearray, at: _int) -> _int:
        """Put a record of ``data[start:start+size]``, at most MAX_CONTENT bytes, at ``out[at:]``; where it ends.

        There must be room for SMALL_RECORDS beside.
        """
        if self.update_due or self.write.sequence >= self.write.limit:
            self.update_due = False
            at = self._seal_small(tls_terms.HANDSHAKE, bytearray((tls_terms.KEY_UPDATE, 0, 0, 1, 0)), out, at)
            self.write.update()
        return self.write.seal(tls_terms.APPLICATION_DATA, data, start, size, out, at)

    def seal_alert(self, out: bytearray, at: _int) -> _int:
        """Put the alert that is to be sent at ``out[at:]``, which has room for SMALL_RECORDS; where it ends."""
        level = tls_terms.WARNING if self.alert == tls_terms.CLOSE_NOTIFY else tls_terms.FATAL
        content = bytearray((level, self.alert))
        self.alert = -1
        return self._seal_small(tls_terms.ALERT, content, out, at)

    def _seal_small(self, kind: _int, content: bytearray, out: bytearray, at: _int) -> _int:
        return self.write.seal(kind, content, 0, len(content), out, at)

    def unwrap(self) -> None:
        """Have close_notify sent, once; the other's is not waited for (section 6.1)."""
        if not self.closed:
            self.closed = True
            self.alert = tls_terms.CLOSE_NOTIFY

    # What is asked of it.

    def version(self) -> str:
        """As ``ssl.SSLObject.version``."""
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        """As ``ssl.SSLObject.cipher``."""
        return self._cipher, "TLSv1.3", self.read.suite.bits

    def selected_alpn_protocol(self) -> str | None:
        """As ``ssl.SSLObject.selected_alpn_protocol``."""
        return self._alpn

    def export(self) -> dict[str, Any]:
        """What carries the connection on elsewhere, and changes nothing here. ValueError if it can't be any more.

        What ``take`` would give at once must have been read.
        """
        if self.closed or self._messages or self.has_more():
            raise ValueError(self.error or "the connection has ended, or there is something to be read")
        raw = self.raw
        unread = bytes(raw[self.raw_start : self.raw_end]) if raw is not None else self.unread
        return exported(self._cipher, self.read, self.write, self.update_due, unread, self._alpn)


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
