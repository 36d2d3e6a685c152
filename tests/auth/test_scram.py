"""SCRAM-SHA-256 against scramp's client, against a libpq-like one, and against messages that are none."""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from pgdoorman_lib.auth.scram import ScramExchange, ScramSecret, ScramVerifier, mock_salt, mock_secret
from pgdoorman_lib.errors import AuthenticationFailed, ConfigError, DoormanError, ProtocolViolation, UnsupportedFeature
from pgdoorman_lib.wire.scram import MAX_ITERATIONS

PASSWORD = "correct horse"
SALT = bytes(range(16))
SECRET = ScramSecret.derive(PASSWORD, SALT)
VERIFIER = ScramVerifier(SECRET)
NONCE = b"3rfcNHYJY1ZVvWVs7j"


def keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """ClientKey and StoredKey, computed apart from the code under test."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.new(salted, b"Client Key", "sha256").digest()
    return client_key, hashlib.sha256(client_key).digest()


class LibpqClient:
    """Says ``n=`` and nothing more of the user, as libpq does."""

    def __init__(
        self,
        password: str = PASSWORD,
        gs2: bytes = b"n,,",
        bare: bytes = b"n=,r=fyko+d2lbbFgONRv9qkxdawL",
        end_point: bytes = b"",
    ) -> None:
        self.password, self.gs2, self.bare, self.end_point = password, gs2, bare, end_point
        self.client_key = b""

    def first(self) -> bytes:
        return self.gs2 + self.bare

    def final(self, server_first: bytes, extension: bytes = b"") -> bytes:
        nonce, salt, iterations = (part.split(b"=", 1)[1] for part in server_first.split(b","))
        self.client_key, stored_key = keys(self.password, base64.b64decode(salt), int(iterations))
        unproven = b"c=" + base64.b64encode(self.gs2 + self.end_point) + b",r=" + nonce + extension
        signature = hmac.new(stored_key, b",".join((self.bare, server_first, unproven)), "sha256").digest()
        proof = bytes(a ^ b for a, b in zip(self.client_key, signature, strict=True))
        return unproven + b",p=" + base64.b64encode(proof)


def test_the_example_of_rfc_7677() -> None:
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    secret = ScramSecret.derive("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    exchange = ScramExchange(ScramVerifier(secret), nonce[20:])
    server_first = exchange.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert server_first == b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    proof = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert exchange.final(b"c=biws,r=" + nonce + b",p=" + proof) is not None
    assert exchange.server_final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_with_scramp_s_client_both_sides_are_proven() -> None:
    exchange = ScramExchange(VERIFIER)
    client = ScramClient(["SCRAM-SHA-256"], "user", PASSWORD)
    client.set_server_first(exchange.first(client.get_client_first().encode()).decode())
    client_key = exchange.final(client.get_client_final().encode())
    client.set_server_final(exchange.server_final.decode())
    assert client_key == keys(PASSWORD, SALT, 4096)[0]


@pytest.mark.parametrize("gs2", [b"n,,", b"y,,"])
@pytest.mark.parametrize("bare", [b"n=,r=abc", b"n=*,r=abc", b"n=\xc3\xa9,r=a+/=~!", b"n=x,r=abc,x=ext,y=more"])
def test_with_libpq_s_client_and_extensions(gs2: bytes, bare: bytes) -> None:
    for extension in (b"", b",x=ext,z=,a=b"):
        exchange, client = ScramExchange(VERIFIER), LibpqClient(gs2=gs2, bare=bare)
        client_key = exchange.final(client.final(exchange.first(client.first()), extension))
        assert client_key == client.client_key
        assert hashlib.sha256(client_key).digest() == SECRET.stored_key


def test_a_wrong_password_proves_nothing() -> None:
    exchange, client = ScramExchange(VERIFIER), LibpqClient("wrong")
    assert exchange.final(client.final(exchange.first(client.first()))) is None
    assert exchange.server_final == b""


def test_nothing_proves_a_mock_secret() -> None:
    secret = mock_secret("u", b"key")
    for password in ("", PASSWORD, "u"):
        exchange, client = ScramExchange(ScramVerifier(secret)), LibpqClient(password)
        assert exchange.final(client.final(exchange.first(client.first()))) is None


def test_a_proof_of_zeros_against_a_mock_secret() -> None:
    """The client who guesses that StoredKey is all zeros can compute the signature, but no key that hashes to zeros."""
    exchange = ScramExchange(ScramVerifier(mock_secret("u", b"key")))
    server_first = exchange.first(b"n,,n=,r=abc")
    unproven = b"c=biws,r=" + server_first.split(b",")[0][2:]
    signature = hmac.new(bytes(32), b"n=,r=abc," + server_first + b"," + unproven, "sha256").digest()
    for proof in (signature, bytes(32)):
        again = ScramExchange(ScramVerifier(mock_secret("u", b"key")), server_first.split(b",")[0][5:])
        assert again.first(b"n,,n=,r=abc") == server_first
        assert again.final(unproven + b",p=" + base64.b64encode(proof)) is None


def test_mock_salts_are_constant_for_a_user_and_differ_between_users_and_keys() -> None:
    assert mock_salt("a", b"key") == mock_salt("a", b"key")
    assert len({mock_salt(user, key) for user in "abc" for key in (b"1", b"2")}) == 6
    assert len(mock_salt("a", b"key")) == 16
    assert mock_secret("a", b"key", 10000, 24).iterations == 10000
    assert len(mock_secret("a", b"key", 10000, 24).salt) == 24


def test_nonces_are_fresh() -> None:
    answers = {ScramExchange(VERIFIER).first(b"n,,n=,r=abc") for _ in range(20)}
    assert len(answers) == 20
    assert all(answer.startswith(b"r=abc") and len(answer.split(b",")[0]) == 2 + 3 + 24 for answer in answers)


# -- secrets


def test_a_stored_secret_reads_back() -> None:
    text = str(SECRET)
    assert ScramSecret.parse(text) == SECRET
    assert ScramSecret.looks_like(text)
    assert base64.b64encode(SECRET.stored_key).decode() in text
    assert repr(SECRET.stored_key) not in repr(SECRET)
    assert repr(SECRET.server_key) not in repr(SECRET)
    few = ScramSecret.derive("x", b"salt", 1)
    assert ScramSecret.parse(str(few)) == few
    assert ScramSecret.parse(GOOD.replace("4096", str(MAX_ITERATIONS))).iterations == MAX_ITERATIONS


GOOD = str(SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$4096",
        GOOD[:-1],
        GOOD + "=",
        GOOD + "\n",
        GOOD.replace("4096", "0"),
        GOOD.replace("4096", "-1"),
        GOOD.replace("4096", "1" * 12),
        GOOD.replace("4096", str(MAX_ITERATIONS + 1)),
        GOOD.replace("4096", "9" * 5000),
        GOOD.replace(":", "", 1),
        GOOD.rsplit(":", 1)[0] + ":AAAA",
        GOOD.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
    ],
)
def test_a_malformed_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ScramSecret.parse(text)
    assert "AAEC" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "same"),
    [("pass\u00a0word", "pass word"), ("I\u00adX", "IX"), ("\u2168", "IX"), ("\u0627\u0031", "\u0627\u0031")],
)
def test_passwords_are_prepared_as_postgresql_does(typed: str, same: str) -> None:
    """RFC 4013's mapping; what it prohibits (the last: mixed directions) is taken as it stands."""
    _, stored_key = keys(same, SALT, 4096)
    assert ScramSecret.derive(typed, SALT).stored_key == stored_key


