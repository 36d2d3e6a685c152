"""Which method is chosen, what those who are unknown look like, and exchanges over a stream."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import pytest
from fakes import FakeStream
from scramp import ScramClient

from pgdoorman_lib.auth.md5 import hash_password, is_hash
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.auth.users import Users
from pgdoorman_lib.auth.verify import (
    Candidate,
    Refusal,
    authenticate,
    console_method_for,
    method_for,
)
from pgdoorman_lib.errors import AuthenticationFailed, ConfigError, PeerGone, ProtocolViolation

KEY = b"k" * 32
MD5_SECRET = hash_password("secret", "app")
SCRAM_SECRET = str(ScramSecret.derive("secret", b"0123456789abcdef"))


@dataclass
class Account:
    username: str
    password: str
    auth_pam_service: str | None = None


@dataclass
class Pool:
    users: tuple[Account, ...]


def users(**pools: dict[str, str]) -> Users[Account]:
    return Users({name: Pool(tuple(Account(*user) for user in pool.items())) for name, pool in pools.items()}, KEY)


class Client:
    """Responses MD5 and SCRAM challenges on a FakeStream; keeps what it was sent."""

    def __init__(self, user: str = "app", password: str = "secret", end_point: bytes | None = None) -> None:
        self.user, self.password = user, password
        #: offered, and chosen
        self.mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"] if end_point else ["SCRAM-SHA-256"]
        binding = ("tls-server-end-point", end_point) if end_point else None
        self.scram = ScramClient(self.mechanisms, user, password, channel_binding=binding)
        self.seen: list[bytes] = []

    def __call__(self, data: bytes) -> bytes:
        assert data[:1] == b"R"
        (length, code), rest = struct.unpack("!II", data[1:9]), data[9:]
        assert length == len(data) - 1
        self.seen.append(data)
        if code == 5:
            inner = hashlib.md5((self.password + self.user).encode()).hexdigest()
            answer = b"md5" + hashlib.md5(inner.encode() + rest).hexdigest().encode() + b"\0"
        elif code == 10:
            assert rest == b"".join(name.encode() + b"\0" for name in self.mechanisms) + b"\0"
            first = self.scram.get_client_first().encode()
            answer = self.mechanisms[0].encode() + b"\0" + struct.pack("!i", len(first)) + first
        else:
            assert code == 11
            self.scram.set_server_first(rest.decode())
            answer = self.scram.get_client_final().encode()
        return b"p" + struct.pack("!I", len(answer) + 4) + answer

    @property
    def codes(self) -> list[int]:
        return [struct.unpack("!I", data[5:9])[0] for data in self.seen]


# -- the method


@pytest.mark.parametrize(
    ("secret", "by_itself", "md5", "scram", "console"),
    [
        (MD5_SECRET, "md5", "md5", "scram-sha-256", "md5"),
        (SCRAM_SECRET, "scram-sha-256", "scram-sha-256", "scram-sha-256", "scram-sha-256"),
        ("plain", "scram-sha-256", "scram-sha-256", "scram-sha-256", "md5"),
    ],
)
def test_methods_for_secrets(secret: str, by_itself: str, md5: str, scram: str, console: str) -> None:
    assert method_for(secret, None) == by_itself
    assert method_for(secret, "md5") == md5
    assert method_for(secret, "scram-sha-256") == scram
    assert method_for(secret, "trust") == "trust"
    assert console_method_for(secret, None) == console
    assert console_method_for(secret, "md5") == console
    assert console_method_for(secret, "scram-sha-256") == "scram-sha-256"
    assert console_method_for(secret, "trust") == "trust"


# -- those who are unknown


def test_users_are_found_in_their_own_pool() -> None:
    known = users(a={"app": "x", "other": "y"}, b={"app": "z"})
    assert known.find("a", "app") == Account("app", "x")
    assert known.find("b", "app") == Account("app", "z")
    assert known.find("b", "other") is None
    assert known.find("nowhere", "app") is None


def test_who_is_in_another_pool_looks_as_there() -> None:
    known = users(a={"app": MD5_SECRET}, b={"app": SCRAM_SECRET, "other": SCRAM_SECRET})
    assert known.stand_in("app") == MD5_SECRET
    assert known.stand_in("other") == SCRAM_SECRET


def test_the_unknown_look_as_most_do() -> None:
    many = str(ScramSecret.derive("x", b"s" * 20, 10))
    for known, iterations, salt in (
        (users(), 4096, 16),
        (users(a={"u": "plain", "v": MD5_SECRET, "w": "plain"}), 4096, 16),
        (users(a={"u": many, "v": many, "w": "plain"}), 10, 20),
        (users(a={"u": ""}), 4096, 16),
    ):
        secret = ScramSecret.parse(known.stand_in("nobody"))
        assert (secret.iterations, len(secret.salt)) == (iterations, salt)
        assert known.stand_in("nobody") == str(secret)
        assert known.stand_in("nobody else") != str(secret)
    assert is_hash(users(a={"u": MD5_SECRET, "v": MD5_SECRET, "w": "plain"}).stand_in("nobody"))


def judged_users(**pools: dict[str, str]) -> Users[Account]:
    """Users as ``users``, but of whom those have a judge, by that name, whose password begins with ``judge``."""

    def judge_of(account: Any) -> Any:
        return account.password if account.password.startswith("judge") else None

    return Users(
        {name: Pool(tuple(Account(*user) for user in pool.items())) for name, pool in pools.items()}, KEY, judge_of
    )


def test_who_is_judged_elsewhere_looks_as_there() -> None:
    known = judged_users(a={"app": "judge", "plain": "x", "more": "x"}, b={"app": "plain", "other": "judge two"})
    assert (known.judge("a", "app"), known.judge("b", "app")) == ("judge", None)
    assert (known.judge("c", "app"), known.judge("a", "other")) == ("judge", "judge two")
    assert (known.judge("b", "plain"), known.judge("a", "nobody")) == (None, None)
    assert (known.judge_elsewhere("other"), known.judge_elsewhere("nobody")) == ("judge two", None)


def test_the_unknown_are_judged_if_most_are() -> None:
    known = judged_users(a={"u": "judge", "v": "judge", "w": "plain", "x": MD5_SECRET, "y": "judge two"})
    assert known.judge("a", "nobody") == "judge"
    assert known.judge("a", "w") is None
    assert known.judge_elsewhere("nobody") is None
    even = judged_users(a={"u": "judge", "w": "plain"})
    assert even.judge("a", "nobody") is None


def test_a_malformed_secret_names_its_user_and_does_not_show_itself() -> None:
    with pytest.raises(ConfigError, match='pool "a", user "app"') as caught:
        users(a={"app": "SCRAM-SHA-256$4096:hidden"})
    assert "hidden" not in caught.value.message


# -- exchanges


@pytest.mark.parametrize(
    ("secret", "method", "codes"),
    [
        (MD5_SECRET, "md5", [5]),
        ("secret", "md5", [5]),
        (SCRAM_SECRET, "scram-sha-256", [10, 11]),
        ("secret", "scram-sha-256", [10, 11]),
    ],
)
def test_right_and_wrong_passwords(secret: str, method: str, codes: list[int]) -> None:
    client = Client()
    stream = FakeStream(answer=client)
    client_key = authenticate(stream, Candidate("app", secret), method, KEY)  # type: ignore[arg-type]
    assert client.codes == codes
    if method == "md5":
        assert client_key is None
        assert stream.queued == b""
    else:
        assert client_key is not None
        used = ScramSecret.parse(secret) if secret == SCRAM_SECRET else None
        assert used is None or hashlib.sha256(client_key).digest() == used.stored_key
        assert stream.queued[:1] == b"R"
        client.scram.set_server_final(stream.queued[9:].decode())

    client = Client(password="wrong")
    stream = FakeStream(answer=client)
    with pytest.raises(AuthenticationFailed) as caught:
        authenticate(stream, Candidate("app", secret), method, KEY)  # type: ignore[arg-type]
    assert client.codes == codes
    assert stream.queued == b""
    assert caught.value.sqlstate == "28P01"
    assert caught.value.message == 'password authentication failed for user "app"'
    assert str(caught.value.__cause__) == "wrong password"


@pytest.mark.parametrize("method", ["trust", "md5", "scram-sha-256"])
def test_who_is_to_be_refused_is_refused_even_with_the_right_password(method: str) -> None:
    stream = FakeStream(answer=Client())
    with pytest.raises(AuthenticationFailed) as caught:
        authenticate(stream, Candidate("app", "secret", "no such user"), method, KEY)  # type: ignore[arg-type]
    assert isinstance(caught.value.__cause__, Refusal)
    assert str(caught.value.__cause__) == "no such user"
    assert "no such" not in caught.value.message
    assert stream.queued == b""


def test_scram_with_an_md5_hash_is_a_whole_exchange_that_fails() -> None:
    client = Client()
    with pytest.raises(AuthenticationFailed):
        authenticate(FakeStream(answer=client), Candidate("app", MD5_SECRET), "scram-sha-256", KEY)  # type: ignore[arg-type]
    assert client.codes == [10, 11]


def test_trust_says_nothing() -> None:
    stream = FakeStream()
    assert authenticate(stream, Candidate("app", "secret"), "trust", KEY) is None  # type: ignore[arg-type]
    assert stream.written == b""


def test_a_client_that_asks_the_server_to_begin() -> None:
    """SASLInitialResponse without data: the server sends an empty challenge and the client begins then."""
    client = Client()

    def answer(data: bytes) -> bytes:
        if data[5:9] == struct.pack("!I", 10):
            return b"p" + struct.pack("!I", 4 + 14 + 4) + b"SCRAM-SHA-256\0\xff\xff\xff\xff"
        if data == b"R\0\0\0\x08\0\0\0\x0b":
            first = client.scram.get_client_first().encode()
            return b"p" + struct.pack("!I", 4 + len(first)) + first
        return client(data)

    assert authenticate(FakeStream(answer=answer), Candidate("app", SCRAM_SECRET), "scram-sha-256", KEY)  # type: ignore[arg-type]


def test_a_binding_that_was_not_offered() -> None:
    said = b"SCRAM-SHA-256-PLUS\0\0\0\0\x24p=tls-server-end-point,,n=,r=abcdefgh"
    stream = FakeStream(message(b"p", said))
    with pytest.raises(ProtocolViolation, match="client selected an invalid SASL authentication mechanism"):
        authenticate(stream, Candidate("app", SCRAM_SECRET), "scram-sha-256", KEY)  # type: ignore[arg-type]


END_POINT = bytes(range(32))


def bound(answer: Any, end_point: bytes = END_POINT) -> FakeStream:
    """A stream behind TLS that SCRAM can be bound to."""
    stream = FakeStream(answer=answer)
    stream.end_point = end_point
    return stream


@pytest.mark.parametrize("secret", [SCRAM_SECRET, "secret"])
def test_a_proof_bound_to_tls(secret: str) -> None:
    client = Client(end_point=END_POINT)
    assert authenticate(bound(client), Candidate("app", secret), "scram-sha-256", KEY) is not None  # type: ignore[arg-type]
    assert client.codes == [10, 11]


def test_a_proof_without_binding_where_that_is_offered() -> None:
    """By who can't, as drivers that know no SCRAM-SHA-256-PLUS."""
    client = Client()
    client.mechanisms = ["SCRAM-SHA-256"]

    def answer(data: bytes) -> bytes:
        return client(data.replace(b"SCRAM-SHA-256-PLUS\0", b"").replace(b"\0\0\0\x2a", b"\0\0\0\x17", 1))

    assert authenticate(bound(answer), Candidate("app", SCRAM_SECRET), "scram-sha-256", KEY) is not None  # type: ignore[arg-type]


