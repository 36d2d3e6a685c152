"""TLS contexts for connections from clients and to servers, made from the configuration's files."""

from __future__ import annotations

import os
import re
import ssl
from functools import lru_cache
from typing import NamedTuple, NoReturn

from pgdoorman_lib.abc import ClientTlsSettings, ServerTlsSettings
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.certificates import learn_own
from pgdoorman_lib.net.tls_secrets import Keylog

#: The protocol's registered ALPN name (PostgreSQL docs, "SSL Session Encryption").
ALPN = "postgresql"

#: What no list of suites may bring in: those without a certificate, by which nobody would be checked, or in clear.
_NEVER = "!aNULL:!eNULL"
#: How the suites of TLS 1.3 are called, and no others.
_TLS_1_3 = "TLS_"

#: Identity of a file's content for the cache: a replaced file changes at least one of the three.
_Stamp = tuple[int, int, int]


def client_facing_context(
    general: ClientTlsSettings, keylog: Keylog | None = None, *, asks: bool = False
) -> ssl.SSLContext | None:
    """The context for clients, or None where TLS is not offered (mode ``disable``, or no certificate).

    ``verify-full`` demands a certificate signed by ``tls_ca_cert`` of the client; ``allow`` and ``require`` ask for one
    if ``asks``, because rules go by it: who shows another one is refused, and so may be who shows none, by the rules.
    Connections that a ``keylog`` watches can be moved to another process (``Stream.export``).
    ConfigError names the key and the file that can't be used.
    """
    if general.tls_mode == "disable" or not general.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _version(general.tls_min_version)
    _set_ciphers(context, "tls_ciphers", general.tls_ciphers)
    context.set_alpn_protocols([ALPN])
    # As PostgreSQL does: no renegotiation (a cheap way to burn our CPU), no tickets (nobody resumes sessions).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    if not general.tls_private_key:
        raise ConfigError("tls_certificate is set but tls_private_key is not")
    _load_chain(context, ("tls_certificate", general.tls_certificate), ("tls_private_key", general.tls_private_key))
    learn_own(context)
    if general.tls_ca_cert:
        _load_ca(context, "tls_ca_cert", general.tls_ca_cert)
    if general.tls_crl:
        _load_crl(context, "tls_crl", general.tls_crl)
    if general.tls_mode == "verify-full":
        if not general.tls_ca_cert:
            raise ConfigError("tls_mode is verify-full but tls_ca_cert is not set")
        context.verify_mode = ssl.CERT_REQUIRED
    elif asks:
        if not general.tls_ca_cert:
            raise ConfigError(
                "client certificates can only be checked if a root certificate store is available: pg_hba asks for "
                "them, but tls_ca_cert is not set"
            )
        context.verify_mode = ssl.CERT_OPTIONAL
    if keylog is not None:
        keylog.watch(context)
    return context


def server_facing_context(settings: ServerTlsSettings, keylog: Keylog | None = None) -> ssl.SSLContext | None:
    """The context for servers, or None for mode ``disable``; ``keylog`` as above.

    ``allow``, ``prefer`` and ``require`` check nothing, ``verify-ca`` the chain, ``verify-full`` the name too. A client
    certificate is shown if one is configured. The context is kept until one of the files changes, so that a renewed
    certificate is used by the next connection. ConfigError names the key and the file that can't be used.
    """
    mode = settings.server_tls_mode
    if mode == "disable":
        return None
    files = _ServerFiles(
        settings.server_tls_ca_cert,
        settings.server_tls_crl,
        settings.server_tls_certificate,
        settings.server_tls_private_key,
    )
    stamps = tuple(_stamp(f"server_tls_{name}", path) for name, path in files._asdict().items())
    return _server_facing_context(
        mode, settings.server_tls_min_version, settings.server_tls_ciphers, files, stamps, keylog
    )


class _ServerFiles(NamedTuple):
    """Paths of what TLS to servers goes by; the keys of the configuration are called so behind ``server_tls_``."""

    ca_cert: str | None
    crl: str | None
    certificate: str | None
    private_key: str | None


