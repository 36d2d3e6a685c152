"""Authentication towards a server, on bytes alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramException, ScramMechanism

from pgdoorman_lib.errors import DoormanError, ServerProtocolViolation, ServerRefused
from pgdoorman_lib.server.auth import (
    MAX_ITERATIONS,
    Authenticator,
    Binding,
    Credentials,
    Gs2Binding,
    ScramClient,
    ScramKeys,
    derive_keys,
)

PASSWORD = "päss wörd 1"
SALT = b"0123456789abcdef"
SASL = struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
SASL_BOTH = struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
SASL_PLUS = struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0\0"
END_POINT = bytes(range(100, 132))
SCRAMP = ScramMechanism("SCRAM-SHA-256")


def request(code: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", code) + payload


def sent(message: bytes | None) -> bytes:
    """The body of a message of type ``p``, which has to be complete."""
    assert message is not None
    assert message[:1] == b"p"
    assert struct.unpack("!I", message[1:5])[0] == len(message) - 1
    return message[5:]


def md5_password(user: str, password: str, salt: bytes) -> bytes:
    inner = hashlib.md5((password + user).encode()).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode() + b"\0"


class TestScrampServer:
    """scramp's server, an implementation of somebody else, is the judge."""

    def exchange(self, credentials: Credentials, password: str = PASSWORD, iterations: int = 4096) -> Authenticator:
        def secret(user: str) -> tuple[bytes, bytes, bytes, int]:
            salt, stored_key, server_key, count = SCRAMP.make_auth_info(password, iterations, SALT)
            return salt, stored_key, server_key, count

        ours = Authenticator(credentials)
        theirs = SCRAMP.make_server(secret)
        body = sent(ours.answer(SASL))
        assert body.startswith(b"SCRAM-SHA-256\0")
        (length,) = struct.unpack("!I", body[14:18])
        first = body[18:].decode()
        assert len(first) == length
        assert first.startswith("n,,n=,r=")
        # scramp wants a user name where PostgreSQL's clients leave it empty; the proof is over what was really sent.
        theirs.set_client_first(first.replace("n=,", "n=somebody,"))
        theirs.client_first_bare = first[3:]
        continued = theirs.get_server_first()
        theirs.set_client_final(sent(ours.answer(request(11, continued.encode()))).decode())
        assert ours.answer(request(12, theirs.get_server_final().encode())) is None
        assert ours.answer(request(0)) is None
        return ours

    def test_password(self) -> None:
        assert self.exchange(Credentials("app", password=PASSWORD)).done

    def test_keys_alone(self) -> None:
        keys = derive_keys(PASSWORD, SALT, 4096)
        assert self.exchange(Credentials("app", client_key=keys.client_key, server_key=keys.server_key)).done

    def test_client_key_alone(self) -> None:
        keys = derive_keys(PASSWORD, SALT, 4096)
        assert self.exchange(Credentials("app", client_key=keys.client_key)).done

    def test_wrong_password_is_told_by_the_server(self) -> None:
        with pytest.raises(Exception, match=r"(?i)proof|key"):
            self.exchange(Credentials("app", password="wrong"))

    def test_server_that_does_not_know_the_password(self) -> None:
        keys = derive_keys(PASSWORD, SALT, 4096)
        with pytest.raises(ServerProtocolViolation, match="prove"):
            self.exchange(Credentials("app", client_key=keys.client_key, server_key=b"x" * 32))


