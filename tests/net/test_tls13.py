"""TLS 1.3 carried on from another's handshake: the other end is OpenSSL, and notices nothing."""

from __future__ import annotations

import contextlib
import os
import random
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_certs import Certificates
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_contexts import choose, contexts

from pgdoorman_lib.net import aead, pyca
from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.net.tls13 import RAW_SIZE, SMALL_RECORDS, Tls13
from pgdoorman_lib.net.tls_secrets import Handshake, Keylog, keylog_of
from pgdoorman_lib.net.tls_terms import ALERT, APPLICATION_DATA, HANDSHAKE, HEADER_SIZE, KEY_UPDATE, MAX_CONTENT
from pgdoorman_lib.net.traffic import SUITES, Direction, expand_label

CIPHERS = list(SUITES)


@pytest.fixture
def keylog() -> Iterator[Keylog]:
    made = Keylog()
    yield made
    made.close()


class End:
    """One end in memory: of OpenSSL, or (``ours``) carried on by a ``Tls13`` behind the handshake, as a stream does it."""

    def __init__(self, context: ssl.SSLContext, server_side: bool, ours: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls: Any = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)
        keylog = keylog_of(context)
        assert keylog is not None
        self.server_side = server_side
        self.handshake = Handshake(keylog)
        self.ours = ours
        self.done = False
        self.room = 2 * MAX_CONTENT
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
        if self.done and self.ours:
            self.tls = self.handshake.connection(self.tls, said, self.incoming.read())
            if self.tls is not None:
                self.begin()
        return said

    def begin(self) -> None:
        self.tls.raw = bytearray(RAW_SIZE)
        self.receive(self.tls.unread)

    def receive(self, data: bytes) -> None:
        self.tls.raw[self.tls.raw_end : self.tls.raw_end + len(data)] = data
        self.tls.raw_end += len(data)
        assert len(self.tls.raw) == RAW_SIZE

    def get(self, data: bytes, *, step: int | None = None) -> None:
        """Receive, in pieces of ``step`` bytes."""
        step = min(step or max(1, len(data)), MAX_CONTENT)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            if not isinstance(self.tls, Tls13):
                self.incoming.write(piece)
                if self.server_side and not self.done:
                    self.handshake.client_says(piece)
                continue
            if start:
                self.came += self._drained()  # as a stream does before it receives more
            self.receive(piece)

    def put(self, data: bytes) -> bytes:
        """Write; the records."""
        if not isinstance(self.tls, Tls13):
            self.tls.write(data)
            return self.outgoing.read()
        sent = b""
        for start in range(0, max(1, len(data)), MAX_CONTENT):
            piece = data[start : start + MAX_CONTENT]
            out = bytearray(MAX_CONTENT + SMALL_RECORDS)
            sent += out[: self.tls.seal(bytearray(piece), 0, len(piece), out, 0)]
        return sent

    def put_record(self, kind: int, content: bytes) -> bytes:
        """The next record of ours, of any kind."""
        return sealed(self.tls.write, kind, content)

    def last_words(self) -> bytes:
        """The alert that is to be sent, if there is one."""
        if not isinstance(self.tls, Tls13):
            return self.outgoing.read()
        out = bytearray(SMALL_RECORDS)
        return bytes(out[: self.tls.seal_alert(out, 0)]) if self.tls.alert >= 0 else b""

    def all(self) -> bytes:
        """What can be read; behind it, as the ssl module does, an error that says why nothing more comes."""
        data = self.came + self._drained()
        self.came = b""
        if not data and isinstance(self.tls, Tls13) and self.tls.over:
            raise ssl.SSLError(self.tls.error) if self.tls.error else ssl.SSLZeroReturnError()
        return data

    def _drained(self) -> bytes:
        data = bytearray()
        buffer = bytearray(self.room)
        while True:
            try:
                size = self.tls.take(buffer, 0) if isinstance(self.tls, Tls13) else self.tls.read(len(buffer), buffer)
            except ssl.SSLWantReadError:
                size = 0
            if size == 0:
                return bytes(data)
            data += buffer[:size]

    def state(self) -> Any:
        return unpack(pack(self.tls.export()))

    def move(self) -> None:
        """Be carried on from what is known of the connection alone."""
        self.tls = Tls13(self.state())
        self.begin()


def sealed(direction: Direction, kind: int, content: bytes) -> bytes:
    out = bytearray(MAX_CONTENT + SMALL_RECORDS)
    return bytes(out[: direction.seal(kind, bytearray(content), 0, len(content), out, 0)])


