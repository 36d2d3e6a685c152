"""The whole configuration as frozen dataclasses: the one truth about keys, defaults and meaning.

Attribute names are the TOML keys; durations are seconds, sizes bytes, tables of strings are tuples of pairs. What a key
is, `keys.Key`, lies in each field's metadata. All sections but [include] and [talos] are in modules of their own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pgdoorman_lib.config import units
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.keys import HIDDEN, HbaSource, Key, keys_of, setting
from pgdoorman_lib.config.metrics import Statsd, Web
from pgdoorman_lib.config.peers import Peer
from pgdoorman_lib.config.pools import AuthQuery, Pool, User
from pgdoorman_lib.record import record

__all__ = [
    "AuthQuery",
    "Config",
    "General",
    "HbaSource",
    "Include",
    "Peer",
    "Pool",
    "Statsd",
    "Talos",
    "User",
    "Web",
    "in_words",
    "show_rows",
]


@record(frozen=True, kw_only=True)
class Include:
    """[include]: more files, merged over this one in order."""

    files: tuple[str, ...] = setting("strings", [], "Files to read; relative to the working directory.", reload="live")


@record(frozen=True, kw_only=True)
class Talos:
    """[talos]: the user talos logs in by tokens that name roles in databases; the highest is the pool's user."""

    keys: tuple[str, ...] = setting(
        "strings",
        [],
        "Public keys (PEM files): a token's kid is the name of its key's file, without the suffix.",
        reload="live",
    )
    databases: tuple[str, ...] = setting(
        "strings", [], "Databases it is for, as the tokens and [pools.NAME] call them.", reload="live"
    )


@record(frozen=True, kw_only=True)
class Config:
    """One configuration, read and checked.

    ``peers`` are by id. ``path`` is the main file, ``secret_files`` are those with secrets, ``lenient`` is how it was
    read, ``warnings`` are texts for the log, ``fingerprints`` pairs of (path, SHA-256) of the TLS files and of those
    of ``keys``, so that one replaced in place counts as a change; ``keys`` has what stands in the latter, by path.
    ``pending``: of keys that were changed since the start, and wait for a restart, the name ("general.port") and the
    value that will be in force then, as text.
    """

    general: General
    pools: dict[str, Pool]
    peers: dict[int, Peer] = dataclasses.field(default_factory=dict)
    talos: Talos = Talos()
    web: Web = dataclasses.field(default_factory=Web)
    statsd: Statsd = dataclasses.field(default_factory=Statsd)
    path: str = ""
    secret_files: tuple[str, ...] = ()
    lenient: bool = False
    warnings: tuple[str, ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, bytes], ...] = dataclasses.field(default=(), repr=False)
    pending: tuple[tuple[str, str], ...] = ()
    tree: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def sections(self) -> tuple[tuple[str, General | Web | Statsd | Talos], ...]:
        """The sections that there are once, with their names."""
        return ("general", self.general), ("web", self.web), ("statsd", self.statsd), ("talos", self.talos)


def show_rows(config: Config) -> list[tuple[str, str, str, str]]:
    """SHOW CONFIG: (key, value in force, default, changeable) of every key; secrets are hidden.

    Durations are in milliseconds, seconds where the key says so, sizes in bytes; "-" is unset or without default.
    "changeable" is "yes", "no", or "no, VALUE after a restart".
    """
    rows = []
    pending = dict(config.pending)
    for section, values in config.sections():
        rows += _section_rows("" if section == "general" else f"{section}.", values, section, pending)
    for name, pool in config.pools.items():
        rows += _section_rows(f"pools.{name}.", pool, f"pools.{name}", pending)
        if pool.auth_query is not None:
            rows += _section_rows(f"pools.{name}.auth_query.", pool.auth_query, f"pools.{name}.auth_query", pending)
        rows.append((f'pools."{name}".users', ",".join(user.username for user in pool.users), "-", "yes"))
    for number, peer in config.peers.items():
        rows += _section_rows(f"peers.{number}.", peer, f"peers.{number}", pending)
    return rows


def _section_rows(prefix: str, values: Any, section: str, pending: dict[str, str]) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, key in keys_of(values):
        default = "-" if key.required else shown(key, key.default_value())
        changeable = "no" if key.reload == "restart" else "yes"
        if f"{section}.{name}" in pending:
            changeable = f"no, {pending[f'{section}.{name}']} after a restart"
        rows.append((prefix + name, shown(key, getattr(values, name)), default, changeable))
    return rows


def shown(key: Key, value: Any) -> str:
    """``value`` of ``key`` as SHOW CONFIG has it."""
    if value is None:
        return "-"
    if key.kind == "secret":
        return HIDDEN
    if key.kind == "boolean":
        return "true" if value else "false"
    if key.kind == "duration":
        return str(round(value * 1000))
    if key.kind == "mode":
        return f"{value:04o}"
    if key.kind in ("pg_hba", "pg_ident"):
        return f"path {value.path}" if value.path else "inline"
    if key.kind == "addresses":
        return ",".join(format_address(host, port) for host, port in value)
    if key.kind == "parameters":
        return ",".join(f"{name}={text}" for name, text in value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def in_words(key: Key, value: Any) -> str:
    """``value`` of ``key`` for a sentence: no secret, and what an unset one means."""
    if value is None:
        return f"unset ({key.unset})" if key.unset else "unset"
    if key.kind in ("secret", "parameters", "pg_hba", "pg_ident"):
        return shown(key, value)
    return written(key, value)


def format_address(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def written(key: Key, value: Any) -> str:
    """``value`` of ``key`` as TOML would have it, with the largest fitting unit; the value must not be None."""
    if key.kind == "boolean":
        return "true" if value else "false"
    if key.kind == "duration" and value:
        return f'"{units.format_duration(value)}"'
    if key.kind == "size" and value:
        return f'"{units.format_size(value)}"'
    if key.kind == "mode":
        return f'"{value:04o}"'
    if key.kind == "parameters":
        return "{}"
    if key.kind in ("hosts", "servers") and len(value) == 1:
        return f'"{value[0]}"'
    if key.kind == "ports":
        return str(value[0]) if len(value) == 1 else "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(round(value))
