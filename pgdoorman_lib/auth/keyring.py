"""The keys that a configuration names, as what tokens are proven and made by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pgdoorman_lib.abc import Account
from pgdoorman_lib.auth.talos import Talos
from pgdoorman_lib.auth.tokens import Demands, Key, TokenJudge, private_key, public_key
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.config.tokens import key_id, private_key_file, public_key_file
from pgdoorman_lib.errors import ConfigError


class Keyring:
    """``public`` and ``private`` keys by their paths, and what goes by them.

    ConfigError, a line for each that is none.
    """

    def __init__(self, config: Config) -> None:
        pem = dict(config.keys)
        problems: dict[str, None] = {}

        def read(load: Callable[[bytes, str], Key], path: str, where: str) -> Key | None:
            try:
                return load(pem[path], path)
            except ConfigError as exc:
                problems[f"{where}: {exc.message}"] = None
                return None

        def named(load: Callable[[bytes, str], Key], places: Iterable[tuple[str | None, str]]) -> dict[str, Key]:
            found: dict[str, Key] = {}
            for path, where in places:
                if path is not None and path not in found and (key := read(load, path, where)) is not None:
                    found[path] = key
            return found

        self.public = named(public_key, _users(config))
        self.private = named(private_key, _for_servers(config))
        general = config.general
        demands = Demands(general.jwt_issuer, general.jwt_audience, general.jwt_leeway)
        #: who judges the tokens of users, by the path of their key
        self._judges = {path: TokenJudge(key, demands) for path, key in self.public.items()}
        #: takes the tokens of users who have no key: as long to look at, and never good
        self.stand_in = TokenJudge(next(iter(self.public.values()), None), demands, lets_in=False)
        talos = named(public_key, ((path, "talos.keys") for path in config.talos.keys))
        self.talos = Talos(
            {key_id(path): key for path, key in talos.items()}, config.talos.databases, general.jwt_leeway
        )
        if problems:
            raise ConfigError("\n".join(problems))

    def judge_of(self, account: Account) -> TokenJudge | None:
        """Who judges the tokens of a configured user, None: he has a password."""
        path = public_key_file(account.password)
        return None if path is None else self._judges[path]

    def judge_by_rule(self, account: Account | None) -> TokenJudge:
        """The same where a rule asks everybody for one, also who is not there."""
        known = self.judge_of(account) if account is not None else None
        return known or self.stand_in


def _users(config: Config) -> Iterable[tuple[str | None, str]]:
    for name, pool in config.pools.items():
        for user in pool.users:
            yield public_key_file(user.password), f'pool "{name}", user "{user.username}"'


def _for_servers(config: Config) -> Iterable[tuple[str | None, str]]:
    for name, pool in config.pools.items():
        for user in pool.users:
            yield private_key_file(user.server_password or ""), f'pool "{name}", user "{user.username}"'
        if pool.auth_query is not None:
            for secret in (pool.auth_query.password, pool.auth_query.server_password):
                yield private_key_file(secret or ""), f'pool "{name}", auth_query'
