"""What a configuration must pass beyond being read: its secrets, its rules, its certificates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pgdoorman_lib.auth import hba
from pgdoorman_lib.auth.doubts import doubts
from pgdoorman_lib.auth.judges import configured_judge
from pgdoorman_lib.auth.keyring import Keyring
from pgdoorman_lib.auth.users import Users
from pgdoorman_lib.config import surroundings
from pgdoorman_lib.config.effective import effective, looked_up, wildcard
from pgdoorman_lib.config.model import Config, General
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.tls import client_facing_context, server_facing_context
from pgdoorman_lib.wire.scram import prepared


def _wants_certificates(general: General) -> bool:
    try:
        return hba.gate(general.hba, general.pg_hba, general.pg_ident, general).wants_certificates
    except ConfigError:
        return False  # which is said of the rules themselves


def check(config: Config) -> None:
    """Find all a start would find fault with, short of listening; ConfigError that names the file, a line for each."""
    general = config.general
    accounts = [user for pool in config.pools.values() for user in (*pool.users, pool.auth_query) if user is not None]
    for account in accounts:
        for secret in (account.password, account.server_password):
            prepared(secret or "")  # what that takes is imported now and not in the middle of a login
    checks: list[Callable[[], object]] = [
        lambda: Users(config.pools, b"", partial(configured_judge, settings=general)),
        lambda: Keyring(config),
        lambda: hba.gate(general.hba, general.pg_hba, general.pg_ident, general),
        lambda: hba.Networks(general.proxy_protocol, "general.proxy_protocol"),
        lambda: client_facing_context(general, asks=_wants_certificates(general)),
        *(partial(server_facing_context, settings) for settings in effective(config).values()),
        *(partial(server_facing_context, settings) for settings in wildcard(config).values()),
        *(partial(server_facing_context, settings) for settings in looked_up(config).values()),
    ]
    problems: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except ConfigError as exc:
            problems.update({f"{config.path}: {problem}": None for problem in exc.message.splitlines()})
    if problems:
        raise ConfigError("\n".join(problems))


def notices(config: Config) -> list[str]:
    """What is odd about a configuration that has passed, and makes nothing wrong: texts for the operator."""
    return [*surroundings.notices(config), *doubts(config)]
