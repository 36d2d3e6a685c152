"""The start of a connection: encryption, startup packets, address rules, authentication, and what is never told."""

from __future__ import annotations

import hashlib
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import FakeStream
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from pgdoorman_lib.abc import Account, Judge
from pgdoorman_lib.auth import hba
from pgdoorman_lib.auth.lookup import Finding, Lookup, LookupStats
from pgdoorman_lib.auth.md5 import hash_password
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.auth.users import Users
from pgdoorman_lib.client.encryption import read_startup_packet
from pgdoorman_lib.client.login import Accepted, CancelRequested, Guest, login
from pgdoorman_lib.client.login_cache import LoginCache
from pgdoorman_lib.config.keys import HbaSource
from pgdoorman_lib.config.model import AuthQuery
from pgdoorman_lib.errors import (
    AuthenticationFailed,
    DoormanError,
    HandshakeFailed,
    NotPermitted,
    PeerGone,
    ProtocolViolation,
    ServerUnavailable,
    TooManyClients,
    UnsupportedFeature,
)
from pgdoorman_lib.net.rate_limit import RateLimit
from pgdoorman_lib.wire.lookup import Answer
from pgdoorman_lib.wire.startup import LOGICAL, PHYSICAL

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL = struct.pack("!ii", 8, 80877103)
GSS = struct.pack("!ii", 8, 80877104)
KEY = b"k" * 32
SCRAM_SECRET = str(ScramSecret.derive("secret", b"0123456789abcdef"))
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def startup(protocol: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    body = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, protocol) + body


def cancel(pid: int, secret: bytes) -> bytes:
    return struct.pack("!iii", 12 + len(secret), 80877102, pid) + secret


@dataclass
class General:
    tls_mode: str = "allow"
    admin_username: str = "admin"
    admin_password: str = "console"


@dataclass
class User:
    username: str
    password: str


@dataclass
class Pool:
    users: list[User]


@dataclass
class Context(Guest):
    """A pooler of two databases."""

    general: General = field(default_factory=General)
    tls_context: ssl.SSLContext | None = None
    handshakes: RateLimit | None = None
    hba: hba.Gate = field(default_factory=hba.AddressList)
    mock_secret: bytes = KEY
    cache: LoginCache = field(default_factory=LoginCache)
    full: bool = False
    admitted: int = 0

    def __post_init__(self) -> None:
        main = [
            User("scram", SCRAM_SECRET),
            User("plain", "secret"),
            User("none", ""),
            User("md5", hash_password("secret", "md5")),
        ]
        self.users = Users({"main": Pool(main), "other": Pool([User("scram", SCRAM_SECRET)])}, KEY)

    def find_user(self, database: str, user: str) -> Account | None:
        return self.users.find(database, user)

    def database_of(self, user: str) -> str | None:
        return self.users.database_of(user)

    def looks_up(self, database: str) -> bool:
        return False

    def look_up(self, database: str, user: str) -> Finding:
        raise AssertionError("nobody is looked up")

    def stand_in(self, user: str, found: Finding | None = None) -> str:
        return self.users.stand_in(user)

    def judge(self, database: str, user: str, found: Finding | None = None) -> Judge | None:
        return self.users.judge(database, user) if found is None else None

    def console_secret(self, user: str) -> str | None:
        general = self.general
        return general.admin_password if user == general.admin_username else None

    def is_admin_database(self, name: str) -> bool:
        return name in ("pgdoorman", "pgbouncer")

    def asks(self, user: str, database: str) -> None:
        self.asked = (user, database)

    def admit(self, console: bool) -> None:
        self.admitted += 1
        if self.full:
            raise TooManyClients("sorry, too many clients already")


class Client:
    """Responses what it is asked; keeps the type and authentication code of each message, and the SCRAM parameters."""

    def __init__(self, user: str, password: str) -> None:
        self.user, self.password = user, password
        self.seen: list[tuple[str, int]] = []
        self.salt = ""
        self.scram = ScramClient(["SCRAM-SHA-256"], user, password)

    def __call__(self, data: bytes) -> bytes:
        kind, length, code = struct.unpack("!cII", data[:9])
        body = data[9 : length + 1]
        self.seen.append((kind.decode(), code))
        if kind == b"v":
            return self(data[length + 1 :])
        if code == 5:
            inner = hashlib.md5((self.password + self.user).encode()).hexdigest()
            answer = b"md5" + hashlib.md5(inner.encode() + body).hexdigest().encode() + b"\0"
        elif code == 10:
            first = self.scram.get_client_first().encode()
            answer = b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first
        else:
            self.salt = body.decode().split(",", 1)[1]
            self.scram.set_server_first(body.decode())
            answer = self.scram.get_client_final().encode()
        return b"p" + struct.pack("!I", len(answer) + 4) + answer


