"""Opening servers: the login with what is known of the user, and what has to be known before one is lent."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping
from typing import Any

from pgdoorman_lib.auth.md5 import is_hash
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.auth.tokens import Signer
from pgdoorman_lib.config.tokens import private_key_file, public_key_file
from pgdoorman_lib.errors import DoormanError, ServerRefused, UnsuitableHost
from pgdoorman_lib.fallback import Fallbacks
from pgdoorman_lib.log import of_pool
from pgdoorman_lib.metrics.counters import OpeningStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import baseline
from pgdoorman_lib.server.attributes import unmet_at_login
from pgdoorman_lib.server.auth import Credentials
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run as run_sql
from pgdoorman_lib.server.hosts import Hosts, address_of
from pgdoorman_lib.server.login import GiveKeylog, Stamps, before_it_is_lent, failure, login, time_limit
from pgdoorman_lib.wire.baseline import REST
from pgdoorman_lib.wire.literals import set_config
from pgdoorman_lib.wire.messages import terminate

log = logging.getLogger(__name__)

#: The class of SQLSTATEs by which PostgreSQL refuses who one says to be.
REFUSED_CREDENTIALS = "28"
#: Those by which it refuses a startup parameter: its value, its name or who may set it, when it may be set.
PARAMETER_ERRORS = ("22", "42", "55")
#: A server's lifetime is spread by so much, so that they do not all end together.
LIFETIME_JITTER = 0.2


class Connector:
    """Opens servers on an ``engine``; ``keylog`` gives what has the secrets of those by TLS that may be moved.

    ``signer`` makes the tokens for those that get some; None: there is no key.
    """

    def __init__(self, engine: Engine, keylog: GiveKeylog | None = None, signer: Signer | None = None) -> None:
        self.engine = engine
        self._keylog = keylog
        self._signer = signer or Signer()
        #: where they may be
        self.hosts = Hosts(engine)
        self.fallbacks = Fallbacks(self.hosts)
        #: how long the steps took
        self.stats = OpeningStats()

    def open_unpooled(self, pool: Pool, parameters: dict[str, str]) -> Server:
        """Open a server outside the pool, for one client: what that asks for wins over the pool's; may switch."""
        asked = {name.lower() for name in parameters}
        own = tuple(item for item in pool.settings.startup_parameters if item[0].lower() not in asked)
        try:
            return self.connect(pool, dataclasses.replace(pool.settings, startup_parameters=own), parameters)
        except DoormanError as exc:
            log.warning("%s %s", of_pool(pool.settings), failure(pool.settings, exc))
            raise

    def connect(self, pool: Pool, settings: Any = None, parameters: Mapping[str, str] | None = None) -> Server:
        """Open and log in one server, with the pool's settings unless others are given; may switch."""
        if settings is not None:
            return self._log_in(pool, settings, parameters)
        server = self._log_in(pool, pool.settings, pool.login_parameters)
        baseline.ask(server)
        if server.base.rests_badly and not pool.login_parameters:
            pool.login_parameters = REST
            server.stream.write(terminate())
            server.stream.close()
            server = self._log_in(pool, pool.settings, REST)
            baseline.ask(server)
        self.know(pool, server)
        question = pool.health.question
        if question is not None:
            _ask_health(pool, server, question)
        return server

    @staticmethod
    def _goes_by_catalogue(pool: Pool) -> bool:
        return bool(pool.by_transaction and (pool.transparent or pool.settings.cleanup_server_connections))

    def knows(self, pool: Pool, server: Server) -> bool:
        """Whether all is known that must be before ``server``, which has come to ``pool``, is lent.

        While a worker's pools of a database had no server, nobody here has looked at its marker.
        """
        if _is_elsewhere(pool, server):
            return False
        catalogue = pool.database.catalogue
        return not self._goes_by_catalogue(pool) or (catalogue.is_read and not catalogue.is_due())

    def know(self, pool: Pool, server: Server) -> None:
        """See that its database's catalogue is known; may switch. A server that fails at that is closed."""
        if _is_elsewhere(pool, server):
            pool.database.moved_to(address_of(server))
        if not self._goes_by_catalogue(pool):
            return
        # What little time its role or its client allows its statements is not for those of ours.
        own = server.applied.values.get("statement_timeout")
        limited = own is not None or server.base.value("statement_timeout") not in (None, "0")
        with before_it_is_lent(server.stream):
            if limited:
                run_sql(server, "SET statement_timeout = 0")
            if pool.database.catalogue.ready(server, pool.database.objects_moved):
                pool.database.address = address_of(server)
            if limited:
                back = "RESET statement_timeout" if own is None else f"SELECT {set_config('statement_timeout', own)}"
                run_sql(server, back)

    def _log_in(self, pool: Pool, settings: Any, parameters: Mapping[str, str] | None) -> Server:
        """Log in at one of the settings' hosts; may switch."""
        credentials = _credentials(pool, self._signer)

        def attempt(settings: Any, address: str, wanted: str) -> Server:
            server = self._log_in_at(settings, address, credentials, parameters)
            unmet = unmet_at_login(server, wanted)
            if unmet:
                server.stream.write(terminate())
                server.stream.close()
                raise UnsuitableHost(unmet)
            log.info("%s new server connection (pid %d)", of_pool(settings), server.pid)
            return server

        fallback = self.fallbacks.of(settings)
        return self.hosts.open(settings, attempt) if fallback is None else fallback.open(settings, attempt)

    def _log_in_at(
        self, settings: Any, address: str, credentials: Credentials, parameters: Mapping[str, str] | None
    ) -> Server:
        try:
            made = login(settings, self.engine, credentials, parameters, self._keylog, address)
        except ServerRefused as exc:
            sent = {name for name, _ in settings.startup_parameters} | set(parameters or ())
            if _is_about(exc, sent):
                raise  # PostgreSQL's own words say which of them is to be mended
            raise _refused(exc, credentials) from exc.__cause__
        self._count(made.stamps)
        now = clock()
        lifetime = settings.server_lifetime
        spread = 1 + LIFETIME_JITTER * (2 * int.from_bytes(os.urandom(2), "big") / 65535 - 1)
        expires = now + lifetime * spread if lifetime > 0 else float("inf")
        return Server(made.stream, settings, made.pid, made.secret, made.parameters, now, expires)

    def _count(self, stamps: Stamps) -> None:
        stats = self.stats
        stats.tcp_connect.add(_us(stamps.connected - stamps.begun))
        if stamps.encrypted:
            stats.tls.add(_us(stamps.encrypted - stamps.connected))
        stats.auth.add(_us(stamps.authenticated - (stamps.encrypted or stamps.connected)))
        stats.startup.add(_us(stamps.ready - stamps.authenticated))


