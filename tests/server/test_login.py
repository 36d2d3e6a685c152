"""Logging in to a scripted server: what is said, what is understood, what is refused."""

from __future__ import annotations

import errno
import struct
from typing import Any

import gevent
import pytest
from fix_certs import Certificates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace import patience
from scramp import ScramMechanism
from scripted_postgres import AUTH_OK, WELCOME, Connection, FakePostgres, Script, Settings, auth, error, message

from pgdoorman_lib.errors import (
    ConfigError,
    DoormanError,
    ServerProtocolViolation,
    ServerRefused,
    ServerUnavailable,
)
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.server.auth import Credentials
from pgdoorman_lib.server.login import LoggedIn, describe, login

APP = Credentials("app", password="secret")
NO_ENTRY = error(S="FATAL", V="FATAL", C="28000", M="no pg_hba.conf entry for this")


def trusting(connection: Connection) -> dict[str, str]:
    """Let everybody in, then see the connection closed."""
    parameters = connection.startup()
    connection.send(AUTH_OK, WELCOME)
    assert connection.gone()
    return parameters


def saying(*parts: bytes) -> Script:
    """Send ``parts`` after the StartupMessage, then see the connection closed."""

    def script(connection: Connection) -> dict[str, str]:
        parameters = connection.startup()
        connection.send(*parts)
        assert connection.gone()
        return parameters

    return script


def refusing(*parts: bytes) -> Script:
    """Send ``parts`` and close."""

    def script(connection: Connection) -> None:
        connection.startup()
        connection.send(*parts)

    return script


def without_tls(then: Script) -> Script:
    """Answer SSLRequest by ``N``."""

    def script(connection: Connection) -> object:
        connection.ssl_request()
        connection.send(b"N")
        return then(connection)

    return script


def with_tls(files: Any, then: Script, ca: Any = None) -> Script:
    """Answer SSLRequest by ``S`` and go on encrypted."""

    def script(connection: Connection) -> object:
        connection.ssl_request()
        connection.start_tls(files, ca)
        return then(connection)

    return script


def with_tls_at_once(files: Any, then: Script, alpn: str | None) -> Script:
    """Take TLS that nobody asked for."""

    def script(connection: Connection) -> object:
        connection.take_tls(files, alpn=alpn)
        return then(connection)

    return script


def run(
    fake: FakePostgres, engine: Engine, *scripts: Script, credentials: Credentials = APP, **changes: Any
) -> LoggedIn:
    """Log in and close; the scripts must have come to their ends."""
    fake.play(*scripts)
    try:
        result = login(fake.settings(**changes), engine, credentials)
        result.stream.close()
    finally:
        fake.join()
    return result


def failure(
    fake: FakePostgres, engine: Engine, *scripts: Script, credentials: Credentials = APP, **changes: Any
) -> DoormanError:
    with pytest.raises(DoormanError) as caught:
        run(fake, engine, *scripts, credentials=credentials, **changes)
    exc = caught.value
    assert "127.0.0.1" not in f"{exc.message}{exc.detail}{exc.hint}"
    assert str(fake.port) not in f"{exc.message}{exc.detail}{exc.hint}"
    return exc