def enter(stream: FakeStream, context: Context | None = None) -> Accepted | CancelRequested:
    context = context or Context()
    return login(stream, context, context)  # type: ignore[arg-type]


def accepted(*arrivals: bytes, context: Context | None = None, **stream: Any) -> Accepted:
    stream.setdefault("answer", Client("scram", "secret"))
    found = enter(FakeStream(*arrivals, **stream), context)
    assert isinstance(found, Accepted)
    return found


def refused(*arrivals: bytes, context: Context | None = None, **stream: Any) -> DoormanError:
    with pytest.raises(DoormanError) as caught:
        enter(FakeStream(*arrivals, **stream), context)
    return caught.value


HELLO = startup(user="scram", database="main")

# -- encryption


def test_without_a_certificate_the_login_goes_on_in_clear() -> None:
    for requests in ([SSL], [GSS], [GSS, SSL], [SSL, GSS]):
        client = Client("scram", "secret")
        stream = FakeStream(*requests, HELLO, answer=lambda data, c=client: c(data.lstrip(b"N")))  # type: ignore[misc]
        found = enter(stream)
        assert isinstance(found, Accepted)
        assert stream.written[: len(requests) + 1] == b"N" * len(requests) + b"R"
        assert stream.handshakes == []


def test_with_a_certificate_tls_begins() -> None:
    client = Client("scram", "secret")
    context = Context(tls_context=CONTEXT, general=General("require"))
    stream = FakeStream(GSS, SSL, HELLO, answer=lambda data: client(data.removeprefix(b"NS")))
    assert isinstance(enter(stream, context), Accepted)
    assert stream.handshakes == [CONTEXT]
    assert stream.written[:3] == b"NSR"


@pytest.mark.parametrize("context", [None, CONTEXT])
@pytest.mark.parametrize("request_", [SSL, GSS])
@pytest.mark.parametrize("behind", [b"\0", HELLO, SSL])
def test_what_came_in_clear_behind_a_request_is_refused(
    context: ssl.SSLContext | None, request_: bytes, behind: bytes
) -> None:
    stream = FakeStream(request_ + behind)
    with pytest.raises(ProtocolViolation, match="received unencrypted data after"):
        enter(stream, Context(tls_context=context))
    assert stream.written == b""
    assert stream.handshakes == []


@pytest.mark.parametrize("requests", [[SSL, SSL], [GSS, GSS], [GSS, SSL, GSS], [SSL, GSS, SSL]])
def test_each_request_is_answered_once(requests: list[bytes]) -> None:
    error = refused(*requests, HELLO)
    assert isinstance(error, UnsupportedFeature)
    assert error.sqlstate == "0A000"


@pytest.mark.parametrize("request_", [SSL, GSS])
def test_under_tls_no_more_encryption_is_asked_for(request_: bytes) -> None:
    assert refused(SSL, request_, HELLO, context=Context(tls_context=CONTEXT)).sqlstate == "0A000"


def test_a_unix_socket_has_no_tls_and_needs_none() -> None:
    for mode in ("allow", "require", "verify-full"):
        client = Client("scram", "secret")
        stream = FakeStream(SSL, HELLO, is_unix=True, answer=lambda data, c=client: c(data.removeprefix(b"N")))
        assert isinstance(enter(stream, Context(tls_context=CONTEXT, general=General(mode))), Accepted)
        assert stream.handshakes == []


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_clear_tcp_is_refused_where_tls_is_required(mode: str) -> None:
    context = Context(tls_context=CONTEXT, general=General(mode))
    for arrivals in ([HELLO], [GSS, HELLO]):
        error = refused(*arrivals, context=context)
        assert isinstance(error, NotPermitted)
        assert (error.sqlstate, "tls_mode" in error.message) == ("28000", True)
    assert context.admitted == 0
    # A cancel may come in clear, as with PostgreSQL.
    assert enter(FakeStream(cancel(1, b"abcd")), context) == CancelRequested(1, b"abcd")


