"""What a reload changes, as data: pools to add, drop and rebuild, and keys that apply now or only after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgdoorman_lib.config.effective import PoolKey, effective
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.config.model import Config


@dataclass(frozen=True)
class Changes:
    """From one configuration to the next.

    ``added``, ``removed``, ``changed``: (database, user) of pools; ``live``: keys that hold at once; ``restart``: keys
    whose new value waits for a restart. Keys are written ``general.port``.
    """

    added: tuple[PoolKey, ...] = ()
    removed: tuple[PoolKey, ...] = ()
    changed: tuple[PoolKey, ...] = ()
    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.live or self.restart)


def diff(old: Config, new: Config) -> Changes:
    """Compare; a pool is changed when anything in its effective settings is, wherever it was written."""
    before, after = effective(old), effective(new)
    live: list[str] = []
    restart: list[str] = []
    sections: tuple[tuple[str, Any, Any], ...] = (
        ("general", old.general, new.general),
        ("web", old.web, new.web),
        ("talos", old.talos, new.talos),
    )
    for section, was, now in sections:
        for name, key in keys_of(now):
            if getattr(was, name) == getattr(now, name):
                continue
            if key.reload == "restart":
                restart.append(f"{section}.{name}")
            elif key.reload == "live":
                live.append(f"{section}.{name}")
    return Changes(
        added=tuple(key for key in after if key not in before),
        removed=tuple(key for key in before if key not in after),
        changed=tuple(key for key in after if key in before and before[key] != after[key]),
        live=tuple(live),
        restart=tuple(restart),
    )
