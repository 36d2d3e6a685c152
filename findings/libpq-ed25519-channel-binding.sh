#!/usr/bin/env bash
# libpq 18 (as psycopg-binary 3.3.9 brings it), before a server whose certificate is signed by Ed25519 and which offers
# SCRAM-SHA-256-PLUS beside SCRAM-SHA-256: by default (channel_binding=prefer) it takes the former, and fails when its
# proof is due, since there is no hash for such a certificate (RFC 5929 section 4.1 leaves it undefined); it could know
# that before it chooses. Only channel_binding=disable gets in. PostgreSQL 15 with ssl=on offers both whatever its
# certificate is signed by, so with an Ed25519 certificate libpq gets in by SCRAM only if it is told so.
# (Seen: "could not find digest for NID UNDEF".)
# What helps: an ECDSA or RSA certificate, or a server that does not offer what it can't be bound by.
#
# The server here is a socket that offers the mechanisms as PostgreSQL does (PostgreSQL docs, "SASL Authentication"), and
# tells which of them the client takes.
#
# Exits 0 while that is so, 1 when it is not, 2 when nothing can be said.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" || exit 2
"$work/venv/bin/pip" install -q 'psycopg==3.3.9' 'psycopg-binary==3.3.9' 'cryptography==50.0.2' || exit 2
cd "$work" && "$work/venv/bin/python" - <<'PY'
import datetime
import socket
import ssl
import struct
import sys
import threading

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

key = Ed25519PrivateKey.generate()
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(1)
    .not_valid_before(now - datetime.timedelta(days=1))
    .not_valid_after(now + datetime.timedelta(days=1))
    .sign(key, None)
)
with open("server.pem", "wb") as file:
    file.write(certificate.public_bytes(serialization.Encoding.PEM))
    file.write(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem")
listener = socket.create_server(("127.0.0.1", 0))
taken = []


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def serve():
    while True:
        plain, _ = listener.accept()
        plain.recv(8, socket.MSG_WAITALL)  # SSLRequest
        plain.sendall(b"S")
        try:
            with context.wrap_socket(plain, server_side=True) as client:
                client.recv(65536)  # StartupMessage
                client.sendall(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
                answer = client.recv(65536)
                mechanism = answer[5 : answer.index(b"\0", 5)].decode()  # of SASLInitialResponse
                nonce = answer[answer.index(b",r=") + 3 :]
                first = b"r=" + nonce + b"server,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096"
                client.sendall(message(b"R", struct.pack("!i", 11) + first))
                proof = client.recv(65536)[:1] == b"p"  # SASLResponse
                taken.append((mechanism, proof))
                client.sendall(message(b"E", b"SFATAL\0VFATAL\0C28000\0Mthis server lets nobody in\0\0"))
        except OSError:
            pass


threading.Thread(target=serve, daemon=True).start()
said = {}
for binding in ("prefer", "disable"):
    try:
        psycopg.connect(
            host="127.0.0.1", port=listener.getsockname()[1], user="app", password="secret", dbname="app",
            sslmode="require", gssencmode="disable", channel_binding=binding, connect_timeout=10,
        )
    except psycopg.OperationalError as exc:
        said[binding] = str(exc).strip().splitlines()[-1]
print(f"libpq {psycopg.pq.version()}: {said}; mechanisms taken, and whether a proof came: {taken}")
if taken != [("SCRAM-SHA-256-PLUS", False), ("SCRAM-SHA-256", True)] or "digest" not in said["prefer"]:
    sys.exit("otherwise now")
PY
