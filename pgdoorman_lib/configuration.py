"""The configuration in force: what the file said when it was read last, and what the console has SET since."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from pgdoorman_lib.check import check, notices
from pgdoorman_lib.config.diff import diff, in_force
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.config.loader import load, with_values
from pgdoorman_lib.config.model import Config, in_words
from pgdoorman_lib.errors import ConfigError

log = logging.getLogger(__name__)


class Configuration:
    """Begins with ``config``, as it was checked; ``use`` is called with each that holds from then on.

    What raises ConfigError has changed nothing.
    """

    def __init__(self, config: Config, use: Callable[[Config], object]) -> None:
        #: another process tells of it
        self.quiet = False
        #: what the last reload has changed, in words
        self.changes = ""
        #: what holds
        self.config = config
        self._use = use
        self._from_file = config
        #: what was SET, as TOML would have it, by section and key
        self._set: dict[tuple[str, str], object] = {}
        #: what was odd about the machine when the configuration was read last
        self.notices = notices(config)

    def reload(self) -> list[str]:
        """Read the file again; what there is to tell of it. ConfigError when it can't be used."""
        try:
            config = load(self.config.path, lenient=self.config.lenient)
            check(config)
        except ConfigError as exc:
            for problem in exc.message.splitlines():
                log.error("reload failed, the configuration stays as it was: %s", problem)
            raise
        told = [f"{section}.{name} is as in the file again, not as it was SET" for section, name in self._set]
        self._set = {}
        self._from_file = config
        self.changes, *more = self._apply(config)
        return [*told, self.changes, *more]

    def tell_of_reload(self) -> None:
        """Log what the last reload has changed, now that it holds everywhere."""
        log.log(logging.DEBUG if self.quiet else logging.INFO, "configuration reloaded: %s", self.changes)

    def set_key(self, section: str, name: str, raw: object) -> str:
        """SET of a key to ``raw``, as TOML would have it; what it is then. ConfigError."""
        return self._override(section, name, {**self._set, (section, name): raw})

    def reset_key(self, section: str, name: str) -> str:
        """RESET of a key to what the file has; as ``set_key``."""
        return self._override(section, name, {key: raw for key, raw in self._set.items() if key != (section, name)})

    def _override(self, section: str, name: str, values: dict[tuple[str, str], object]) -> str:
        self._use_values(values)
        holder = dict(self.config.sections())[section]
        return f"{name} is {in_words(dict(keys_of(holder))[name], getattr(holder, name))}"

    def _use_values(self, values: dict[tuple[str, str], object]) -> None:
        config = with_values(self._from_file, values)
        check(config)
        self._set = values
        self._apply(config)

    def _apply(self, config: Config) -> list[str]:
        """Go by ``config`` as far as that needs no restart; what has changed, and what else there is to tell of it."""
        changes = diff(self.config, config)
        known, self.notices = self.notices, notices(config)
        told = [*config.warnings, *(notice for notice in self.notices if notice not in known)]
        told += [f"{key} was changed: it is {value} after a restart" for key, value in changes.restart]
        for warning in told:
            log.log(logging.DEBUG if self.quiet else logging.WARNING, "%s", warning)
        self.config = in_force(self.config, config, changes)
        self._use(self.config)
        return [str(changes), *told]

    def without_set(self) -> Config:
        """What holds but for what was SET: another process begins with this, and sets it itself, to RESET it later."""
        return in_force(self.config, self._from_file, diff(self.config, self._from_file))

    def values(self) -> list[list[object]]:
        """What was SET, for ``obey`` in another process: section, key, value."""
        return [[section, name, raw] for (section, name), raw in self._set.items()]

    def obey(self, values: Iterable[tuple[str, str, object]]) -> None:
        """Go by what was SET in another process; what can't be, any more, is warned of."""
        wanted = {(section, name): raw for section, name, raw in values}
        try:
            if wanted:
                self._use_values(wanted)
        except ConfigError as exc:
            log.warning("what was SET before the upgrade is not in force any more: %s", exc.message)
