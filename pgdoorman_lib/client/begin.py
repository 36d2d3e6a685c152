"""What a session begins with: its settings as far as PostgreSQL takes them, and the parameters its client is told.

A server is borrowed only while the pool has not seen one, or has not seen these settings, or what it has seen may be
true no more.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client.login import Accepted
from pgdoorman_lib.client.pooler import Pooler
from pgdoorman_lib.errors import Disabled, NoSuchPool, ProtocolViolation, ServerRefused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.beginnings import Told
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire.baseline import Base
from pgdoorman_lib.wire.messages import authentication_ok
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS
from pgdoorman_lib.wire.settings import BASE, Settings, valid_name

#: Bytes PostgreSQL keeps of a name (NAMEDATALEN - 1), application_name among them.
LONGEST_NAME = 63
#: Combinations of parameters whose beginning is remembered in a pool.
MAX_REPORTS = 1000

_AUTHENTICATION_OK = authentication_ok()

#: How a session begins: its settings, AuthenticationOk and the ParameterStatus messages of its login, what they tell,
#: and what its defaults are.
Beginning = tuple[Settings, bytes, Reported, Base]


def begin(pooler: Pooler, accepted: Accepted) -> tuple[Pool, Beginning]:
    """The pool of a client that was let in, and what its session begins with; may switch.

    NoSuchPool, also when it is removed meanwhile; Disabled; ServerUnavailable and what else borrowing a server raises;
    ServerRefused for settings that PostgreSQL does not take.
    """
    while True:
        pool = pool_of(pooler, accepted)
        at_once = _known(pool, accepted)
        if at_once is not None:
            return pool, at_once
        beginnings: Any = pool.beginnings
        try:
            if beginnings.reported is None:
                beginnings.ask()
            elif beginnings.stale():
                beginnings.heard_at = clock()
                with pool.connection() as server:
                    run(server, "")  # it reports what has changed with an answer
            asked = accepted.parameters if pool.sync_parameters else ()
            known = beginnings.reports.get(asked)
            if known is not None:
                return pool, known
            base, reported = beginnings.base, beginnings.reported
            settings, told = _try_settings(pool, _wanted(asked, beginnings), base)
        except (Moved, Told):
            continue  # the pool was replaced by another meanwhile, or what was asked for is known
        known = settings, _AUTHENTICATION_OK + told.messages(), told, base
        if beginnings.base is base and beginnings.reported is reported:
            if len(beginnings.reports) >= MAX_REPORTS:
                beginnings.reports.clear()
            beginnings.reports[asked] = known
        return pool, known


def begin_at_once(pooler: Pooler, accepted: Accepted) -> tuple[Pool, Beginning] | None:
    """The same without a switch; None where something has to be waited for."""
    pool = pool_of(pooler, accepted)
    known = _known(pool, accepted)
    return None if known is None else (pool, known)


def _known(pool: Pool, accepted: Accepted) -> Beginning | None:
    """What a session begins with, if that is known and nobody doubts it."""
    beginnings: Any = pool.beginnings
    if beginnings.reported is None or beginnings.stale():
        return None
    known: Beginning | None = beginnings.reports.get(accepted.parameters if pool.sync_parameters else ())
    return known


def pool_of(pooler: Pooler, accepted: Accepted) -> Pool:
    """The pool of a client that was let in, which learns what the client has proven to know; NoSuchPool, Disabled."""
    if accepted.secret:
        pooler.learn_parameters(accepted.database, accepted.user)
    pool = pooler.find_pool(accepted.database, accepted.user)
    if pool is None or is_anothers(pooler, accepted):
        raise no_such_pool(accepted.database, accepted.user)
    if pool.disabled:
        raise Disabled(f'database "{accepted.database}" is not currently accepting connections')
    if accepted.secret:
        pool.learn_secret(accepted.secret)
    if accepted.credentials is not None:
        pool.learn_credentials(accepted.credentials)
    return pool


def is_anothers(pooler: Pooler, accepted: Accepted) -> bool:
    """Whether a reload since the client's proof has made its name another's.

    It was one of the configuration, and who is found under it now is looked up; or the other way round.
    """
    return pooler.is_looked_up(accepted.database, accepted.user) != bool(accepted.secret)


def with_host(accepted: Accepted, peer: str) -> Accepted:
    """``accepted`` with the client's address in its application_name, as PgBouncer writes it."""
    others = [(name, value) for name, value in accepted.parameters if name.lower() != "application_name"]
    name = next((value for name, value in accepted.parameters if name.lower() == "application_name"), "app")
    parameters = (*others, ("application_name", f"{name} - {peer}"))
    return Accepted(
        accepted.user,
        accepted.database,
        parameters,
        accepted.protocol,
        accepted.admin,
        accepted.credentials,
        accepted.replication,
        accepted.secret,
    )


def no_such_pool(database: str, user: str) -> NoSuchPool:
    """The error for a client whose pool is not in the configuration any more."""
    return NoSuchPool(f"No pool configured for database: {database}, user: {user}")


def _wanted(parameters: tuple[tuple[str, str], ...], beginnings: Any) -> Settings:
    """The settings a startup packet asks for, less those every server of the pool has anyway."""
    present = {name.lower(): value for name, value in beginnings.reported.values.items()}
    values = {name: value for name in beginnings.carried if (value := beginnings.base.value(name)) is not None}
    for name, value in parameters:
        if not valid_name(name):
            raise ProtocolViolation(f'invalid configuration parameter name "{name}"', sqlstate="42602")
        key = name.lower()
        have = present.get(key)
        if key == "client_encoding":
            value = value.strip("'\"")
            if have is not None and _plain(have) == _plain(value):
                continue
        elif key == "datestyle" and have is not None and have.split(",")[0].lower() == value.strip().lower():
            continue
        if value != have:
            values[key] = value
        else:
            values.pop(key, None)
    return Settings.of(values) if values else BASE


def _plain(encoding: str) -> str:
    return encoding.replace("-", "").replace("_", "").upper()


def _try_settings(pool: Any, settings: Settings, base: Base) -> tuple[Settings, Reported]:
    """The settings as far as PostgreSQL takes them, and what it reports under them; may switch.

    ServerRefused when it does not. A customized option that a library loaded on the server refuses is one that a new
    session would drop once it loads the library.
    """
    values = settings.values
    name = values.get("application_name", "")
    if not values or (len(values) == 1 and name and _as_it_is(name)):
        # PostgreSQL takes any application_name.
        reported: Reported = pool.beginnings.reported
        for key, value in values.items():
            reported = reported.changed(key, value)
        return settings, reported

    while True:
        try:
            with pool.connection() as server:
                wanted = Settings.of({**base.difference(server.base), **settings.values})
                run(server, wanted.sql_from(server.applied))
                server.applied = wanted
                if wanted.restless:
                    server.dirty |= DIRTY_PARAMETERS
                return settings, server.reported
        except ServerRefused as exc:
            refused = settings.refused(exc.sqlstate, exc.message)
            if refused is None:
                raise
            settings = settings.without((refused,))


def _as_it_is(name: str) -> bool:
    """Whether PostgreSQL reports this application_name as it is: it cuts long ones and exchanges other characters."""
    return len(name) <= LONGEST_NAME and name.isascii() and name.isprintable()
