"""What a server's session began with: the values of parameters before anybody has set one; interned.

A session keeps the defaults it began with: what ALTER ROLE and ALTER DATABASE say later is for sessions that begin
later. Clients keep theirs in the same way, whichever server they get: where its ``Base`` is another, the
``difference`` is set on it along with their own settings. What comes from postgresql.conf follows a reload in sessions
that have begun, too, and so is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar
from weakref import WeakValueDictionary

from pgdoorman_lib.wire.literals import encoded, quote_literal
from pgdoorman_lib.wire.messages import parse_data_row
from pgdoorman_lib.wire.question import CONFIGURATION_LOADED
from pgdoorman_lib.wire.settings import PLANNING, TRACKED

#: Parameters whose values are known of every server: what is often set for a role or a database. Of others the value is
#: known where it is set so.
FOLLOWED = tuple(
    sorted(
        (TRACKED | PLANNING | {"idle_session_timeout", "default_transaction_deferrable"}) - {"session_authorization"}
        | {
            "bytea_output",
            "extra_float_digits",
            "work_mem",
            "maintenance_work_mem",
            "temp_buffers",
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "transaction_timeout",
            "row_security",
            "synchronous_commit",
            "lc_numeric",
            "lc_time",
            "check_function_bodies",
            "client_min_messages",
            "jit",
            "enable_seqscan",
            "random_page_cost",
            "plan_cache_mode",
            "default_tablespace",
            "default_table_access_method",
            "temp_tablespaces",
        }
    )
)

#: The value of ``role`` where nobody has become another.
NO_ROLE = "none"
#: Startup parameters for servers whose role or database would have them ended while they rest.
REST = {"idle_session_timeout": "0"}

#: Columns of a row: kind, name, value.
_COLUMNS = 3
_VALUE = b"v"
_OWNED = b"o"
_PROCESS = b"p"


class Base:
    """``values`` by lower-case name; ``owned`` are the names set for the role or the database; never changed."""

    __slots__ = ("__weakref__", "fixed", "owned", "values")

    _known: ClassVar[WeakValueDictionary[object, Base]] = WeakValueDictionary()

    values: dict[str, str]
    owned: frozenset[str]
    #: those of the values that stay what they are for the session's life: not the configuration's
    fixed: dict[str, str]

    @classmethod
    def of(cls, values: dict[str, str], owned: Iterable[str] = ()) -> Base:
        """The one object for these."""
        names = frozenset(owned)
        key = (tuple(sorted(values.items())), names)
        found = cls._known.get(key)
        if found is None:
            found = cls()
            found.values = dict(values)
            found.owned = names
            found.fixed = {name: values[name] for name in names if name in values}
            found.fixed["role"] = found.role
            cls._known[key] = found
        return found

    def value(self, name: str) -> str | None:
        """The value a session began with, None if it is not known."""
        return self.values.get(name.lower())

    @property
    def role(self) -> str:
        """The role in effect after the login; ``none`` is the one that logged in."""
        return self.values.get("role", NO_ROLE)

    @property
    def temporary(self) -> bool:
        """What is created without a schema's name is temporary."""
        return "pg_temp" in self.values.get("search_path", "")

    @property
    def rests_badly(self) -> bool:
        """A session that does nothing for a while is ended."""
        return any(self.values.get(name, value) != value for name, value in REST.items())

    def difference(self, other: Base) -> dict[str, str]:
        """What a session that began with these must set where ``other`` is in effect; nothing where one is UNKNOWN."""
        found: dict[str, str] = {}
        if self is UNKNOWN or other is UNKNOWN:
            return found
        theirs = other.values
        for name in sorted(self.owned | other.owned):
            value = self.values.get(name)
            if value is None and "." in name:
                value = ""  # as close as one comes to an option that is not there
            if value is not None and theirs.get(name) != value:
                found[name] = value
        return found


#: Nothing is known, since the server would not say.
UNKNOWN = Base.of({})


def baseline_sql() -> str:
    """The query for a server fresh from its login; its rows go to ``read_baseline``."""
    names = ", ".join(quote_literal(name) for name in FOLLOWED)
    # One that this role may set is one it may read.
    may = (
        "pg_catalog.strpos(n, '.') OPERATOR(pg_catalog.>) 0 OR EXISTS (SELECT FROM pg_catalog.pg_settings AS s"
        " WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) pg_catalog.lower(n)"
        " AND (context OPERATOR(pg_catalog.=) 'user'"
        " OR pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'))"
    )
    owned = (
        "SELECT pg_catalog.split_part(entry, '=', 1) AS n FROM pg_catalog.pg_db_role_setting,"
        " pg_catalog.unnest(setconfig) AS entry"
        " WHERE setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid,"
        " (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())])"
        " AND setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid,"
        " pg_catalog.quote_ident(session_user::pg_catalog.text)::pg_catalog.regrole::pg_catalog.oid])"
    )
    # It may begin with defaults under which a query waits for others, or has no time.
    known = encoded("pg_catalog.current_setting(n, true)")
    owns = encoded(f"CASE WHEN {may} THEN pg_catalog.current_setting(n, true) END")
    return (
        "SET LOCAL transaction_deferrable = off; SET LOCAL statement_timeout = 0; "
        f"SELECT 'v', n, {known} FROM pg_catalog.unnest(ARRAY[{names}]) AS n"
        f" UNION ALL SELECT 'o', n, {owns} FROM ({owned}) AS owned"
        f" UNION ALL SELECT 'p', pg_catalog.pg_backend_pid()::pg_catalog.text, {CONFIGURATION_LOADED}"
    )


def read_baseline(rows: Iterable[bytes]) -> tuple[Base, int, str]:
    """From the bodies of the DataRows the base, the process id of the backend, and CONFIGURATION_LOADED's value.

    ValueError if they are no answer.
    """
    values: dict[str, str] = {}
    owned = []
    late = {}
    process, loaded = 0, ""
    for body in rows:
        columns = parse_data_row(body)
        if len(columns) != _COLUMNS:
            raise ValueError("no such row")
        kind, name, value = columns
        if name is None:
            raise ValueError("a row without a name")
        if kind == _PROCESS:
            process, loaded = int(name), (value or b"").decode("ascii")
            continue
        key = name.decode(errors="surrogateescape").lower()
        text = None if value is None else bytes.fromhex(value.decode("ascii")).decode(errors="surrogateescape")
        if kind == _VALUE:
            if text is not None:
                values[key] = text
        elif kind == _OWNED:
            owned.append(key)
            if text is not None:
                late[key] = text
        else:
            raise ValueError("no such kind")
    return Base.of({**late, **values}, owned), process, loaded
