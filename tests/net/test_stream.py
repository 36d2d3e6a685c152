"""Streams on both engines: buffers, partial writes, the end of a connection in all its ways, TLS."""

from __future__ import annotations

import _ssl
import ctypes
import errno
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, receive_all, running, stream_pair, until
from fix_certs import Authority
from gevent import socket as gsocket
from gevent import ssl as gssl
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import patience

from pgdoorman_lib.errors import PeerGone, ProtocolViolation
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.net.stream import EOF, FULL, HIGH_WATER, NOTHING, Stream
from pgdoorman_lib.net.tls_secrets import Keylog, keylog_of


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as made:
        yield made


@pytest.fixture
def pair(engine: Engine) -> Iterator[tuple[Stream, Any]]:
    stream, peer = stream_pair(engine, buffer=4096)
    yield stream, peer
    stream.close()
    peer.close()


def consume(stream: Stream) -> bytes:
    data = bytes(stream.block[stream.start : stream.end]) if stream.block is not None else b""
    stream.start = stream.end
    stream.release()
    return data


def arrived(stream: Stream) -> None:
    until(lambda: stream.readable, "an event")


# Receiving.


def test_fill(pair: Any) -> None:
    stream, peer = pair
    assert stream.fill() == NOTHING
    peer.sendall(b"hello")
    arrived(stream)
    assert stream.fill() == 5
    assert stream.fill() == NOTHING
    assert consume(stream) == b"hello"
    assert stream.received == 5


def test_an_idle_stream_holds_no_block(pair: Any) -> None:
    stream, peer = pair
    assert stream.block is None and stream.out is None
    peer.sendall(b"hello")
    arrived(stream)
    stream.fill()
    consume(stream)
    assert stream.fill() == NOTHING
    assert stream.block is None
    stream.write(b"answer")
    stream.engine.flush()
    assert stream.out is None and stream.more is None


def test_a_full_block_says_so_and_moves_what_is_left(pair: Any) -> None:
    stream, peer = pair
    sender = gevent.spawn(peer.sendall, b"x" * (BLOCK_SIZE + 100))
    with gevent.Timeout(patience(5)):
        while (n := stream.fill()) != FULL:
            if n == NOTHING:
                gevent.sleep(0)
    assert stream.end - stream.start == BLOCK_SIZE
    stream.start = 100
    with gevent.Timeout(patience(5)):
        while stream.fill() == NOTHING:
            gevent.sleep(0)
    assert stream.start == 0 and len(stream.block) == BLOCK_SIZE
    sender.join(patience(5))


def test_a_grown_block_goes_away(pair: Any) -> None:
    stream, peer = pair
    sender = gevent.spawn(peer.sendall, bytes(range(250)) * 400)
    with gevent.Timeout(patience(5)):
        while stream.end - stream.start < 100000:
            n = stream.fill()
            if n == FULL:
                stream.grow(200000)
            elif n == NOTHING:
                gevent.sleep(0)
    assert consume(stream) == bytes(range(250)) * 400
    assert stream.block is None
    assert all(len(block) == BLOCK_SIZE for block in stream.engine.blocks)
    assert stream.engine.grown == 0
    sender.join(patience(5))


@pytest.mark.parametrize("consumed", [0, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 8000, BLOCK_SIZE])
def test_what_is_put_back_comes_first(pair: Any, size: int, consumed: int) -> None:
    stream, peer = pair
    peer.sendall(b"hello")
    arrived(stream)
    if consumed:
        stream.fill()
        stream.start += consumed
        stream.release()
    data = random.Random(size).randbytes(size)
    stream.put_back(bytearray(data + b"more"), size)
    assert stream.has_buffered()
    if stream.fill() == FULL:
        stream.grow(size + 5)
        stream.fill()
    assert consume(stream) == data + b"hello"[consumed:]
    assert stream.block is None and stream.engine.grown == 0


@pytest.mark.parametrize("end", ["close", "send", "failed send"])
def test_grown_blocks_are_counted_to_the_end(pair: Any, end: str) -> None:
    stream, peer = pair
    sender = gevent.spawn(peer.sendall, b"x" * 50000)
    with gevent.Timeout(patience(5)):
        while stream.end - stream.start < 50000:
            if stream.fill() == FULL:
                stream.grow(stream.end - stream.start + 40000)
            gevent.sleep(0)
    assert stream.engine.grown == len(stream.block) > BLOCK_SIZE
    sender.join(patience(5))
    if end != "close":
        block, start, finish = stream.block, stream.start, stream.end
        stream.block, stream.start, stream.end = None, 0, 0
        if end == "failed send":
            peer.close()
        stream.send_block(block, start, finish)
        with gevent.Timeout(patience(5)):
            while stream.out_pending:
                stream.push()
                receive_all(peer)
                gevent.sleep(0)
    stream.close()
    assert stream.engine.grown == 0


