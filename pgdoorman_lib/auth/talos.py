"""[talos]: the user ``talos`` shows a token that names roles in databases; the highest is the user whose pool he gets.

Rules:
1. A role in one database is none in another: of ``resource_access`` counts what is about the database asked for, and
   only if that is one of ``talos.databases``. (pg_doorman lets a role in any of them count for all.)
2. Which of the keys it is, the token says by its ``kid``; that is looked up among those there are, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgdoorman_lib.auth.tokens import Demands, Key, claims_of, key_id_of
from pgdoorman_lib.errors import Refusal
from pgdoorman_lib.record import record

#: What a token may make of its owner, the highest first: users of the pool.
ROLES = ("owner", "read_write", "read_only")


@record(frozen=True)
class Visitor:
    """Whom a token is of: the user he is in this database, and what he calls himself."""

    role: str
    client_id: str


class Talos:
    """``keys`` by their ids; ``leeway`` in seconds is how far clocks may differ."""

    def __init__(self, keys: Mapping[str, Key], databases: Sequence[str], leeway: float) -> None:
        self._keys = keys
        self._databases = frozenset(databases)
        self._demands = Demands(leeway=leeway)
        #: what proves nothing, and takes as long as the others
        self._any = next(iter(keys.values()), None)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def judge(self, token: bytes, database: str) -> Visitor:
        """Whose ``token`` it is in ``database``; Refusal."""
        kid = key_id_of(token)
        key = self._keys.get(kid)
        if key is None:
            if self._any is not None:
                claims_of(token, self._any, self._demands)
            raise Refusal(f"no key of [talos] is called {kid[:100]!r}")
        claims = claims_of(token, key, self._demands)
        return Visitor(self._role(claims, database), _client_id(claims))

    def _role(self, claims: Mapping[str, Any], database: str) -> str:
        if database not in self._databases:
            raise Refusal("the database is not one of talos.databases")
        access = claims.get("resource_access")
        if not isinstance(access, dict):
            raise Refusal("it has no resource_access")
        found: set[str] = set()
        for resource, granted in access.items():
            _, colon, name = resource.partition(":")
            if colon and name == database:
                found.update(_roles(granted))
        unknown = found.difference(ROLES)
        if unknown:
            raise Refusal(f"its roles are not all of {', '.join(ROLES)}: {sorted(unknown)[0][:100]!r}")
        role = next((role for role in ROLES if role in found), None)
        if role is None:
            raise Refusal("it has no role in this database")
        return role


def _roles(granted: object) -> Sequence[str]:
    roles = granted.get("roles") if isinstance(granted, dict) else None
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise Refusal("its resource_access has something else than lists of roles")
    return roles


def _client_id(claims: Mapping[str, Any]) -> str:
    client_id = claims.get("clientId")
    if not isinstance(client_id, str) or not client_id.isprintable():
        raise Refusal("it has no clientId, or one with characters that no name has")
    return client_id
