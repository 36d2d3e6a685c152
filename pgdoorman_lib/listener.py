"""Listening sockets: one StreamServer per address or unix socket, each handing connected sockets to one callable.

They stand with the engine like any stream, so that accepting is part of its turns: what new clients are sent leaves
together with what others are.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net import sockopt
from pgdoorman_lib.net.accept import Acceptor
from pgdoorman_lib.net.engine import Channel, Engine
from pgdoorman_lib.net.ring import Ring
from pgdoorman_lib.net.sockopt import SocketOptions
from pgdoorman_lib.record import record
from pgdoorman_lib.wire.unix_socket import socket_path

_int = int

log = logging.getLogger(__name__)

#: Seconds the kernel keeps a connection back while the client says nothing: it has to speak first.
DEFER_SECONDS = 1


class Exhausted(gevent.GreenletExit):
    """Accepting has failed and the log has been told, so that ``BaseServer`` only backs off: a hub prints no such."""


class ListeningChannel(Channel):
    """What the engine knows of a listening socket, and letting in who stands in its backlog."""

    __slots__ = ("all_in", "handle", "listener", "options", "put_off", "waited")

    def __init__(self, listener: Listener, engine: Engine, fd: _int) -> None:
        self.init_channel(engine, fd)
        self.listener: Any = listener
        self.handle: Any = listener.handle
        #: what each client's socket is set up with, where it does not inherit that from the listening one
        self.options: SocketOptions | None = listener.options
        #: nobody stood in the backlog any more
        self.all_in = 0
        #: the beginning of the engine's turn in which as many came in as may, and the rest was put off; 0 for none
        self.put_off = 0.0
        #: the next pause may be a longer one than the first is
        self.waited = 1

    def begin_receive(self, ring: Ring) -> bool:
        return False

    def let_in(self) -> None:
        """Let in who is there, in BaseServer's way but without its call for each of a method that none of us needs."""
        engine = self.engine
        listener = self.listener
        if self.put_off and self.put_off == engine.began:
            self.go_on_next_turn()  # this one looks again, or the kernel tells of more
            return
        self.put_off = 0.0
        self.all_in = 0
        left: int = listener.max_accept
        accept = listener._acceptor.accept
        try:
            while left > 0:
                left -= 1
                client = accept()
                if client is None:
                    self.stand_by()
                    break
                self.hand_over(client)
            if self.waited:
                self.waited = 0
                listener.delay = listener.min_delay
        except OSError:
            self.waited = 1
            listener._do_read()  # meets it again, and knows how to wait
        if not self.all_in:
            self.put_off = engine.began
            self.go_on_next_turn()

    def hand_over(self, client: Any) -> None:
        """Have ``handle`` begin with ``client``, which it keeps."""
        try:
            if self.options is not None:
                sockopt.apply(client, self.options)
            self.handle(client)
        except Exception:
            # A fault about one client must not keep the others out.
            self.engine.hub.handle_error(self.listener.name, *sys.exc_info())

    def go_on_next_turn(self) -> None:
        """Have the engine call again: nobody else tells of those who stand in the backlog already."""
        engine = self.engine
        if self.on_idle is not None and self not in engine.idle:
            engine.note(self, 1)
            engine.kick()

    def stand_by(self) -> None:
        """Nobody stands in the backlog any more: the engine tells about the next to come."""
        self.all_in = 1
        self.engine.rearm(self)


class Listener(StreamServer):
    """Accepts on one bound socket and calls ``handle(sock)`` for each client, which must not switch.

    ``handle`` gets, and owns, a non-blocking ``net.accept.Accepted``; the greenlet that serves it is the engine's to
    make. Where accepting fails, as without descriptors or memory, BaseServer waits for ``delay`` seconds; clients wait
    in the backlog.
    """

    #: accepted in one turn of the engine: what newcomers cost, garbage among them, the others wait for
    max_accept = 10
    #: seconds of the first pause; each in a row is twice as long as the one before, up to ``max_delay``
    min_delay = 0.1

    def __init__(self, sock: Any, handle: Callable[[Any], None], name: str, engine: Engine) -> None:
        self._engine = engine
        self._channel: ListeningChannel | None = None
        #: what each client's socket is set up with, where it does not inherit that from the listening one
        self.options: SocketOptions | None = None
        self.name = name
        sock.setblocking(False)
        keeping: Any = handle  # gevent would have it take an address, too
        super().__init__(sock, handle=keeping)
        self._acceptor = Acceptor(sock)

    def set_up(self, options: SocketOptions) -> None:
        """Have the sockets of all clients from now on so; OSError when the kernel refuses."""
        sockopt.apply(self.socket, options)
        # A unix socket's size is the system's own again in each connection.
        unix = self.socket.family == getattr(socket, "AF_UNIX", None)
        self.options = options if unix and options.unix_buffer_size > 0 else None
        if self._channel is not None:
            self._channel.options = self.options

    def listen(self, backlog: _int) -> None:
        """Have the kernel take clients in, before anybody accepts them; OSError when another process listens there."""
        try:
            self.socket.listen(backlog)
        except OSError as exc:
            raise _naming(exc, self.name) from exc

    # The engine watches in place of a watcher of the hub's, and tells but once.

    def start_accepting(self) -> None:
        """Let the engine tell about clients."""
        if self._channel is None:
            self._channel = ListeningChannel(self, self._engine, self.socket.fileno())
            self._channel.on_idle = self._channel.let_in
            self._engine.register(self._channel)

    def stop_accepting(self) -> None:
        """Leave clients in the backlog."""
        channel = self._channel
        if channel is not None:
            self._channel = None
            channel.on_idle = None
            self._engine.unregister(channel)
        super().stop_accepting()

    def do_read(self) -> Any:
        """A tuple of the next client, None if nobody is there; Exhausted, or an OSError of the listening socket."""
        try:
            client = self._acceptor.accept()
        except OSError as exc:
            if self.is_fatal_error(exc):
                raise
            log.error("cannot accept on %s: %s; pausing for %g s", self.name, exc.strerror or exc, self.delay)
            raise Exhausted from exc
        if client is None:
            assert self._channel is not None
            self._channel.stand_by()
            return None
        return (client,)

    def full(self) -> bool:
        """Never: how many may come in is for each to be told."""
        return False

    def do_handle(self, client: Any) -> None:  # type: ignore[override]
        """As BaseServer has it, but the greenlet is the engine's to spawn."""
        assert self._channel is not None
        self._channel.hand_over(client)


