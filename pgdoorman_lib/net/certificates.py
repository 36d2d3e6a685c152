"""What certificates tell beside the trust in them: whose they are, and the hash by which SCRAM is bound to TLS.

That is the channel binding ``tls-server-end-point`` (RFC 5929 section 4.1): a hash of the server's certificate by the
hash function of its signature. PostgreSQL knows no other.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import Any
from weakref import WeakKeyDictionary

from pgdoorman_lib.record import record

# The tags of DER (X.690) that a certificate has where we look: SEQUENCE, OBJECT IDENTIFIER, and the first optional one.
_SEQUENCE = 0x30
_OBJECT = 0x06
_FIRST = 0xA0

#: A signature's algorithm names its hash function itself, but for RSASSA-PSS, which has it among its parameters.
_PSS = "1.2.840.113549.1.1.10"
#: What RSASSA-PSS takes unless they say other (RFC 4055 section 3.1).
_PSS_DEFAULT = "1.3.14.3.2.26"
#: SHA-256 stands for MD5 and SHA-1 (RFC 5929).
_HASHES = {
    # RSA (RFC 8017, RFC 4055)
    "1.2.840.113549.1.1.4": "sha256",  # MD5
    "1.2.840.113549.1.1.5": "sha256",  # SHA-1
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    # ECDSA (RFC 5758)
    "1.2.840.10045.4.1": "sha256",  # SHA-1
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    # DSA (RFC 5758)
    "1.2.840.10040.4.3": "sha256",  # SHA-1
    "2.16.840.1.101.3.4.3.1": "sha224",
    "2.16.840.1.101.3.4.3.2": "sha256",
    # ECDSA and RSA with SHA-3 (NIST's list of algorithms)
    "2.16.840.1.101.3.4.3.9": "sha3_224",
    "2.16.840.1.101.3.4.3.10": "sha3_256",
    "2.16.840.1.101.3.4.3.11": "sha3_384",
    "2.16.840.1.101.3.4.3.12": "sha3_512",
    "2.16.840.1.101.3.4.3.13": "sha3_224",
    "2.16.840.1.101.3.4.3.14": "sha3_256",
    "2.16.840.1.101.3.4.3.15": "sha3_384",
    "2.16.840.1.101.3.4.3.16": "sha3_512",
    # the hash functions themselves
    _PSS_DEFAULT: "sha256",  # SHA-1
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}

_own: WeakKeyDictionary[ssl.SSLContext, bytes | None] = WeakKeyDictionary()


def learn_own(context: ssl.SSLContext) -> None:
    """Find out what binds SCRAM to connections by ``context``, a server's whose certificate has been loaded.

    To be called before it demands anything of clients.
    """
    _own[context] = end_point(shown_by(context))


def shown_by(context: ssl.SSLContext) -> bytes:
    """The certificate (DER) that a server's context shows: asked of OpenSSL, which has read its file."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking, answering, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = asking.getpeercert(binary_form=True)
    assert certificate is not None  # there is no server without
    return certificate


def bound_to(tls: ssl.SSLObject) -> bytes | None:
    """What binds SCRAM to a connection whose handshake is done; None if its server's certificate has no such hash."""
    if tls.server_side:
        return _own.get(tls.context)
    certificate = tls.getpeercert(binary_form=True)
    return end_point(certificate) if certificate else None


@record(frozen=True)
class PeerCertificate:
    """The subject of a client's certificate that is good: its first common name, and all of it as in RFC 2253.

    None for what is not there, or can't be written so.
    """

    common_name: str | None
    distinguished_name: str | None


def shown_by_peer(tls: ssl.SSLObject) -> PeerCertificate | None:
    """What the client has shown in a handshake that is done; None if nothing, or if nobody has asked and checked.

    ssl.SSLError for a certificate that can't be read, although an authority has signed it.
    """
    if not tls.server_side:
        return None
    try:
        certificate = tls.getpeercert()
    except (ssl.SSLError, UnicodeDecodeError) as exc:
        raise ssl.SSLError(1, f"the client's certificate has text in it that can't be read: {exc}") from exc
    if not certificate:
        return None
    subject: Any = certificate["subject"]
    common = next((value for part in subject for name, value in part if name == "commonName"), None)
    if common is not None and "\0" in common:
        common = None  # who reads it as C does would take it for another
    return PeerCertificate(common, _distinguished_name(subject))


def _distinguished_name(subject: Any) -> str | None:
    """As OpenSSL writes it with XN_FLAG_RFC2253, which is what PostgreSQL compares: the last attribute first."""
    written = []
    try:
        for part in reversed(subject):
            # Within a part, too, the last comes first.
            written.append("+".join(f"{_short_name(name)}={_escaped(value)}" for name, value in reversed(part)))
    except ValueError:
        return None  # OpenSSL would dump it in hexadecimal, which Python does not tell
    return ",".join(written)


def _short_name(name: str) -> str:
    found = ssl._ASN1Object.fromname(name)
    if not found.nid:
        raise ValueError(name)
    return found.shortname


def _escaped(value: str) -> str:
    """A value of a distinguished name: what has a meaning there by a backslash, what is not ASCII by its bytes."""
    written = []
    last = len(value) - 1
    for at, char in enumerate(value):
        if char in ',+"\\<>;' or (char == " " and at in (0, last)) or (char == "#" and at == 0):
            written.append("\\" + char)
        elif " " <= char <= "~":
            written.append(char)
        else:
            written += [f"\\{byte:02X}" for byte in char.encode()]
    return "".join(written)


def end_point(certificate: bytes) -> bytes | None:
    """The hash of a certificate (DER); None for a signature that has no hash function, such as Ed25519's."""
    try:
        name = _HASHES.get(_signature_hash(certificate))
    except (IndexError, ValueError):  # OpenSSL has read it, so this is one that we don't know
        return None
    return hashlib.new(name, certificate).digest() if name is not None else None


def _signature_hash(certificate: bytes) -> str:
    """The object identifier that names the hash function of a certificate's signature (RFC 5280 section 4.1)."""
    start, _ = _element(certificate, 0, _SEQUENCE)  # Certificate
    _, behind = _element(certificate, start, _SEQUENCE)  # tbsCertificate
    start, end = _element(certificate, behind, _SEQUENCE)  # signatureAlgorithm
    algorithm, behind = _identifier(certificate, start)
    if algorithm != _PSS:
        return algorithm
    if behind == end:
        return _PSS_DEFAULT
    start, end = _element(certificate, behind, _SEQUENCE)  # RSASSA-PSS-params
    if start == end or certificate[start] != _FIRST:
        return _PSS_DEFAULT
    start, _ = _element(certificate, start, _FIRST)  # hashAlgorithm
    start, _ = _element(certificate, start, _SEQUENCE)
    return _identifier(certificate, start)[0]


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """The element of DER at ``at``: where its content begins and ends; ValueError for another tag."""
    if data[at] != tag:
        raise ValueError(f"tag {data[at]:#04x}, not {tag:#04x}")
    size = data[at + 1]
    start = at + 2
    if size & 0x80:
        more = size & 0x7F
        size = int.from_bytes(data[start : start + more], "big")
        start += more
    if start + size > len(data):
        raise ValueError("an element that is not whole")
    return start, start + size


def _identifier(data: bytes, at: int) -> tuple[str, int]:
    """The object identifier at ``at`` in its usual notation, and where it ends."""
    start, end = _element(data, at, _OBJECT)
    numbers = []
    number = 0
    for byte in data[start:end]:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:]))), end