def test_a_handshake_that_fails_leaves_nobody_to_tell() -> None:
    stream = FakeStream(SSL)
    stream.handshake_error = ssl.SSLError(1, "certificate verify failed")
    with pytest.raises(PeerGone):
        enter(stream, Context(tls_context=CONTEXT))


# -- TLS without a request for it

HELLO_OF_TLS = bytes.fromhex("16030100f8010000f40303") + bytes(240)


def direct(*arrivals: bytes, alpn: str | None = "postgresql", **more: Any) -> FakeStream:
    """A client that begins with TLS."""
    stream = FakeStream(HELLO_OF_TLS, *arrivals, **more)
    stream.alpn = alpn
    return stream


def test_tls_that_begins_at_once() -> None:
    context = Context(tls_context=CONTEXT, general=General("require"))
    stream = direct(HELLO, answer=Client("scram", "secret"))
    assert isinstance(enter(stream, context), Accepted)
    assert stream.handshakes == [CONTEXT]
    assert stream.written[:1] == b"R"
    assert enter(direct(cancel(1, b"abcd")), context) == CancelRequested(1, b"abcd")


@pytest.mark.parametrize("alpn", [None, "h2", "POSTGRESQL", ""])
def test_tls_that_begins_at_once_has_to_be_meant_for_postgresql(alpn: str | None) -> None:
    stream = direct(HELLO, alpn=alpn)
    with pytest.raises(HandshakeFailed, match="without ALPN protocol negotiation extension"):
        enter(stream, Context(tls_context=CONTEXT))
    assert stream.written == b""


@pytest.mark.parametrize(("context", "is_unix"), [(None, False), (CONTEXT, True), (None, True)])
def test_tls_that_begins_at_once_where_there_is_none(context: ssl.SSLContext | None, is_unix: bool) -> None:
    stream = direct(HELLO, is_unix=is_unix)
    with pytest.raises(HandshakeFailed, match="TLS is not offered here"):
        enter(stream, Context(tls_context=context))
    assert stream.written == b""
    assert stream.handshakes == []


def test_requests_for_encryption_under_tls_that_began_at_once() -> None:
    """PostgreSQL answers them by a no."""
    client = Client("scram", "secret")
    stream = direct(SSL, GSS, HELLO, answer=lambda data: client(data.lstrip(b"N")))
    assert isinstance(enter(stream, Context(tls_context=CONTEXT)), Accepted)
    assert stream.written[:3] == b"NNR"
    assert stream.handshakes == [CONTEXT]


def test_a_handshake_behind_a_request_that_was_refused() -> None:
    error = refused(SSL, HELLO_OF_TLS)
    assert "a TLS handshake where TLS was refused" in error.message


class Line(RateLimit):
    """Takes down how often somebody has waited, and how much he had said by then."""

    def __init__(self, stream: FakeStream) -> None:
        super().__init__(100)
        self.stream = stream
        self.seen: list[bytes] = []

    def wait(self) -> None:
        self.seen.append(self.stream.written)
        super().wait()


@pytest.mark.parametrize("begin", [[SSL, HELLO_OF_TLS], [HELLO_OF_TLS]])
def test_a_handshake_waits_for_its_turn(begin: list[bytes]) -> None:
    client = Client("scram", "secret")
    stream = FakeStream(*begin, HELLO, answer=lambda data: client(data.removeprefix(b"S")))
    stream.alpn = "postgresql"
    line = Line(stream)
    assert isinstance(enter(stream, Context(tls_context=CONTEXT, handshakes=line)), Accepted)
    assert line.seen == [b"S" if len(begin) == 2 else b""]


def test_who_says_nothing_takes_nobody_s_turn() -> None:
    stream = FakeStream(SSL)
    line = Line(stream)
    with pytest.raises(PeerGone):
        enter(stream, Context(tls_context=CONTEXT, handshakes=line))
    assert line.seen == []


# -- startup packets


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 3, 4, 7, 10001, 65536, (1 << 31) - 1, 0x15030100])
def test_impossible_lengths_are_refused_at_once(length: int) -> None:
    error = refused(struct.pack("!i", length))
    assert error.sqlstate == "08P01"
    assert "startup packet" in error.message


