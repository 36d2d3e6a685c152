"""What logins go by: who may come in, to which databases, and how, as the configuration has it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from pgdoorman_lib.abc import AccessRules, Account, Judge
from pgdoorman_lib.auth import hba
from pgdoorman_lib.auth.judges import Judges, configured_judge
from pgdoorman_lib.auth.keyring import Keyring
from pgdoorman_lib.auth.lookup import Finding
from pgdoorman_lib.auth.mock import mock_key, random_key
from pgdoorman_lib.auth.users import Users
from pgdoorman_lib.client.login_cache import LoginCache
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.config.validate import ADMIN_DATABASES
from pgdoorman_lib.lookups import Lookups
from pgdoorman_lib.net import aead
from pgdoorman_lib.net.rate_limit import RateLimit
from pgdoorman_lib.net.tls import client_facing_context
from pgdoorman_lib.net.tls_secrets import Keylog

log = logging.getLogger("pgdoorman.tls")


class ConfiguredPolicy:
    """``LoginPolicy`` by a configuration; a reload changes it for logins under way, too.

    ``lookups`` goes by the same configuration (``Lookups.use``) from before on.
    """

    general: General
    cache: LoginCache
    hba: AccessRules
    #: the configured user of (database, name), or None
    find_user: Callable[[str, str], Account | None]
    #: the first pool that has the user, or None
    database_of: Callable[[str], str | None]
    #: the context for clients, None when TLS is not offered; sessions keep that which they began with
    tls_context: ssl.SSLContext | None

    #: what their handshakes wait for, None for nothing
    handshakes: RateLimit | None

    #: what tokens are proven by, and made
    keyring: Keyring

    #: what salts are made of that nobody has chosen
    mock_secret: bytes

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._users: Users[Any]
        self.judges = Judges()
        self._random = random_key()
        self.is_admin_database = frozenset(ADMIN_DATABASES).__contains__
        self._console: dict[str, str] = {}
        self._keylog: Keylog | None = None
        self._no_ciphers = False

    def load_ciphers(self) -> bool:
        """Have what carries on connections by TLS 1.3, before clients wait for it; whether that is to be had."""
        if self._no_ciphers:
            return False
        try:
            aead.load()
        except ImportError as exc:
            self._no_ciphers = True
            log.warning(
                "TLS stays OpenSSL's, as with tls_handover = false: libcrypto is not to be had directly, %s", exc
            )
            return False
        return True

    def keylog(self) -> Keylog | None:
        """What has the secrets of TLS connections that may go to another process; None: they stay."""
        if not self.general.tls_handover:
            return None
        if self._keylog is None:
            if not self.load_ciphers():
                return None
            self._keylog = Keylog()
            if not aead.DIRECT:
                log.info("TLS records are sealed by the package cryptography: libcrypto is not to be had directly")
        return self._keylog

    def use(self, config: Config) -> None:
        """Go by ``config`` from now on."""
        self.mock_secret = mock_key(config.general.mock_authentication_secret) or self._random
        general = config.general
        self.keyring = Keyring(config)
        users = Users(config.pools, self.mock_secret, partial(configured_judge, settings=general, keyring=self.keyring))
        self._users = users
        self.general = general
        self.judges.use(general)
        self.hba = hba.gate(general.hba, general.pg_hba, general.pg_ident, general)
        self.tls_context = client_facing_context(
            config.general,
            self.keylog() if config.general.tls_certificate else None,
            asks=self.hba.wants_certificates,
        )
        self.handshakes = _limit(config.general)
        self.cache = LoginCache()
        self._console = _console_secrets(config)
        self.find_user = users.find
        self.database_of = users.database_of

    def looks_up(self, database: str) -> bool:
        """Whether users of ``database`` who are not configured are looked up in PostgreSQL."""
        return self._lookups.of(database) is not None

    def look_up(self, database: str, user: str) -> Finding:
        """What is found of one; may switch. AuthenticationUnavailable."""
        return self._lookups.look_up(database, user)

    def stand_in(self, user: str, found: Finding | None = None) -> str:
        """The secret that a login goes by when there is no such user, as ``found`` if he was looked for."""
        users = self._users
        elsewhere = self._lookups.secret_of(user)
        made_up = users.stand_in(user) if found is None or users.is_known(user) else users.made_up(user, found.look)
        # Who is in another pool, or was found in another database, looks everywhere as there.
        return made_up if users.is_known(user) else elsewhere or made_up

    def judge(self, database: str, user: str, found: Finding | None = None) -> Judge | None:
        """As in ``LoginPolicy``."""
        if found is None:
            return self._users.judge(database, user)
        return None if found.secret else self._users.judge_elsewhere(user)

    def console_secret(self, user: str) -> str | None:
        """The secret of a user of the console, None for who is none."""
        return self._console.get(user)


def _limit(general: General) -> RateLimit | None:
    """This process's share of the handshakes."""
    rate = general.tls_rate_limit_per_second
    return RateLimit(rate / general.worker_count) if rate else None


def _console_secrets(config: Config) -> dict[str, str]:
    general = config.general
    named = {*general.admin_users, *general.stats_users}
    secrets = {
        user.username: user.password
        for pool in config.pools.values()
        for user in pool.users
        if user.username in named and user.password
    }
    return secrets | {general.admin_username: general.admin_password}
