"""A raw protocol client on a blocking socket: sends any bytes, gives back messages as they came.

For tests of exact replies. It shares no code with the pooler on purpose: what both get wrong would go unseen.
(PostgreSQL docs, "Message Formats".)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pace import patience

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)

DEFAULT_TIMEOUT = patience(15.0)


@dataclass(frozen=True)
class Message:
    """One message: its type as a character, its body without type and length."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Fields of an ErrorResponse or NoticeResponse by their letter."""
        parts = self.body.rstrip(b"\0").split(b"\0")
        return {part[:1].decode(): part[1:].decode("utf-8", "replace") for part in parts if part}

    @property
    def sqlstate(self) -> str:
        return self.fields["C"]

    @property
    def tag(self) -> str:
        """The tag of a CommandComplete."""
        return self.body.rstrip(b"\0").decode()

    @property
    def columns(self) -> list[bytes | None]:
        """The values of a DataRow."""
        count, offset, values = struct.unpack_from("!h", self.body)[0], 2, []
        for _ in range(count):
            length = int.from_bytes(self.body[offset : offset + 4], "big", signed=True)
            offset += 4
            if length < 0:
                values.append(None)
            else:
                values.append(self.body[offset : offset + length])
                offset += length
        return values

    @property
    def column_names(self) -> list[str]:
        """The names in a RowDescription."""
        return [name for name, _ in self._described]

    @property
    def column_types(self) -> list[int]:
        """The OIDs of the types in a RowDescription."""
        return [oid for _, oid in self._described]

    @property
    def _described(self) -> list[tuple[str, int]]:
        count, offset, described = struct.unpack_from("!h", self.body)[0], 2, []
        for _ in range(count):
            end = self.body.index(b"\0", offset)
            (oid,) = struct.unpack_from("!i", self.body, end + 7)
            described.append((self.body[offset:end].decode(), oid))
            offset = end + 19
        return described


class WireError(AssertionError):
    """The peer answered a login with an ErrorResponse; ``message`` is it."""

    def __init__(self, message: Message) -> None:
        super().__init__(str(message.fields))
        self.message = message


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def cstring(text: str | bytes) -> bytes:
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def startup(protocol: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    """A StartupMessage; parameters whose names are no identifiers go in by ``**{"_pq_.x": "1"}``."""
    body = b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, protocol) + body


def cancel_request(pid: int, secret: bytes) -> bytes:
    return struct.pack("!iii", 12 + len(secret), 80877102, pid) + secret


def query(sql: str | bytes) -> bytes:
    return message("Q", cstring(sql))


def parse(name: str, sql: str, oids: Sequence[int] = ()) -> bytes:
    return message("P", cstring(name) + cstring(sql) + struct.pack(f"!h{len(oids)}i", len(oids), *oids))


def bind(portal: str, name: str, values: Sequence[bytes | None] = (), result_format: int | None = None) -> bytes:
    """A Bind with all parameters as text; ``result_format`` 1 asks for binary."""
    data = b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)
    formats = struct.pack("!h", 0) if result_format is None else struct.pack("!hh", 1, result_format)
    return message("B", cstring(portal) + cstring(name) + struct.pack("!hh", 0, len(values)) + data + formats)


def describe_statement(name: str) -> bytes:
    return message("D", b"S" + cstring(name))


def describe_portal(name: str = "") -> bytes:
    return message("D", b"P" + cstring(name))


def execute(portal: str = "", max_rows: int = 0) -> bytes:
    return message("E", cstring(portal) + struct.pack("!i", max_rows))


def close_statement(name: str) -> bytes:
    return message("C", b"S" + cstring(name))


def close_portal(name: str) -> bytes:
    return message("C", b"P" + cstring(name))


SYNC = message("S")
FLUSH = message("H")
TERMINATE = message("X")
COPY_DONE = message("c")


def copy_data(data: bytes) -> bytes:
    return message("d", data)


def copy_fail(reason: str) -> bytes:
    return message("f", cstring(reason))


def function_call(oid: int, arguments: Sequence[bytes | None]) -> bytes:
    """A FunctionCall with all arguments and the result as text."""
    data = b"".join(struct.pack("!i", -1) if a is None else struct.pack("!i", len(a)) + a for a in arguments)
    return message("F", struct.pack("!ihh", oid, 0, len(arguments)) + data + struct.pack("!h", 0))