def test_the_longest_packet_and_one_in_pieces() -> None:
    fixed = len(startup(user="scram", database="main", application_name=""))
    whole = startup(user="scram", database="main", application_name="x" * (10000 - fixed))
    assert len(whole) == 10000
    assert read_startup_packet(FakeStream(*(bytes([b]) for b in whole))) == whole[4:]  # type: ignore[arg-type]
    assert accepted(*(bytes([b]) for b in HELLO)).user == "scram"


def test_a_client_that_goes_away_in_the_middle() -> None:
    for cut in range(len(HELLO)):
        assert isinstance(refused(HELLO[:cut]), PeerGone)


def test_names_and_versions() -> None:
    found = accepted(startup(PROTOCOL_3_2, user="scram", database="main"))
    assert (found.user, found.database, found.protocol, found.admin) == ("scram", "main", PROTOCOL_3_2, False)
    assert accepted(startup(PROTOCOL_3_0 + 9999, user="scram", database="main")).protocol == PROTOCOL_3_2
    assert accepted(startup(PROTOCOL_3_0 + 1, user="scram", database="main")).protocol == PROTOCOL_3_0 + 1
    context = Context(hba=hba.parse("host all all all trust", "x"))
    context.users = Users({"scram": Pool([User("scram", "x")])}, KEY)
    assert accepted(startup(user="scram"), context=context).database == "scram"
    assert accepted(startup(user="scram", database=""), context=context).database == "scram"


@pytest.mark.parametrize("parameters", [{}, {"user": ""}, {"database": "main"}])
def test_a_user_is_mandatory(parameters: dict[str, str]) -> None:
    error = refused(startup(**parameters))
    assert (error.sqlstate, error.message) == ("28000", "no PostgreSQL user name specified in startup packet")


@pytest.mark.parametrize(
    ("protocol", "options", "minor", "names"),
    [
        (PROTOCOL_3_0, {"_pq_.a": "1"}, 0, b"_pq_.a\0"),
        (PROTOCOL_3_2, {"_pq_.a": "1", "_pq_.b": ""}, 2, b"_pq_.a\0_pq_.b\0"),
        (PROTOCOL_3_0 + 3, {}, 2, b""),
    ],
)
def test_what_is_not_known_is_negotiated(protocol: int, options: dict[str, str], minor: int, names: bytes) -> None:
    stream = FakeStream(startup(protocol, user="scram", database="main", **options), answer=Client("scram", "secret"))
    found = enter(stream)
    assert isinstance(found, Accepted)
    assert dict(found.parameters) == {}
    body = struct.pack("!HHI", 3, minor, len(options)) + names
    assert stream.written.startswith(b"v" + struct.pack("!I", len(body) + 4) + body + b"R")


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_0 + 1, PROTOCOL_3_2])
def test_what_is_spoken_is_not_negotiated(protocol: int) -> None:
    stream = FakeStream(startup(protocol, user="scram", database="main"), answer=Client("scram", "secret"))
    enter(stream)
    assert stream.written.startswith(b"R")


@pytest.mark.parametrize("protocol", [0, 2 << 16, 4 << 16])
def test_another_major_version(protocol: int) -> None:
    error = refused(startup(protocol, user="scram", database="main"))
    assert error.sqlstate == "0A000"
    assert "unsupported frontend protocol" in error.message


@pytest.mark.parametrize(("value", "kind"), [("on", PHYSICAL), ("true", PHYSICAL), ("database", LOGICAL)])
def test_replication(value: str, kind: str) -> None:
    found = accepted(startup(user="scram", database="other", replication=value, application_name="standby"))
    assert (found.replication, found.database) == (kind, "other")
    assert dict(found.parameters) == {"application_name": "standby"}


@pytest.mark.parametrize("database", [{}, {"database": "replication"}, {"database": "nowhere"}])
def test_physical_replication_needs_no_database(database: dict[str, str]) -> None:
    found = accepted(startup(user="scram", replication="true", **database))
    assert (found.replication, found.database) == (PHYSICAL, "main")


def test_physical_replication_of_a_user_who_is_not_in_the_pool_named() -> None:
    found = accepted(startup(user="plain", database="other", replication="true"), answer=Client("plain", "secret"))
    assert found.database == "main"