@record(frozen=True)
class Inherited:
    """A listening socket that was open when this process began: its descriptor, what whoever opened it calls it."""

    fd: int
    called: str = ""


def resolve(host: str, port: int) -> list[tuple[int, int, int, Any]]:
    """The addresses to listen on that ``host`` stands for, each once: (family, kind, protocol, address). OSError."""
    found = socket.getaddrinfo(
        None if host in ("", "*") else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, kind, proto, address) for family, kind, proto, _, address in found))


def address_name(family: int, address: Any) -> str:
    """``address`` of a socket of ``family`` in words; of a unix socket, the path, or @ and a name in no directory."""
    if family == socket.AF_INET6:
        return f"[{address[0]}]:{address[1]}"
    if family == socket.AF_INET:
        return f"{address[0]}:{address[1]}"
    return "@" + address[1:].decode(errors="replace") if isinstance(address, bytes) else str(address)


def adopt(inherited: Inherited) -> socket.socket:
    """The socket behind a descriptor; ConfigError, naming it, unless it is a stream socket that listens."""
    named = f" ({inherited.called})" if inherited.called else ""
    try:
        sock = socket.socket(fileno=inherited.fd)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as exc:
        raise ConfigError(f"inherited descriptor {inherited.fd}{named}: {exc.strerror}") from exc
    if sock.type != socket.SOCK_STREAM or not listens:
        sock.close()
        raise ConfigError(
            f"inherited descriptor {inherited.fd}{named} is no listening stream socket: the socket unit needs "
            "ListenStream= and Accept=no"
        )
    return sock


#: The listening socket that the process before this one has handed over for an address or path, None if it has none.
Inherit = Callable[[str], Any]


def inherits_nothing(name: str) -> Any:
    """No process was here before this one."""
    return None


def open_tcp(
    host: str,
    port: int,
    handle: Callable[[Any], None],
    engine: Engine,
    reuse_port: bool = False,
    inherit: Inherit = inherits_nothing,
) -> list[Listener]:
    """One for each address ``host`` stands for, bound and not listening yet; OSError, naming it, when one can't be.

    Sockets that ``inherit`` has listen already. ``reuse_port``: other processes may listen on the same port, and the
    kernel divides clients between all of them.
    """
    listeners: list[Listener] = []
    for family, kind, proto, address in resolve(host, port):
        name = address_name(family, address)
        inherited = inherit(name)
        if inherited is not None:
            listeners.append(Listener(inherited, handle, name, engine))
            continue
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            defer(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
        except OSError as exc:
            sock.close()
            for listener in listeners:
                listener.close()
            raise _naming(exc, name) from exc
        listeners.append(Listener(sock, handle, name, engine))
    return listeners


def defer(sock: socket.socket) -> None:
    """Have the kernel keep a connection back until its client has spoken, where it can; OSError."""
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)


def _naming(exc: OSError, name: str) -> OSError:
    """The same error, which tells what it is about."""
    return OSError(exc.errno, f"{name}: {os.strerror(exc.errno or 0)}")


def open_unix(
    directory: str,
    port: int,
    mode: int,
    handle: Callable[[Any], None],
    engine: Engine,
    inherit: Inherit = inherits_nothing,
) -> Listener:
    """One bound to ``directory/.s.PGSQL.port``, not listening yet; a socket nobody answers on is replaced.

    One that ``inherit`` has listens already.

    ConfigError when something else stands there or another process listens; OSError when it can't be bound.
    """
    path = socket_path(directory, port)
    inherited = inherit(path)
    if inherited is not None:
        return Listener(inherited, handle, path, engine)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        os.chmod(path, mode)
    except OSError as exc:
        sock.close()
        raise _naming(exc, path) from exc
    return Listener(sock, handle, path, engine)


def _remove_stale(path: str) -> None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"general.unix_socket_dir: {path} exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        pass
    else:
        raise ConfigError(f"general.unix_socket_dir: another process listens on {path}")
    finally:
        probe.close()
    os.unlink(path)
