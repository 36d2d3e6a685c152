"""What SCRAM is bound to: hashes of certificates, against those that cryptography knows of them."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from fix_certs import Certificates, with_change
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.net.certificates import PeerCertificate, bound_to, end_point, learn_own, shown_by, shown_by_peer
from pgdoorman_lib.net.tls import client_facing_context

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def signed(key: Any, algorithm: Any, number: int = 4711, **more: Any) -> bytes:
    """A certificate (DER) that ``key`` signs by a hash function."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), number, now, now + datetime.timedelta(days=1))
        .sign(key, algorithm, **more)
        .public_bytes(serialization.Encoding.DER)
    )


@pytest.mark.parametrize("key", [RSA, EC])
@pytest.mark.parametrize(
    "algorithm",
    [
        *(hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512),
        *(hashes.SHA3_224, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512),
    ],
)
@pytest.mark.parametrize("number", [1, 1 << 150])
def test_the_hash_function_is_the_signature_s(key: Any, algorithm: Any, number: int) -> None:
    certificate = signed(key, algorithm(), number)
    assert end_point(certificate) == hashlib.new(algorithm.name.replace("-", "_"), certificate).digest()


@pytest.mark.parametrize("algorithm", [hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512])
def test_rsassa_pss_has_it_in_its_parameters(algorithm: Any) -> None:
    kind = padding.PSS(padding.MGF1(algorithm()), padding.PSS.DIGEST_LENGTH)
    certificate = signed(RSA, algorithm(), rsa_padding=kind)
    assert end_point(certificate) == hashlib.new(algorithm.name, certificate).digest()


def test_there_is_none_for_ed25519() -> None:
    assert end_point(signed(ED, None)) is None


def with_identifier(certificate: bytes, before: str, after: str) -> bytes:
    """The certificate with other object identifiers of the same length: OpenSSL would not sign so any more."""
    assert bytes.fromhex(before) in certificate
    return certificate.replace(bytes.fromhex(before), bytes.fromhex(after))


@pytest.mark.parametrize(
    ("certificate", "before", "after"),
    [
        (signed(RSA, hashes.SHA256()), "2a864886f70d01010b", "2a864886f70d010104"),  # MD5
        (signed(RSA, hashes.SHA256()), "2a864886f70d01010b", "2a864886f70d010105"),  # SHA-1
    ],
)
def test_md5_and_sha1_are_too_weak_to_bind_by(certificate: bytes, before: str, after: str) -> None:
    weak = with_identifier(certificate, before, after)
    assert end_point(weak) == hashlib.sha256(weak).digest()


def test_a_signature_that_nobody_knows_binds_nothing() -> None:
    certificate = signed(RSA, hashes.SHA256())
    assert end_point(with_identifier(certificate, "2a864886f70d01010b", "2a864886f70d01017f")) is None


@given(st.binary(max_size=60), st.integers(0, 700), st.integers(0, 700))
def test_garbage_binds_nothing_and_breaks_nothing(garbage: bytes, start: int, end: int) -> None:
    certificate = SELF_SIGNED
    for data in (garbage, certificate[:start], certificate[:start] + garbage + certificate[end:]):
        assert end_point(data) in (None, *(hashlib.new(name, data).digest() for name in NAMES))


SELF_SIGNED = signed(EC, hashes.SHA256())
NAMES = ("sha224", "sha256", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512")


@pytest.mark.parametrize("key", [RSA, EC, ED])
def test_both_sides_bind_to_what_the_server_shows(key: Any, tmp_path: Path) -> None:
    certificate = signed(key, None if key is ED else hashes.SHA384())
    path = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # What stands around the certificate is nothing to OpenSSL, nor are those behind it.
    path.write_bytes(
        b"text\n"
        + ssl.DER_cert_to_PEM_cert(certificate).encode()
        + ssl.DER_cert_to_PEM_cert(SELF_SIGNED).encode()
        + private
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    assert shown_by(server) == certificate
    learn_own(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    left, right = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (left, right):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert bound_to(left) == bound_to(right) == (None if key is ED else hashlib.sha384(certificate).digest())


#: Each a list of parts of the subject, each of those a list of attributes.
SUBJECTS = [
    [[(NameOID.COMMON_NAME, "app")]],
    [[(NameOID.COUNTRY_NAME, "DE")], [(NameOID.ORGANIZATION_NAME, "Ünter Föhren")], [(NameOID.COMMON_NAME, "app")]],
    [[(NameOID.COMMON_NAME, "one")], [(NameOID.COMMON_NAME, "two")]],
    [
        [(NameOID.DOMAIN_COMPONENT, "example"), (NameOID.USER_ID, "u1")],
        [(NameOID.EMAIL_ADDRESS, "a@example.com")],
        [(NameOID.SURNAME, "S"), (NameOID.GIVEN_NAME, "G"), (NameOID.TITLE, "T")],
    ],
    [[(NameOID.COMMON_NAME, ' #,+"\\<>;=/ ')], [(NameOID.ORGANIZATIONAL_UNIT_NAME, "# a ")]],
    [[(NameOID.COMMON_NAME, "a\tb\x7fc")], [(NameOID.SERIAL_NUMBER, " ")], [(NameOID.LOCALITY_NAME, "日本")]],
]


def shaken(subject: list[list[tuple[Any, str]]], tmp_path: Path) -> tuple[PeerCertificate | None, Path]:
    """What a server learns of a client with such a certificate, and the file with that."""
    name = x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(*pair) for pair in part]) for part in subject])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, EC.public_key(), 1, now, now + datetime.timedelta(days=1))
    signed_by_itself = builder.add_extension(x509.BasicConstraints(True, None), True).sign(EC, hashes.SHA256())
    return shaken_by(signed_by_itself.public_bytes(serialization.Encoding.DER), tmp_path)