@pytest.mark.parametrize(
    "who",
    [
        {"user": "nobody", "database": "main", "replication": "true"},
        {"user": "nobody", "replication": "true"},
        {"user": "nobody", "database": "main", "replication": "database"},
        {"user": "scram", "database": "nowhere", "replication": "database"},
    ],
)
def test_replication_of_the_unknown_looks_like_any_login(who: dict[str, str]) -> None:
    client = Client(who["user"], "secret")
    error = refused(startup(**who), answer=client)
    usual = Client(who["user"], "secret")
    expected = refused(startup(**{**who, "replication": "off"}), answer=usual)
    assert (error.sqlstate, error.message) == (expected.sqlstate, expected.message)
    assert (client.seen, client.salt) == (usual.seen, usual.salt)


def test_rules_for_replication() -> None:
    context = Context(hba=hba.parse("host replication scram all scram-sha-256\nhost other all all trust", "test"))
    assert accepted(startup(user="scram", replication="on"), context=context).database == "main"
    found = accepted(
        startup(user="plain", replication="database", database="main"),
        context=Context(),
        answer=Client("plain", "secret"),
    )
    assert found.replication == LOGICAL
    for who in (
        {"user": "plain", "replication": "on"},
        {"user": "scram", "database": "main", "replication": "database"},
    ):
        assert refused(startup(**who), context=context).sqlstate == "28000"


@pytest.mark.parametrize("value", ["true", "database"])
@pytest.mark.parametrize("database", ["pgdoorman", "pgbouncer"])
def test_the_console_has_no_replication(database: str, value: str) -> None:
    error = refused(startup(user="admin", database=database, replication=value))
    assert error.sqlstate == "0A000"


def test_replication_that_is_off_or_nonsense() -> None:
    for value in ("false", "off", "0", "no", ""):
        assert accepted(startup(user="scram", database="main", replication=value)).parameters == ()
    assert refused(startup(user="scram", database="main", replication="maybe")).sqlstate == "22023"


def test_settings() -> None:
    found = accepted(
        startup(
            user="scram",
            database="main",
            options=r"-c TimeZone=UTC --search-path=a,\ b -c geqo=off",
            timezone="Asia/Tokyo",
            application_name="x",
        )
    )
    assert dict(found.parameters) == {
        "search_path": "a, b",
        "geqo": "off",
        "timezone": "Asia/Tokyo",
        "application_name": "x",
    }


@pytest.mark.parametrize(
    ("parameters", "sqlstate"),
    [
        ({"options": "-c x"}, "42601"),
        ({"a b": "c"}, "42704"),
        ({"options": "-c a;b=c"}, "42704"),
        ({"1x": ""}, "42704"),
    ],
)
def test_settings_that_can_not_be(parameters: dict[str, str], sqlstate: str) -> None:
    hello = startup(user="scram", database="main", **parameters)
    assert refused(hello, answer=Client("scram", "secret")).sqlstate == sqlstate


# -- cancels


@pytest.mark.parametrize("secret", [b"abcd", b"k" * 32, b"k" * 256])
def test_a_cancel_is_no_login(secret: bytes) -> None:
    context = Context(full=True, hba=hba.parse("local all all trust", "x"), tls_context=CONTEXT)
    for arrivals in ([cancel(-5, secret)], [SSL, cancel(-5, secret)], [GSS, cancel(-5, secret)]):
        stream = FakeStream(*arrivals)
        assert enter(stream, context) == CancelRequested(-5, secret)
        assert stream.written.strip(b"NS") == b""
    assert context.admitted == 0


@pytest.mark.parametrize("packet", [cancel(7, b""), cancel(7, b"k" * 257), struct.pack("!ii", 8, 80877102)])
def test_a_malformed_cancel_is_nobody_s_and_gets_no_answer(packet: bytes) -> None:
    stream = FakeStream(packet)
    assert enter(stream) == CancelRequested(0, b"")
    assert stream.written == b""


# -- who may come


def test_a_full_house_is_told_before_a_password_is_asked_for() -> None:
    stream = FakeStream(HELLO)
    with pytest.raises(TooManyClients):
        enter(stream, Context(full=True))
    assert stream.written == b""


def test_rules_decide_before_admission_and_by_address_tls_and_names() -> None:
    rules = hba.parse("hostssl main scram 10.0.0.0/8 trust\nhost all all 10.0.0.0/8 reject\nlocal all all trust", "x")
    context = Context(hba=rules, tls_context=CONTEXT)
    assert refused(HELLO, context=context, peer_host="10.1.1.1").sqlstate == "28000"
    assert refused(HELLO, context=context, peer_host="11.1.1.1").sqlstate == "28000"
    assert context.admitted == 0
    stream = FakeStream(SSL, HELLO, peer_host="10.1.1.1")
    assert isinstance(enter(stream, context), Accepted)
    assert stream.written == b"S"
    assert accepted(HELLO, context=context, is_unix=True).credentials is None
    assert context.admitted == 2


