"""Cancel requests to a scripted server."""

from __future__ import annotations

import struct

import gevent
import pytest
from fix_certs import Certificates
from scripted_postgres import Connection, FakePostgres

from pgdoorman_lib.errors import DoormanError, ServerProtocolViolation, ServerUnavailable
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.server.cancel import send_cancel


@pytest.mark.parametrize("secret", [b"\1\2\3\4", b"k" * 256])
def test_request(fake: FakePostgres, engine: Engine, secret: bytes) -> None:
    fake.play(Connection.packet)
    send_cancel(fake.settings(), engine, -4711, secret, 5.0)
    assert fake.join() == [struct.pack("!Ii", 80877102, -4711) + secret]


def test_returns_when_the_server_has_closed(fake: FakePostgres, engine: Engine) -> None:
    signalled = []

    def script(connection: Connection) -> None:
        connection.packet()
        gevent.sleep(0.05)
        signalled.append(True)

    fake.play(script)
    send_cancel(fake.settings(), engine, 1, b"1234", 5.0)
    assert signalled
    fake.join()


def test_server_that_does_not_close(fake: FakePostgres, engine: Engine) -> None:
    fake.play(lambda connection: (connection.packet(), connection.gone()))
    with pytest.raises(ServerUnavailable) as caught:
        send_cancel(fake.settings(), engine, 1, b"1234", 0.05)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert fake.join()[0][1] is True


def test_server_that_answers(fake: FakePostgres, engine: Engine) -> None:
    def script(connection: Connection) -> None:
        connection.packet()
        connection.send(b"Ecould not fork new process for connection\0")

    fake.play(script)
    with pytest.raises(ServerUnavailable):
        send_cancel(fake.settings(), engine, 1, b"1234", 5.0)
    fake.join()


def test_nobody_listens(fake: FakePostgres, engine: Engine) -> None:
    settings = fake.settings()
    fake.close()
    with pytest.raises(ServerUnavailable):
        send_cancel(settings, engine, 1, b"1234", 5.0)


class TestTls:
    @pytest.mark.parametrize(
        ("mode", "tls"),
        [("require", None), ("verify-ca", None), ("verify-full", None), ("prefer", None), ("allow", True)],
    )
    def test_encrypted(
        self, fake: FakePostgres, engine: Engine, certs: Certificates, mode: str, tls: bool | None
    ) -> None:
        def script(connection: Connection) -> bytes:
            connection.ssl_request()
            connection.start_tls(certs.server)
            return connection.packet()

        fake.play(script)
        settings = fake.settings(server_tls_mode=mode, server_tls_ca_cert=str(certs.ca))
        send_cancel(settings, engine, 1, b"1234", 5.0, tls=tls)
        assert fake.join() == [struct.pack("!Ii", 80877102, 1) + b"1234"]

    @pytest.mark.parametrize(("mode", "tls"), [("disable", None), ("allow", None), ("prefer", False)])
    def test_plain(self, fake: FakePostgres, engine: Engine, mode: str, tls: bool | None) -> None:
        fake.play(Connection.packet)
        send_cancel(fake.settings(server_tls_mode=mode), engine, 1, b"1234", 5.0, tls=tls)
        assert fake.join() == [struct.pack("!Ii", 80877102, 1) + b"1234"]

    @pytest.mark.parametrize(
        ("answer", "mode", "kind"),
        [
            (b"N", "require", ServerUnavailable),
            (b"E", "prefer", ServerUnavailable),
            (b"Sxx", "prefer", ServerProtocolViolation),
        ],
    )
    def test_key_is_not_sent_to_whom_it_should_not(
        self, fake: FakePostgres, engine: Engine, answer: bytes, mode: str, kind: type[DoormanError]
    ) -> None:
        def script(connection: Connection) -> bytes:
            connection.ssl_request()
            connection.send(answer)
            received: bytes = connection.sock.recv(100)
            return received

        fake.play(script)
        with pytest.raises(kind):
            send_cancel(fake.settings(server_tls_mode=mode), engine, 1, b"1234", 5.0)
        assert fake.join() == [b""]
