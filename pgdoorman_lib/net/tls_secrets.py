"""What ``net.tls13`` goes on from: the traffic secrets of a connection that OpenSSL has begun.

OpenSSL tells secrets only to a key log file. Ours is a memfd, which is in no file system, emptied after each step of a
handshake. Behind the handshake OpenSSL has no part in the connection any more.
"""

from __future__ import annotations

import os
import ssl
from weakref import WeakKeyDictionary

from pgdoorman_lib.net.tls13 import Tls13, exported
from pgdoorman_lib.net.tls_terms import HEADER_SIZE
from pgdoorman_lib.net.traffic import SUITES, Direction

#: What OpenSSL's key log callback names the secrets of application data.
_CLIENT_SECRET = b"CLIENT_TRAFFIC_SECRET_0"
_SERVER_SECRET = b"SERVER_TRAFFIC_SECRET_0"

#: Where a ClientHello has its random, counted from the beginning of the connection, and of what a record begins with.
_RANDOM = slice(11, 43)
_HELLO = (22, 1)


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

    def connection(self, tls: ssl.SSLObject, said: bytes, behind: bytes) -> Tls13 | None:
        """What carries the connection on, with the handshake done; None if its secrets are not known, or it is older.

        ``said`` is what a server has sent behind the client's last word: tickets. ``behind`` has come behind the peer's
        last word, and OpenSSL has not seen it.
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
        suite = SUITES[cipher[0]]
        clients = Direction(suite, secrets[_CLIENT_SECRET])
        servers = Direction(suite, secrets[_SERVER_SECRET])
        read, write = (clients, servers) if tls.server_side else (servers, clients)
        if tls.server_side:
            write.sequence = _records(said)
        return Tls13(exported(cipher[0], read, write, False, behind, tls.selected_alpn_protocol()))


def _records(data: bytes) -> int:
    """How many records there are in ``data``, all of them whole."""
    position = count = 0
    while position < len(data):
        position += HEADER_SIZE + int.from_bytes(data[position + 3 : position + HEADER_SIZE], "big")
        count += 1
    return count