def test_data_and_the_end_in_one_event(pair: Any) -> None:
    stream, peer = pair
    peer.sendall(b"last words")
    peer.close()
    arrived(stream)
    assert stream.fill() == 10
    # A short read, yet nothing will tell about the end a second time.
    with gevent.Timeout(patience(5)):
        while (n := stream.fill()) == NOTHING:
            gevent.sleep(0)
    assert n == EOF
    assert stream.fill() == EOF
    assert stream.eof and stream.error == 0
    assert consume(stream) == b"last words"
    assert stream.fill() == EOF and stream.block is None


def test_half_closed_then_data_in_pieces(pair: Any) -> None:
    stream, peer = pair
    data = bytes(range(256)) * 100  # more than a block

    def talk() -> None:
        peer.sendall(data)
        peer.shutdown(gsocket.SHUT_WR)

    sender = gevent.spawn(talk)
    got = bytearray()
    with gevent.Timeout(patience(5)):
        while (n := stream.fill()) != EOF:
            if n == NOTHING:
                gevent.sleep(0)
            got += consume(stream)
    assert got == data
    sender.join(patience(5))


def test_the_end_after_the_data_was_read(pair: Any) -> None:
    stream, peer = pair
    peer.sendall(b"x")
    arrived(stream)
    assert stream.fill() == 1
    peer.close()
    with gevent.Timeout(patience(5)):
        while (n := stream.fill()) == NOTHING:
            gevent.sleep(0)
    assert n == EOF


