"""A scripted PostgreSQL on a loopback port: each connection is played by a function on bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import ssl as gssl
from pace import patience

#: A script that runs longer than this hangs.
SCRIPT_SECONDS = patience(10.0)


@dataclass
class Settings:
    """The part of a pool's settings that connecting needs."""

    server_host: str = "127.0.0.1"
    server_port: int = 0
    server_database: str = "base"
    application_name: str = "pg_doorman"
    startup_parameters: tuple[tuple[str, str], ...] = ()
    connect_timeout: float = patience(5.0)
    server_tls_mode: str = "disable"
    server_tls_ca_cert: str | None = None
    server_tls_certificate: str | None = None
    server_tls_private_key: str | None = None
    server_tls_crl: str | None = None
    server_tls_min_version: str = "tlsv1.2"
    server_tls_ciphers: str | None = None
    server_tls_negotiation: str = "postgres"
    server_channel_binding: str = "prefer"
    tcp_keepalives_idle: float = 5
    tcp_keepalives_interval: float = 5
    tcp_keepalives_count: int = 5
    tcp_so_linger: float = 0
    tcp_no_delay: bool = True
    tcp_user_timeout: float = 60
    tcp_socket_buffer_size: int = 0
    unix_socket_buffer_size: int = 1 << 20


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def auth(code: int, payload: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!I", code) + payload)


def error(**fields: str) -> bytes:
    return message(b"E", b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0")


AUTH_OK = auth(0)
WELCOME = (
    message(b"S", b"server_version\x0015.6\0")
    + message(b"S", b"TimeZone\0Etc/UTC\0")
    + message(b"K", struct.pack("!i", 4711) + b"\x01\x02\x03\x04")
    + message(b"Z", b"I")
)


class Connection:
    """One connection from the code under test, as its server sees it."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock

    def send(self, *parts: bytes) -> None:
        self.sock.sendall(b"".join(parts))

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError(f"{len(data)} of {size} bytes")
            data += part
        return data

    def packet(self) -> bytes:
        """A packet without a type byte: startup, SSLRequest, cancel."""
        return self.read(struct.unpack("!I", self.read(4))[0] - 4)

    def startup(self) -> dict[str, str]:
        packet = self.packet()
        assert packet[:4] == struct.pack("!I", 196608)
        assert packet.endswith(b"\0\0")
        words = packet[4:-2].split(b"\0")
        return {k.decode(): v.decode() for k, v in zip(words[::2], words[1::2], strict=True)}

    def message(self) -> bytes:
        """The body of the next message, which has to be of type ``p``."""
        kind, length = struct.unpack("!cI", self.read(5))
        assert kind == b"p"
        return self.read(length - 4)

    def ssl_request(self) -> None:
        assert self.packet() == struct.pack("!I", 80877103)

    def start_tls(self, files: Any, ca: Any = None) -> None:
        """Agree to TLS with the certificate; with ``ca`` a client certificate is demanded."""
        self.send(b"S")
        self.take_tls(files, ca)

    def take_tls(self, files: Any, ca: Any = None, alpn: str | None = None) -> None:
        """TLS that has been agreed on, or that the other side begins with."""
        context = gssl.SSLContext(gssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.private_key)
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        if ca is not None:
            context.load_verify_locations(ca)
            context.verify_mode = gssl.CERT_REQUIRED
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def gone(self) -> bool:
        """Wait until the other side has closed; True."""
        try:
            while self.sock.recv(65536):
                pass
        except (ConnectionResetError, gssl.SSLError):
            pass
        return True


Script = Callable[[Connection], object]


@dataclass
class FakePostgres:
    """Plays the scripts in the order of connections; ``results`` are what they returned."""

    listener: Any
    results: list[Any] = field(default_factory=list)
    connections: int = 0
    _scripts: list[Script] = field(default_factory=list)
    _greenlets: list[Any] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def settings(self, **changes: Any) -> Settings:
        return Settings(server_port=self.port, **changes)

    def play(self, *scripts: Script) -> None:
        self._scripts += scripts
        for _ in scripts:
            self._greenlets.append(gevent.spawn(self._serve))

    def _serve(self) -> None:
        sock, _ = self.listener.accept()
        connection = Connection(sock)
        script = self._scripts[self.connections]
        self.connections += 1
        try:
            with gevent.Timeout(SCRIPT_SECONDS):
                self.results.append(script(connection))
        finally:
            connection.sock.close()

    def join(self) -> list[Any]:
        """Wait for every script to end; an assertion that failed in one is raised here."""
        gevent.joinall(self._greenlets, timeout=SCRIPT_SECONDS, raise_error=True)
        assert all(g.ready() for g in self._greenlets), "a script still waits for a connection"
        return self.results

    def close(self) -> None:
        gevent.killall(self._greenlets)
        self.listener.close()