@pytest.mark.parametrize(("tls_rule", "clear_rule"), [("scram-sha-256", "reject"), ("reject", "scram-sha-256")])
def test_who_is_remembered_by_tls_is_not_known_in_clear(tls_rule: str, clear_rule: str) -> None:
    """Nor the other way round: the rules may have other words for them."""
    rules = f"hostssl all all all {tls_rule}\nhostnossl all all all {clear_rule}"
    context = Context(hba=hba.parse(rules, "x"), tls_context=CONTEXT)
    client = Client("scram", "secret")
    clear, tls = [HELLO], [SSL, HELLO]
    good, bad = (tls, clear) if clear_rule == "reject" else (clear, tls)

    def answer(data: bytes) -> bytes:
        return client(data.removeprefix(b"S"))

    for known in (0, 1, 1):
        assert len(context.cache) == known
        client.scram = ScramClient(["SCRAM-SHA-256"], "scram", "secret")
        assert accepted(*good, context=context, answer=answer).credentials
    context.find_user = None  # type: ignore[assignment,method-assign]  # for who is remembered nothing is decided again
    client.scram = ScramClient(["SCRAM-SHA-256"], "scram", "secret")
    assert accepted(*good, context=context, answer=answer).credentials
    assert refused(*bad, context=context).sqlstate == "28000"


def test_trust_lets_in_only_who_is_known() -> None:
    context = Context(hba=hba.parse("host all all all trust", "x"))
    for user in ("scram", "plain", "md5", "none"):
        assert accepted(startup(user=user, database="main"), context=context).user == user
    for user, database in (("nobody", "main"), ("scram", "nowhere"), ("plain", "other"), ("scram", "pgdoorman")):
        error = refused(startup(user=user, database=database), context=context)
        assert isinstance(error, AuthenticationFailed)
    assert accepted(startup(user="admin", database="pgdoorman"), context=context).admin


@pytest.mark.parametrize(
    ("user", "rule", "seen"),
    [
        ("scram", None, [10, 11]),
        ("plain", None, [10, 11]),
        ("md5", None, [5]),
        ("scram", "md5", [10, 11]),
        ("plain", "md5", [10, 11]),
        ("md5", "md5", [5]),
        ("scram", "scram-sha-256", [10, 11]),
        ("plain", "scram-sha-256", [10, 11]),
    ],
)
def test_methods(user: str, rule: str | None, seen: list[int]) -> None:
    context = Context(hba=hba.parse(f"host all all all {rule}", "x") if rule else hba.AddressList())
    client = Client(user, "secret")
    found = accepted(startup(user=user, database="main"), context=context, answer=client)
    assert [code for _, code in client.seen] == seen
    assert (found.credentials is not None) is (seen == [10, 11])
    if user == "scram":
        assert found.credentials is not None
        assert hashlib.sha256(found.credentials).digest() == ScramSecret.parse(SCRAM_SECRET).stored_key
        assert repr(found.credentials) not in repr(found)


@pytest.mark.parametrize("rule", [None, "md5", "scram-sha-256"])
@pytest.mark.parametrize("database", ["pgdoorman", "pgbouncer"])
def test_the_console(rule: str | None, database: str) -> None:
    context = Context(hba=hba.parse(f"host all all all {rule}", "x") if rule else hba.AddressList())
    expected = [10, 11] if rule == "scram-sha-256" else [5]
    client = Client("admin", "console")
    found = accepted(startup(user="admin", database=database), context=context, answer=client)
    assert (found.admin, [code for _, code in client.seen]) == (True, expected)
    for user, password in (("admin", "wrong"), ("scram", "secret"), ("scram", "console"), ("nobody", "console")):
        client = Client(user, password)
        error = refused(startup(user=user, database=database), context=context, answer=client)
        assert isinstance(error, AuthenticationFailed)
        assert [code for _, code in client.seen] == expected


def test_a_console_without_a_password_is_closed_but_to_trust() -> None:
    context = Context(general=General(admin_password=""))
    assert isinstance(
        refused(startup(user="admin", database="pgdoorman"), context=context, answer=Client("admin", "")),
        AuthenticationFailed,
    )


