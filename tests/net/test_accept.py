"""The next connection of a listening socket, on both builds."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pgdoorman_lib.net import accept
from pgdoorman_lib.net.accept import Acceptor


def listening(family: int, address: Any) -> Any:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind(address)
        sock.listen(8)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


@pytest.fixture(params=["IPv4", "IPv6", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    family, address = {
        "IPv4": (socket.AF_INET, ("127.0.0.1", 0)),
        "IPv6": (socket.AF_INET6, ("::1", 0)),
        "unix": (socket.AF_UNIX, os.path.relpath(tmp_path / "s")),
    }[request.param]
    try:
        made = listening(family, address)
    except OSError as exc:
        if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        pytest.skip(f"no {request.param} here")
    with made:
        yield made


def test_what_comes_out_is_connected_and_does_not_block(listener: Any) -> None:
    acceptor = Acceptor(listener)
    assert acceptor.accept() is None
    with socket.socket(listener.family, socket.SOCK_STREAM) as client:
        client.connect(listener.getsockname())
        sock = acceptor.accept()
        assert sock is not None
        try:
            assert (sock.host, sock.port) == (client.getsockname()[:2] if client.family != socket.AF_UNIX else ("", 0))
            assert sock.family == listener.family
            assert not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())
            client.sendall(b"hello")
            assert os.read(sock.fileno(), 10) == b"hello"
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)
            assert sock.getsockname() == listener.getsockname()
            assert not os.get_blocking(sock.fileno())
        finally:
            sock.close()
        assert sock.fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            sock.getsockname()
        sock.close()
        assert client.recv(1) == b""
    assert acceptor.accept() is None


def test_a_fault_of_the_listening_socket_is_told() -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError) as caught:
            Acceptor(sock).accept()
        assert caught.value.errno == errno.EINVAL


def test_one_that_left_before_it_was_accepted_hides_nobody() -> None:
    """Of who stands behind it no edge would tell. (The interpreted twin: the kernel can't be made to do it.)"""
    source = Path(accept.__file__).with_name("accept.py")
    spec = importlib.util.spec_from_file_location("interpreted_accept", source)
    assert spec is not None and spec.loader is not None
    twin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(twin)
    ours, theirs = socket.socketpair()

    class Listening:
        family, type, proto = ours.family, ours.type, ours.proto
        answers: ClassVar = [ConnectionAbortedError(), InterruptedError(), None, BlockingIOError()]

        def _accept(self) -> tuple[int, str]:
            answer = self.answers.pop(0)
            if answer is not None:
                raise answer
            return ours.detach(), ""

    acceptor = twin.Acceptor(Listening())
    with theirs:
        accepted = acceptor.accept()
        assert accepted is not None
        accepted.close()
        assert theirs.recv(1) == b""
    assert acceptor.accept() is None