def shaken_by(certificate: bytes, tmp_path: Path) -> tuple[PeerCertificate | None, Path]:
    """The same by the certificate (DER), which EC has signed."""
    path = tmp_path / "client.pem"
    path.write_bytes(
        ssl.DER_cert_to_PEM_cert(certificate).encode()
        + EC.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for context in (server, client):
        context.load_cert_chain(path)
    server.load_verify_locations(path)
    server.verify_mode = ssl.CERT_OPTIONAL
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    left, right = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (left, right):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert shown_by_peer(left) is None
    return shown_by_peer(right), path


@pytest.mark.parametrize("subject", SUBJECTS)
def test_names_are_written_as_openssl_writes_them(subject: list[list[tuple[Any, str]]], tmp_path: Path) -> None:
    found, path = shaken(subject, tmp_path)
    said = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-subject", "-nameopt", "RFC2253"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found is not None
    assert f"subject={found.distinguished_name}\n" == said
    common = [value for part in subject for name, value in part if name == NameOID.COMMON_NAME]
    assert found.common_name == (common[0] if common else None)


def test_a_name_that_c_reads_as_another_is_none(tmp_path: Path) -> None:
    found, _ = shaken([[(NameOID.COMMON_NAME, "app\0.evil")]], tmp_path)
    assert found == PeerCertificate(None, "CN=app\\00.evil")


def test_attributes_that_have_no_name_can_t_be_written(tmp_path: Path) -> None:
    found, _ = shaken([[(x509.ObjectIdentifier("1.2.3.4.5"), "x")], [(NameOID.COMMON_NAME, "app")]], tmp_path)
    assert found == PeerCertificate("app", None)


def tampered(before: bytes, after: bytes) -> bytes:
    """A good certificate (DER) with what no program would write: ``after``, as long as ``before``."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "--name--")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("--host--"), x509.RFC822Name("m@mail--"), x509.UniformResourceIdentifier("http://u")]
    made = (
        x509.CertificateBuilder(name, name, EC.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .sign(EC, hashes.SHA256())
    )
    return with_change(made, EC, before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x82\x08--host--", b"\x82\x08--\xff\xfest--"),
        (b"\x81\x08m@mail--", b"\x81\x08m@\xffail--"),
        (b"\x86\x08http://u", b"\x86\x08http://\xe9"),
    ],
)
def test_text_that_can_t_be_read_ends_the_handshake(before: bytes, after: bytes, tmp_path: Path) -> None:
    """In alternative names; OpenSSL itself takes no subject that it can't read."""
    with pytest.raises(ssl.SSLError, match="has text in it that can't be read"):
        shaken_by(tampered(before, after), tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (b"\x0c\x08--name--", b"\x0c\x08--name--", "--name--"),
        (b"\x0c\x08--name--", b"\x14\x08--nam\xe9--", "--namé--"),  # Latin-1, as everybody reads a T61String
        (b"\x0c\x08--name--", b"\x1e\x08\x00n\x00a\x00m\x00e", "name"),
        (b"\x0c\x08--name--", b"\x0c\x08root\n\r\t ", "root\n\r\t "),
        (b"\x0c\x08--name--", b"\x0c\x08app\0----", None),
        (b"\x82\x08--host--", b"\x82\x08app\0host", "--name--"),
    ],
)
def test_text_that_can_be_read(before: bytes, after: bytes, name: str | None, tmp_path: Path) -> None:
    found, _ = shaken_by(tampered(before, after), tmp_path)
    assert found is not None and found.common_name == name


def test_the_context_for_clients_knows_what_binds_them(certs: Certificates) -> None:
    """Also one that demands certificates of them."""

    class General:
        tls_mode = "verify-full"
        tls_certificate = str(certs.server.certificate)
        tls_private_key = str(certs.server.private_key)
        tls_ca_cert = str(certs.ca)
        tls_crl = None
        tls_min_version = "tlsv1.2"
        tls_ciphers = None

    context = client_facing_context(General())
    assert context is not None
    certificate = ssl.PEM_cert_to_DER_cert(certs.server.certificate.read_text())
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert bound_to(tls) == hashlib.sha256(certificate).digest()
