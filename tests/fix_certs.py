"""Certificates for the tests: a CA with a server's and a client's, and ones that must not be accepted."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True)
class CertificateFiles:
    """Paths of a certificate and of its private key (PEM, PKCS#8)."""

    certificate: Path
    private_key: Path


def with_change(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, before: bytes, after: bytes) -> bytes:
    """What no program would write: the certificate (DER) with ``after`` for ``before``, as long, signed by ``key``."""
    inside = certificate.tbs_certificate_bytes
    assert before in inside and len(before) == len(after)
    inside = inside.replace(before, after)
    signature = key.sign(inside, ec.ECDSA(hashes.SHA256()))
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    body = inside + ecdsa_with_sha256 + bytes((0x03, len(signature) + 1, 0)) + signature
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


class Authority:
    """A certificate authority that writes what it signs into a directory; by ``ed25519`` signatures have no hash."""

    def __init__(self, directory: Path, name: str, *, ed25519: bool = False) -> None:
        self.directory = directory
        self.name = name
        self._key = Ed25519PrivateKey.generate() if ed25519 else ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key, [], ca=True)
        #: what those who trust this authority need
        self.path = directory / f"{name}.crt"
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        file_name: str,
        common_name: str,
        alternative_names: Sequence[str] = (),
        *,
        pass_phrase: str = "",
        changed: tuple[bytes, bytes] | None = None,
    ) -> CertificateFiles:
        """A certificate good for servers and clients; addresses among the alternative names are marked as such.

        ``changed``: bytes of it, and what stands there instead, signed all the same.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(common_name, key, alternative_names, ca=False)
        files = CertificateFiles(self.directory / f"{file_name}.crt", self.directory / f"{file_name}.key")
        if changed is not None:
            assert isinstance(self._key, ec.EllipticCurvePrivateKey)
            files.certificate.write_text(ssl.DER_cert_to_PEM_cert(with_change(certificate, self._key, *changed)))
        else:
            files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if pass_phrase:
            protection = serialization.BestAvailableEncryption(pass_phrase.encode())
        files.private_key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        )
        files.private_key.chmod(0o600)
        return files

    def revoke(self, path: Path, *files: CertificateFiles) -> Path:
        """Write the list of those that are not good any more."""
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateRevocationListBuilder(_name(self.name), now, now + datetime.timedelta(days=1))
        for each in files:
            number = x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder(number, now)
            builder = builder.add_revoked_certificate(revoked.build())
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _sign(
        self, common_name: str, key: PrivateKey, alternative_names: Sequence[str], *, ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_key_usage(ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if not ca:
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if alternative_names:
            names = x509.SubjectAlternativeName([_general_name(text) for text in alternative_names])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, None if isinstance(self._key, Ed25519PrivateKey) else hashes.SHA256())


@dataclass(frozen=True)
class Certificates:
    """What the tests use. ``ca`` signs everything but ``other_ca`` and ``stranger``."""

    directory: Path
    authority: Authority
    ca: Path
    #: for localhost, 127.0.0.1 and ::1
    server: CertificateFiles
    #: for elsewhere.example only
    elsewhere: CertificateFiles
    #: common name ``app``
    client: CertificateFiles
    #: its key asks for a pass phrase
    protected: CertificateFiles
    other_ca: Path
    #: as ``server`` and ``client``, signed by ``other_ca``
    stranger: CertificateFiles


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certs")
    authority = Authority(directory, "ca")
    other = Authority(directory, "other-ca")
    here = ("localhost", "127.0.0.1", "::1")
    return Certificates(
        directory=directory,
        authority=authority,
        ca=authority.path,
        server=authority.issue("server", "localhost", here),
        elsewhere=authority.issue("elsewhere", "elsewhere.example", ("elsewhere.example",)),
        client=authority.issue("client", "app"),
        protected=authority.issue("protected", "localhost", here, pass_phrase="unknown"),
        other_ca=other.path,
        stranger=other.issue("stranger", "app", here),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
