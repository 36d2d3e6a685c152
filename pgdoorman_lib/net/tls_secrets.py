"""What ``net.tls13`` goes on from: secrets of OpenSSL's connections, and how many records each has sent and received.

OpenSSL tells secrets only to a key log file. Ours is a memfd, which is in no file system, emptied after each step of a
handshake. The numbers come from the headers of the records that pass through the memory BIOs. Behind the handshake all
records look alike. One that is as long as a KeyUpdate, which makes the numbers start anew, is kept until it shows
whether the sizes of the records add up to what was read or written; only if not is it opened. What else might hide
among them (padding, messages we don't know of) makes the sums differ for good; such a connection can't be moved.
"""

from __future__ import annotations

import os
import ssl
from typing import Any
from weakref import WeakKeyDictionary

from pgdoorman_lib.net.tls13 import (
    APPLICATION_DATA,
    HANDSHAKE,
    HEADER_SIZE,
    KEY_UPDATE,
    KEY_UPDATE_SIZE,
    OVERHEAD,
    SUITES,
    Direction,
    RecordError,
    exported,
)

#: What OpenSSL's key log callback names the secrets of application data.
_CLIENT_SECRET = b"CLIENT_TRAFFIC_SECRET_0"
_SERVER_SECRET = b"SERVER_TRAFFIC_SECRET_0"

#: Where a ClientHello has its random, counted from the beginning of the connection, and of what a record begins with.
_RANDOM = slice(11, 43)
_HELLO = (22, 1)

_KEY_UPDATE_RECORD = HEADER_SIZE + KEY_UPDATE_SIZE + OVERHEAD


class CanNotMove(Exception):
    """The connection can't be carried on by another process; the text says why."""


_keylogs: WeakKeyDictionary[ssl.SSLContext, Keylog] = WeakKeyDictionary()


def keylog_of(context: ssl.SSLContext) -> Keylog | None:
    """The key log that watches a context, or None."""
    return _keylogs.get(context)


class Keylog:
    """A key log in memory, for any number of contexts of this process (after a fork: another)."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
        self._path = f"/proc/self/fd/{self._descriptor}"

    def watch(self, context: ssl.SSLContext) -> None:
        """Have the secrets of a context's connections told; OSError where there is no /proc."""
        context.keylog_filename = self._path
        os.ftruncate(self._descriptor, 0)  # Python begins with a line of its own
        _keylogs[context] = self

    def take(self) -> bytes:
        """What was told since the last call, as lines, and is forgotten here."""
        lines = os.pread(self._descriptor, 1 << 20, 0)
        if lines:
            os.ftruncate(self._descriptor, 0)
        return lines

    def close(self) -> None:
        """Let the memory go; contexts that are watched still hold it."""
        os.close(self._descriptor)


class Handshake:
    """Collects the secrets of one connection while OpenSSL shakes hands."""

    def __init__(self, keylog: Keylog) -> None:
        self._keylog = keylog
        self._lines: list[bytes] = []
        self._hello = b""

    def client_says(self, data: bytes) -> None:
        """What the client sends, of which the first bytes tell whose secrets are ours."""
        if len(self._hello) < _RANDOM.stop:
            self._hello += data[: _RANDOM.stop]

    def step(self) -> None:
        """To be called behind each ``do_handshake``, before anything else can switch: keep what that has told."""
        self._lines += self._keylog.take().splitlines()

    def tracker(self, tls: ssl.SSLObject, said: bytes) -> Tracker | None:
        """The one that counts from here on, with the handshake done; None if this connection can't be moved.

        ``said`` is what a server has sent behind the client's last word: tickets.
        """
        cipher = tls.cipher()
        if tls.version() != "TLSv1.3" or cipher is None or cipher[0] not in SUITES:
            return None
        if (self._hello[0], self._hello[5]) != _HELLO:
            return None
        random = self._hello[_RANDOM].hex().encode("ascii")
        secrets = {}
        for line in self._lines:
            label, _, rest = line.partition(b" ")
            owner, _, secret = rest.partition(b" ")
            if owner == random and label in (_CLIENT_SECRET, _SERVER_SECRET):
                secrets[label] = bytes.fromhex(secret.decode("ascii"))
        if len(secrets) != 2:
            return None
        clients, servers = secrets[_CLIENT_SECRET], secrets[_SERVER_SECRET]
        alpn = tls.selected_alpn_protocol()
        if not tls.server_side:
            return Tracker(cipher[0], servers, clients, alpn, tickets=True)
        tracker = Tracker(cipher[0], clients, servers, alpn)
        tracker.sent(bytearray(said), 0)
        tracker.write.content = 0
        return tracker


