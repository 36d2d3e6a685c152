"""Keys in the place of passwords: what such a value looks like, which files it names, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from pgdoorman_lib.config.document import Path
from pgdoorman_lib.config.model import General, Pool, Talos
from pgdoorman_lib.config.source import Source
from pgdoorman_lib.errors import ConfigError

#: A password beginning so is the path of a public key: the client shows a token signed with the private one.
PUBLIC_KEY = "jwt-pkey-fpath:"
#: The same of a private key, by which the pooler makes tokens for a server.
PRIVATE_KEY = "jwt-priv-key-fpath:"

#: How both begin.
_LIKE_A_KEY = "jwt-"

_FOR = {PUBLIC_KEY: "by which clients' tokens are checked", PRIVATE_KEY: "by which tokens for servers are made"}

#: Bytes of the longest file that may be a key.
LONGEST_KEY = 65536

#: What tls_mode and server_tls_mode have to be for tokens to be encrypted, and what leaves that open.
CLIENTS_ENCRYPT = ("require", "verify-full")
_SERVERS_MAY_NOT = ("disable", "allow", "prefer")

#: The user of [talos] as clients call it.
TALOS_USER = "talos"


def public_key_file(secret: str) -> str | None:
    """The path in the password of a user who logs in by tokens, None if it is none."""
    return secret.removeprefix(PUBLIC_KEY) if secret.startswith(PUBLIC_KEY) else None


def private_key_file(secret: str) -> str | None:
    """The path in a password for servers that get tokens, None if it is none."""
    return secret.removeprefix(PRIVATE_KEY) if secret.startswith(PRIVATE_KEY) else None


def private_key_files(pools: Iterable[Pool]) -> list[str | None]:
    """The paths of all of them, None for each password that is none."""
    return [private_key_file(secret) for pool in pools for secret in _to_servers(pool)]


def key_file(secret: str, place: Path) -> str | None:
    """The path of a key in a secret of the configuration, None if it is none, or not of the kind that belongs there."""
    if place[0] != "pools":
        return None
    of_client = "users" in place and place[-1] == "password"
    return public_key_file(secret) if of_client else private_key_file(secret)


def key_id(path: str) -> str:
    """What the tokens call the key of [talos] in the file ``path``: its name without the last suffix."""
    return PurePath(path).stem


def read_keys(places: Iterable[tuple[str, Path]], source: Source) -> tuple[tuple[str, bytes], ...]:
    """What stands in the files, by their paths; those that can't be read are refused at the first of their places."""
    found: dict[str, bytes] = {}
    for path, place in places:
        if path in found:
            continue
        found[path] = b""
        try:
            with open(path, "rb") as file:
                found[path] = file.read(LONGEST_KEY + 1)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else None
            source.refuse(place, f"Could not open '{path}': {reason or exc}")
            continue
        if len(found[path]) > LONGEST_KEY:
            source.refuse(place, f"'{path}' is longer than {LONGEST_KEY} bytes: expected a key in PEM")
    return tuple(found.items())


def validate_tokens(talos: Talos, general: General, pools: dict[str, Pool], source: Source) -> None:
    """Check [talos], and warn of ways on which others can read tokens along."""
    _keys_of_talos(talos, source)
    by_token = any(user.password.startswith(PUBLIC_KEY) for pool in pools.values() for user in pool.users)
    if (by_token or talos.keys) and general.tls_mode not in CLIENTS_ENCRYPT and general.addresses():
        source.warn(
            ("general", "tls_mode"),
            f"'{general.tls_mode}' lets clients send their tokens in clear, by which whoever reads along can log in, "
            "too: expected require or verify-full",
        )
    for name, pool in pools.items():
        mode = pool.server_tls_mode or general.server_tls_mode
        by_wire = not all(host.startswith("/") for host in pool.server_host)
        if mode in _SERVERS_MAY_NOT and by_wire and any(secret.startswith(PRIVATE_KEY) for secret in _to_servers(pool)):
            source.warn(
                ("pools", name),
                f"with server_tls_mode = '{mode}' its tokens may go to servers in clear, by which whoever reads along "
                "can log in there, too: expected verify-full, or verify-ca or require",
            )
        if talos.keys and any(user.username == TALOS_USER for user in pool.users):
            source.warn(
                ("pools", name), f"'{TALOS_USER}' logs in by [talos], to the pool of his role: never to his own"
            )


def _to_servers(pool: Pool) -> list[str]:
    """What is shown to its servers in the place of passwords."""
    secrets = [user.server_password for user in pool.users]
    if pool.auth_query is not None:
        secrets += [pool.auth_query.password, pool.auth_query.server_password]
    return [secret for secret in secrets if secret is not None]


def _keys_of_talos(talos: Talos, source: Source) -> None:
    """Refuse two that tokens could not tell apart."""
    place: Path = ("talos", "keys")
    named: dict[str, str] = {}
    for path in talos.keys:
        other = named.setdefault(key_id(path), path)
        if other != path:
            source.refuse(
                place, f"'{other}' and '{path}' are both the key \"{key_id(path)}\", as tokens call it; rename one"
            )
    if talos.keys and not talos.databases:
        source.warn(place, "without talos.databases nobody logs in by them")


def check_key(secret: str, allowed: str, place: Path, source: Source) -> None:
    """Refuse the path of a key that is not of the kind ``allowed``, PUBLIC_KEY or PRIVATE_KEY, or empty for none."""
    if secret.startswith(_LIKE_A_KEY) and ":" in secret and not secret.startswith((PUBLIC_KEY, PRIVATE_KEY)):
        meant = f", as it is not {allowed}PATH" if allowed else ""
        source.warn(place, f'begins with "{_LIKE_A_KEY}", and is taken as a password in plain text{meant}')
    for prefix in (PUBLIC_KEY, PRIVATE_KEY):
        if not secret.startswith(prefix):
            continue
        if prefix != allowed:
            expected = f"{allowed}PATH, or a password" if allowed else "a password"
            source.refuse(place, f"found {prefix}..., {_FOR[prefix]}; expected {expected}")
        elif secret == prefix:
            source.refuse(place, f"found {prefix} without a path, expected {prefix}PATH")


def missing(what: str) -> ConfigError:
    """The error where the package that tokens need is not there."""
    return ConfigError(f"{what} needs the package PyJWT: pip install 'pgdoorman[jwt]'")
