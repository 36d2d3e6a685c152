"""A statsd server on a port of loopback, for tests of either side."""

from __future__ import annotations

import socket

from ports import free_port


class Receiver:
    """Takes packets; ``close`` and ``open`` are its restart, on the same port."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.family = family
        self.port = free_port()
        self.open()

    def open(self) -> None:
        self.sock = socket.socket(self.family, socket.SOCK_DGRAM)
        self.sock.bind(("::1" if self.family == socket.AF_INET6 else "127.0.0.1", self.port))
        self.sock.setblocking(False)

    def close(self) -> None:
        self.sock.close()

    def packets(self) -> list[str]:
        """Those that have come since the last time."""
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536).decode("ascii"))
            except BlockingIOError:
                return found

    def lines(self) -> list[str]:
        """The lines in them."""
        return [line for packet in self.packets() for line in packet.split("\n")]

    def values(self) -> dict[str, str]:
        """Value and type by name; no name comes twice."""
        pairs = [line.split(":", 1) for line in self.lines()]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)