# -- messages that are none

FIRST = b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL"


@pytest.mark.parametrize(
    ("message", "error", "sqlstate"),
    [
        (b"", ProtocolViolation, "08P01"),
        (b"n", ProtocolViolation, "08P01"),
        (b"n,,", ProtocolViolation, "08P01"),
        (b"n,,n=", ProtocolViolation, "08P01"),
        (b"n,,n=,", ProtocolViolation, "08P01"),
        (b"n,,r=abc", ProtocolViolation, "08P01"),
        (b"n,,n=,r=", ProtocolViolation, "08P01"),
        (b"n,,n=,r=a b", ProtocolViolation, "08P01"),
        (b"n,,n=,r=a\xff", ProtocolViolation, "08P01"),
        (b"n,,n=,r=abc,", ProtocolViolation, "08P01"),
        (b"n,,n=,r=abc,junk", ProtocolViolation, "08P01"),
        (b"n,,n=,r=abc\0", ProtocolViolation, "08P01"),
        (b"N,,n=,r=abc", ProtocolViolation, "08P01"),
        (b"p=tls-server-end-point,,n=,r=abc", ProtocolViolation, "08P01"),
        (b"x,,n=,r=abc", ProtocolViolation, "08P01"),
        (b"n,a=other,n=,r=abc", UnsupportedFeature, "0A000"),
        (b"n,,m=ext,n=,r=abc", UnsupportedFeature, "0A000"),
    ],
)
def test_bad_first_messages(message: bytes, error: type[DoormanError], sqlstate: str) -> None:
    with pytest.raises(error) as caught:
        ScramExchange(VERIFIER).first(message)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    "change",
    [
        lambda m: b"",
        lambda m: m.replace(b"c=biws", b"c=eSws"),  # y,, was not said
        lambda m: m.replace(b"c=biws", b"c="),
        lambda m: m.replace(b"r=fyko", b"r=fykO"),
        lambda m: m.replace(b",r=", b",r=x"),
        lambda m: m + b"junk",
        lambda m: m + b",x=y",
        lambda m: m + b"\0",
        lambda m: m[: m.index(b",p=")],
        lambda m: m[: m.index(b",p=")] + b",p=AAAA",
        lambda m: m[: m.index(b",p=")] + b",p=!" + m[m.index(b",p=") + 4 :],
        lambda m: b"x=y," + m,
    ],
)
def test_bad_final_messages(change: object) -> None:
    exchange, client = ScramExchange(VERIFIER), LibpqClient()
    message = client.final(exchange.first(client.first()))
    with pytest.raises(ProtocolViolation) as caught:
        exchange.final(change(message))  # type: ignore[operator]
    assert caught.value.sqlstate == "08P01"