class TestScramClient:
    """RFC 7677 section 3 has an example; the rest is what a server may not do."""

    NONCE = "rOprNGfwEbeRWgbNEkqO"

    def client(self, password: str = "pencil") -> ScramClient:
        client = ScramClient(
            lambda salt, iterations: derive_keys(password, salt, iterations), Gs2Binding(b"n,,"), self.NONCE
        )
        client.first()
        return client

    def test_the_example_of_rfc_7677(self) -> None:
        client = self.client()
        client._first_bare = f"n=user,r={self.NONCE}"  # the one thing PostgreSQL's clients do differently
        nonce = self.NONCE + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        final = client.final(f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
        assert final == f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
        client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        assert client.stage == ScramClient.VERIFIED

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "r=",
            "r={n}x",
            "r={n}x,s=QUJD",
            "r={n}x,i=4096",
            "s=QUJD,r={n}x,i=4096",
            "r={n}x,s=QUJD,i=0",
            "r={n}x,s=QUJD,i=-1",
            "r={n}x,s=QUJD,i=04096",
            "r={n}x,s=QUJD,i=4096x",
            "r={n}x,s=,i=4096",
            "r={n}x,s=QUJ,i=4096",
            "r={n}x,s=Q?JD,i=4096",
            "m=ext,r={n}x,s=QUJD,i=4096",
            "r={n},s=QUJD,i=4096",
            "r=other,s=QUJD,i=4096",
            "r={n}\x7f,s=QUJD,i=4096",
            f"r={{n}}x,s=QUJD,i={MAX_ITERATIONS + 1}",
            "r={n}é,s=QUJD,i=4096",
        ],
    )
    def test_bad_server_first(self, text: str) -> None:
        with pytest.raises(ServerProtocolViolation):
            self.client().final(text.replace("{n}", self.NONCE).encode())

    @pytest.mark.parametrize("text", ["", "v=", "v=QUJ", "v=QUJD", "x=QUJD", "v=Q?JD", "QUJD", "v=é"])
    def test_bad_server_final(self, text: str) -> None:
        client = self.client()
        client.final(f"r={self.NONCE}x,s=QUJD,i=4096".encode())
        with pytest.raises(ServerProtocolViolation):
            client.verify(text.encode())
        assert client.stage != ScramClient.VERIFIED

    def test_server_final_with_error(self) -> None:
        client = self.client()
        client.final(f"r={self.NONCE}x,s=QUJD,i=4096".encode())
        with pytest.raises(ServerRefused):
            client.verify(b"e=invalid-proof")

    def test_few_iterations_and_extensions_are_fine(self) -> None:
        assert self.client().final(f"r={self.NONCE}x,s=QUJD,i=1,z=later".encode()).startswith(b"c=biws,r=")

    @given(st.binary(max_size=80))
    def test_random_bytes(self, data: bytes) -> None:
        for call in (self.client().final, self.client().verify):
            try:
                call(data)
            except DoormanError:
                continue
            raise AssertionError(f"{data!r} was believed")


