"""Connecting: addresses tried in order, whose fault a failure is, socket options."""

from __future__ import annotations

import errno
import resource
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket as gsocket
from pace import patience
from ports import free_port

from pgdoorman_lib.errors import LocalResourcesExhausted, ServerUnavailable
from pgdoorman_lib.net import connect, sockopt
from pgdoorman_lib.net.connect import open_stream
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.sockopt import SocketOptions

OPTIONS = SocketOptions()


@pytest.fixture(params=["gevent", "epoll"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "epoll" and sys.platform != "linux":
        pytest.skip("Linux only")
    made = choose(request.param)
    yield made
    gevent.sleep(0)  # a turn that was asked for has its chance
    made.close()


@pytest.fixture
def listener() -> Iterator[Any]:
    with gsocket.socket(gsocket.AF_INET, gsocket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(8)
        yield sock


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pg-") as name:  # a unix socket's path is at most 107 bytes long
        yield Path(name)


def names(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let the resolver know one name, ``db.example``."""

    def getaddrinfo(host: str, port: int, **hints: object) -> list[Any]:
        assert host == "db.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(connect, "getaddrinfo", getaddrinfo)


def failure(kind: type[Exception], *arguments: Any) -> Any:
    with pytest.raises(kind) as caught:
        open_stream(*arguments)
    assert "127.0.0.1" not in str(caught.value)
    assert "db.example" not in str(caught.value)
    return caught.value


def test_by_address(listener: Any, engine: Engine) -> None:
    port = listener.getsockname()[1]
    stream = open_stream("127.0.0.1", port, engine, 5.0, OPTIONS)
    try:
        other, _ = listener.accept()
        with other:
            other.sendall(b"hello")
            assert stream.read_exact(5) == b"hello"
        assert (stream.peer, stream.peer_host, stream.is_unix) == (f"127.0.0.1:{port}", "127.0.0.1", False)
        assert not stream.sock.getblocking()
        assert not stream.sock.get_inheritable()
    finally:
        stream.close()


def test_ipv6(engine: Engine) -> None:
    try:
        listener = gsocket.create_server(("::1", 0), family=gsocket.AF_INET6)
    except OSError:
        pytest.skip("no ::1 here")
    with listener:
        port = listener.getsockname()[1]
        stream = open_stream("::1", port, engine, 5.0, OPTIONS)
        assert (stream.peer, stream.peer_host) == (f"[::1]:{port}", "::1")
        stream.close()


def test_unix_directory(directory: Path, engine: Engine) -> None:
    with gsocket.socket(gsocket.AF_UNIX, gsocket.SOCK_STREAM) as listener:
        listener.bind(str(directory / ".s.PGSQL.5432"))
        listener.listen(1)
        stream = open_stream(str(directory), 5432, engine, 5.0, OPTIONS)
        assert (stream.peer, stream.peer_host, stream.is_unix) == ("unix", "", True)
        stream.close()


def test_unix_directory_without_a_server(directory: Path, engine: Engine) -> None:
    exc = failure(ServerUnavailable, str(directory), 5432, engine, 5.0, OPTIONS)
    assert str(directory) not in exc.message
    assert str(directory) in str(exc.__cause__)


def test_unix_backlog_full(directory: Path, engine: Engine) -> None:
    """connect() says EAGAIN and nobody tells when there is room: neither spin nor give up."""
    with gsocket.socket(gsocket.AF_UNIX, gsocket.SOCK_STREAM) as listener:
        listener.bind(str(directory / ".s.PGSQL.5432"))
        listener.listen(0)
        waiting = [open_stream(str(directory), 5432, engine, 5.0, OPTIONS)]
        exc = failure(ServerUnavailable, str(directory), 5432, engine, 0.05, OPTIONS)
        assert isinstance(exc.__cause__, TimeoutError)
        late = gevent.spawn(open_stream, str(directory), 5432, engine, 5.0, OPTIONS)
        gevent.sleep(0)
        accepted = [listener.accept()[0]]
        waiting.append(late.get(timeout=patience(5)))
        for stream in waiting:
            stream.close()
        accepted[0].close()


def test_refused(engine: Engine) -> None:
    exc = failure(ServerUnavailable, "127.0.0.1", free_port(), engine, 5.0, OPTIONS)
    assert "refused" in exc.message
    assert exc.__cause__.errno == errno.ECONNREFUSED


def test_connected_to_itself(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel does now and then when the port it picks for us is the one we ask for."""
    finish = connect._finish_connect

    def bind_first(sock: socket.socket, address: Any) -> None:
        sock.bind(address)
        finish(sock, address)

    monkeypatch.setattr(connect, "_finish_connect", bind_first)
    exc = failure(ServerUnavailable, "127.0.0.1", free_port(), engine, 5.0, OPTIONS)
    assert "refused" in exc.message


def test_next_address(listener: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, ("127.0.0.1", free_port()), listener.getsockname())
    stream = open_stream("db.example", 1, engine, 5.0, OPTIONS)
    assert stream.sock.getpeername() == listener.getsockname()
    stream.close()


def test_all_addresses_are_named_in_the_cause(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, ("127.0.0.1", free_port()), ("127.0.0.2", free_port()))
    exc = failure(ServerUnavailable, "db.example", 1, engine, 5.0, OPTIONS)
    assert "127.0.0.1" in str(exc.__cause__)
    assert "127.0.0.2" in str(exc.__cause__)


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that does not answer: the backlog is full, further SYNs are dropped."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()


@pytest.mark.skipif(sys.platform != "linux", reason="backlogs differ")
class TestDeadline:
    def test_no_answer(self, silent: tuple[str, int], engine: Engine) -> None:
        started = time.monotonic()
        exc = failure(ServerUnavailable, *silent, engine, 0.1, OPTIONS)
        assert isinstance(exc.__cause__, TimeoutError)
        assert time.monotonic() - started < patience(2)

    def test_a_silent_address_leaves_time_for_the_next(
        self, silent: tuple[str, int], listener: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names(monkeypatch, silent, listener.getsockname())
        stream = open_stream("db.example", 1, engine, 0.2, OPTIONS)
        assert stream.sock.getpeername() == listener.getsockname()
        stream.close()

    def test_shares_of_the_time(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        shares = []

        def silence(family: int, address: Any, timeout: float, options: SocketOptions) -> socket.socket:
            shares.append(timeout)
            raise TimeoutError(errno.ETIMEDOUT, "timeout expired")

        names(monkeypatch, ("127.0.0.1", 1), ("127.0.0.2", 1), ("127.0.0.3", 1))
        monkeypatch.setattr(connect, "_connect", silence)
        exc = failure(ServerUnavailable, "db.example", 1, engine, 60.0, OPTIONS)
        assert isinstance(exc.__cause__, TimeoutError)
        assert shares == pytest.approx([20, 30, 60], abs=5)

    def test_killed(self, silent: tuple[str, int], engine: Engine) -> None:
        greenlet = gevent.spawn(open_stream, *silent, engine, 30.0, OPTIONS)
        gevent.sleep(0.01)
        greenlet.kill(timeout=patience(5))
        assert greenlet.dead  # and no_leaks looks for the socket


class TestResolver:
    def test_unknown_name(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        def getaddrinfo(*_: object, **hints: object) -> list[Any]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(connect, "getaddrinfo", getaddrinfo)
        exc = failure(ServerUnavailable, "db.example", 1, engine, 5.0, OPTIONS)
        assert "resolve" in exc.message
        assert "db.example" in str(exc.__cause__)

    def test_impossible_name(self, engine: Engine) -> None:
        failure(ServerUnavailable, "a" * 300 + ".example", 1, engine, 5.0, OPTIONS)

    def test_no_answer(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connect, "getaddrinfo", lambda *_, **hints: gevent.sleep(30))
        exc = failure(ServerUnavailable, "db.example", 1, engine, 0.05, OPTIONS)
        assert isinstance(exc.__cause__, TimeoutError)

    def test_its_lack_of_descriptors_is_ours(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        def getaddrinfo(*_: object, **hints: object) -> list[Any]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr(connect, "getaddrinfo", getaddrinfo)
        with no_descriptors():
            failure(LocalResourcesExhausted, "db.example", 1, engine, 5.0, OPTIONS)


class no_descriptors:
    """Inside, no descriptor can be opened."""

    def __enter__(self) -> None:
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, self.limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)


def test_out_of_descriptors(listener: Any, engine: Engine) -> None:
    with no_descriptors():
        exc = failure(LocalResourcesExhausted, *listener.getsockname(), engine, 5.0, OPTIONS)
    assert exc.sqlstate == "53000"


class TestSocketOptions:
    def tcp(self, **options: Any) -> socket.socket:
        sock = socket.socket()
        sockopt.apply(sock, SocketOptions(**options))
        return sock

    def test_tcp(self) -> None:
        with self.tcp(
            keepalives_idle=7, keepalives_interval=3, keepalives_count=4, user_timeout=1.5, so_linger=2
        ) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 2)
            if sys.platform == "linux":
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500

    def test_linger(self) -> None:
        with self.tcp(so_linger=0) as sock:
            assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
        with self.tcp() as sock:
            assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (0, 0)

    def test_zero_leaves_the_system_alone(self) -> None:
        with socket.socket() as untouched, self.tcp(no_delay=False) as sock:
            names = ["TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"]
            for option in [getattr(socket, name) for name in names if hasattr(socket, name)]:
                before = untouched.getsockopt(socket.IPPROTO_TCP, option)
                assert sock.getsockopt(socket.IPPROTO_TCP, option) == before

    def test_absurd_values_are_limited(self) -> None:
        self.tcp(keepalives_idle=1e9, keepalives_interval=1e9, keepalives_count=10**6, user_timeout=1e9).close()

    def test_buffers(self) -> None:
        with self.tcp(buffer_size=65536) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 65536
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 65536

    def test_unix(self) -> None:
        one, two = socket.socketpair()
        with one, two:
            sockopt.apply(one, SocketOptions(unix_buffer_size=100_000, buffer_size=4096, so_linger=0))
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 100_000

    @pytest.mark.parametrize("name", ["TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"])
    def test_systems_without(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.delattr(socket, name, raising=False)
        self.tcp(keepalives_idle=1, keepalives_interval=1, keepalives_count=1, user_timeout=1).close()
