"""TLS 1.3 carried on from another's handshake: the other end is OpenSSL, and notices nothing."""

from __future__ import annotations

import contextlib
import os
import random
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fix_certs import Certificates
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_contexts import choose, contexts

from pgdoorman_lib.net import tls13
from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.net.tls13 import (
    HANDSHAKE,
    KEY_UPDATE,
    MAX_CONTENT,
    SUITES,
    Direction,
    Tls13,
    expand_label,
)
from pgdoorman_lib.net.tls_secrets import CanNotMove, Handshake, Keylog, Tracker, keylog_of

CIPHERS = list(SUITES)


@pytest.fixture
def keylog() -> Iterator[Keylog]:
    made = Keylog()
    yield made
    made.close()


class End:
    """One end in memory, tracked as a stream does it."""

    def __init__(self, context: ssl.SSLContext, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls: Any = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)
        keylog = keylog_of(context)
        assert keylog is not None
        self.server_side = server_side
        self.handshake = Handshake(keylog)
        self.tracker: Tracker | None = None
        self.done = False
        self.read = self.written = 0
        self.plain = b""
        self.came = b""

    def step(self) -> bytes:
        """Go on with the handshake; what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.done = True
        said = self.outgoing.read()
        self.handshake.step()
        if not self.server_side:
            self.handshake.client_says(said)
        if self.done:
            self.tracker = self.handshake.tracker(self.tls, said)
        if self.tracker is not None:
            behind = bytearray(self.came[len(self.came) - self.incoming.pending :])
            self.tracker.received(behind, len(behind), 0)
        return said

    def get(self, data: bytes, *, step: int | None = None) -> None:
        """Receive, in pieces of ``step`` bytes."""
        step = step or max(1, len(data))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            if self.tracker is not None:
                self.plain += self._drained()  # as a stream does before it receives more
                self.tracker.received(bytearray(piece) + b"rubbish", len(piece), self.read)
            self.incoming.write(piece)
            if self.tracker is None and self.server_side:
                self.handshake.client_says(piece)
            self.came = piece

    def put(self, data: bytes) -> bytes:
        """Write; the records."""
        self.tls.write(data)
        self.written += len(data)
        return self.take()

    def take(self) -> bytes:
        sent = self.outgoing.read()
        if self.tracker is not None:
            self.tracker.sent(bytearray(sent), self.written)
        return sent

    def all(self) -> bytes:
        """What can be read."""
        data = self.plain + self._drained()
        self.plain = b""
        return data

    def _drained(self) -> bytes:
        data = bytearray()
        buffer = bytearray(MAX_CONTENT)
        while True:
            try:
                size = self.tls.read(len(buffer), memoryview(buffer))
            except ssl.SSLWantReadError:
                self.read += len(data)
                return bytes(data)
            data += buffer[:size]

    def state(self) -> Any:
        state = self.tracker.export(self.read, self.written) if self.tracker is not None else self.tls.export()
        return unpack(pack(state))

    def move(self) -> None:
        """Be carried on from what is known of the connection alone."""
        state = self.state()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tracker, self.tls = None, Tls13(state, self.incoming, self.outgoing)


def shaken(certs: Certificates, keylog: Keylog, cipher: str = "", tickets: int = 0) -> tuple[End, End]:
    """Server and client of a new connection; of OpenSSL, tracked both."""
    server_context, client_context = contexts(certs, keylog)
    server_context.num_tickets = tickets
    if cipher:
        choose(client_context, cipher)
    server, client = End(server_context, True), End(client_context, False)
    shake_hands(server, client)
    assert server.tracker is not None and client.tracker is not None
    return server, client


def shake_hands(server: End, client: End) -> None:
    while not (client.done and server.done):
        if not client.done:
            server.get(client.step())
        if not server.done:
            client.get(server.step())


def key_update(end: End, request: bool) -> bytes:
    """The records of a KeyUpdate by an end that has been moved to ours."""
    end.tls._outgoing.write(end.tls._write.seal(HANDSHAKE, bytes((KEY_UPDATE, 0, 0, 1, int(request)))))
    end.tls._write.update()
    return end.take()


def test_key_schedule() -> None:
    """The values of RFC 8448 section 3."""
    suite = SUITES["TLS_AES_128_GCM_SHA256"]
    secret = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
    assert expand_label(suite, secret, "key", 16).hex() == "9f02283b6c9c07efc26bb9f2ac92e356"
    assert expand_label(suite, secret, "iv", 12).hex() == "cf782b88dd83549aadf1e984"


def test_records_of_the_rfc() -> None:
    """RFC 8448 section 3: the client's application data, and the server's alert behind one record and a ticket."""
    suite = SUITES["TLS_AES_128_GCM_SHA256"]
    client = Direction(suite, bytes.fromhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"))
    record = client.seal(23, bytes(range(50)))
    assert record.hex() == (
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a"
        "6292a2977014bd1e3deae63aeebb21694915e4"
    )
    assert client.seal(21, b"\1\0").hex() == "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_ten_thousand_records(certs: Certificates, keylog: Keylog, cipher: str) -> None:
    """Each way, before and behind a move of the server: every byte as it was sent."""
    server, client = shaken(certs, keylog, cipher)
    assert client.tls.cipher()[0] == cipher
    chance = random.Random(1)

    def talk(count: int) -> None:
        for _ in range(count):
            size = chance.choice((1, 5, 5, 22, 100, 1000, MAX_CONTENT))
            question, answer = chance.randbytes(size), chance.randbytes(size)
            server.get(client.put(question))
            assert server.all() == question
            client.get(server.put(answer))
            assert client.all() == answer

    talk(500)
    server.move()
    assert server.tls.cipher() == client.tls.cipher() and server.tls.version() == "TLSv1.3"
    talk(10_000)
    server.move()
    talk(10)
    client.move()
    talk(500)


@pytest.mark.parametrize("moved_client", [False, True])
def test_close_notify_both_ways(certs: Certificates, keylog: Keylog, moved_client: bool) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    if moved_client:
        client.move()
    client.get(server.put(b"last words"))
    server.tls.unwrap()
    server.tls.unwrap()  # once is enough
    client.get(server.take())
    buffer = bytearray(100)
    said = client.plain or bytes(buffer[: client.tls.read(100, memoryview(buffer))])
    assert said == b"last words"
    try:
        assert client.tls.read(100, memoryview(buffer)) == 0  # as OpenSSL in Python says it
    except ssl.SSLZeroReturnError:
        assert moved_client
    with pytest.raises(ssl.SSLError):
        server.tls.write(b"more")
    with contextlib.suppress(ssl.SSLError):
        client.tls.unwrap()
    server.get(client.take())
    for _ in range(2):
        with pytest.raises(ssl.SSLZeroReturnError):
            server.tls.read(100, memoryview(buffer))
    with pytest.raises(ValueError, match="has ended"):
        server.tls.export()


@pytest.mark.parametrize("request_update", [False, True])
@pytest.mark.parametrize("rounds", [1, 3])
def test_key_updates_before_the_move(certs: Certificates, keylog: Keylog, request_update: bool, rounds: int) -> None:
    """OpenSSL goes on to new keys by itself; the tracker has to notice."""
    server, client = shaken(certs, keylog)
    client.move()
    for number in range(rounds):
        server.get(client.put(b"SSSSS"))  # as long as a KeyUpdate
        server.get(key_update(client, request_update), step=1 + number)
        server.get(client.put(b"behind"))
        assert server.all() == b"SSSSSbehind"
        client.get(server.put(b"ABCDE"))
        client.get(server.put(b"answer"))
        assert client.all() == b"ABCDEanswer"
    server.move()
    server.get(client.put(b"question"))
    assert server.all() == b"question"
    client.get(server.put(b"answer"))
    assert client.all() == b"answer"


def test_a_key_update_that_waits_for_its_answer(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    client.move()
    server.move()
    before = server.tls._write.secret
    server.get(key_update(client, True) + key_update(client, True))
    assert server.all() == b""
    server.move()
    assert server.tls._write.secret == before
    client.get(server.put(b"answer") + server.put(b"more"))
    assert client.all() == b"answermore"
    assert server.tls._write.secret != before


@pytest.mark.parametrize("request_update", [False, True])
def test_key_updates_behind_the_move(certs: Certificates, keylog: Keylog, request_update: bool) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    client.get(key_update(server, request_update))  # the client is OpenSSL
    client.get(server.put(b"answer"))
    assert client.all() == b"answer"
    server.get(client.put(b"question"))
    assert server.all() == b"question"
    client.move()
    server.get(client.put(b"question"))
    assert server.all() == b"question"


def test_our_own_keys_are_changed_in_time(certs: Certificates, keylog: Keylog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls13, "_MAX_RECORDS", 10)
    server, client = shaken(certs, keylog)
    server.move()
    for number in range(25):
        client.get(server.put(b"%d" % number))
        assert client.all() == b"%d" % number
    assert server.tls._write.sequence == 5


@pytest.mark.parametrize("tickets", [0, 2])
def test_tickets(certs: Certificates, keylog: Keylog, tickets: int) -> None:
    server, client = shaken(certs, keylog, tickets=tickets)
    client.get(server.put(b"hello"))
    assert client.all() == b"hello"
    server.move()
    client.move()
    client.get(server.put(b"answer"))
    assert client.all() == b"answer"
    server.get(client.put(b"question"))
    assert server.all() == b"question"


def test_a_moved_client_passes_over_tickets(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    client.move()
    server.move()
    ticket = server.tls._write.seal(HANDSHAKE, b"\4\0\0\5tic")
    client.get(ticket + server.tls._write.seal(HANDSHAKE, b"ke") + server.put(b"data"), step=3)
    assert client.all() == b"data"


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_in_pieces(certs: Certificates, keylog: Keylog, step: int) -> None:
    server, client = shaken(certs, keylog)
    for _ in range(2):
        text = bytes(range(256)) * 20
        server.get(client.put(text) + client.put(b"") + client.put(b"x"), step=step)
        assert server.all() == text + b"x"
        server.move()


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 100, 1021])
@pytest.mark.parametrize("twice", [False, True])
def test_a_record_in_part_is_moved_too(certs: Certificates, keylog: Keylog, cut: int, twice: bool) -> None:
    """OpenSSL has taken the beginning of a record; nobody can take it out again."""
    server, client = shaken(certs, keylog)
    record = client.put(bytes(1000))
    server.get(record[:cut])
    assert server.all() == b""
    server.move()
    if twice:
        assert server.all() == b""
        server.move()
    server.get(record[cut:])
    assert server.all() == bytes(1000)


def test_what_was_not_read_keeps_it_here(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    server.get(client.put(b"unread"))
    with pytest.raises(CanNotMove, match="6 and 0 bytes where 0 and 0"):
        server.state()
    assert server.all() == b"unread"
    server.move()
    server.get(client.put(b"unread"))
    buffer = bytearray(1)
    assert server.tls.read(1, memoryview(buffer)) == 1 and server.tls.pending() == 5
    with pytest.raises(ValueError, match="to be read"):
        server.state()


def test_padding_is_understood_behind_a_move_and_prevents_one(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    client.move()
    padded = client.tls._write
    inner = b"text" + b"\x17" + bytes(30)
    header = b"\x17\3\3" + (len(inner) + 16).to_bytes(2, "big")

    def record() -> bytes:
        data = padded._keys().encrypt(padded._nonce(), inner, header)
        padded.sequence += 1
        return header + data

    server.get(client.put(b"x"))
    assert server.all() == b"x"
    server.move()
    server.get(record())
    assert server.all() == b"text"
    other, peer = shaken(certs, keylog)
    peer.move()
    padded = peer.tls._write
    other.get(record())
    assert other.all() == b"text"
    with pytest.raises(CanNotMove, match="where 4 and 0"):
        other.state()


def test_tls_1_2_is_not_moved(certs: Certificates, keylog: Keylog) -> None:
    server_context, client_context = contexts(certs, keylog)
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = End(server_context, True), End(client_context, False)
    shake_hands(server, client)
    assert server.tls.version() == "TLSv1.2"
    assert server.tracker is None and client.tracker is None


def test_the_log_holds_nothing_behind_a_handshake(certs: Certificates, keylog: Keylog) -> None:
    shaken(certs, keylog)
    assert os.fstat(keylog._descriptor).st_size == 0
    assert keylog.take() == b""
    assert not os.get_inheritable(keylog._descriptor)


def test_secrets_of_another_connection_are_not_taken(certs: Certificates, keylog: Keylog) -> None:
    server_context, client_context = contexts(certs, keylog)
    server, client = End(server_context, True), End(client_context, False)
    client.handshake._hello = bytes([22, 3, 1, 0, 0, 1]) + bytes(40)
    shake_hands(server, client)
    assert server.tracker is not None and client.tracker is None


# What breaks it.


def broken(end: End, data: bytes, alert: int | None) -> bytes:
    """Give a moved end what breaks the protocol; it says so by an alert, which is returned, and is no more."""
    watching = Direction(end.tls._write.suite, end.tls._write.secret, end.tls._write.sequence)
    end.get(data)
    for _ in range(2):
        with pytest.raises(ssl.SSLError) as caught:
            end.all()
        assert not isinstance(caught.value, (ssl.SSLWantReadError, ssl.SSLZeroReturnError))
    with pytest.raises(ssl.SSLError):
        end.tls.write(b"more")
    end.tls.unwrap()
    sent = end.take()
    if alert is None:
        assert sent == b""
    else:
        assert watching.open(sent) == (21, bytes((2, alert)))
    return sent


@pytest.mark.parametrize(("where", "alert"), [(0, 10), (1, 20), (3, 20), (4, 50), (5, 20), (20, 20), (30, 20)])
def test_a_changed_byte(certs: Certificates, keylog: Keylog, where: int, alert: int) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    record = bytearray(client.put(b"some text") + client.put(bytes(70_000)))
    record[where] ^= 0x10
    broken(server, bytes(record), alert)


@pytest.mark.parametrize(
    ("kind", "content", "alert"),
    [
        (HANDSHAKE, b"", 10),
        (HANDSHAKE, b"\1\0\0\0", 10),
        (HANDSHAKE, b"\x18\0\0\2\0\0", 50),
        (HANDSHAKE, b"\x18\0\0\1\2", 47),
        (HANDSHAKE, b"\x18\0\0\1\0\x18", 10),
        (21, b"", 50),
        (21, b"\2\x28", None),
        (20, b"\1", 10),
        (0, b"", 10),
        (99, b"?", 10),
        (23, bytes(MAX_CONTENT + 1), 22),
        (23, bytes(MAX_CONTENT + 257), 22),
    ],
)
def test_what_does_not_belong(
    certs: Certificates, keylog: Keylog, kind: int, content: bytes, alert: int | None
) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    client.move()
    broken(server, client.tls._write.seal(kind, content), alert)


def test_openssl_understands_our_alert(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    record = bytearray(client.put(b"text"))
    record[-1] ^= 1
    client.get(broken(server, bytes(record), 20))
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        client.tls.read(10, memoryview(bytearray(10)))


def test_data_within_a_handshake_message(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    client.move()
    broken(server, client.tls._write.seal(HANDSHAKE, b"\x18\0") + client.put(b"x"), 10)


@settings(max_examples=200)
@given(data=st.binary(max_size=100), head=st.sampled_from([b"", b"\x17\3\3\0\x20", b"\x17\3\3\0\x11"]))
def test_garbage(data: bytes, head: bytes) -> None:
    state = {
        "cipher": CIPHERS[0], "read_secret": bytes(32), "read_sequence": 0,
        "write_secret": bytes(32), "write_sequence": 0,
    }  # fmt: skip
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = Tls13(state, incoming, outgoing)
    tracker = Tracker(CIPHERS[0], bytes(32), bytes(32))
    for byte in head + data:
        incoming.write(bytes((byte,)))
        tracker.received(bytearray((byte,)), 1, 0)
        try:
            tls.read(10, memoryview(bytearray(10)))
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            break
        raise AssertionError("made sense of garbage")


@pytest.mark.parametrize(
    "change",
    [
        {"cipher": "TLS_AES_128_CCM_SHA256"},
        {"cipher": None},
        {"cipher": []},
        {"unread": "text"},
        {"alpn": 1},
        {"read_secret": b"short"},
        {"write_secret": None},
        {"read_sequence": -1},
        {"write_sequence": "1"},
    ],
)
def test_a_state_that_is_none(change: dict[str, Any]) -> None:
    state = {"cipher": CIPHERS[1], "read_secret": bytes(48), "write_secret": bytes(48)}
    whole = {**state, "read_sequence": 0, "write_sequence": 0}
    Tls13(whole, ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(ValueError):
        Tls13({**whole, **change}, ssl.MemoryBIO(), ssl.MemoryBIO())


def test_who_only_counts_does_not_load_the_ciphers() -> None:
    """100 ms that a start, or a connection that never moves, must not pay."""
    code = """
import sys
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.tls_secrets import Tracker
tracker = Tracker("TLS_AES_128_GCM_SHA256", bytes(32), bytes(32))
record = bytearray(b"\\x17\\3\\3\\0\\x16" + bytes(22))  # as long as a KeyUpdate
for total in range(0, 50, 5):
    tracker.received(record, len(record), total)
    tracker.sent(record, total + 5)
assert tracker.export(50, 50)["read_sequence"] == 10
print([name for name in sys.modules if name.startswith("cryptography")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