def tcp_pair(engine: Engine) -> tuple[Stream, Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = gsocket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    return Stream(ours, engine, "127.0.0.1", 1), peer


def test_reset_is_an_end_with_an_error(engine: Engine) -> None:
    stream, peer = tcp_pair(engine)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    arrived(stream)
    assert stream.fill() == EOF
    assert stream.eof and stream.error
    stream.close()


def test_a_failed_send_does_not_lose_what_the_peer_said(engine: Engine) -> None:
    stream, peer = tcp_pair(engine)
    peer.sendall(b"FATAL: go away")
    peer.close()
    with gevent.Timeout(patience(5)):
        while not stream.send_failed:
            stream.write(b"x")
            stream.engine.flush()
            gevent.sleep(0.001)
    assert stream.out_pending == 0 and stream.out is None
    stream.write(b"more")
    assert stream.out is None
    assert stream.read_exact(14) == b"FATAL: go away"
    stream.close()


# Sending.


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["copy", "block", "flush", "read"]), st.integers(0, 3 * BLOCK_SIZE // 2)), max_size=25
    )
)
def test_queued_bytes_leave_in_order(steps: list[tuple[str, int]]) -> None:
    with running("epoll") as engine:
        stream, peer = stream_pair(engine, buffer=4096)
        expected = bytearray()
        got = bytearray()
        number = 0
        for what, size in steps:
            number += 1
            if what == "copy":
                data = bytearray(random.Random(number).randbytes(size))
                stream.send_copy(data, size // 3, size - size // 3)
                expected += data[size // 3 :]
                data[:] = bytes(len(data))
            elif what == "block":
                block = engine.take_block()
                size = min(size, BLOCK_SIZE)
                block[:size] = random.Random(number).randbytes(size)
                stream.send_block(block, size // 2, size)
                expected += block[size // 2 : size]
            elif what == "flush":
                engine.flush()
            else:
                got += receive_all(peer)
            assert stream.out_pending == len(expected) - stream.sent
        with gevent.Timeout(patience(10)):
            while stream.out_pending:
                stream.push()
                got += receive_all(peer)
                gevent.sleep(0)
        stream.push()
        got += receive_all(peer)
        assert got == expected
        assert stream.out is None and stream.more is None
        assert all(len(block) == BLOCK_SIZE for block in engine.blocks)
        assert len({id(block) for block in engine.blocks}) == len(engine.blocks), "a block given back twice"
        stream.close()
        peer.close()


def test_flush_waits_for_the_kernel(pair: Any) -> None:
    stream, peer = pair
    data = bytes(range(256)) * 1000
    reader = gevent.spawn(lambda: peer.makefile("rb").read(len(data)))
    stream.write(data)
    with gevent.Timeout(patience(5)):
        stream.flush()
    assert stream.out_pending == 0
    assert reader.get(timeout=patience(5)) == data


def test_flush_to_nobody(pair: Any) -> None:
    stream, peer = pair
    stream.write(b"x" * 100000)
    waiting = gevent.spawn(stream.flush)
    gevent.sleep(0.01)
    assert not waiting.ready()
    peer.close()
    with gevent.Timeout(patience(5)), pytest.raises(PeerGone):
        waiting.get()


# Blocking style.


def test_read_exact_over_many_segments(pair: Any) -> None:
    stream, peer = pair
    data = bytes(range(256)) * 300
    sender = gevent.spawn(peer.sendall, data)
    with gevent.Timeout(patience(5)):
        assert stream.read_exact(10) == data[:10]
        assert stream.read_exact(60000) == data[10:60010]
        assert stream.read_exact(len(data) - 60010) == data[60010:]
    assert stream.block is None
    sender.join(patience(5))


def test_read_exact_meets_the_end(pair: Any) -> None:
    stream, peer = pair
    peer.sendall(b"abc")
    peer.close()
    with pytest.raises(PeerGone):
        stream.read_exact(4)


def test_read_message(pair: Any) -> None:
    stream, peer = pair
    peer.sendall(b"Q\0\0\0\x08text" + b"S\0\0\0\x04" + b"X\0\0\0\x03")
    assert stream.read_message() == (ord("Q"), b"text")
    assert stream.has_buffered()
    assert stream.read_message() == (ord("S"), b"")
    with pytest.raises(ProtocolViolation):
        stream.read_message()


def test_read_message_over_its_limit(pair: Any) -> None:
    stream, peer = pair
    peer.sendall(b"Q\0\0\0\x09texts")
    with pytest.raises(ProtocolViolation):
        stream.read_message(8)


def test_close_is_idempotent_and_sends_what_was_queued(pair: Any) -> None:
    stream, peer = pair
    stream.write(b"goodbye")
    stream.close()
    stream.close()
    assert peer.recv(100) == b"goodbye"
    assert peer.recv(100) == b""
    assert stream.fill() == EOF
    stream.write(b"too late")
    assert stream.push() == -1


def test_close_gives_its_block_back(pair: Any) -> None:
    stream, peer = pair
    peer.sendall(b"unread")
    arrived(stream)
    stream.fill()
    block = stream.block
    stream.close()
    assert stream.block is None and any(free is block for free in stream.engine.blocks)


# TLS.


@pytest.fixture(scope="module", params=["ours", "OpenSSL's", "1.2"])
def contexts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """For a server and a client: records are ours behind the handshake, or stay OpenSSL's, of TLS 1.3 and of 1.2."""
    directory = Path(tmp_path_factory.mktemp("certificates"))
    authority = Authority(directory, "authority")
    files = authority.issue("server", "localhost", ["localhost"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.private_key)
    client = gssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(authority.path)
    if request.param == "1.2":
        server.maximum_version = ssl.TLSVersion.TLSv1_2
    keylog = Keylog()
    if request.param == "ours":
        keylog.watch(server)
    yield server, client
    keylog.close()


class Secure:
    """Our stream is the server; the peer is a gevent TLS socket."""

    def __init__(self, engine: Engine, contexts: Any, buffer: int = 4096) -> None:
        self.stream, raw = stream_pair(engine, buffer=buffer)
        connecting = gevent.spawn(contexts[1].wrap_socket, raw, server_hostname="localhost")
        with gevent.Timeout(patience(5)):
            self.stream.start_tls(contexts[0], server_side=True)
        self.peer = connecting.get(timeout=patience(5))
        assert (self.stream.records is not None) is (keylog_of(contexts[0]) is not None)

    def close(self) -> None:
        self.stream.close()
        self.peer.close()


@pytest.fixture
def secure(engine: Engine, contexts: Any) -> Iterator[Secure]:
    made = Secure(engine, contexts)
    yield made
    made.close()


def test_tls_both_ways(secure: Secure) -> None:
    stream, peer = secure.stream, secure.peer
    peer.sendall(b"question")
    with gevent.Timeout(patience(5)):
        assert stream.read_exact(8) == b"question"
    stream.write(b"answer")
    stream.engine.flush()
    assert peer.recv(100) == b"answer"
    assert stream.received == 8 and stream.sent == 6


def test_tls_huge_and_partial_writes(secure: Secure) -> None:
    stream, peer = secure.stream, secure.peer
    data = bytes(range(256)) * 2000
    sender = gevent.spawn(peer.sendall, data)
    with gevent.Timeout(patience(10)):
        assert stream.read_exact(len(data)) == data
    sender.join(patience(5))
    reader = gevent.spawn(lambda: peer.makefile("rb").read(len(data)))
    stream.write(data)
    stream.engine.flush()
    assert stream.blocked
    with gevent.Timeout(patience(10)):
        assert reader.get() == data
    until(lambda: not stream.out_pending and stream.tls_out is None)
    assert not stream.armed


def test_tls_many_records_in_one_segment(secure: Secure) -> None:
    stream, peer = secure.stream, secure.peer
    for _ in range(10):
        peer.sendall(b"abc")
    arrived(stream)
    with gevent.Timeout(patience(5)):
        assert stream.read_exact(30) == b"abc" * 10


def test_an_idle_tls_stream_holds_no_block(secure: Secure) -> None:
    stream, peer = secure.stream, secure.peer
    peer.sendall(b"abc")
    with gevent.Timeout(patience(5)):
        stream.read_exact(3)
    assert stream.fill() == NOTHING
    assert stream.block is None
    stream.write(b"x")
    stream.engine.flush()
    assert stream.out is None and stream.tls_out is None
    assert stream.records is None or stream.records.raw is None


class ByHand:
    """A TLS client whose records can be sent in any pieces."""

    def __init__(self, context: ssl.SSLContext, sock: Any) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self) -> None:
        """As far as the last words, which are not sent yet."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))

    def key_update(self) -> bytes:
        """The record that changes our keys."""
        library = ctypes.CDLL(_ssl.__file__)
        # struct PySSLSocket begins with the object's head, the Socket and the SSL.
        pointer = ctypes.c_void_p.from_address(
            id(self.tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        )
        assert library.SSL_key_update(pointer, 0) == 1 and library.SSL_do_handshake(pointer) == 1
        return self.outgoing.read()

    def records(self, *texts: bytes) -> bytes:
        for text in texts:
            self.tls.write(text)
        return self.outgoing.read()


def by_hand(engine: Engine, contexts: Any) -> tuple[Stream, ByHand]:
    stream, raw = stream_pair(engine)
    client = ByHand(contexts[1], raw)

    def shake_hands() -> None:
        client.shake_hands()
        raw.sendall(client.outgoing.read())

    shaking = gevent.spawn(shake_hands)
    with gevent.Timeout(patience(5)):
        stream.start_tls(contexts[0], server_side=True)
        shaking.get()
    return stream, client


@pytest.mark.parametrize("cuts", [(3,), (40,), (16_000, 16_420), (16_384,), tuple(range(20, 33_000, 1_001))])
def test_records_in_pieces(engine: Engine, contexts: Any, cuts: tuple[int, ...]) -> None:
    """Whoever takes the block takes no part of a record that is not whole, and no buffer stays behind."""
    stream, client = by_hand(engine, contexts)
    texts = b"first", b"x" * 16_384, b"second", b"y" * 16_384, b"last"
    records = client.records(*texts)
    got = bytearray()
    for start, end in pairwise((0, *cuts, len(records))):
        client.sock.sendall(records[start:end])
        arrived(stream)
        while (n := stream.fill()) > 0 or n == FULL:
            got += stream.block[stream.start : stream.end]
            stream.start = stream.end
            stream.release()
    with gevent.Timeout(patience(5)):
        got += stream.read_exact(sum(map(len, texts)) - len(got))
    assert bytes(got) == b"".join(texts)
    assert stream.received == len(got)
    assert stream.fill() == NOTHING and stream.block is None and engine.grown == 0
    assert stream.records is None or stream.records.raw is None
    stream.close()
    client.sock.close()


def test_many_tls_streams_at_once(engine: Engine, contexts: Any) -> None:
    """What an engine receives and sends for several of them together."""
    chance = random.Random(1)
    made = [Secure(engine, contexts) for _ in range(5)]
    rounds = 30

    def answer(stream: Stream) -> None:
        for _ in range(rounds):
            size = int.from_bytes(stream.read_exact(4), "big")
            stream.write(stream.read_exact(size)[::-1])

    def ask(peer: Any) -> None:
        for _ in range(rounds):
            text = chance.randbytes(chance.choice((1, 50, 50, 50, 9_000, 40_000)))
            peer.sendall(len(text).to_bytes(4, "big") + text)
            got = b""
            while len(got) < len(text):
                got += peer.recv(65536)
            assert got == text[::-1]

    working = [gevent.spawn(answer, secure.stream) for secure in made]
    working += [gevent.spawn(ask, secure.peer) for secure in made]
    with gevent.Timeout(patience(20)):
        for each in working:
            each.get()
    assert engine.grown == 0
    for secure in made:
        secure.close()


def receive_together(stream: Stream, data: bytes) -> None:
    """As an engine does that receives for several streams at once."""
    inbox = stream.engine.take_block()
    inbox[: len(data)] = data
    stream.inbox, stream.inbox_size = inbox, len(data)
    stream.readable = stream.drained = 1


def test_records_received_together_with_others(engine: Engine, contexts: Any) -> None:
    """They are opened behind what is there: half a record, and what somebody puts back."""
    stream, client = by_hand(engine, contexts)
    assert stream.fill() == NOTHING
    first, second = client.records(b"first"), client.records(b"second")
    receive_together(stream, first + second[:10])
    assert stream.fill() == 5 and stream.fill() == NOTHING
    receive_together(stream, second[10:])
    stream.start += 5
    stream.release()
    stream.put_back(bytearray(b"again "), 6)
    assert stream.fill() == 6
    assert stream.read_exact(12) == b"again second"
    assert stream.fill() == NOTHING and stream.block is None
    stream.close()
    client.sock.close()


def test_what_was_received_together_with_others_is_exported(engine: Engine, contexts: Any) -> None:
    if keylog_of(contexts[0]) is None:
        pytest.skip("it does not move")
    stream, client = by_hand(engine, contexts)
    assert stream.fill() == NOTHING
    texts = [b"x" * 9_000, b"y" * 6_000, b"z"]
    records = client.records(*texts)
    receive_together(stream, records[:-1])
    state = stream.export()
    assert state["unread"] == b"".join(texts[:2]) and state["received"] == 15_000
    assert state["tls"]["unread"] == records[-23:-1]
    receive_together(stream, records[-1:])
    assert stream.read_exact(15_001) == b"".join(texts)
    stream.close()
    client.sock.close()


def test_a_broken_record_is_answered_by_an_alert(engine: Engine, contexts: Any) -> None:
    """What is queued does not go out any more; the other side is told why."""
    if keylog_of(contexts[0]) is None:
        pytest.skip("OpenSSL's alerts are OpenSSL's")
    stream, client = by_hand(engine, contexts)
    record = bytearray(client.records(b"text"))
    record[-1] ^= 1
    client.sock.sendall(record)
    arrived(stream)
    assert stream.fill() == EOF and stream.error == errno.EPROTO
    stream.write(b"too late")
    assert stream.push() == -1 and stream.out is None
    stream.close()
    client.incoming.write(client.sock.recv(65536))
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        client.tls.read(10, bytearray(10))
    client.sock.close()


def test_tls_data_and_the_end_at_once(secure: Secure) -> None:
    stream, peer = secure.stream, secure.peer
    peer.sendall(b"last words")
    peer.unwrap = None
    peer.close()
    with gevent.Timeout(patience(5)):
        assert stream.read_exact(10) == b"last words"
        while (n := stream.fill()) == NOTHING:
            gevent.sleep(0)
    assert n == EOF


@pytest.mark.parametrize("cut", [3, 40, None])
def test_tls_data_in_the_segment_that_ends_the_handshake(engine: Engine, contexts: Any, cut: int | None) -> None:
    stream, raw = stream_pair(engine)
    client = ByHand(contexts[1], raw)

    def talk() -> None:
        client.shake_hands()
        last_words = client.outgoing.read()
        records = client.records(b"ques", b"tion")
        raw.sendall(last_words + records[:cut])
        raw.sendall(records[cut:] if cut else b"")

    talking = gevent.spawn(talk)
    with gevent.Timeout(patience(5)):
        stream.start_tls(contexts[0], server_side=True)
        assert stream.read_exact(8) == b"question"
    talking.get(timeout=patience(5))
    stream.close()
    raw.close()


def test_tls_garbage_is_a_broken_connection(secure: Secure) -> None:
    stream, peer = secure.stream, secure.peer
    raw = socket.socket(fileno=peer.detach())
    raw.send(b"\x17\x03\x03\x00\x10" + bytes(16))
    with gevent.Timeout(patience(5)):
        while (n := stream.fill()) == NOTHING:
            gevent.sleep(0)
    assert n == EOF and stream.error
    assert stream.fault == ("TLS: a record of 16 bytes" if stream.records is not None else "Protocol error")
    raw.close()


def test_close_notify_is_answered(secure: Secure) -> None:
    """With what is queued before it: without it the peer takes our end for a truncation."""
    stream, peer = secure.stream, secure.peer
    stream.write(b"last words")
    unwrapping = gevent.spawn(lambda: (peer.recv(100), peer.unwrap()))
    stream.engine.flush()
    with gevent.Timeout(patience(5)):
        while (n := stream.fill()) == NOTHING:
            gevent.sleep(0)
        assert n == EOF and not stream.fault
        stream.close()
        assert unwrapping.get()[0] == b"last words"


def test_records_without_data_one_at_a_time(engine: Engine, contexts: Any) -> None:
    """Who only listens may change keys as often as it likes, if not all at once."""
    stream, client = by_hand(engine, contexts)
    if stream.records is not None:  # OpenSSL takes any number
        for _ in range(100):
            client.sock.sendall(client.key_update())
            arrived(stream)
            assert stream.fill() == NOTHING
        client.sock.sendall(b"".join(client.key_update() for _ in range(50)))
        arrived(stream)
        assert stream.fill() == EOF
        assert stream.fault == "TLS: too many records without data"
    stream.close()
    client.sock.close()


def test_what_is_queued_at_close_arrives_over_tls(secure: Secure) -> None:
    secure.stream.write(b"FATAL")
    secure.stream.close()
    assert secure.peer.recv(100) == b"FATAL"
    assert secure.peer.recv(100) == b""


def test_clear_bytes_before_the_handshake_are_refused(pair: Any, contexts: Any) -> None:
    stream, peer = pair
    peer.sendall(b"S" + b"startup in clear")
    stream.read_exact(1)
    with pytest.raises(ProtocolViolation):
        stream.start_tls(contexts[0], server_side=True)


def test_tls_that_the_peer_begins_at_once(engine: Engine, contexts: Any) -> None:
    """What has been looked at is its first record."""
    stream, raw = stream_pair(engine)
    connecting = gevent.spawn(contexts[1].wrap_socket, raw, server_hostname="localhost")
    with gevent.Timeout(patience(5)):
        assert stream.peek() == stream.peek() == 22
        stream.start_tls(contexts[0], server_side=True, direct=True)
        peer = connecting.get()
        peer.sendall(b"question")
        assert stream.peek() == ord("q")
        assert stream.read_exact(8) == b"question"
    assert (stream.records is not None) is (keylog_of(contexts[0]) is not None)
    assert stream.received == 8
    stream.close()
    peer.close()


def test_peek_at_nobody(pair: Any) -> None:
    stream, peer = pair
    peer.close()
    with gevent.Timeout(patience(5)), pytest.raises(PeerGone):
        stream.peek()


def test_handshake_with_somebody_who_leaves(pair: Any, contexts: Any) -> None:
    stream, peer = pair
    peer.sendall(b"\x16\x03\x01\x02\x00")
    peer.close()
    with gevent.Timeout(patience(5)), pytest.raises(PeerGone):
        stream.start_tls(contexts[0], server_side=True)


def test_handshake_with_somebody_who_talks_nonsense(pair: Any, contexts: Any) -> None:
    stream, peer = pair
    peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    arrived(stream)
    with gevent.Timeout(patience(5)), pytest.raises(ssl.SSLError):
        stream.start_tls(contexts[0], server_side=True)


def test_back_pressure_over_tls(secure: Secure) -> None:
    stream = secure.stream
    stream.write(b"x" * (HIGH_WATER * 4))
    stream.engine.flush()
    # What was encrypted is at most one record; the rest stays counted.
    assert stream.out_pending >= HIGH_WATER


def test_what_is_queued_leaves_before_a_read_waits(pair: Any) -> None:
    stream, peer = pair
    stream.write(b"question")
    asking = gevent.spawn(stream.read_exact, 6)
    assert peer.recv(100) == b"question"
    peer.sendall(b"answer")
    assert asking.get(timeout=patience(5)) == b"answer"