def opened(direction: Direction, record: bytes) -> tuple[int, bytes]:
    out = bytearray(record)
    size = direction.open(out, 0, len(record) - HEADER_SIZE, out, HEADER_SIZE)
    return direction.kind, bytes(out[HEADER_SIZE : HEADER_SIZE + size])


def overfull(direction: Direction, kind: int, content: bytes) -> bytes:
    """As ``sealed``, whatever the size, by the package cryptography."""
    if len(content) <= MAX_CONTENT:
        return sealed(direction, kind, content)
    suite, secret = direction.suite, direction.secret
    key, iv = expand_label(suite, secret, "key", suite.key_size), expand_label(suite, secret, "iv", 12)
    header = b"\x17\3\3" + (len(content) + 17).to_bytes(2, "big")
    nonce = (int.from_bytes(iv, "big") ^ direction.sequence).to_bytes(12, "big")
    direction.sequence += 1
    cipher = getattr(pyca.load(), suite.aead)(key)
    return header + bytes(cipher.encrypt(nonce, content + bytes((kind,)), header))


def shaken(
    certs: Certificates, keylog: Keylog, cipher: str = "", *, tickets: int = 0, our_client: bool = False
) -> tuple[End, End]:
    """Server, ours, and client, OpenSSL's, of a new connection."""
    server_context, client_context = contexts(certs, keylog)
    server_context.num_tickets = tickets
    if cipher:
        choose(client_context, cipher)
    server, client = End(server_context, True, True), End(client_context, False, our_client)
    shake_hands(server, client)
    assert isinstance(server.tls, Tls13) and isinstance(client.tls, Tls13) is our_client
    return server, client


def shake_hands(server: End, client: End) -> None:
    while not (client.done and server.done):
        if not client.done:
            server.get(client.step())
        if not server.done:
            client.get(server.step())


def key_update(end: End, request: bool) -> bytes:
    """The records of a KeyUpdate by an end of ours."""
    record = end.put_record(HANDSHAKE, bytes((KEY_UPDATE, 0, 0, 1, int(request))))
    end.tls.write.update()
    return record


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
    record = sealed(client, APPLICATION_DATA, bytes(range(50)))
    assert record.hex() == (
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a"
        "6292a2977014bd1e3deae63aeebb21694915e4"
    )
    assert sealed(client, ALERT, b"\1\0").hex() == "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"


@pytest.mark.parametrize("our_client", [False, True])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_ten_thousand_records(certs: Certificates, keylog: Keylog, cipher: str, our_client: bool) -> None:
    """Each way, before and behind a move of the server: every byte as it was sent."""
    server, client = shaken(certs, keylog, cipher, our_client=our_client)
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
    server.room = 500
    talk(500)


