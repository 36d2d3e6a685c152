"""Streams carried on by another process, TLS and in clear: whoever is at the other end notices nothing."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, running, stream_pair, until
from fix_certs import Certificates
from gevent import ssl as gssl
from gevent.socket import wait_read
from tls_contexts import choose, contexts

from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.net.parcel import Channel, Parcel, Refused
from pgdoorman_lib.net.stream import Stream, check_exported
from pgdoorman_lib.net.tls_secrets import CanNotMove, Keylog
from pgdoorman_lib.net.traffic import SUITES

CIPHERS = list(SUITES)
OPENSSL = shutil.which("openssl")


@pytest.fixture
def keylog() -> Iterator[Keylog]:
    made = Keylog()
    yield made
    made.close()


SERVER = """
import gevent.monkey; gevent.monkey.patch_all()
import socket, sys
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.parcel import Channel, Receiver, Refused
from pgdoorman_lib.net.stream import Stream, check_exported
import gevent

engine = choose("gevent")

class Echo(Receiver):
    def prepare(self, parcel):
        if parcel.kind != "client":
            raise Refused("clients only")

    def take(self, parcel):
        stream = Stream(socket.socket(fileno=parcel.detach()[0]), engine, parcel.state["peer_host"])
        stream.sock.setblocking(False)
        stream.carry_on(parcel.state)
        gevent.spawn(self.run, stream)

    def run(self, stream):
        while True:
            size = int.from_bytes(stream.read_exact(4), "big")
            if not size:
                break
            stream.write(stream.read_exact(size)[::-1])
            stream.flush()
        stream.close()
        print("closed", stream.received, stream.sent, stream.tls.cipher()[0], flush=True)

channel = Channel(socket.socket(fileno=int(sys.argv[1])), Echo())
channel.start()
channel.ended.wait()
"""


@contextlib.contextmanager
def another_process() -> Iterator[tuple[Channel, Callable[[], str]]]:
    """A channel to a process that carries streams on, and what it says at last."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE
    )
    theirs.close()
    channel = Channel(ours)
    assert process.stdout is not None
    output = process.stdout

    def says() -> str:
        with gevent.Timeout(20):
            wait_read(output.fileno())
        return output.readline().decode().strip()

    try:
        channel.start(20)
        yield channel, says
    finally:
        channel.close()
        process.kill()
        until(lambda: process.poll() is not None, "the end of the process")
        output.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as made:
        yield made


def ask(peer: Any, text: bytes) -> None:
    peer.sendall(len(text).to_bytes(4, "big") + text)
    answer = b""
    while len(answer) < len(text):
        answer += peer.recv(65536)
    assert answer == text[::-1]


def answer_here(stream: Stream) -> None:
    size = int.from_bytes(stream.read_exact(4), "big")
    stream.write(stream.read_exact(size)[::-1])
    stream.flush()


def move(stream: Stream, channel: Channel) -> None:
    stream.engine.unregister(stream)
    channel.send(Parcel("client", stream.export(), [stream.fd]))
    stream.abandon()


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_connection_moves_to_another_process(
    certs: Certificates, keylog: Keylog, engine: Engine, cipher: str
) -> None:
    """The peer is OpenSSL and notices nothing: what it has sent meanwhile is read, as far as it has come."""
    server_context, _ = contexts(certs, keylog)
    client_context = gssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(certs.ca)
    choose(client_context, cipher)
    chance = random.Random(cipher)
    with another_process() as (channel, says):
        stream, raw = stream_pair(engine)
        connecting = gevent.spawn(client_context.wrap_socket, raw, server_hostname="localhost")
        stream.start_tls(server_context, server_side=True)
        peer = connecting.get()
        assert stream.records is not None
        total = 0
        for size in (1, 5, 100, 50_000):
            asking = gevent.spawn(ask, peer, chance.randbytes(size))
            answer_here(stream)
            asking.get()
            total += size
        peer.sendall(b"\0\0\0")  # the rest comes behind the move
        until(lambda: stream.fill() > 0, "the beginning of the next")
        move(stream, channel)
        text = chance.randbytes(300)
        peer.sendall(b"\x05early")
        assert peer.recv(100) == b"ylrae"
        for size in [100_000, *(chance.choice((1, 5, 300)) for _ in range(1000)), len(text)]:
            ask(peer, chance.randbytes(size))
            total += size
        peer.sendall(bytes(4))
        assert peer.recv(100) == b""  # by close_notify, or it would raise
        closed, received, sent, name = says().split()
        assert (closed, int(sent), name) == ("closed", total + 5, cipher)
        assert int(received) == total + 5 + 4 * (4 + 1 + 1002 + 1)
        peer.close()


def test_a_stream_in_clear_moves_too(engine: Engine) -> None:
    with another_process() as (channel, _):
        stream, peer = stream_pair(engine)
        asking = gevent.spawn(ask, peer, b"here")
        answer_here(stream)
        asking.get()
        peer.sendall(b"\0\0")
        until(lambda: stream.fill() > 0, "the beginning")
        move(stream, channel)
        peer.sendall(b"\0\4over")
        assert peer.recv(100) == b"revo"
        peer.close()