def test_a_message_cut_at_any_byte_is_refused() -> None:
    client = LibpqClient()
    whole = ScramExchange(VERIFIER, NONCE)
    final = client.final(whole.first(client.first()))
    for cut in range(len(final)):
        exchange = ScramExchange(VERIFIER, NONCE)
        exchange.first(client.first())
        with suppress(ProtocolViolation):
            assert exchange.final(final[:cut]) is None
    assert whole.final(final) is not None


def test_the_answer_of_another_exchange_is_refused() -> None:
    client, one, two = LibpqClient(), ScramExchange(VERIFIER), ScramExchange(VERIFIER)
    answer = client.final(one.first(client.first()))
    two.first(client.first())
    with pytest.raises(ProtocolViolation):
        two.final(answer)


# -- channel binding

END_POINT = bytes(range(100, 132))
PLUS = b"p=tls-server-end-point,,"


def bound_client(end_point: bytes = END_POINT, password: str = PASSWORD) -> LibpqClient:
    """Binds to ``end_point``, or says that it does."""
    return LibpqClient(password, PLUS, end_point=end_point)


def test_a_proof_bound_to_the_connection() -> None:
    exchange, client = ScramExchange(VERIFIER, None, END_POINT), bound_client()
    assert exchange.final(client.final(exchange.first(client.first(), True))) == keys(PASSWORD, SALT, 4096)[0]
    assert exchange.server_final.startswith(b"v=")


def test_scramp_s_client_binds_as_we_do() -> None:
    exchange = ScramExchange(VERIFIER, None, END_POINT)
    binding = ("tls-server-end-point", END_POINT)
    client = ScramClient(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], "user", PASSWORD, channel_binding=binding)
    assert client.mechanism_name == "SCRAM-SHA-256-PLUS"
    client.set_server_first(exchange.first(client.get_client_first().encode(), True).decode())
    assert exchange.final(client.get_client_final().encode()) is not None
    client.set_server_final(exchange.server_final.decode())