def nobody_decides(context: Context) -> None:
    """From now on it is an error to ask rules or users."""
    context.hba = context.users = None  # type: ignore[assignment]


@pytest.mark.parametrize("user", ["scram", "plain"])
def test_about_one_like_another_nothing_is_decided_but_the_proof(user: str) -> None:
    context = Context()
    packet = startup(user=user, database="main", application_name="till")
    assert isinstance(refused(packet, context=context, answer=Client(user, "wrong")), AuthenticationFailed)
    nobody_decides(context)
    first = accepted(packet, context=context, answer=Client(user, "secret"))
    assert first.credentials is not None
    assert accepted(packet, context=context, answer=Client(user, "secret")) == first
    assert isinstance(refused(packet, context=context, answer=Client(user, "wrong")), AuthenticationFailed)

    context = Context()
    first = accepted(packet, context=context, answer=Client(user, "secret"))
    nobody_decides(context)
    client = Client(user, "secret")
    assert accepted(packet, context=context, answer=client) == first
    assert [code for _, code in client.seen] == [10, 11]
    assert isinstance(refused(packet, context=context, answer=Client(user, "wrong")), AuthenticationFailed)
    assert len(context.cache) == 1
    assert isinstance(refused(packet, context=Context(), answer=Client(user, "wrong")), AuthenticationFailed)


def test_about_strangers_nothing_is_decided_twice_either() -> None:
    context = Context()
    seen = failure("nobody", "main", context=context)
    nobody_decides(context)
    assert failure("nobody", "main", context=context) == seen
    assert len(context.cache) == 0


# -- what is never told


def failure(user: str, database: str, password: str = "wrong", context: Context | None = None) -> tuple[Any, ...]:
    """All that a client whose login fails can see, with its own name blotted out."""
    client = Client(user, password)
    stream = FakeStream(startup(user=user, database=database), answer=client)
    with pytest.raises(DoormanError) as caught:
        enter(stream, context)
    assert stream.queued == b""
    error = caught.value
    assert error.__cause__ is not None
    text = error.message.replace(f'"{user}"', '"x"')
    return type(error), error.sqlstate, text, error.detail, error.hint, client.seen, len(stream.written), client.salt


def test_unknown_user_unknown_database_and_wrong_password_look_the_same() -> None:
    wrong = failure("scram", "main")
    assert wrong[:4] == (AuthenticationFailed, "28P01", 'password authentication failed for user "x"', None)
    # The very same salt: it does not show in which databases the user is.
    for database in ("other", "nowhere", "elsewhere"):
        assert failure("scram", database) == wrong
    assert failure("scram", "nowhere", "secret") == wrong
    # Users who are nowhere, or have no password, or one in plain text: the same but for the salt, which stays.
    for user in ("plain", "none", "nobody", "somebody"):
        for database in ("main", "nowhere"):
            assert failure(user, database)[:-1] == wrong[:-1]
            assert failure(user, database) == failure(user, "other", "something else")
    salts = {failure(user, "main")[-1] for user in ("scram", "plain", "none", "nobody", "somebody")}
    assert len(salts) == 5
    assert len({(len(salt), salt[-6:]) for salt in salts}) == 1
    assert failure("md5", "main") == failure("md5", "nowhere") == failure("md5", "nowhere", "secret")


def test_where_all_have_md5_hashes_the_unknown_have_too() -> None:
    context = Context()
    context.users = Users({"main": Pool([User(name, hash_password("secret", name)) for name in "ab"])}, KEY)
    wrong = failure("a", "main", context=context)
    assert wrong[5] == [("R", 5)]
    for user, database in (("nobody", "main"), ("a", "nowhere"), ("nobody", "nowhere")):
        assert failure(user, database, context=context) == wrong


def test_the_right_password_in_a_database_where_the_user_is_not() -> None:
    assert failure("plain", "other", "secret")[:2] == (AuthenticationFailed, "28P01")
    # md5 of another user's name does not open, although both have one password
    assert isinstance(
        refused(startup(user="md5", database="main"), answer=Client("other", "secret")), AuthenticationFailed
    )