def _is_elsewhere(pool: Pool, server: Server) -> bool:
    """Whether ``server`` is at another address than what is known of the database of ``pool``."""
    here = address_of(server)
    if pool.database.address == here:
        return False
    return all(address_of(other) != here for other in pool.servers if other is not server)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _ask_health(pool: Pool, server: Server, question: str) -> None:
    """Have the pool know what PostgreSQL answers to its health query; may switch.

    ServerUnavailable, and the connection is closed, when it is lost or takes longer than ``connect_timeout``.
    """
    settings = pool.settings
    answer = bytearray()
    with before_it_is_lent(server.stream), time_limit(settings, settings.connect_timeout, "ask pooler_check_query of"):
        try:
            run_sql(server, question, answer)
        except ServerRefused as exc:
            if server.fatal_received:
                raise
            log.warning("%s pooler_check_query fails: %s", of_pool(settings), exc.message)
            pool.health.learn(None)
            return
    pool.health.learn(answer)


def _credentials(pool: Pool, signer: Signer) -> Credentials:
    """What we know to log in with: the pool's server_password, or what the client has told, or its secret and proof."""
    settings = pool.settings
    user = settings.server_username
    if settings.server_password is not None:
        if is_hash(settings.server_password):
            return Credentials(user, md5_hash=settings.server_password, origin="the MD5 hash in server_password")
        key = private_key_file(settings.server_password)
        if key is not None:
            return Credentials(user, token=signer.token(key, user), origin="a token, by the key in server_password")
        return Credentials(user, password=settings.server_password, origin="server_password")
    if isinstance(pool.credentials, str):
        return Credentials(
            user, password=pool.credentials, origin="the password a client has told, as no server_password is set"
        )
    secret = pool.secret
    if public_key_file(secret) is not None:
        return Credentials(user, origin="nothing, for the user's token is none of the server's")
    if is_hash(secret):
        return Credentials(user, md5_hash=secret, origin="the user's MD5 hash, as no server_password is set")
    if ScramSecret.looks_like(secret):
        return Credentials(
            user,
            client_key=pool.credentials,
            server_key=ScramSecret.parse(secret).server_key,
            origin="what a client has proven by SCRAM, as no server_password is set",
        )
    return Credentials(user, password=secret, origin="the user's password, as no server_password is set")


def _is_about(exc: ServerRefused, parameters: Collection[str]) -> bool:
    """Whether a login was refused for a startup parameter, which the message names in whatever language it is."""
    message = exc.message.lower()
    return exc.sqlstate[:2] in PARAMETER_ERRORS and any(name.lower() in message for name in parameters)


def _refused(exc: ServerRefused, credentials: Credentials) -> ServerRefused:
    """PostgreSQL's refusal, of which it is told who was refused: the pooler, and with what."""
    how = f" with {credentials.origin}" if exc.sqlstate.startswith(REFUSED_CREDENTIALS) else ""
    return ServerRefused(
        f'the pooler\'s login as "{credentials.user}"{how} was refused: {exc.message}',
        detail=exc.detail,
        hint=exc.hint,
        sqlstate=exc.sqlstate,
    )