@pytest.mark.parametrize("end_point", [b"", END_POINT[:-1], END_POINT + b"\0", bytes(32), END_POINT[::-1]])
def test_a_proof_bound_to_another_connection_is_refused(end_point: bytes) -> None:
    """That of whoever stands in between: he has his own TLS with the client, and passes its proof on."""
    for password in (PASSWORD, "wrong"):
        exchange, client = ScramExchange(VERIFIER, None, END_POINT), bound_client(end_point, password=password)
        answer = client.final(exchange.first(client.first(), True))
        with pytest.raises(AuthenticationFailed, match="SCRAM channel binding check failed") as caught:
            exchange.final(answer)
        assert caught.value.sqlstate == "28000"


def test_a_binding_that_is_taken_out_of_the_final_message_is_refused() -> None:
    for header in (b"n,,", b"y,,", PLUS):
        exchange, client = ScramExchange(VERIFIER, None, END_POINT), bound_client()
        answer = client.final(exchange.first(client.first(), True))
        unbound = b"c=" + base64.b64encode(header) + answer[answer.index(b",r=") :]
        with pytest.raises(AuthenticationFailed):
            exchange.final(unbound)


@pytest.mark.parametrize(("end_point", "plus"), [(None, False), (END_POINT, False), (END_POINT, True)])
@pytest.mark.parametrize("flag", [b"n", b"y", b"p=tls-server-end-point", b"p=tls-unique", b"p=", b"p", b"P=x", b"q"])
def test_flags_of_channel_binding(flag: bytes, plus: bool, end_point: bytes | None) -> None:
    """PostgreSQL's table: with what is offered, what is chosen and what is said; SQLSTATE and words are its own."""
    expected = {
        (b"n", False): None,
        (b"y", False): None if end_point is None else ("28000", "SCRAM channel binding negotiation error"),
        (b"p=tls-server-end-point", True): None,
        (b"p=tls-unique", True): ("08P01", 'unsupported SCRAM channel-binding type "tls-unique"'),
        (b"p=", True): ("08P01", 'unsupported SCRAM channel-binding type ""'),
    }.get((flag, plus), ("08P01", "malformed SCRAM message"))
    exchange = ScramExchange(VERIFIER, None, end_point)
    message = flag + b",,n=,r=abc"
    if expected is None:
        assert exchange.first(message, plus).startswith(b"r=abc")
        return
    with pytest.raises(DoormanError) as caught:
        exchange.first(message, plus)
    assert (caught.value.sqlstate, caught.value.message) == expected


@given(
    message=st.binary(max_size=60)
    | st.lists(st.sampled_from([b"p=tls-server-end-point", b"p=", b"n", b",", b"=", b"r", b"y", b"\xff", b"c"])).map(
        b"".join
    ),
    plus=st.booleans(),
)
def test_garbage_is_refused_where_binding_is_offered(message: bytes, plus: bool) -> None:
    exchange = ScramExchange(VERIFIER, None, END_POINT)
    with suppress(ProtocolViolation, UnsupportedFeature, AuthenticationFailed):
        exchange.first(message, plus)
    with suppress(ProtocolViolation, AuthenticationFailed):
        assert exchange.final(message) is None


@given(
    message=st.binary(max_size=60)
    | st.lists(st.sampled_from([b"n", b",", b"=", b"r", b"y", b"\xff", b"p", b"c"])).map(b"".join)
)
def test_garbage_is_refused_and_nothing_else(message: bytes) -> None:
    for exchange in (ScramExchange(VERIFIER), ScramExchange(ScramVerifier(mock_secret("u", b"")))):
        with suppress(ProtocolViolation, UnsupportedFeature):
            exchange.first(message)
        with suppress(ProtocolViolation):
            assert exchange.final(message) is None