def test_a_candidate_that_comes_again_has_to_bind_to_its_own_connection() -> None:
    """What is remembered of an earlier login is not bound to anything."""
    candidate = Candidate("app", SCRAM_SECRET)
    for end_point, offered in (
        (END_POINT, END_POINT),
        (END_POINT[::-1], END_POINT[::-1]),
        (END_POINT, END_POINT[::-1]),
    ):
        stream = bound(Client(end_point=end_point), offered)
        if end_point == offered:
            assert authenticate(stream, candidate, "scram-sha-256", KEY) is not None  # type: ignore[arg-type]
        else:
            with pytest.raises(AuthenticationFailed, match="SCRAM channel binding check failed"):
                authenticate(stream, candidate, "scram-sha-256", KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("end_point", [END_POINT, END_POINT[::-1]])
@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_a_wrong_binding_is_told_alike_of_those_who_are_and_who_are_not(end_point: bytes, password: str) -> None:
    told = set()
    for refusal in (None, "no such user"):
        stream = bound(Client(password=password, end_point=end_point))
        try:
            authenticate(stream, Candidate("app", SCRAM_SECRET, refusal), "scram-sha-256", KEY)  # type: ignore[arg-type]
        except AuthenticationFailed as exc:
            told.add((exc.sqlstate, exc.message))
        else:
            told.add(("00000", ""))
    assert len(told) == 1 or (end_point, password) == (END_POINT, "secret")


@pytest.mark.parametrize(
    "said",
    [
        b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc",
        b"SCRAM-SHA-256-PLUS\0\0\0\0\x0by,,n=,r=abc",
        b"SCRAM-SHA-256-PLUS\0\0\0\0\x16p=tls-unique,,n=,r=abc",
        b"SCRAM-SHA-256\0\0\0\0\x20p=tls-server-end-point,,n=,r=abc",
        b"SCRAM-SHA-256-PLU\0\0\0\0\x20p=tls-server-end-point,,n=,r=abc",
    ],
)
def test_a_binding_that_does_not_go_with_the_mechanism(said: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        stream = bound(lambda data: message(b"p", said))
        authenticate(stream, Candidate("app", SCRAM_SECRET), "scram-sha-256", KEY)  # type: ignore[arg-type]
    assert caught.value.sqlstate == "08P01"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


GARBAGE = [
    message(b"Q", b"SELECT 1\0"),
    message(b"X", b""),
    message(b"p", b""),
    b"p\0\0\0\x03",
    b"p\xff\xff\xff\xff",
    b"p" + struct.pack("!I", 70000) + bytes(70000),
    b"\xff" * 100,
]


@pytest.mark.parametrize(
    "said",
    [
        *GARBAGE,
        message(b"p", b"SCRAM-SHA-256"),
        message(b"p", b"SCRAM-SHA-256\0"),
        message(b"p", b"SCRAM-SHA-256\0\0\0"),
        message(b"p", b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r="),
        message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=abc"),
        message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xfen,,n=,r=abc"),
        message(b"p", b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abcd"),
        message(b"p", b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc"),
        message(b"p", b"scram-sha-256\0\0\0\0\x0bn,,n=,r=abc"),
        message(b"p", b"SCRAM-SHA-256\0\0\0\x04\0" + b"n,,n=,r=".ljust(1024, b"x")),
    ],
)
def test_garbage_in_a_scram_exchange(said: bytes) -> None:
    for refusal in (None, "unknown"):
        with pytest.raises(ProtocolViolation) as caught:
            candidate = Candidate("app", SCRAM_SECRET, refusal)
            authenticate(FakeStream(said), candidate, "scram-sha-256", KEY)  # type: ignore[arg-type]
        assert caught.value.sqlstate == "08P01"


@pytest.mark.parametrize(
    "said", [*GARBAGE, message(b"p", b"md5"), message(b"p", b"md5\0x\0"), message(b"p", b"md5\0x")]
)
def test_garbage_in_an_md5_exchange(said: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        authenticate(FakeStream(said), Candidate("app", MD5_SECRET), "md5", KEY)  # type: ignore[arg-type]
    assert caught.value.sqlstate == "08P01"


@pytest.mark.parametrize("answer", [b"", b"md5", MD5_SECRET.encode(), b"secret", b"x" * 60000])
def test_wrong_answers_to_an_md5_challenge(answer: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        authenticate(FakeStream(message(b"p", answer + b"\0")), Candidate("app", MD5_SECRET), "md5", KEY)  # type: ignore[arg-type]


def test_a_client_that_leaves_when_asked_for_a_password() -> None:
    """psql does, to ask its user, and comes again."""
    for method in ("md5", "scram-sha-256"):
        with pytest.raises(PeerGone):
            authenticate(FakeStream(), Candidate("app", SCRAM_SECRET), method, KEY)  # type: ignore[arg-type]
