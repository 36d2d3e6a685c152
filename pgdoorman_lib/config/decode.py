"""The merged tree to the model: every key known, of the right type, and supported; nothing is ignored silently."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pgdoorman_lib.config.document import Path
from pgdoorman_lib.config.keys import Key, describe, keys_of, type_name
from pgdoorman_lib.config.model import AuthQuery, General, Include, Peer, Pool, Statsd, Talos, User, Web
from pgdoorman_lib.config.source import Source
from pgdoorman_lib.config.tokens import key_file
from pgdoorman_lib.wire.cancel_keys import MAX_PEER_ID

NOT_SUPPORTED = "not supported yet"

SECTIONS = ("general", "pools", "include", "talos", "web", "prometheus", "statsd", "peers")

EVERY_DATABASE = "*"
"""The name of the pool for all databases that have none of their own, as in PgBouncer."""

_PEER_ID = re.compile(r"[1-9][0-9]{0,9}")
_USER_NUMBER = re.compile(r"[0-9]{1,18}")

# Names an operator may have put one section too high or too low, and where they belong.
_ELSEWHERE = {
    **{name: "[pools.NAME.auth_query]" for name, _ in keys_of(AuthQuery)},
    **{name: "[[pools.NAME.users]]" for name, _ in keys_of(User)},
    **{name: "[pools.NAME]" for name, _ in keys_of(Pool)},
    **{name: "[general]" for name, _ in keys_of(General)},
    **{name: f"the top level: [{name}]" for name in SECTIONS},
}


_Model = TypeVar("_Model")


class Decoder:
    """Reads the sections of one ``Source``, which takes down every problem; a section with one is None.

    Collects the keys without effect, for one warning, the files in which secrets stand, and those of users' keys with
    the first place of each.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.without_effect: dict[str, None] = {}
        self.secret_files: dict[str, None] = {}
        self.key_files: dict[str, Path] = {}

    def top_level(self) -> None:
        """Find unknown sections and missing ones."""
        data = self.source.data
        for name in data:
            if name not in SECTIONS:
                self.source.unknown((name,), SECTIONS, _ELSEWHERE)
        for name in ("general", "pools"):
            if name not in data:
                self.source.refuse((), f"missing field `{name}`: expected [{name}]")

    def general(self) -> General | None:
        data = self.source.data
        return self._section(General, data["general"], ("general",)) if "general" in data else None

    def include(self) -> Include | None:
        return self._section(Include, self.source.data.get("include", {}), ("include",))

    def talos(self) -> Talos | None:
        return self._section(Talos, self.source.data.get("talos", {}), ("talos",))

    def web(self) -> Web | None:
        data = self.source.data
        if "web" in data and "prometheus" in data:
            self.source.refuse(("prometheus",), "this is another name of [web], which is there too")
        name = "prometheus" if "prometheus" in data else "web"
        return self._section(Web, data.get(name, {}), (name,))

    def statsd(self) -> Statsd | None:
        return self._section(Statsd, self.source.data.get("statsd", {}), ("statsd",))

    def peers(self) -> dict[int, Peer]:
        """Those that could be read, by their ids."""
        raw = self.source.data.get("peers", {})
        if not isinstance(raw, dict):
            self.source.refuse(("peers",), f"found {type_name(raw)}, expected tables [peers.ID]")
            return {}
        peers: dict[int, Peer] = {}
        for name, table in raw.items():
            if _PEER_ID.fullmatch(name) is None or int(name) > MAX_PEER_ID:
                problem = (
                    f"found {describe(name)}, expected the peer_id of a pooler, an integer from 1 to {MAX_PEER_ID}"
                )
                self.source.refuse(("peers", name), problem)
            elif (peer := self._section(Peer, table, ("peers", name))) is not None:
                peers[int(name)] = peer
        return dict(sorted(peers.items()))

    def pools(self) -> dict[str, Pool]:
        """The pools that could be read."""
        raw = self.source.data.get("pools", {})
        if not isinstance(raw, dict):
            self.source.refuse(("pools",), f"found {type_name(raw)}, expected tables [pools.NAME]")
            return {}
        pools = {name: self._pool(name, pool) for name, pool in raw.items()}
        return {name: pool for name, pool in pools.items() if pool is not None}

    def _pool(self, name: str, raw: Any) -> Pool | None:
        path: Path = ("pools", name)
        if not name or "\0" in name:
            self.source.refuse(path, "a pool needs a name without null bytes")
        if not self._table(raw, path):
            return None
        rest = {key: value for key, value in raw.items() if key not in ("users", "auth_query")}
        given: dict[str, Any] = {"users": self._users(raw.get("users", []), (*path, "users"))}
        if "auth_query" in raw:
            given["auth_query"] = self._section(AuthQuery, raw["auth_query"], (*path, "auth_query"))
        return self._section(Pool, rest, path, also=("users", "auth_query"), given=given)

    def _users(self, raw: Any, path: Path) -> tuple[User, ...]:
        """Those that could be read, of both forms: [[pools.NAME.users]], and [pools.NAME.users.N] ordered by N."""
        entries: list[tuple[str | int, Any]]
        if isinstance(raw, list):
            entries = list(enumerate(raw))
        elif isinstance(raw, dict):
            named = [key for key in raw if _USER_NUMBER.fullmatch(key) is None]
            for key in named:
                self.source.refuse(path, f"invalid user key '{key}': expected numeric index or use array format")
            entries = sorted(((k, v) for k, v in raw.items() if k not in named), key=lambda item: int(item[0]))
        else:
            self.source.refuse(path, f"found {type_name(raw)}, expected [[users]] or [users.0], [users.1] ...")
            return ()
        users = [self._section(User, user, (*path, place)) for place, user in entries]
        return tuple(user for user in users if user is not None)

    def _table(self, raw: Any, path: Path) -> bool:
        if not isinstance(raw, dict):
            self.source.refuse(path, f"found {type_name(raw)}, expected a table")
        return isinstance(raw, dict)

    def _section(
        self,
        model: type[_Model],
        raw: Any,
        path: Path,
        *,
        also: tuple[str, ...] = (),
        given: dict[str, Any] | None = None,
    ) -> _Model | None:
        """One table to an instance of ``model``; ``also``: names allowed there that ``given`` has values for."""
        if not self._table(raw, path):
            return None
        keys = dict(keys_of(model))
        names = {name: name for name in keys}
        names.update({alias: name for name, key in keys.items() for alias in key.aliases})
        values: dict[str, Any] = dict(given or {})
        whole = True
        for written, value in raw.items():
            at = (*path, written)
            if written not in names:
                self.source.unknown(at, [*names, *also], _ELSEWHERE)
                continue
            name = names[written]
            if written == "client_prepared_statements_cache_size":
                self.source.warn(at, f"this is the old name of {name}")
            try:
                if written != name and name in raw:
                    raise ValueError(f"this is another name of {name}, which is there too")
                values[name] = self._value(keys[name], value, at)
            except ValueError as exc:
                self.source.refuse(at, str(exc))
                whole = False
        for name, key in keys.items():
            if key.required and not any(names.get(written) == name for written in raw):
                self.source.refuse(path, f"missing field `{name}`: {key.doc}")
                whole = False
        return model(**values) if whole else None

    def _value(self, key: Key, raw: Any, path: Path) -> Any:
        """What is read of ``raw``; ValueError if it can't be, or asks for what is not there yet."""
        value = key.read(raw)
        if key.support == "not yet" and key.off is not None and value not in key.off:
            if key.unmet == "refused":
                if not key.off:
                    raise ValueError(f"{NOT_SUPPORTED}; remove the key")
                accepted = " or ".join(_as_toml(value) for value in key.off)
                raise ValueError(f"{NOT_SUPPORTED}: found {key.found(raw)}, accepted is {accepted}. {key.doc}")
            taken = key.off[0]
            self.source.warn(path, f"{NOT_SUPPORTED}: found {key.found(raw)}, taken as {_as_toml(taken)}. {key.doc}")
            return taken
        if key.support == "no effect":
            self.without_effect[".".join(str(part) for part in path)] = None
        if key.kind == "secret" and value:
            self.secret_files[self.source.origin(path)[0]] = None
            file = key_file(value, path)
            if file:
                self.key_files.setdefault(file, path)
        doubt = key.implausible(raw)
        if doubt:
            self.source.warn(path, doubt)
        return value


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[]"
    return f'"{value}"' if isinstance(value, str) else str(value)