def test_a_refused_stream_goes_on_here(certs: Certificates, keylog: Keylog, engine: Engine) -> None:
    server_context, _ = contexts(certs, keylog)
    client_context = gssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(certs.ca)
    with another_process() as (channel, _):
        stream, raw = stream_pair(engine)
        connecting = gevent.spawn(client_context.wrap_socket, raw, server_hostname="localhost")
        stream.start_tls(server_context, server_side=True)
        peer = connecting.get()
        peer.sendall(b"\0\0")
        engine.unregister(stream)
        with pytest.raises(Refused):
            channel.send(Parcel("server", stream.export(), [stream.fd]))
        peer.sendall(b"\0\4here")
        engine.register(stream)
        stream.readable = 1
        answer_here(stream)
        assert peer.recv(100) == b"ereh"
        stream.close()
        assert peer.recv(100) == b""
        peer.close()


def test_what_can_not_move(certs: Certificates, engine: Engine) -> None:
    server_context, _ = contexts(certs)
    client_context = gssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(certs.ca)
    stream, raw = stream_pair(engine, buffer=4096)
    connecting = gevent.spawn(client_context.wrap_socket, raw, server_hostname="localhost")
    stream.start_tls(server_context, server_side=True)
    peer = connecting.get()
    with pytest.raises(CanNotMove, match="secrets are not known"):
        stream.export()
    stream.write(bytes(1_000_000))
    with pytest.raises(CanNotMove, match="does not take"):
        stream.export()
    peer.close()
    until(lambda: stream.fill() == 0, "the end")
    with pytest.raises(CanNotMove, match="has ended"):
        stream.export()
    stream.close()


@pytest.mark.parametrize(
    "change", [{"peer_host": 1}, {"unread": None}, {"received": "1"}, {"tls": []}, {"tls": {"cipher": "none"}}]
)
def test_what_can_not_be_carried_on(engine: Engine, change: dict[str, Any]) -> None:
    stream, peer = stream_pair(engine)
    state = stream.export()
    check_exported({**state, "later": "versions may say more"})
    with pytest.raises(ValueError):
        stream.carry_on({**state, **change})
    stream.close()
    peer.close()


class SClient:
    """``openssl s_client`` with a keyboard and a screen."""

    def __init__(self, certs: Certificates, cipher: str, port: int) -> None:
        self.process = subprocess.Popen(
            [
                OPENSSL or "", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost",
                "-CAfile", str(certs.ca), "-tls1_3", "-ciphersuites", cipher,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self.keyboard, self.screen = self.process.stdin, self.process.stdout
        self.shown = b""

    def types(self, line: bytes) -> None:
        self.keyboard.write(line + b"\n")
        self.keyboard.flush()

    def shows(self, text: bytes) -> None:
        """Wait until ``text`` is there, and go on behind it."""
        with gevent.Timeout(10):
            while text not in self.shown:
                wait_read(self.screen.fileno())
                more = os.read(self.screen.fileno(), 65536)
                assert more, self.shown
                self.shown += more
        self.shown = self.shown.partition(text)[2]

    def close(self) -> None:
        self.keyboard.close()
        self.screen.close()
        self.process.kill()
        until(lambda: self.process.poll() is not None, "the end of s_client")


@pytest.mark.skipif(OPENSSL is None, reason="there is no openssl")
@pytest.mark.parametrize("cipher", CIPHERS)
def test_openssl_s_client(certs: Certificates, keylog: Keylog, cipher: str) -> None:
    """Which changes keys on "k", and on "K" asks for new ones of ours too: before a move, behind it, again."""
    server_context, _ = contexts(certs, keylog)
    with running("gevent") as engine, socket.create_server(("127.0.0.1", 0)) as listener:
        client = SClient(certs, cipher, listener.getsockname()[1])
        with gevent.Timeout(10):
            wait_read(listener.fileno())
        sock = listener.accept()[0]
        sock.setblocking(False)
        stream = Stream(sock, engine)

        def talk(text: bytes) -> None:
            client.types(text)
            assert stream.read_exact(len(text) + 1) == text + b"\n"
            stream.write(b"you said " + text)
            stream.flush()
            client.shows(b"you said " + text)

        try:
            stream.start_tls(server_context, server_side=True)
            secrets = set()
            for number in range(4):
                for key in (b"k", b"K"):
                    talk(b"line %d" % number)
                    client.types(key)
                    client.shows(b"KEYUPDATE")
                    talk(b"more")
                state = unpack(pack(stream.export()))
                assert state["tls"]["cipher"] == cipher
                secrets |= {state["tls"]["read_secret"], state["tls"]["write_secret"]}
                moved = socket.socket(fileno=os.dup(stream.fd))
                stream.abandon()
                stream = Stream(moved, engine)
                stream.carry_on(state)
            assert len(secrets) == 8
            stream.close()
            client.shows(b"closed")
        finally:
            stream.close()
            client.close()
