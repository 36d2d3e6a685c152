"""Parameters that follow the client: which they are, and the SQL that gives a server those of another client.

A client's ``Settings`` are compared by identity with those its server has, and applied by one statement when they
differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar
from weakref import WeakValueDictionary

from pgdoorman_lib.wire.literals import name_literal, quote_literal, quote_name, set_config

#: Parameters a server reports by ParameterStatus and a client may change: they follow the client.
TRACKED = frozenset(
    ("client_encoding", "datestyle", "timezone", "standard_conforming_strings", "application_name", "intervalstyle")
)

#: Parameters on which the meaning of a statement's text depends: statements prepared under different values of them
#: are not shared.
PLANNING = frozenset(
    (
        "search_path",
        "role",
        "session_authorization",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_text_search_config",
        "datestyle",
        "intervalstyle",
        "timezone",
        "client_encoding",
        "standard_conforming_strings",
        "backslash_quote",
        "array_nulls",
        "transform_null_equals",
        "xmloption",
        "lc_monetary",
        "timezone_abbreviations",
    )
)

#: They change who may set the others, so they are undone first and set last.
IDENTITY = ("session_authorization", "role")

#: They end a statement that takes longer.
_TIMEOUTS = ("statement_timeout", "transaction_timeout")
#: They act on a server that rests in its pool, where it is nobody's.
AT_REST = ("idle_session_timeout",)
#: With it a query may wait for the transactions of others.
DEFERRABLE = "default_transaction_deferrable"

#: SQLSTATEs by which a library refuses a customized option of its class: its value, who sets it, its name.
_REFUSED_OPTION = ("22023", "42501", "42602", "42704")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")


class Settings:
    """Parameters a client has set, interned: two clients with the same values share one object."""

    __slots__ = ("__weakref__", "environment", "restless", "temporary", "values")

    _known: ClassVar[WeakValueDictionary[tuple[tuple[str, str], ...], Settings]] = WeakValueDictionary()

    values: dict[str, str]
    #: stands for the values the meaning of statements depends on; empty when there are none
    environment: tuple[tuple[str, str], ...]
    #: what is created without a schema's name is temporary
    temporary: bool
    #: some of them act on a server that rests
    restless: bool

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Settings:
        """The one object for these values (names are compared without case)."""
        key = tuple(sorted((name.lower(), value) for name, value in values.items()))
        found = cls._known.get(key)
        if found is None:
            found = cls()
            found.values = dict(key)
            found.environment = tuple(pair for pair in key if pair[0] in PLANNING)
            found.temporary = "pg_temp" in found.values.get("search_path", "")
            found.restless = any(name in found.values for name in AT_REST)
            cls._known[key] = found
        return found

    def changed(self, name: str, value: str) -> Settings:
        """These settings with one more or another value."""
        return Settings.of({**self.values, name.lower(): value})

    def over(self, values: Mapping[str, str]) -> Settings:
        """These settings, and of ``values`` those they say nothing about."""
        return Settings.of({**values, **self.values}) if values else self

    def refused(self, sqlstate: str, message: str) -> str | None:
        """The customized option among these that an ErrorResponse is about, if it is about one.

        Directly PostgreSQL drops such an option with a warning when the library is loaded.
        """
        if sqlstate in _REFUSED_OPTION:
            # The longest first: one name may be the beginning of another.
            for name in sorted((name for name in self.values if "." in name), key=len, reverse=True):
                if name in message.lower():
                    return name
        return None

    def among(self, names: tuple[str, ...]) -> Settings:
        """Those of these settings that RESET of ``names`` is about; ``*`` is all of them, but who one is."""
        everything = "*" in names
        return Settings.of(
            {
                name: value
                for name, value in self.values.items()
                if name in names or (everything and name not in IDENTITY)
            }
        )

    def without(self, names: tuple[str, ...]) -> Settings:
        """These settings less those of ``names``."""
        return Settings.of({name: value for name, value in self.values.items() if name not in names})

    def joined(self, others: Settings) -> Settings:
        """These settings and ``others``, which win."""
        return Settings.of({**self.values, **others.values})

    def identity(self) -> Settings:
        """Those of these settings that say who one is, which RESET ALL leaves."""
        return Settings.of({name: value for name, value in self.values.items() if name in IDENTITY})

    def sql_from(self, present: Settings) -> str:
        """One statement batch that turns ``present`` into these settings; empty when there is nothing to do."""
        mine = self.values
        theirs = present.values
        # What little time another allows its own statements must not end ours.
        parts = [f"RESET {quote_name(name)}" for name in _TIMEOUTS if name in theirs]
        if DEFERRABLE in theirs:
            parts.insert(0, "SET LOCAL transaction_deferrable = off")
        if any(name in theirs for name in IDENTITY):
            parts += ["RESET SESSION AUTHORIZATION", "RESET ROLE"]
        done = (*IDENTITY, *_TIMEOUTS)
        gone = [name for name in theirs if name not in mine and name not in done]
        parts += [f"RESET {quote_name(name)}" for name in gone if "." not in name]
        # In a statement a customized option's name would be cut to 63 bytes, and be read in the client's encoding.
        calls = [f"pg_catalog.set_config({name_literal(name)}, NULL, false)" for name in gone if "." in name]
        calls += [
            set_config(name, value)
            for name, value in mine.items()
            if name not in IDENTITY and (name in _TIMEOUTS or theirs.get(name) != value)
        ]
        if calls:
            parts.append("SELECT " + ", ".join(calls))
        for name in IDENTITY:
            if name in mine and (len(parts) > 0 or theirs.get(name) != mine[name]):
                parts.append("SELECT " + set_config(name, mine[name]))
        return "; ".join(parts)


#: Nothing set: what a server has after its login or a reset.
BASE = Settings.of({})


def valid_name(name: str) -> bool:
    """Whether ``name`` can be a parameter's name at all."""
    return _NAME.match(name) is not None


def restore_sql(name: str, value: str, default: str, local: bool) -> str:
    """The statement that gives a setting this value if it is as at the server's login; ``local``: for a transaction.

    ``default``: what a customized option is then, if it is anything.
    """
    call = set_config(name, value, "true" if local else "false")
    if "." in name:
        there = f"coalesce(pg_catalog.current_setting({name_literal(name)}, true), '')"
        empty = f"{there} OPERATOR(pg_catalog.=) ''"
        return f"SELECT {call} WHERE {empty} OR {there} OPERATOR(pg_catalog.=) {quote_literal(default)}"
    return (
        f"SELECT {call} FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=)"
        f" {quote_literal(name)} AND source OPERATOR(pg_catalog.<>) 'session'"
    )