@given(
    arrivals=st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [SSL, GSS, HELLO, cancel(1, b"abcd"), startup(user="md5"), b"p\0\0\0\x05\0", b"p\0\0\0\x04", HELLO[:20]]
        ),
        max_size=5,
    ),
    tls=st.booleans(),
)
def test_any_bytes_end_in_an_error_that_can_be_told(arrivals: list[bytes], tls: bool) -> None:
    context = Context(tls_context=CONTEXT if tls else None)
    try:
        found = enter(FakeStream(*arrivals), context)
    except DoormanError as exc:
        assert len(exc.sqlstate) == 5
    else:
        assert isinstance(found, CancelRequested)


# -- users who are looked up


@dataclass
class Looking(Context):
    """A pooler that looks users of "looked" up, and finds those in ``people``."""

    people: dict[str, str] = field(default_factory=dict)
    unavailable: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stats = LookupStats()
        self.asked_about: list[str] = []
        self.lookup = Lookup("looked", AuthQuery(query="SELECT f($1)", user="reader"), self._ask, self.stats)

    def _ask(self, user: str) -> Answer:
        self.asked_about.append(user)
        if self.unavailable:
            raise ServerUnavailable("nobody there")
        rows = [[self.people[user].encode()]] if user in self.people else []
        return Answer([b"passwd"], rows, (None, b"1", b"scram-sha-256", b"4096"))

    def looks_up(self, database: str) -> bool:
        return database == "looked"

    def look_up(self, database: str, user: str) -> Finding:
        return self.lookup.look_up(user)

    def stand_in(self, user: str, found: Finding | None = None) -> str:
        return self.users.stand_in(user) if found is None else self.users.made_up(user, found.look)


@pytest.mark.parametrize("secret", [SCRAM_SECRET, hash_password("secret", "alice")])
def test_who_is_found_gets_in_with_what_was_found(secret: str) -> None:
    context = Looking(people={"alice": secret})
    hello = startup(user="alice", database="looked")
    for _ in range(2):
        found = accepted(hello, context=context, answer=Client("alice", "secret"))
        assert (found.user, found.secret, bool(found.credentials)) == ("alice", secret, secret == SCRAM_SECRET)
    assert context.asked_about == ["alice"]
    assert (context.stats.auth_success, context.stats.auth_failure, context.stats.cache_hits) == (2, 0, 1)
    error = refused(hello, context=context, answer=Client("alice", "wrong"))
    assert error.message == 'password authentication failed for user "alice"'
    assert context.stats.auth_failure == 1


def test_who_is_not_found_looks_as_one_with_a_wrong_password() -> None:
    context = Looking(people={"alice": SCRAM_SECRET})
    seen, errors, salts = [], [], []
    for user in ("alice", "nobody", "nobody"):
        client = Client(user, "wrong")
        errors.append(refused(startup(user=user, database="looked"), context=context, answer=client))
        seen.append(client.seen)
        salts.append(client.salt)
    assert seen[0] == seen[1] == seen[2]
    assert salts[1] == salts[2] and len(salts[0]) == len(salts[1])
    assert [error.message.replace("nobody", "alice") for error in errors] == [errors[0].message] * 3
    assert str(errors[1].__cause__) == "auth_query finds no such user"


def test_where_users_are_not_looked_up_and_who_is_configured() -> None:
    context = Looking(people={"scram": hash_password("other", "scram"), "none": SCRAM_SECRET})
    assert accepted(HELLO, context=context).secret == ""
    error = refused(startup(user="none", database="main"), context=context, answer=Client("none", "secret"))
    assert isinstance(error, AuthenticationFailed)
    assert context.asked_about == []


def test_trust_lets_in_who_is_found_and_nobody_else() -> None:
    rules = hba.gate((), HbaSource("general.pg_hba", "host all all all trust"))
    context = Looking(people={"alice": SCRAM_SECRET}, hba=rules)
    found = accepted(startup(user="alice", database="looked"), context=context)
    assert (found.user, found.credentials, found.secret) == ("alice", None, SCRAM_SECRET)
    assert isinstance(refused(startup(user="nobody", database="looked"), context=context), AuthenticationFailed)
    assert (context.stats.auth_success, context.stats.auth_failure) == (1, 1)


def test_without_an_answer_nobody_is_asked_for_a_proof() -> None:
    context = Looking(people={"alice": SCRAM_SECRET}, unavailable=True)
    for user in ("alice", "nobody"):
        client = Client(user, "secret")
        error = refused(startup(user=user, database="looked"), context=context, answer=client)
        assert (error.sqlstate, error.message) == (
            "58000",
            "Authentication service unavailable. Please try again later.",
        )
        assert client.seen == []
