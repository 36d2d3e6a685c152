"""Keys in the place of passwords: what such a value looks like, which files it names, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from pgdoorman_lib.config.document import Path
from pgdoorman_lib.config.source import Source
from pgdoorman_lib.errors import ConfigError

#: A password beginning so is the path of a public key: the client shows a token signed with the private one.
PUBLIC_KEY = "jwt-pkey-fpath:"
#: The same of a private key, by which the pooler makes tokens for a server.
PRIVATE_KEY = "jwt-priv-key-fpath:"

_FOR = {PUBLIC_KEY: "by which clients' tokens are checked", PRIVATE_KEY: "by which tokens for servers are made"}

#: Bytes of the longest file that may be a key.
LONGEST_KEY = 65536

#: The user of [talos] as clients call it.
TALOS_USER = "talos"


def public_key_file(secret: str) -> str | None:
    """The path in the password of a user who logs in by tokens, None if it is none."""
    return secret.removeprefix(PUBLIC_KEY) if secret.startswith(PUBLIC_KEY) else None


def private_key_file(secret: str) -> str | None:
    """The path in a password for servers that get tokens, None if it is none."""
    return secret.removeprefix(PRIVATE_KEY) if secret.startswith(PRIVATE_KEY) else None


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


def check_keys_of_talos(keys: Iterable[str], place: Path, source: Source) -> None:
    """Refuse two that tokens could not tell apart."""
    named: dict[str, str] = {}
    for path in keys:
        other = named.setdefault(key_id(path), path)
        if other != path:
            source.refuse(
                place, f"'{other}' and '{path}' are both the key \"{key_id(path)}\", as tokens call it; rename one"
            )


def check_key(secret: str, allowed: str, place: Path, source: Source) -> None:
    """Refuse the path of a key that is not of the kind ``allowed``, PUBLIC_KEY or PRIVATE_KEY, or empty for none."""
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