@lru_cache(maxsize=64)
def _server_facing_context(
    mode: str,
    min_version: str,
    ciphers: str | None,
    files: _ServerFiles,
    stamps: tuple[_Stamp | None, ...],
    keylog: Keylog | None,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _version(min_version)
    _set_ciphers(context, "server_tls_ciphers", ciphers)
    context.set_alpn_protocols([ALPN])
    context.options |= ssl.OP_NO_RENEGOTIATION
    ca, crl, certificate, key = files
    if crl:
        _load_crl(context, "server_tls_crl", crl)
    if ca:
        _load_ca(context, "server_tls_ca_cert", ca)
    if mode in ("verify-ca", "verify-full"):
        if not ca:
            raise ConfigError(f"server_tls_mode is {mode!r} but server_tls_ca_cert is not set")
        context.check_hostname = mode == "verify-full"
    elif mode in ("allow", "prefer", "require"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        raise ConfigError(f"invalid server_tls_mode {mode!r}")
    if certificate and key:
        _load_chain(context, ("server_tls_certificate", certificate), ("server_tls_private_key", key))
    elif certificate or key:
        there, missing = ("certificate", "private_key") if certificate else ("private_key", "certificate")
        raise ConfigError(f"server_tls_{there} is set but server_tls_{missing} is not")
    if keylog is not None:
        keylog.watch(context)
    return context


def _stamp(key: str, path: str | None) -> _Stamp | None:
    if not path:
        return None
    try:
        found = os.stat(path)
    except OSError as exc:
        _refuse_file(key, path, exc)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _version(name: str) -> ssl.TLSVersion:
    """As the configuration and PgBouncer name it: ``tlsv1.2``."""
    return ssl.TLSVersion[name.replace("tlsv", "TLSv").replace(".", "_")]


def _set_ciphers(context: ssl.SSLContext, key: str, ciphers: str | None) -> None:
    if ciphers is None:
        return
    try:
        if any(name.startswith(_TLS_1_3) for name in re.split("[:, ]", ciphers)):
            raise ValueError("those of TLS 1.3, which are called TLS_..., can't be chosen")
        context.set_ciphers(f"{ciphers}:{_NEVER}")
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigError(
            f"{key}: {ciphers!r} names no cipher suites of TLS 1.2 that can be used ({_reason(exc)}); expected a list "
            'as OpenSSL has it, such as "ECDHE+AESGCM:ECDHE+CHACHA20" (see: openssl ciphers -v -tls1_2 LIST)'
        ) from exc


def _load_crl(context: ssl.SSLContext, key: str, path: str) -> None:
    found = _load_into_store(context, key, path, "revocation list")
    if not found["crl"] or found["x509"]:
        # Certificates beside the lists would be authorities that are trusted.
        raise ConfigError(f"{key}: {path!r} has certificates in it, expected revocation lists alone")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_ca(context: ssl.SSLContext, key: str, path: str) -> None:
    if not _load_into_store(context, key, path, "certificate")["x509"]:
        raise ConfigError(f"{key}: {path!r} has revocation lists in it, expected certificates")


def _load_into_store(context: ssl.SSLContext, key: str, path: str, what: str) -> dict[str, int]:
    """Load what is in a file, certificates or lists, and tell how many there are of each."""
    _check_readable(key, path)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        found.load_verify_locations(path)
        context.load_verify_locations(path)
    except ssl.SSLError as exc:
        raise ConfigError(f"{key}: no {what} can be read from {path!r}: {_reason(exc)}") from exc
    return found.cert_store_stats()


def _load_chain(context: ssl.SSLContext, certificate: tuple[str, str], private_key: tuple[str, str]) -> None:
    """Load a certificate chain and its key, each given as (configuration key, path)."""
    for key, path in (certificate, private_key):
        _check_readable(key, path)
    _load_ca(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), *certificate)  # tells a bad certificate from a bad key
    try:
        context.load_cert_chain(certificate[1], private_key[1], password=_no_password)
    except (ssl.SSLError, _KeyIsEncrypted) as exc:
        if isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH":
            text = f"the key in {private_key[1]!r} is not the one of {certificate[0]} {certificate[1]!r}"
        else:
            text = f"no private key can be read from {private_key[1]!r}: {_reason(exc)}"
        raise ConfigError(f"{private_key[0]}: {text}") from exc


class _KeyIsEncrypted(ValueError):
    """The private key asks for a pass phrase."""


def _no_password() -> NoReturn:
    # Without this OpenSSL would ask on the terminal and the process would hang.
    raise _KeyIsEncrypted("the key is protected by a pass phrase, which is not supported")


def _check_readable(key: str, path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as exc:
        _refuse_file(key, path, exc)


def _refuse_file(key: str, path: str, exc: OSError) -> NoReturn:
    raise ConfigError(f"{key}: could not open {path!r}: {exc.strerror}") from exc


def _reason(exc: Exception) -> str:
    """OpenSSL's reason in lower-case words; its full text names source lines of CPython."""
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(exc)