@pytest.mark.parametrize(
    ("written", "prepared"),
    [
        ("plain\x01", "plain\x01"),  # ASCII is taken as it stands, even where SASLprep forbids it
        ("I\u00adX", "IX"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0031", "\u0627\u0031"),  # can't be prepared: as it stands
        ("\u00ad", "\u00ad"),  # nothing would be left
    ],
)
def test_passwords_are_prepared_as_postgresql_does(written: str, prepared: str) -> None:
    salted = hashlib.pbkdf2_hmac("sha256", prepared.encode(), SALT, 2)
    assert derive_keys(written, SALT, 2).client_key == hmac.digest(salted, b"Client Key", "sha256")


def test_trust() -> None:
    ours = Authenticator(Credentials("app"))
    assert ours.answer(request(0)) is None
    assert ours.done


def test_cleartext() -> None:
    ours = Authenticator(Credentials("app", password=PASSWORD))
    assert sent(ours.answer(request(3))) == PASSWORD.encode() + b"\0"


def test_cleartext_with_a_null_byte() -> None:
    with pytest.raises(ServerRefused):
        Authenticator(Credentials("app", password="a\0b")).answer(request(3))


def test_md5_by_password() -> None:
    ours = Authenticator(Credentials("app", password=PASSWORD))
    assert sent(ours.answer(request(5, b"salt"))) == md5_password("app", PASSWORD, b"salt")


def test_md5_by_stored_hash() -> None:
    stored = "md5" + hashlib.md5((PASSWORD + "app").encode()).hexdigest()
    ours = Authenticator(Credentials("app", md5_hash=stored))
    assert sent(ours.answer(request(5, b"\0\xff\x80\n"))) == md5_password("app", PASSWORD, b"\0\xff\x80\n")


@pytest.mark.parametrize("payload", [b"", b"abc", b"abcde"])
def test_md5_salt_of_the_wrong_size(payload: bytes) -> None:
    with pytest.raises(ServerProtocolViolation):
        Authenticator(Credentials("app", password="x")).answer(request(5, payload))


MD5_HASH = "md5" + "0" * 32


@pytest.mark.parametrize(
    ("asked", "credentials"),
    [
        (request(3), Credentials("app")),
        (request(3), Credentials("app", md5_hash=MD5_HASH, client_key=b"k" * 32)),
        (request(5, b"salt"), Credentials("app", client_key=b"k" * 32)),
        (SASL, Credentials("app", md5_hash=MD5_HASH)),
        (SASL, Credentials("app", server_key=b"k" * 32)),
    ],
)
def test_nothing_to_answer_with(asked: bytes, credentials: Credentials) -> None:
    with pytest.raises(ServerRefused) as caught:
        Authenticator(credentials).answer(asked)
    assert caught.value.sqlstate == "28P01"
    assert "server_password" in (caught.value.hint or "")
    assert ("only an MD5 hash" in caught.value.message) == (credentials.md5_hash is not None)


@pytest.mark.parametrize("code", [2, 6, 7, 9, 4, 13, 0x7FFFFFFF])
def test_unsupported_methods(code: int) -> None:
    with pytest.raises(ServerRefused, match="not supported"):
        Authenticator(Credentials("app", password="x")).answer(request(code))


@pytest.mark.parametrize("payload", [b"OAUTHBEARER\0\0", b"\0\0"])
def test_no_mechanism_in_common(payload: bytes) -> None:
    with pytest.raises(ServerRefused, match="mechanism"):
        Authenticator(Credentials("app", password="x")).answer(request(10, payload))


@pytest.mark.parametrize(
    "bodies",
    [
        [b""],
        [b"\0\0\0"],
        [request(11, b"r=x")],
        [request(12, b"v=x")],
        [request(0), request(0)],
        [request(0), request(3)],
        [request(3), request(3)],
        [request(3), request(5, b"salt")],
        [SASL, SASL],
        [SASL, request(3)],
        [SASL, request(0)],
        [SASL, request(12, b"v=QUJD")],
        [request(10, b"SCRAM-SHA-256")],
        [request(10, b"SCRAM-SHA-256\0")],
    ],
)
def test_requests_out_of_order(bodies: list[bytes]) -> None:
    ours = Authenticator(Credentials("app", password="x"))
    for body in bodies[:-1]:
        ours.answer(body)
    with pytest.raises(ServerProtocolViolation):
        ours.answer(bodies[-1])


def test_ok_before_the_server_has_proven_itself() -> None:
    ours = Authenticator(Credentials("app", password="x"))
    nonce = sent(ours.answer(SASL)).partition(b"r=")[2]
    ours.answer(request(11, b"r=" + nonce + b"x,s=QUJD,i=2"))
    with pytest.raises(ServerProtocolViolation, match="identity"):
        ours.answer(request(0))
    assert not ours.done


BY_TLS = {wanted: Binding(wanted, True, END_POINT) for wanted in ("disable", "prefer", "require")}
NO_TLS = {wanted: Binding(wanted) for wanted in BY_TLS}
#: by TLS whose certificate has no hash
NO_HASH = {wanted: Binding(wanted, True) for wanted in BY_TLS}


@pytest.mark.parametrize(
    ("binding", "asked", "mechanism", "header"),
    [
        (BY_TLS["prefer"], SASL_BOTH, b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"),
        (BY_TLS["prefer"], SASL_PLUS, b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"),
        (BY_TLS["prefer"], SASL, b"SCRAM-SHA-256", b"y,,"),
        (BY_TLS["require"], SASL_BOTH, b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"),
        (BY_TLS["disable"], SASL_BOTH, b"SCRAM-SHA-256", b"n,,"),
        (NO_TLS["prefer"], SASL, b"SCRAM-SHA-256", b"n,,"),
        (NO_TLS["disable"], SASL_BOTH, b"SCRAM-SHA-256", b"n,,"),
        (NO_HASH["prefer"], SASL_BOTH, b"SCRAM-SHA-256", b"n,,"),
        (NO_HASH["prefer"], SASL, b"SCRAM-SHA-256", b"n,,"),
    ],
)
def test_what_is_said_of_channel_binding(binding: Binding, asked: bytes, mechanism: bytes, header: bytes) -> None:
    """As libpq does."""
    ours = Authenticator(Credentials("app", client_key=b"k" * 32), binding)
    chosen, _, rest = sent(ours.answer(asked)).partition(b"\0")
    assert chosen == mechanism
    first = rest[4:]
    assert first.startswith(header + b"n=,r=")
    nonce = first.partition(b"r=")[2]
    final = sent(ours.answer(request(11, b"r=" + nonce + b"x,s=QUJD,i=2")))
    bound = END_POINT if mechanism.endswith(b"PLUS") else b""
    assert final.startswith(b"c=" + base64.b64encode(header + bound) + b",r=")


@pytest.mark.parametrize(
    ("binding", "asked", "why"),
    [
        (NO_TLS["prefer"], SASL_BOTH, "over a connection without TLS"),
        (NO_TLS["require"], SASL_BOTH, "over a connection without TLS"),
        (NO_TLS["require"], SASL, "did not offer"),
        (BY_TLS["require"], SASL, "did not offer"),
        (BY_TLS["disable"], SASL_PLUS, "no SASL mechanism"),
        (NO_HASH["require"], SASL_BOTH, "without a hash function"),
        (NO_HASH["prefer"], SASL_PLUS, "no SASL mechanism"),
        (BY_TLS["require"], request(0), "without channel binding"),
        (BY_TLS["require"], request(3), "not supported by the server's authentication request"),
        (BY_TLS["require"], request(5, b"salt"), "not supported by the server's authentication request"),
    ],
)
def test_no_login_without_the_binding_that_must_be(binding: Binding, asked: bytes, why: str) -> None:
    ours = Authenticator(Credentials("app", password="x", client_key=b"k" * 32), binding)
    with pytest.raises(ServerRefused, match=why) as caught:
        ours.answer(asked)
    assert caught.value.sqlstate == "28000"
    assert not ours.done


def test_scramp_s_server_takes_our_binding_and_no_other() -> None:
    for end_point in (END_POINT, END_POINT[::-1]):
        ours = Authenticator(Credentials("app", password=PASSWORD), Binding("require", True, end_point))
        theirs = ScramMechanism("SCRAM-SHA-256-PLUS").make_server(
            lambda user: SCRAMP.make_auth_info(PASSWORD, 4096, SALT),
            channel_binding=("tls-server-end-point", END_POINT),
        )
        first = sent(ours.answer(SASL_BOTH))[23:].decode()
        theirs.set_client_first(first.replace("n=,", "n=somebody,"))
        theirs.client_first_bare = first.partition(",,")[2]
        final = sent(ours.answer(request(11, theirs.get_server_first().encode()))).decode()
        if end_point != END_POINT:
            with pytest.raises(ScramException, match=r"(?i)channel.binding"):
                theirs.set_client_final(final)
        else:
            theirs.set_client_final(final)
            assert ours.answer(request(12, theirs.get_server_final().encode())) is None
            assert ours.answer(request(0)) is None


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_random_requests(bodies: list[bytes]) -> None:
    ours = Authenticator(Credentials("app", password="x"))
    try:
        for body in bodies:
            ours.answer(body)
    except DoormanError:
        pass
    assert not ours.done or request(0) in [body[:4] for body in bodies]


def test_secrets_are_not_shown() -> None:
    values: list[object] = [
        Credentials("app", password="hush", md5_hash="hush", client_key=b"hush", server_key=b"hush"),
        ScramKeys(b"hush", b"hush"),
    ]
    assert all("hush" not in repr(value) for value in values)