def prepared(name: str, sql: str, values: Sequence[bytes | None] = ()) -> bytes:
    """Parse, Bind, Describe (portal), Execute, Sync: what a driver sends for one query."""
    return parse(name, sql) + bind("", name, values) + describe_portal() + execute() + SYNC


def bound(name: str, values: Sequence[bytes | None] = ()) -> bytes:
    """Bind, Execute, Sync of a statement prepared earlier."""
    return bind("", name, values) + execute() + SYNC


def kinds(messages: Iterable[Message]) -> str:
    """The types of messages as one string, e.g. ``"12DCZ"``."""
    return "".join(m.kind for m in messages)


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), by hashlib."""

    def __init__(self, password: str) -> None:
        self.password = password.encode()
        self.bare = b"n=,r=" + base64.b64encode(os.urandom(18))

    def first(self) -> bytes:
        return b"n,," + self.bare

    def final(self, server_first: bytes) -> bytes:
        nonce, salt, rounds = (part[2:] for part in server_first.split(b",")[:3])
        assert nonce.startswith(self.bare[5:])
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(rounds))
        bare_final = b"c=biws,r=" + nonce
        said = self.bare + b"," + server_first + b"," + bare_final
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        self.expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), said, "sha256")
        return bare_final + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))

    def check(self, server_final: bytes) -> None:
        assert server_final == b"v=" + base64.b64encode(self.expected), "the server did not prove itself"


#: Every client not closed yet. The tests' fixture closes what a failed test left open.
unclosed: set[WireClient] = set()


class WireClient:
    """One connection. ``address`` is (host, port), or the path of a unix socket.

    Each read has ``timeout`` seconds in all; ConnectionError at an unexpected end, TimeoutError when nothing comes.
    """

    def __init__(self, address: tuple[str, int] | str, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unclosed.add(self)
        self._buffer = b""
        self._taken = 0  # how much of it read() has given out
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.secret = b""
        self.welcome: list[Message] = []

    def __enter__(self) -> WireClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close without a Terminate, as a crashed client does."""
        unclosed.discard(self)
        self.socket.close()

    def terminate(self) -> None:
        """Close the polite way."""
        self.send(TERMINATE)
        self.close()

    # -- sending and receiving

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def dribble(self, data: bytes, piece: int = 1) -> None:
        """Send in pieces of ``piece`` bytes, each in a segment of its own as far as the kernel lets us."""
        for start in range(0, len(data), piece):
            self.socket.sendall(data[start : start + piece])

    def _drop_taken(self) -> None:
        self._buffer, self._taken = self._buffer[self._taken :], 0

    def _fill(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing came in {self.timeout} s; buffered: {self._buffer[:200]!r}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            raise TimeoutError(f"nothing came in {self.timeout} s; buffered: {self._buffer[:200]!r}") from None
        finally:
            self.socket.settimeout(self.timeout)
        self._buffer += data
        return bool(data)

    def read_exact(self, size: int) -> bytes:
        deadline = time.monotonic() + self.timeout
        self._drop_taken()
        if len(self._buffer) < size:
            # A large body is gathered apart: += on the shared buffer would be quadratic.
            parts, have = [self._buffer], len(self._buffer)
            self._buffer = b""
            while have < size:
                if not self._fill(deadline):
                    self._buffer = b"".join(parts)
                    raise ConnectionError(f"closed by the peer; read so far: {self._buffer[:200]!r}")
                parts.append(self._buffer)
                have += len(self._buffer)
                self._buffer = b""
            self._buffer = b"".join(parts)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def unread(self, data: bytes) -> None:
        """Give back what was read: it comes again."""
        self._drop_taken()
        self._buffer = data + self._buffer

    def read_byte(self) -> bytes:
        """The one byte that answers an SSLRequest or GSSENCRequest."""
        return self.read_exact(1)

    def read(self) -> Message:
        """The next message."""
        body = self._taken + 5
        if len(self._buffer) >= body:
            # Most often it is here whole: thousands of rows are not to copy all that follows them each time.
            end = body - 4 + int.from_bytes(self._buffer[body - 4 : body], "big")
            if body <= end <= len(self._buffer):
                got = Message(chr(self._buffer[self._taken]), self._buffer[body:end])
                self._taken = end
                return got
        header = self.read_exact(5)
        (length,) = struct.unpack("!i", header[1:])
        assert 4 <= length < 1 << 30, header
        return Message(header[:1].decode("latin-1"), self.read_exact(length - 4))

    def read_until(self, kind: str, count: int = 1) -> list[Message]:
        """Messages up to and with the ``count``-th of type ``kind``."""
        messages = []
        while count:
            messages.append(self.read())
            count -= messages[-1].kind == kind
        return messages

    def read_ready(self, count: int = 1) -> list[Message]:
        """Messages up to and with the ``count``-th ReadyForQuery."""
        return self.read_until("Z", count)

    def read_to_end(self) -> bytes:
        """Every byte until the peer closes."""
        deadline = time.monotonic() + self.timeout
        self._drop_taken()
        try:
            while self._fill(deadline):
                pass
        except ConnectionError:
            pass
        data, self._buffer = self._buffer, b""
        return data

    def read_messages_to_end(self) -> list[Message]:
        """Every message until the peer closes."""
        messages = []
        try:
            while True:
                messages.append(self.read())
        except ConnectionError:
            return messages

    def is_quiet(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for ``seconds`` (the one place where waiting for nothing is the point)."""
        self._drop_taken()
        if self._buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            self._buffer += self.socket.recv(1 << 16)
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(self.timeout)

    def ask(self, data: bytes, ready: int = 1) -> list[Message]:
        """Send, then read up to the ``ready``-th ReadyForQuery."""
        self.send(data)
        return self.read_ready(ready)

    def ask_query(self, sql: str) -> list[Message]:
        return self.ask(query(sql))

    def value(self, sql: str) -> str | None:
        """The first column of the only row of a simple query; an ErrorResponse fails the test."""
        messages = self.ask_query(sql)
        errors = [m.fields for m in messages if m.kind == "E"]
        assert not errors, errors
        rows = [m for m in messages if m.kind == "D"]
        assert len(rows) == 1, messages
        value = rows[0].columns[0]
        return None if value is None else value.decode()

    # -- login

    def login(
        self, user: str, database: str, password: str = "", protocol: int = PROTOCOL_3_0, **parameters: str
    ) -> WireClient:
        """Start up, authenticate, read the welcome. WireError when refused."""
        self.send(startup(protocol, user=user, database=database, **parameters))
        self.welcome = self.authenticate(user, password)
        return self

    def authenticate(self, user: str, password: str) -> list[Message]:
        """Answer whatever is asked until ReadyForQuery; all messages read. WireError when refused."""
        seen: list[Message] = []
        scram: Scram | None = None
        while True:
            got = self.read()
            seen.append(got)
            if got.kind == "E":
                raise WireError(got)
            if got.kind == "Z":
                return seen
            if got.kind == "S":
                name, value, _ = got.body.decode().split("\0")
                self.parameters[name] = value
            elif got.kind == "K":
                self.pid, self.secret = struct.unpack("!i", got.body[:4])[0], got.body[4:]
            elif got.kind == "R":
                code, rest = struct.unpack("!i", got.body[:4])[0], got.body[4:]
                if code == 3:
                    self.send(message("p", cstring(password)))
                elif code == 5:
                    inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
                    self.send(message("p", cstring("md5" + hashlib.md5(inner.encode() + rest).hexdigest())))
                elif code == 10:
                    scram = Scram(password)
                    first = scram.first()
                    self.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
                elif code == 11:
                    assert scram is not None
                    self.send(message("p", scram.final(rest)))
                elif code == 12:
                    assert scram is not None
                    scram.check(rest)

    def cancel(self) -> None:
        """Send a CancelRequest for this connection on a new one, and wait until the peer closed that."""
        with WireClient(self.socket.getpeername(), self.timeout) as other:
            other.send(cancel_request(self.pid, self.secret))
            assert other.read_to_end() == b""


_NAME = re.compile(r"(pgdoorman_\w+|\"[^\"]*\")")


def normal(messages: Iterable[Message]) -> list[tuple[str, object]]:
    """Replies in the form in which a direct connection and one through the pooler must be equal.

    Of errors the severity, SQLSTATE and text stay, with quoted names blotted out; where in its source PostgreSQL
    raised them and the position in the statement do not. ParameterStatus is left out: it may come at any time.
    """
    out: list[tuple[str, object]] = []
    for m in messages:
        if m.kind in "EN":
            fields = m.fields
            # Notices that extensions make by themselves may lack a field.
            out.append((m.kind, (fields.get("S"), fields.get("C"), _NAME.sub("?", fields.get("M", "")))))
        elif m.kind != "S":
            out.append((m.kind, m.body))
    return out
