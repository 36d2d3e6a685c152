"""What a session leaves behind on a server: its parameters, and the traces that must be cleaned.

Parameters are *replayed*: a client's ``Settings`` are compared by identity with those its server has, and applied by
one statement when they differ. Traces are *cleaned* before the server is lent on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar
from weakref import WeakValueDictionary

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
    )
)

# What was touched on a server, by bits; parameters, temporary tables and locks are told by wire.sqltext as well.
DIRTY_PARAMETERS = 1
DIRTY_PREPARED = 2
DIRTY_CURSORS = 4
DIRTY_LISTEN = 8
DIRTY_TEMPORARY = 16
#: the session is over: everything
DIRTY_SESSION = 32
DIRTY_LOCKS = 64

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")


def quote_literal(value: str) -> str:
    """``value`` as an SQL string that means the same whatever standard_conforming_strings is."""
    text = value.replace("'", "''")
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\") + "'"
    return f"'{text}'"


class Settings:
    """Parameters a client has set, interned: two clients with the same values share one object."""

    __slots__ = ("__weakref__", "environment", "values")

    _known: ClassVar[WeakValueDictionary[tuple[tuple[str, str], ...], Settings]] = WeakValueDictionary()

    values: dict[str, str]
    #: stands for the values the meaning of statements depends on; empty when there are none
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Settings:
        """The one object for these values (names are compared without case)."""
        key = tuple(sorted((name.lower(), value) for name, value in values.items()))
        found = cls._known.get(key)
        if found is None:
            found = cls()
            found.values = dict(key)
            found.environment = tuple(pair for pair in key if pair[0] in PLANNING)
            cls._known[key] = found
        return found

    def changed(self, name: str, value: str) -> Settings:
        """These settings with one more or another value."""
        return Settings.of({**self.values, name.lower(): value})

    def sql_from(self, present: Settings) -> str:
        """One statement batch that turns ``present`` into these settings; empty when there is nothing to do."""
        parts = [f"RESET {_quote_name(name)}" for name in present.values if name not in self.values]
        calls = [
            f"pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, false)"
            for name, value in self.values.items()
            if present.values.get(name) != value
        ]
        if calls:
            parts.append("SELECT " + ", ".join(calls))
        return "; ".join(parts)


#: Nothing set: what a server has after its login or a reset.
BASE = Settings.of({})


def valid_name(name: str) -> bool:
    """Whether ``name`` can be a parameter's name at all."""
    return _NAME.match(name) is not None


def _quote_name(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def trace_of(tag: bytes) -> int:
    """The DIRTY_* bit of a CommandComplete tag (without its NUL), or 0."""
    if tag == b"SET" or tag == b"RESET":
        return DIRTY_PARAMETERS
    if tag == b"PREPARE" or tag == b"DEALLOCATE":
        return DIRTY_PREPARED
    if tag == b"DECLARE CURSOR":
        return DIRTY_CURSORS
    if tag == b"LISTEN":
        return DIRTY_LISTEN
    return 0


def cleaning_sql(dirty: int) -> list[str]:
    """The statements that take the traces away, in order; each is sent on its own."""
    if dirty & DIRTY_SESSION:
        return ["DISCARD ALL"]
    statements = []
    if dirty & DIRTY_PARAMETERS:
        statements += ["SET SESSION AUTHORIZATION DEFAULT", "RESET ALL"]
    if dirty & DIRTY_CURSORS:
        statements.append("CLOSE ALL")
    if dirty & DIRTY_PREPARED:
        statements.append("DEALLOCATE ALL")
    if dirty & DIRTY_LISTEN:
        statements.append("UNLISTEN *")
    if dirty & DIRTY_TEMPORARY:
        statements.append("DISCARD TEMP")
    if dirty & DIRTY_LOCKS:
        statements.append("SELECT pg_catalog.pg_advisory_unlock_all()")
    return statements
