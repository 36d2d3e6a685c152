"""What a rule of pg_hba wants of a client: the method, and the method's options.

PostgreSQL docs, "Authentication Methods"; most errors are in the words of its hba.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgdoorman_lib.abc import Judge, JudgeSettings
from pgdoorman_lib.auth import ldap
from pgdoorman_lib.auth.hba_text import Token
from pgdoorman_lib.auth.identity import (
    COMMON_NAME,
    DISTINGUISHED_NAME,
    VERIFY_CA,
    VERIFY_FULL,
    IdentMap,
    IdentMaps,
    can_ask_peer,
)
from pgdoorman_lib.auth.oauth import OAUTH, oauth_validator
from pgdoorman_lib.auth.pam import pam_service
from pgdoorman_lib.auth.tokens import JWT
from pgdoorman_lib.config.names import near
from pgdoorman_lib.record import record

TRUST = "trust"
MD5 = "md5"
SCRAM_SHA_256 = "scram-sha-256"
CERT = "cert"
PEER = "peer"
PAM = "pam"
LDAP = "ldap"
REJECT = "reject"
METHODS = (TRUST, MD5, SCRAM_SHA_256, CERT, PEER, JWT, OAUTH, PAM, LDAP, REJECT)
OTHER_METHODS = ("password", "gss", "sspi", "ident", "radius", "bsd")
#: Those by which no secret is asked for.
WITHOUT_SECRET = frozenset((TRUST, CERT, PEER))
#: Those by which who is told to have no secret here may come in.
NOT_BY_OUR_SECRET = WITHOUT_SECRET | {JWT, OAUTH, PAM, LDAP}

_VALUES = {"clientcert": (VERIFY_CA, VERIFY_FULL), "clientname": (COMMON_NAME, DISTINGUISHED_NAME)}
#: Whose options those are that are not for any method.
_ONLY = {
    "map": (PEER, CERT, OAUTH),
    "issuer": (OAUTH,),
    "scope": (OAUTH,),
    "pamservice": (PAM,),
    "pam_use_hostname": (PAM,),
    **dict.fromkeys(ldap.OPTIONS, (LDAP,)),
}


@record(frozen=True)
class Demand:
    """What a client has to show: ``method``, one of METHODS but ``reject``, or None: that which its secret asks for.

    ``certificate``: by TLS, VERIFY_CA: one that ``tls_ca_cert`` has signed, VERIFY_FULL: that of its user, as it is
    called by the part ``name`` of it. ``idents`` is the map to go by; None: names have to be the same. ``judge`` says
    whether its password is right, None: nobody but its secret.
    """

    method: str | None
    certificate: str = ""
    name: str = COMMON_NAME
    idents: IdentMap | None = None
    judge: Judge | None = None


def demand_of(
    connection: str,
    method: str,
    columns: Iterator[tuple[Token, ...]],
    maps: IdentMaps,
    judges: JudgeSettings | None,
) -> Demand:
    """What a rule wants, by the columns of its options; ValueError or ConfigError says what is wrong with them."""
    if method == CERT and connection != "hostssl":
        raise ValueError("cert authentication is only supported on hostssl connections")
    if method == PEER and connection != "local":
        raise ValueError("peer authentication is only supported on local sockets")
    if method == PEER and not can_ask_peer():
        raise ValueError("peer authentication is not supported on this system")
    chosen = {"clientcert": VERIFY_FULL} if method == CERT else {}
    for column in columns:
        for token in column:
            option, equals, value = token.text.partition("=")
            if not equals:
                raise ValueError(f"authentication option not in name=value format: {token.text}")
            _check_option(connection, method, option, value)
            chosen[option] = value
    idents = maps.named(chosen["map"]) if "map" in chosen else None
    return Demand(
        method,
        chosen.get("clientcert", ""),
        chosen.get("clientname", COMMON_NAME),
        idents,
        _judge(method, chosen, idents, judges),
    )


def _check_option(connection: str, method: str, option: str, value: str) -> None:
    only = _ONLY.get(option)
    if only is not None:
        if method not in only:
            raise ValueError(
                f'authentication option "{option}" is only valid for authentication methods {" and ".join(only)}'
            )
    elif option in _VALUES:
        if connection != "hostssl":
            raise ValueError(f'{option} can only be configured for "hostssl" rows')
        if value not in _VALUES[option]:
            accepted = " or ".join(_VALUES[option]) + near(value, _VALUES[option])
            raise ValueError(f'invalid value for {option}: "{value}", expected {accepted}')
        if option == "clientcert" and method == CERT and value != VERIFY_FULL:
            raise ValueError('clientcert only accepts "verify-full" when using "cert" authentication')
    else:
        known = [name for name, methods in _ONLY.items() if method in methods]
        known += _VALUES if connection == "hostssl" else ()
        accepted = f", {method} has {', '.join(known)}" if known else f", {method} has none"
        raise ValueError(f'authentication option "{option}" is not supported{accepted}{near(option.lower(), known)}')


def _judge(
    method: str, chosen: dict[str, str], idents: IdentMap | None, settings: JudgeSettings | None
) -> Judge | None:
    """Who judges passwords by this method."""
    if method == OAUTH:
        return oauth_validator(chosen, idents, settings)
    if method == PAM:
        return pam_service(chosen.get("pamservice", ""), settings, chosen.get("pam_use_hostname") == "1")
    if method == LDAP:
        return ldap.directory(chosen, settings)
    return None