class Tracker:
    """Follows the records of one connection of OpenSSL's behind its handshake, both ways.

    It compares what they hold with the application data that was read and written so far, which it is told as totals in
    bytes. ``tickets``: the other side is a server, which may send some before its first data.
    """

    __slots__ = ("_alpn", "_cipher", "_fault", "_suspects", "_tail", "_tickets", "_update_due", "read", "write")

    def __init__(
        self, cipher: str, read_secret: bytes, write_secret: bytes, alpn: str | None = None, *, tickets: bool = False
    ) -> None:
        self._cipher = cipher
        self._alpn = alpn
        self._tickets = tickets
        self._update_due = False
        self._fault = ""
        #: the beginning of a record that has not come whole
        self._tail = b""
        #: records received that may hold no data, each with the number of those behind it: ``read`` stands at the first
        self._suspects: list[tuple[bytes, int]] = []
        self.read = Counted(cipher, read_secret)
        self.write = Counted(cipher, write_secret)

    def received(self, data: bytearray, size: int, total: int) -> None:
        """Count the records in ``data[:size]``, which OpenSSL is given now; all before has been read."""
        if self._suspects:
            self._settle(total)
        if self._tail:
            data = bytearray(self._tail) + data[:size]
            size = len(data)
            self._tail = b""
        position = 0
        records = 0
        read = self.read
        while size - position >= HEADER_SIZE:
            body = data[position + 3] << 8 | data[position + 4]
            end = position + HEADER_SIZE + body
            if end > size:
                break
            if data[position] != APPLICATION_DATA:
                self._fault = "a record in clear"
            if end - position == _KEY_UPDATE_RECORD or self._tickets:
                self._note_behind(records)
                records = 0
                self._suspects.append((bytes(data[position:end]), 0))
            else:
                records += 1
            read.content += body - OVERHEAD
            position = end
        self._note_behind(records)
        if position < size:
            self._tail = bytes(data[position:size])

    def _note_behind(self, records: int) -> None:
        if self._suspects:
            record, behind = self._suspects[-1]
            self._suspects[-1] = (record, behind + records)
        else:
            self.read.keys.sequence += records

    def _settle(self, total: int) -> None:
        """``total`` bytes have been read of all that was received: tell what the suspects are."""
        read = self.read
        innocent = total == read.content
        for record, behind in self._suspects:
            kind, content = (APPLICATION_DATA, b"") if innocent else self._opened(read.keys, record)
            if kind == HANDSHAKE:
                read.content -= len(content)
                if _is_key_update(content):
                    read.keys.update()
                    read.keys.sequence = -1
                    self._update_due = self._update_due or content[-1] == 1
            elif kind == APPLICATION_DATA:
                self._tickets = False
            read.keys.sequence += 1 + behind
        self._suspects.clear()

    def sent(self, data: bytearray, total: int) -> None:
        """Count the records in ``data``, which OpenSSL has made, whole ones; ``total`` with what stands in them."""
        position = 0
        size = len(data)
        write = self.write
        lengths = []
        while position < size:
            body = data[position + 3] << 8 | data[position + 4]
            write.content += body - OVERHEAD
            position += HEADER_SIZE + body
            lengths.append(HEADER_SIZE + body)
        if write.content == total or _KEY_UPDATE_RECORD not in lengths:
            write.keys.sequence += len(lengths)
            return
        position = 0
        for length in lengths:
            content = b""
            if length == _KEY_UPDATE_RECORD:
                kind, content = self._opened(write.keys, bytes(data[position : position + length]))
                content = content if kind == HANDSHAKE else b""
            if _is_key_update(content):
                write.content -= len(content)
                write.keys.update()
                self._update_due = False
            else:
                write.keys.sequence += 1
            position += length

    def _opened(self, keys: Direction, record: bytes) -> tuple[int, bytes]:
        number = keys.sequence
        try:
            return keys.open(record)
        except RecordError as exc:
            self._fault = f"a record can't be opened: {exc}"
            return 0, b""
        finally:
            keys.sequence = number

    def export(self, read: int, written: int) -> dict[str, Any]:
        """The state for ``net.tls13.Tls13``, of which nothing changes here.

        ``read`` and ``written`` are the totals, with nothing left in OpenSSL to be read and all that it has written
        counted. CanNotMove when they don't fit what was seen.
        """
        self._settle(read)
        if self._fault:
            raise CanNotMove(self._fault)
        if (read, written) != (self.read.content, self.write.content):
            raise CanNotMove(
                f"TLS records of {self.read.content} and {self.write.content} bytes "
                f"where {read} and {written} were read and written"
            )
        return exported(self._cipher, self.read.keys, self.write.keys, self._update_due, self._tail, self._alpn)


class Counted:
    """One direction: its keys, and the bytes of content of the records so far, as if all of it were data."""

    __slots__ = ("content", "keys")

    def __init__(self, cipher: str, secret: bytes) -> None:
        self.keys = Direction(SUITES[cipher], secret)
        self.content = 0


def _is_key_update(content: bytes) -> bool:
    return len(content) == KEY_UPDATE_SIZE and content[0] == KEY_UPDATE