@pytest.mark.parametrize("our_client", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_close_notify_both_ways(certs: Certificates, keylog: Keylog, our_client: bool, moved: bool) -> None:
    server, client = shaken(certs, keylog, our_client=our_client)
    if moved:
        server.move()
    said = server.put(b"last words")
    server.tls.unwrap()
    server.tls.unwrap()  # once is enough
    client.get(said + server.last_words() + server.last_words())
    assert client.all() == b"last words"
    if our_client:
        with pytest.raises(ssl.SSLZeroReturnError):
            client.all()
    else:
        assert client.tls.read(100, bytearray(100)) == 0  # as OpenSSL in Python says it
    assert server.tls.closed
    with contextlib.suppress(ssl.SSLError):
        client.tls.unwrap()
    server.get(client.last_words())
    for _ in range(2):
        with pytest.raises(ssl.SSLZeroReturnError):
            server.all()
    with pytest.raises(ValueError, match="has ended"):
        server.tls.export()


def test_data_behind_close_notify_is_not_read(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog, our_client=True)
    server.get(client.put(b"last") + client.put_record(ALERT, b"\1\0") + client.put(b"more"))
    assert server.all() == b"last"
    with pytest.raises(ssl.SSLZeroReturnError):
        server.all()


@pytest.mark.parametrize("request_update", [False, True])
@pytest.mark.parametrize("rounds", [1, 3])
def test_key_updates_of_the_client(certs: Certificates, keylog: Keylog, request_update: bool, rounds: int) -> None:
    server, client = shaken(certs, keylog, our_client=True)
    for number in range(rounds):
        server.get(client.put(b"SSSSS"))
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
    server, client = shaken(certs, keylog, our_client=True)
    before = server.tls.write.secret
    server.get(key_update(client, True) + key_update(client, True))
    assert server.all() == b""
    server.move()
    assert server.tls.write.secret == before
    client.get(server.put(b"answer") + server.put(b"more"))
    assert client.all() == b"answermore"
    assert server.tls.write.secret != before


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("request_update", [False, True])
def test_key_updates_that_openssl_gets(certs: Certificates, keylog: Keylog, request_update: bool, moved: bool) -> None:
    server, client = shaken(certs, keylog)
    if moved:
        server.move()
    client.get(key_update(server, request_update))
    client.get(server.put(b"answer"))
    assert client.all() == b"answer"
    secret = server.tls.read.secret
    server.get(client.put(b"question"))  # behind new keys of OpenSSL's, if they were asked for
    assert server.all() == b"question"
    assert (server.tls.read.secret != secret) is request_update


@pytest.mark.parametrize("our_client", [False, True])
def test_our_own_keys_are_changed_in_time(certs: Certificates, keylog: Keylog, our_client: bool) -> None:
    server, client = shaken(certs, keylog, our_client=our_client)
    server.tls.write.limit = 10
    for number in range(25):
        client.get(server.put(b"%d" % number))
        assert client.all() == b"%d" % number
    assert server.tls.write.sequence == 5


@pytest.mark.parametrize("our_client", [False, True])
@pytest.mark.parametrize("tickets", [0, 2])
def test_tickets(certs: Certificates, keylog: Keylog, tickets: int, our_client: bool) -> None:
    server, client = shaken(certs, keylog, tickets=tickets, our_client=our_client)
    assert server.tls.write.sequence == tickets
    client.get(server.put(b"hello"))
    assert client.all() == b"hello"
    server.move()
    client.get(server.put(b"answer"))
    assert client.all() == b"answer"
    server.get(client.put(b"question"))
    assert server.all() == b"question"


def test_a_client_passes_over_tickets(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog, our_client=True)
    ticket = server.put_record(HANDSHAKE, b"\4\0\0\5tic")
    client.get(ticket + server.put_record(HANDSHAKE, b"ke") + server.put(b"data"), step=3)
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
    with pytest.raises(ValueError, match="to be read"):
        server.state()
    assert server.all() == b"unread"
    server.get(client.put(b"unread"))
    buffer = bytearray(1)
    assert server.tls.take(buffer, 0) == 1 and server.tls.has_more()
    with pytest.raises(ValueError, match="to be read"):
        server.state()
    assert server.all() == b"nread"
    server.move()


@pytest.mark.parametrize("room", [1, 100, MAX_CONTENT, 40_000])
def test_little_room(certs: Certificates, keylog: Keylog, room: int) -> None:
    """What does not fit waits for the next call, and so do the records behind it."""
    server, client = shaken(certs, keylog)
    server.room = room
    chance = random.Random(room)
    text = chance.randbytes(12_000)
    server.get(client.put(text[:10]) + client.put(text[10:11_000]) + client.put(text[11_000:]))
    assert server.tls.has_more()
    assert server.all() == text
    assert not server.tls.has_more()
    block = bytearray(b"before") + bytearray(8)
    server.get(client.put(b"behind") + client.put(b"more"))
    assert server.tls.take(block, 6) == 14 and block == b"beforebehindmo"
    assert server.all() == b"re"


@pytest.mark.parametrize("padding", [1, 30, MAX_CONTENT - 4])
def test_padding_is_understood(certs: Certificates, keylog: Keylog, padding: int) -> None:
    server, client = shaken(certs, keylog, our_client=True)
    write = client.tls.write
    for _ in range(2):
        # The last byte of the padding stands where the type is otherwise.
        server.get(overfull(write, 0, b"text\x17" + bytes(padding - 1)))
        assert server.all() == b"text"
        server.move()


def test_tls_1_2_is_not_moved(certs: Certificates, keylog: Keylog) -> None:
    server_context, client_context = contexts(certs, keylog)
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = End(server_context, True, True), End(client_context, False, False)
    shake_hands(server, client)
    assert client.tls.version() == "TLSv1.2"
    assert server.tls is None


def test_the_log_holds_nothing_behind_a_handshake(certs: Certificates, keylog: Keylog) -> None:
    shaken(certs, keylog)
    assert os.fstat(keylog._descriptor).st_size == 0
    assert keylog.take() == b""
    assert not os.get_inheritable(keylog._descriptor)


def test_secrets_of_another_connection_are_not_taken(certs: Certificates, keylog: Keylog) -> None:
    server_context, client_context = contexts(certs, keylog)
    server, client = End(server_context, True, True), End(client_context, False, True)
    client.handshake._hello = bytes([22, 3, 1, 0, 0, 1]) + bytes(40)
    shake_hands(server, client)
    assert server.tls is not None and client.tls is None


# What breaks it.


def broken(end: End, data: bytes, alert: int | None) -> bytes:
    """Give an end of ours what breaks the protocol; it says so by an alert, which is returned, and is no more."""
    watching = Direction(end.tls.write.suite, end.tls.write.secret, end.tls.write.sequence)
    end.get(data)
    for _ in range(2):
        with pytest.raises(ssl.SSLError) as caught:
            end.all()
        assert not isinstance(caught.value, (ssl.SSLWantReadError, ssl.SSLZeroReturnError))
    assert end.tls.closed
    end.tls.unwrap()
    sent = end.last_words()
    assert end.last_words() == b""
    with pytest.raises(ValueError):
        end.state()
    if alert is None:
        assert sent == b""
    else:
        assert opened(watching, sent) == (ALERT, bytes((2, alert)))
    return sent


@pytest.mark.parametrize(("where", "alert"), [(0, 10), (1, 20), (3, 20), (4, 50), (5, 20), (20, 20), (30, 20)])
def test_a_changed_byte(certs: Certificates, keylog: Keylog, where: int, alert: int) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    record = bytearray(client.put(b"some text") + client.put(bytes(10_000)))
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
    server, client = shaken(certs, keylog, our_client=True)
    broken(server, overfull(client.tls.write, kind, content), alert)


def test_openssl_understands_our_alert(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    server.move()
    record = bytearray(client.put(b"text"))
    record[-1] ^= 1
    client.get(broken(server, bytes(record), 20))
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        client.tls.read(10, bytearray(10))


def test_data_within_a_handshake_message(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog, our_client=True)
    broken(server, client.put_record(HANDSHAKE, b"\x18\0") + client.put(b"x"), 10)


@pytest.mark.parametrize("what", ["empty", "KeyUpdate"])
def test_so_many_records_without_data(certs: Certificates, keylog: Keylog, what: str) -> None:
    server, client = shaken(certs, keylog, our_client=True)

    def vain(count: int) -> bytes:
        return b"".join(client.put(b"") if what == "empty" else key_update(client, False) for _ in range(count))

    for _ in range(3):
        server.get(vain(32) + client.put(b"data"))
        assert server.all() == b"data"
    broken(server, vain(33), 10)


def test_what_came_before_it_broke_is_read(certs: Certificates, keylog: Keylog) -> None:
    server, client = shaken(certs, keylog)
    server.get(client.put(b"good") + b"\x17\3\3\0\x20" + bytes(32) + client.put(b"lost"))
    assert server.all() == b"good"
    with pytest.raises(ssl.SSLError, match="not authentic"):
        server.all()


@settings(max_examples=200)
@given(data=st.binary(max_size=100), head=st.sampled_from([b"", b"\x17\3\3\0\x20", b"\x17\3\3\0\x11"]))
def test_garbage(data: bytes, head: bytes) -> None:
    state = {
        "cipher": CIPHERS[0], "read_secret": bytes(32), "read_sequence": 0,
        "write_secret": bytes(32), "write_sequence": 0,
    }  # fmt: skip
    tls = Tls13(state)
    tls.raw = bytearray(RAW_SIZE)
    for byte in head + data:
        tls.raw[tls.raw_end] = byte
        tls.raw_end += 1
        assert tls.take(bytearray(200), 0) == 0  # makes no sense of garbage
        if tls.over:
            assert tls.error and tls.alert >= 0
            break


@pytest.mark.parametrize(
    "change",
    [
        {"cipher": "TLS_AES_128_CCM_SHA256"},
        {"cipher": None},
        {"cipher": []},
        {"unread": "text"},
        {"unread": bytes(RAW_SIZE + 1)},
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
    Tls13(whole)
    with pytest.raises(ValueError):
        Tls13({**whole, **change})


def test_the_package_is_imported_by_whom_it_serves(tmp_path: Path) -> None:
    """It takes 100 ms, which a start must not pay, and nobody who has libcrypto."""
    code = """
import sys
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.tls13 import Tls13
half = {"secret": bytes(32), "sequence": 0}
state = {f"{way}_{key}": value for way in ("read", "write") for key, value in half.items()}
connection = Tls13({"cipher": "TLS_AES_128_GCM_SHA256", **state})
imported = lambda: any(name.startswith("cryptography") for name in sys.modules)
print(imported())
connection.seal(bytearray(b"x"), 0, 1, bytearray(200), 0)
print(imported())
"""
    # Elsewhere, since the directory it is in may have what is not built.
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"False\n{not aead.DIRECT}\n", "")
