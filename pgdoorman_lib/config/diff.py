"""What a reload changes, as data: pools to add, drop and rebuild, and keys that apply now or only after a restart."""

from __future__ import annotations

import dataclasses
from typing import Any

from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.effective import PoolKey, PoolSettings, effective, looked_up, lookups, wildcard
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.config.model import Config, shown
from pgdoorman_lib.record import record


@record(frozen=True)
class Changes:
    """From one configuration to the next.

    ``added``, ``removed``, ``changed``: (database, user) of pools; ``live``: keys that hold at once; ``restart``: keys
    whose new value waits for a restart, with that as text. Keys are written ``general.port``. ``files``: paths of files
    that are there with other contents.
    """

    added: tuple[PoolKey, ...] = ()
    removed: tuple[PoolKey, ...] = ()
    changed: tuple[PoolKey, ...] = ()
    live: tuple[str, ...] = ()
    restart: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.live or self.restart or self.files)

    def __str__(self) -> str:
        text = f"{len(self.added)} pools added, {len(self.removed)} removed, {len(self.changed)} rebuilt"
        if self.live:
            text += f"; changed: {', '.join(self.live)}"
        if self.files:
            text += f"; files read anew: {', '.join(self.files)}"
        return text


def diff(old: Config, new: Config) -> Changes:
    """Compare; a pool is changed when anything in its effective settings is, wherever it was written."""
    before, after = _pools(old), _pools(new)
    live: list[str] = []
    restart: list[tuple[str, str]] = []
    for (section, was), (_, now) in zip(old.sections(), new.sections(), strict=True):
        for name, key in keys_of(now):
            if getattr(was, name) == getattr(now, name):
                continue
            if key.reload == "restart":
                restart.append((f"{section}.{name}", shown(key, getattr(now, name))))
            elif key.reload == "live":
                live.append(f"{section}.{name}")
    live += _auth_queries(old, new)
    live += [f"peers.{number}" for number in sorted(old.peers | new.peers) if _differ(old, new, number)]
    digests = dict(old.fingerprints)
    files = [path for path, digest in new.fingerprints if digests.get(path, digest) != digest]
    for had, has in ((old.general.pg_hba, new.general.pg_hba), (old.general.pg_ident, new.general.pg_ident)):
        if had is not None and has is not None and has.path is not None and had.path == has.path and had != has:
            files.append(has.path)
    return Changes(
        added=tuple(key for key in after if key not in before),
        removed=tuple(key for key in before if key not in after),
        changed=tuple(key for key in after if key in before and before[key] != after[key]),
        live=tuple(live),
        restart=tuple(restart),
        files=tuple(files),
    )


def _differ(old: Config, new: Config, number: int) -> bool:
    """Whether there is another peer ``number`` now, or none, or was none."""
    return old.peers.get(number) != new.peers.get(number)


def _pools(config: Config) -> dict[PoolKey, PoolSettings]:
    """The settings of every pool, and of what pools are made by for other databases, and for users who are found."""
    templates = {(EVERY_DATABASE, user): settings for user, settings in wildcard(config).items()}
    found = {(database, settings.user): settings for database, settings in looked_up(config).items()}
    return effective(config) | templates | found


def _auth_queries(old: Config, new: Config) -> list[str]:
    """Where users are looked up in another way now, or at all, or no more."""
    before, after = ({name: pool.auth_query for name, pool in config.pools.items()} for config in (old, new))
    was, now = lookups(old), lookups(new)
    names = [
        name for name in {**before, **after} if before.get(name) != after.get(name) or was.get(name) != now.get(name)
    ]
    return [f"pools.{name}.auth_query" for name in names]


def in_force(old: Config, new: Config, changes: Changes) -> Config:
    """What holds behind a reload: ``new``, but for what waits for a restart."""
    kept: dict[str, dict[str, Any]] = {section: {} for section, _ in old.sections()}
    for key, _ in changes.restart:
        section, name = key.split(".")
        kept[section][name] = getattr(getattr(old, section), name)
    return dataclasses.replace(
        new,
        pending=changes.restart,
        general=dataclasses.replace(new.general, **kept["general"]),
        web=dataclasses.replace(new.web, **kept["web"]),
        statsd=dataclasses.replace(new.statsd, **kept["statsd"]),
        talos=dataclasses.replace(new.talos, **kept["talos"]),
    )
