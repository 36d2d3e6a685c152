"""Whom a client may log in as by what others say that it is: its certificate, or the system at a unix socket.

Rules:
1. What is said must be the user's name, or one that a map of pg_ident leads to it.
2. The log is told why somebody is refused, the client only that it is, whether there is such a user or not.

PostgreSQL docs, "User Name Maps", "Certificate Authentication", "Peer Authentication"; its hba.c and auth.c.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence

import gevent

from pgdoorman_lib.auth.hba_text import Token, fields, lines, single
from pgdoorman_lib.errors import ConfigError, NotPermitted, Refusal
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.record import record

#: Values of the options ``clientcert`` and ``clientname``.
VERIFY_CA, VERIFY_FULL = "verify-ca", "verify-full"
COMMON_NAME, DISTINGUISHED_NAME = "CN", "DN"

#: struct ucred: process, user and group.
_CREDENTIALS = struct.Struct("3i")


@record(frozen=True)
class Ident:
    """One line: what somebody is called elsewhere, a name or a regular expression, and the ``user`` he may be here."""

    line: int
    system: str | re.Pattern[str]
    user: Token

    def allows(self, system: str, user: str) -> bool:
        """Whether who is ``system`` elsewhere may be ``user`` here."""
        wanted = self.user.text
        if isinstance(self.system, str):
            if self.system != system:
                return False
        else:
            match = self.system.search(system)
            if match is None:
                return False
            if match.re.groups:
                wanted = wanted.replace(r"\1", match[1] or "", 1)
        return self.user.is_keyword("all") or wanted == user


class IdentMap:
    """The lines of one map."""

    def __init__(self, name: str, idents: Sequence[Ident]) -> None:
        self.name = name
        self._idents = tuple(idents)

    def allows(self, system: str, user: str) -> bool:
        """Whether one of the lines does."""
        return any(ident.allows(system, user) for ident in self._idents)


class IdentMaps:
    """The maps of ``general.pg_ident``, by name."""

    def __init__(self, idents: dict[str, list[Ident]]) -> None:
        self._maps = {name: IdentMap(name, found) for name, found in idents.items()}

    def named(self, name: str) -> IdentMap:
        """ValueError where there is none of that name."""
        if name not in self._maps:
            raise ValueError(f'no map "{name}" in general.pg_ident')
        return self._maps[name]

    @classmethod
    def parse(cls, text: str, source: str) -> IdentMaps:
        """ConfigError, naming ``source`` and line, if one of the lines can't be used."""
        idents: dict[str, list[Ident]] = {}
        number = 0
        try:
            for number, line in lines(text):
                columns = list(fields(line))
                if columns:
                    name, ident = _ident(number, columns)
                    idents.setdefault(name, []).append(ident)
        except ValueError as exc:
            raise ConfigError(f"{source}, line {number}: {exc}") from exc
        return cls(idents)


NO_MAPS = IdentMaps({})


def _ident(line: int, columns: list[tuple[Token, ...]]) -> tuple[str, Ident]:
    """The map's name and one line of it; ValueError says what is wrong."""
    name = single(columns[0], "map name")
    if name.startswith(("include", "@")):
        raise ValueError("including other files is not supported")
    if len(columns) != 3:
        raise ValueError(f"expected a map's name, a name elsewhere and a user, found {len(columns)} columns")
    system, user = (single(column, "ident field") for column in columns[1:])
    token = columns[2][0]
    if not token.quoted and user.startswith(("+", "/")):
        raise ValueError(f'neither membership in roles nor regular expressions are known of users here: "{user}"')
    if not system.startswith("/"):
        return name, Ident(line, system, token)
    try:
        pattern = re.compile(system[1:])
    except re.error as exc:
        raise ValueError(f'invalid regular expression "{system[1:]}": {exc}') from None
    if r"\1" in user and not pattern.groups:
        raise ValueError(
            f'regular expression "{system[1:]}" has no subexpressions as requested by backreference in "{user}"'
        )
    return name, Ident(line, pattern, token)


def require_certificate(stream: Stream) -> None:
    """NotPermitted for who has shown none; one that is not good has come to no login."""
    if stream.peer_certificate is None:
        raise NotPermitted("connection requires a valid client certificate")


def check_certificate(stream: Stream, name: str, idents: IdentMap | None, user: str) -> None:
    """Refusal unless the client's certificate, by the part ``name`` of it, lets it be ``user``."""
    certificate = stream.peer_certificate
    found = None
    if certificate is not None:
        found = certificate.common_name if name == COMMON_NAME else certificate.distinguished_name
    if not found:
        raise Refusal("client certificate contains no user name")
    check_name(found, idents, user)


def check_peer(stream: Stream, idents: IdentMap | None, user: str) -> None:
    """Refusal unless the system's user at the other end of a unix socket may be ``user``; may switch."""
    check_name(_peer(stream), idents, user)


def check_name(system: str, idents: IdentMap | None, user: str) -> None:
    """Refusal unless who is called ``system`` elsewhere may be ``user``."""
    if idents is None:
        if system != user:
            raise Refusal(f"provided user name ({user}) and authenticated user name ({system}) do not match")
    elif not idents.allows(system, user):
        raise Refusal(f'no match in usermap "{idents.name}" for user "{user}" authenticated as "{system}"')


def can_ask_peer() -> bool:
    """Whether the system says who is at the other end of a unix socket (Linux)."""
    return hasattr(socket, "SO_PEERCRED")


def _peer(stream: Stream) -> str:
    import pwd  # there is none on other systems

    _, uid, _ = _CREDENTIALS.unpack(stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        # It may be asked of a directory service, which takes its time.
        return str(gevent.get_hub().threadpool.apply(pwd.getpwuid, (uid,)).pw_name)
    except KeyError:
        raise Refusal(f"could not look up local user ID {uid}") from None
