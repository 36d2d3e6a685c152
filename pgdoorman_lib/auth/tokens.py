"""JSON Web Tokens: by what key one is proven, and what it says of whoever shows it; and those made for servers.

Rules:
1. The algorithm is that of the key's kind. What a token's header says of it only ever refuses the token.
2. Only a token with a time at which it ends, whole and in time, says anything. Whatever else is wrong with it is the
   cause of a Refusal, for the log; the client is told no more than that it is wrong.
3. Nothing a token says names a file: keys are those of the configuration.

RFC 7515, 7518, 7519 and 8725; the signatures and the claims they register are PyJWT's business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pgdoorman_lib.config.tokens import missing
from pgdoorman_lib.errors import ConfigError, Refusal
from pgdoorman_lib.record import record

#: The method of pg_hba, by which tokens are called, too, where nobody has asked for it.
JWT = "jwt"

#: The claim that says which user it is.
USER_CLAIM = "preferred_username"

#: Bits of RSA keys that are taken: fewer are not safe (RFC 7518 section 3.3), more keep everybody waiting.
LEAST_RSA_BITS = 2048
MOST_RSA_BITS = 8192

_KINDS = f"RSA of {LEAST_RSA_BITS} to {MOST_RSA_BITS} bits (RS256), EC on P-256 (ES256), or Ed25519 (EdDSA)"

#: Seconds a token for a server is good for, and after which another is made.
LIFE = 120
AGE = 60


@record(frozen=True)
class Key:
    """One half of a pair; ``algorithm`` is what its kind signs by, in the terms of RFC 7518."""

    algorithm: str
    key: Any = field(repr=False)


@record(frozen=True)
class Demands:
    """What a token must say beside its times, and how far clocks may differ, seconds; None and () demand nothing."""

    issuer: str | None = None
    audience: Sequence[str] = ()
    leeway: float = 0.0


def public_key(pem: bytes, path: str) -> Key:
    """The key in the file ``path``; ConfigError says what is there instead."""
    load = _loaders(path).load_pem_public_key
    if b"PRIVATE KEY-----" in pem:
        raise ConfigError(f"'{path}' has a private key, expected the public half alone: {_KINDS}")
    return _key(load, (pem,), path, "public")


def private_key(pem: bytes, path: str) -> Key:
    """The same for a private key."""
    return _key(_loaders(path).load_pem_private_key, (pem, None), path, "private")


def _loaders(path: str) -> Any:
    """What reads keys; imported by who has some alone, for it takes a tenth of a second."""
    try:
        import jwt  # noqa: F401 - it has to be there
    except ImportError:
        raise missing(f"the key '{path}'") from None
    from cryptography.hazmat.primitives import serialization

    return serialization


def _key(load: Any, arguments: tuple[object, ...], path: str, half: str) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        found = load(*arguments)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it wants a password
        raise ConfigError(
            f"'{path}' is no {half} key in PEM that can be read without a password: expected {_KINDS}"
        ) from None
    if isinstance(found, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        if LEAST_RSA_BITS <= found.key_size <= MOST_RSA_BITS:
            return Key("RS256", found)
        what = f"an RSA key of {found.key_size} bits"
    elif isinstance(found, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        if found.curve.name == "secp256r1":
            return Key("ES256", found)
        what = f"an EC key on {found.curve.name}"
    elif isinstance(found, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return Key("EdDSA", found)
    else:
        what = f"a key of another kind ({type(found).__name__})"
    raise ConfigError(f"'{path}' has {what}, expected {_KINDS}")


def claims_of(token: bytes, key: Key, demands: Demands) -> dict[str, Any]:
    """What ``token`` says, proven by ``key``; Refusal."""
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            leeway=demands.leeway,
            issuer=demands.issuer,
            audience=demands.audience or None,
            options={
                "require": ["exp"],
                "verify_iss": demands.issuer is not None,
                "verify_aud": bool(demands.audience),
                # Nobody is less of a user for it; pg_doorman does not look at these.
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        # Its own errors, and what Python's numbers and JSON make of those that no issuer would write.
        raise Refusal(f"{type(exc).__name__}: {_short(str(exc))}") from exc
    for name in ("exp", "nbf"):
        if name in claims and not _is_time(claims[name]):
            raise Refusal(f"{name} is no number of seconds")
    return claims


def key_id_of(token: bytes) -> str:
    """The ``kid`` of a token of which nothing is proven yet; Refusal."""
    import jwt

    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:
        raise Refusal(f"{type(exc).__name__}: {_short(str(exc))}") from exc
    if not isinstance(kid, str) or not kid:
        raise Refusal("its header has no kid")
    return kid


def user_of(claims: Mapping[str, Any]) -> str:
    """The user whose token it is; Refusal."""
    user = claims.get(USER_CLAIM)
    if not isinstance(user, str) or not user:
        raise Refusal(f"it has no {USER_CLAIM}")
    return user


class TokenJudge:
    """Who takes for the user whoever shows his token, as ``abc.Judge``; without a key, or ``lets_in``, nobody."""

    line = ""
    blocks = False
    passes_on = False
    method = JWT

    def __init__(self, key: Key | None, demands: Demands, lets_in: bool = True) -> None:
        self._key = key
        self._demands = demands
        self._lets_in = lets_in

    def judge(self, claim: Any, until: float) -> None:
        """As in ``abc.Judge``, at once."""
        if self._key is None:
            raise Refusal("there is no key")
        owner = user_of(claims_of(claim.password, self._key, self._demands))
        if owner != claim.user:
            raise Refusal(f"it is of another user: {_short(owner)}")
        if not self._lets_in:
            raise Refusal("this user has no key to prove tokens by")


def _is_time(value: object) -> bool:
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _short(text: str) -> str:
    """A library's words as far as they fit a line of the log: a token's own parts may be among them."""
    return text[:200].encode("unicode_escape").decode()


class Signer:
    """Makes the tokens that the pooler logs in to servers with."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        #: by path and user: when it was made, and the token
        self._made: dict[tuple[str, str], tuple[float, str]] = {}

    def use(self, keys: Mapping[str, Key]) -> None:
        """Sign by these private keys, by their paths, from now on."""
        self._keys = dict(keys)
        self._made = {}

    def token(self, path: str, user: str) -> str:
        """One for ``user`` that is good for another minute at least."""
        import jwt

        now = time.time()  # as who checks it counts, and it may be set back
        made_at, token = self._made.get((path, user), (math.inf, ""))
        if not 0 <= now - made_at < AGE:
            key = self._keys[path]
            claims = {USER_CLAIM: user, "exp": int(now) + LIFE}
            token = jwt.encode(claims, key.key, algorithm=key.algorithm)
            self._made[path, user] = now, token
        return token