class TestWelcome:
    def test_trust(self, fake: FakePostgres, engine: Engine) -> None:
        result = run(fake, engine, trusting)
        assert result.parameters == {"server_version": "15.6", "TimeZone": "Etc/UTC"}
        assert (result.pid, result.secret) == (4711, b"\1\2\3\4")
        assert fake.results == [{"user": "app", "database": "base", "application_name": "pg_doorman"}]

    def test_no_byte_more_is_read(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            connection.startup()
            connection.send(AUTH_OK, WELCOME, b"later")
            assert connection.gone()

        fake.play(script)
        result = login(fake.settings(), engine, APP)
        try:
            assert result.stream.read_exact(5) == b"later"
        finally:
            result.stream.close()
        fake.join()

    def test_byte_by_byte(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            connection.startup()
            for byte in AUTH_OK + WELCOME:
                connection.send(bytes([byte]))
                gevent.sleep(0)
            assert connection.gone()

        assert run(fake, engine, script).pid == 4711

    def test_notice_and_negotiation_are_passed_over(self, fake: FakePostgres, engine: Engine) -> None:
        notice = message(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
        negotiate = message(b"v", struct.pack("!II", 0, 0))
        assert run(fake, engine, saying(negotiate, AUTH_OK, notice, WELCOME)).pid == 4711

    @pytest.mark.parametrize("size", [4, 32, 256])
    def test_long_keys(self, fake: FakePostgres, engine: Engine, size: int) -> None:
        key = message(b"K", struct.pack("!i", -1) + b"k" * size)
        result = run(fake, engine, saying(AUTH_OK, key, message(b"Z", b"I")))
        assert (result.pid, result.secret) == (-1, b"k" * size)
        assert "kkkk" not in repr(result)

    def test_no_key(self, fake: FakePostgres, engine: Engine) -> None:
        result = run(fake, engine, saying(AUTH_OK, message(b"Z", b"I")))
        assert (result.pid, result.secret) == (0, b"")


class TestStartupParameters:
    def sent(self, fake: FakePostgres, engine: Engine, parameters: dict[str, str], **changes: Any) -> dict[str, str]:
        fake.play(trusting)
        login(fake.settings(**changes), engine, APP, parameters).stream.close()
        sent = fake.join()[0]
        assert isinstance(sent, dict)
        return sent

    def test_precedence(self, fake: FakePostgres, engine: Engine) -> None:
        sent = self.sent(
            fake,
            engine,
            {"Application_Name": "mine", "work_mem": "1MB", "user": "root", "database": "other"},
            startup_parameters=(("WORK_MEM", "2MB"), ("search_path", "a, b")),
        )
        assert sent == {
            "user": "app",
            "database": "base",
            "Application_Name": "mine",
            "WORK_MEM": "2MB",
            "search_path": "a, b",
        }

    def test_no_application_name(self, fake: FakePostgres, engine: Engine) -> None:
        assert self.sent(fake, engine, {}, application_name="") == {"user": "app", "database": "base"}

    def test_too_large(self, fake: FakePostgres, engine: Engine) -> None:
        with pytest.raises(ConfigError) as caught:
            login(fake.settings(), engine, APP, {"search_path": "x" * 10000})
        assert caught.value.sqlstate == "53400"

    def test_null_byte(self, fake: FakePostgres, engine: Engine) -> None:
        with pytest.raises(ConfigError, match="null byte"):
            login(fake.settings(), engine, APP, {"search_path": "a\0user\0root"})


class TestPasswords:
    def test_cleartext(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            connection.startup()
            connection.send(auth(3))
            assert connection.message() == b"secret\0"
            connection.send(AUTH_OK, WELCOME)

        assert run(fake, engine, script).pid == 4711

    def test_md5(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            connection.startup()
            connection.send(auth(5, b"\x01\x02\x03\x04"))
            assert len(connection.message()) == 36
            connection.send(AUTH_OK, WELCOME)

        assert run(fake, engine, script, credentials=Credentials("app", md5_hash="md5" + "a" * 32)).pid == 4711

    def test_scram(self, fake: FakePostgres, engine: Engine) -> None:
        assert run(fake, engine, scram()).pid == 4711

    def test_scram_impostor(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, scram(final=b"v=" + b"A" * 43 + b"="))
        assert isinstance(exc, ServerProtocolViolation)
        assert "prove" in exc.message

    def test_scram_cut_short(self, fake: FakePostgres, engine: Engine) -> None:
        assert isinstance(failure(fake, engine, scram(final=None)), ServerProtocolViolation)

    def test_nothing_to_answer_with(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, saying(auth(3)), credentials=Credentials("app"))
        assert (type(exc), exc.sqlstate) == (ServerRefused, "28P01")


def scram(final: bytes | None = b"") -> Script:
    """A SCRAM exchange by scramp; ``final`` replaces the server-final-message, None leaves it out."""

    def script(connection: Connection) -> None:
        mechanism = ScramMechanism("SCRAM-SHA-256")
        secret = mechanism.make_auth_info("secret", 4096, b"0123456789abcdef")
        theirs = mechanism.make_server(lambda user: secret)
        connection.startup()
        connection.send(auth(10, b"SCRAM-SHA-256\0\0"))
        first = connection.message()[18:].decode()
        theirs.set_client_first(first.replace("n=,", "n=somebody,"))
        theirs.client_first_bare = first[3:]
        connection.send(auth(11, theirs.get_server_first().encode()))
        theirs.set_client_final(connection.message().decode())
        said = theirs.get_server_final().encode() if final == b"" else final
        if said is not None:
            connection.send(auth(12, said))
        connection.send(AUTH_OK, WELCOME)
        assert connection.gone()

    return script


class TestRefusals:
    def test_error_response(self, fake: FakePostgres, engine: Engine) -> None:
        text = error(S="FATAL", V="FATAL", C="53300", M="sorry, too many clients already", D="all taken", H="wait")
        exc = failure(fake, engine, refusing(text))
        assert isinstance(exc, ServerRefused)
        assert (exc.sqlstate, exc.message) == ("53300", "sorry, too many clients already")
        assert (exc.detail, exc.hint) == ("all taken", "wait")

    def test_error_after_authentication(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, refusing(AUTH_OK, error(S="FATAL", C="3D000", M='database "base" does not exist')))
        assert (type(exc), exc.sqlstate) == (ServerRefused, "3D000")

    def test_error_without_fields(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, refusing(message(b"E", b"\0")))
        assert (type(exc), exc.sqlstate) == (ServerRefused, "08006")
        assert exc.message

    @pytest.mark.parametrize(
        "said",
        [
            message(b"Z", b"I"),
            message(b"S", b"a\0b\0"),
            message(b"K", b"12345678"),
            AUTH_OK + message(b"Z", b"T"),
            AUTH_OK + message(b"Z", b""),
            AUTH_OK + message(b"Z", b"II"),
            AUTH_OK + AUTH_OK,
            AUTH_OK + message(b"K", b"1234567"),
            AUTH_OK + message(b"K", b"1" * 261),
            AUTH_OK + message(b"K", b""),
            AUTH_OK + message(b"S", b"a"),
            AUTH_OK + message(b"D", b"\0\0"),
            AUTH_OK + b"S\0\0\0\3",
            AUTH_OK + b"S\xff\xff\xff\xff",
            AUTH_OK + b"S\x7f\xff\xff\xff",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"EFATAL:  the database system is starting up\n\0",
        ],
    )
    def test_not_the_protocol(self, fake: FakePostgres, engine: Engine, said: bytes) -> None:
        assert isinstance(failure(fake, engine, saying(said)), ServerProtocolViolation)

    def test_flood(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            connection.startup()
            try:
                while True:
                    connection.send(message(b"N", b"M" + b"x" * 60000 + b"\0\0"))
            except OSError as exc:
                assert exc.errno in (errno.ECONNRESET, errno.EPIPE)

        assert isinstance(failure(fake, engine, script), ServerProtocolViolation)

    def test_cut_short_at_every_byte(self, fake: FakePostgres, engine: Engine) -> None:
        whole = AUTH_OK + WELCOME
        for size in range(len(whole)):
            fake.play(refusing(whole[:size]))
            with pytest.raises(ServerUnavailable):
                login(fake.settings(), engine, APP)
        fake.join()

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda data: AUTH_OK + data)))
    def test_garbage(self, fake: FakePostgres, engine: Engine, data: bytes) -> None:
        fake.play(refusing(data))
        with pytest.raises(DoormanError):
            login(fake.settings(), engine, APP)
        fake.join()


class TestTime:
    @pytest.mark.parametrize("said", [b"", AUTH_OK, AUTH_OK + WELCOME[:-3], auth(3)])
    def test_silence(self, fake: FakePostgres, engine: Engine, said: bytes) -> None:
        exc = failure(fake, engine, saying(said), connect_timeout=0.05)
        assert isinstance(exc, ServerUnavailable)
        assert isinstance(exc.__cause__, TimeoutError)
        assert f"127.0.0.1:{fake.port}" in describe(exc)

    def test_silence_about_tls(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, Connection.gone, connect_timeout=0.05, server_tls_mode="require")
        assert isinstance(exc.__cause__, TimeoutError)

    def test_one_limit_for_both_attempts(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, refusing(NO_ENTRY), Connection.gone, connect_timeout=0.1, server_tls_mode="allow")
        assert isinstance(exc.__cause__, TimeoutError)

    def test_killed(self, fake: FakePostgres, engine: Engine) -> None:
        asked = gevent.event.Event()

        def script(connection: Connection) -> bool:
            connection.startup()
            asked.set()
            return connection.gone()

        fake.play(script)
        greenlet = gevent.spawn(login, fake.settings(), engine, APP)
        assert asked.wait(patience(5))
        greenlet.kill()
        assert fake.join() == [True]


TLS_MODES = ("require", "prefer", "allow", "verify-ca", "verify-full")


class TestTls:
    """Who ends up with TLS, with which certificate, and how many connections it took."""

    @pytest.mark.parametrize("mode", [mode for mode in TLS_MODES if mode != "allow"])
    def test_offered(self, fake: FakePostgres, engine: Engine, certs: Certificates, mode: str) -> None:
        result = run(fake, engine, with_tls(certs.server, trusting), **trust(certs, mode))
        assert result.stream.tls is not None
        assert fake.connections == 1

    @pytest.mark.parametrize("mode", ["disable", "allow"])
    def test_not_asked_for(self, fake: FakePostgres, engine: Engine, mode: str) -> None:
        assert run(fake, engine, trusting, server_tls_mode=mode).stream.tls is None

    def test_prefer_where_it_is_not_offered(self, fake: FakePostgres, engine: Engine) -> None:
        assert run(fake, engine, without_tls(trusting), server_tls_mode="prefer").stream.tls is None

    @pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
    def test_must_where_it_is_not_offered(
        self, fake: FakePostgres, engine: Engine, certs: Certificates, mode: str
    ) -> None:
        exc = failure(fake, engine, without_tls(Connection.gone), **trust(certs, mode))
        assert isinstance(exc, ServerUnavailable)
        assert "TLS" in exc.message

    def test_allow_after_a_refusal(self, fake: FakePostgres, engine: Engine, certs: Certificates) -> None:
        scripts = (refusing(NO_ENTRY), with_tls(certs.server, trusting))
        assert run(fake, engine, *scripts, server_tls_mode="allow").stream.tls is not None

    def test_allow_reports_the_first_refusal_where_there_is_no_tls(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, refusing(NO_ENTRY), without_tls(Connection.gone), server_tls_mode="allow")
        assert (exc.sqlstate, exc.message) == ("28000", "no pg_hba.conf entry for this")

    def test_prefer_after_a_refusal(self, fake: FakePostgres, engine: Engine, certs: Certificates) -> None:
        scripts = (with_tls(certs.server, refusing(NO_ENTRY)), trusting)
        assert run(fake, engine, *scripts, server_tls_mode="prefer").stream.tls is None

    def test_prefer_does_not_repeat_what_was_refused(self, fake: FakePostgres, engine: Engine) -> None:
        exc = failure(fake, engine, without_tls(refusing(NO_ENTRY)), server_tls_mode="prefer")
        assert exc.sqlstate == "28000"
        assert fake.connections == 1

    @pytest.mark.parametrize("said", [error(S="FATAL", C="53300", M="full"), AUTH_OK + NO_ENTRY])
    def test_other_refusals_are_final(self, fake: FakePostgres, engine: Engine, said: bytes) -> None:
        exc = failure(fake, engine, refusing(said), server_tls_mode="allow", connect_timeout=1)
        assert isinstance(exc, ServerRefused)
        assert fake.connections == 1

    @pytest.mark.parametrize(("mode", "name"), [("verify-ca", "stranger"), ("verify-full", "stranger")])
    def test_unknown_authority(
        self, fake: FakePostgres, engine: Engine, certs: Certificates, mode: str, name: str
    ) -> None:
        exc = failure(fake, engine, refused_handshake(getattr(certs, name)), **trust(certs, mode))
        assert isinstance(exc, ServerUnavailable)
        assert "certificate" in exc.message

    def test_another_name(self, fake: FakePostgres, engine: Engine, certs: Certificates) -> None:
        exc = failure(fake, engine, refused_handshake(certs.elsewhere), **trust(certs, "verify-full"))
        assert "certificate" in exc.message
        assert "127.0.0.1" in describe(exc)

    def test_another_name_is_nothing_to_verify_ca(
        self, fake: FakePostgres, engine: Engine, certs: Certificates
    ) -> None:
        assert run(fake, engine, with_tls(certs.elsewhere, trusting), **trust(certs, "verify-ca")).stream.tls

    def test_a_host_by_name(self, fake: FakePostgres, engine: Engine, certs: Certificates) -> None:
        changes = {**trust(certs, "verify-full"), "server_host": "localhost"}
        try:
            result = run(fake, engine, with_tls(certs.server, trusting), **changes)
        except ServerUnavailable as exc:
            if "resolve" in exc.message:
                pytest.skip("localhost has no address here")
            raise
        assert result.stream.tls is not None

    def test_our_certificate(self, fake: FakePostgres, engine: Engine, certs: Certificates) -> None:
        changes = {
            "server_tls_certificate": str(certs.client.certificate),
            "server_tls_private_key": str(certs.client.private_key),
        }

        def subject(connection: Connection) -> object:
            saying(AUTH_OK, WELCOME)(connection)
            return connection.sock.getpeercert()["subject"]

        run(fake, engine, with_tls(certs.server, subject, certs.ca), **trust(certs, "require"), **changes)
        assert fake.results == [((("commonName", "app"),),)]

    @pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
    def test_tls_at_once(self, fake: FakePostgres, engine: Engine, certs: Certificates, mode: str) -> None:
        script = with_tls_at_once(certs.server, trusting, "postgresql")
        changes = {**trust(certs, mode), "server_tls_negotiation": "direct"}
        assert run(fake, engine, script, **changes).stream.tls is not None

    @pytest.mark.parametrize("alpn", [None, "h2"])
    def test_tls_at_once_of_something_else(
        self, fake: FakePostgres, engine: Engine, certs: Certificates, alpn: str | None
    ) -> None:
        script = with_tls_at_once(certs.server, Connection.gone, alpn)
        exc = failure(fake, engine, script, server_tls_mode="require", server_tls_negotiation="direct")
        assert isinstance(exc, ServerUnavailable)
        assert "ALPN" in exc.message

    def test_a_server_that_knows_no_tls_at_once(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            assert connection.read(2) == b"\x16\x03"

        exc = failure(fake, engine, script, server_tls_mode="require", server_tls_negotiation="direct")
        assert isinstance(exc, ServerUnavailable)
        assert "PostgreSQL knows since 17" in exc.message
        assert fake.connections == 1

    @pytest.mark.parametrize("mode", ["prefer", "require"])
    def test_clear_bytes_behind_the_answer(self, fake: FakePostgres, engine: Engine, mode: str) -> None:
        def script(connection: Connection) -> bool:
            connection.ssl_request()
            connection.send(b"S" + AUTH_OK)
            return connection.gone()

        exc = failure(fake, engine, script, server_tls_mode=mode)
        assert isinstance(exc, ServerProtocolViolation)
        assert "unencrypted" in exc.message

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (b"E", ServerUnavailable),
            (error(S="FATAL", C="53300", M="an invented text"), ServerUnavailable),
            (b"H", ServerProtocolViolation),
            (b"", ServerUnavailable),
            (b"Sgarbage that is no handshake", ServerProtocolViolation),
        ],
    )
    def test_other_answers(self, fake: FakePostgres, engine: Engine, answer: bytes, kind: type[DoormanError]) -> None:
        def script(connection: Connection) -> None:
            connection.ssl_request()
            connection.send(answer)

        exc = failure(fake, engine, script, server_tls_mode="prefer")
        assert isinstance(exc, kind)
        assert "invented" not in exc.message

    def test_no_handshake(self, fake: FakePostgres, engine: Engine) -> None:
        def script(connection: Connection) -> None:
            connection.ssl_request()
            connection.send(b"S")
            connection.read(11)
            connection.send(b"this is no handshake either")

        assert isinstance(failure(fake, engine, script, server_tls_mode="prefer"), ServerUnavailable)

    def test_files_gone_since_start(self, fake: FakePostgres, engine: Engine, certs: Certificates) -> None:
        changes = {"server_tls_mode": "verify-ca", "server_tls_ca_cert": str(certs.directory / "missing.crt")}
        exc = failure(fake, engine, **changes)
        assert isinstance(exc, ServerUnavailable)
        assert "missing" not in exc.message
        assert "missing.crt" in describe(exc)


def trust(certs: Certificates, mode: str) -> dict[str, Any]:
    return {"server_tls_mode": mode, "server_tls_ca_cert": str(certs.ca)}


def refused_handshake(files: Any) -> Script:
    """Offer TLS with a certificate that the other side must not take."""

    def script(connection: Connection) -> bool:
        connection.ssl_request()
        try:
            connection.start_tls(files)
            assert connection.sock.recv(1) == b"", "the certificate was taken"
        except OSError:
            pass  # the alert, in the handshake (TLS 1.2) or behind it (1.3)
        return True

    return script


def test_nobody_listens(fake: FakePostgres, engine: Engine) -> None:
    port = fake.port
    fake.close()
    with pytest.raises(ServerUnavailable) as caught:
        login(Settings(server_port=port), engine, APP)
    assert "127.0.0.1" not in caught.value.message
    assert f"127.0.0.1:{port}" in describe(caught.value)
