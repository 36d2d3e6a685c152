"""TLS contexts for tests that look into TLS 1.3: watched by a key log, of one cipher suite."""

from __future__ import annotations

import _ssl
import ctypes
import ssl

from fix_certs import Certificates

from pgdoorman_lib.net.tls_secrets import Keylog


def contexts(certs: Certificates, keylog: Keylog | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certs.server.certificate, certs.server.private_key)
    server.num_tickets = 0
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certs.ca)
    if keylog is not None:
        keylog.watch(server)
        keylog.watch(client)
    return server, client


def choose(context: ssl.SSLContext, cipher: str) -> None:
    """Have a context offer one cipher suite of TLS 1.3, for which Python has no call before 3.15."""
    library = ctypes.CDLL(_ssl.__file__)
    # struct PySSLContext begins with the object's head and the SSL_CTX.
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    assert library.SSL_CTX_set_ciphersuites(pointer, cipher.encode()) == 1
