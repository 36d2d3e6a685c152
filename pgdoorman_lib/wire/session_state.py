"""What a session leaves behind on a server: parameters that follow the client, and traces that hold or must be cleaned.

Parameters are *replayed*: a client's ``Settings`` are compared by identity with those its server has, and applied by
one statement when they differ. What can't be moved *pins* the client to its server. After a transaction that may have
left something, one question (``question``) asks the server what is really there; its answer is ``Findings``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar
from weakref import WeakValueDictionary

from pgdoorman_lib.wire.messages import parse_data_row

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

# What was touched on a server, by bits.
DIRTY_PARAMETERS = 1
DIRTY_PREPARED = 2
DIRTY_CURSORS = 4
DIRTY_LISTEN = 8
DIRTY_TEMPORARY = 16
#: the session is over: everything
DIRTY_SESSION = 32
DIRTY_LOCKS = 64
#: a library was loaded, which nothing undoes: the server must be closed
DIRTY_LIBRARY = 128
DIRTY_ORIGIN = 1024
#: what the server left could not be found out; it must be closed
DIRTY_UNKNOWN = 2048
#: customized options were set whose names nobody knows
DIRTY_CUSTOM = 4096
#: temporary replication slots
DIRTY_SLOTS = 8192
#: customized options may have been set, though hardly: RESET ALL takes them back before the next borrower comes
DIRTY_TAKEN_BACK = 16384

#: What keeps a client on its server in transaction mode, and what SHOW and the log call it.
PINS = {
    DIRTY_LISTEN: "listen",
    DIRTY_PREPARED: "prepared statements",
    DIRTY_TEMPORARY: "temporary objects",
    DIRTY_CURSORS: "cursors with hold",
    DIRTY_LOCKS: "advisory locks",
    DIRTY_LIBRARY: "loaded library",
    DIRTY_ORIGIN: "replication origin",
    DIRTY_UNKNOWN: "unknown state",
    DIRTY_CUSTOM: "customized options",
    DIRTY_SLOTS: "temporary replication slots",
}
#: What can't be asked about, and so is taken for granted.
GRANTED = DIRTY_LIBRARY | DIRTY_CUSTOM | DIRTY_UNKNOWN
#: What is looked into at a transaction's end.
ASKED = (
    DIRTY_PARAMETERS
    | DIRTY_CURSORS
    | DIRTY_LISTEN
    | DIRTY_TEMPORARY
    | DIRTY_LOCKS
    | DIRTY_ORIGIN
    | DIRTY_SLOTS
    | GRANTED
)

#: Parameters of a transaction, or that are not parameters at all.
_NOT_OF_THE_SESSION = frozenset(
    ("transaction_isolation", "transaction_read_only", "transaction_deferrable", "is_superuser", "seed")
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


def quote_literal(value: str) -> str:
    """``value`` as an SQL string that means the same whatever standard_conforming_strings is."""
    text = value.replace("'", "''")
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\") + "'"
    return f"'{text}'"


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
        parts = [f"RESET {_quote_name(name)}" for name in _TIMEOUTS if name in theirs]
        if DEFERRABLE in theirs:
            parts.insert(0, "SET LOCAL transaction_deferrable = off")
        if any(name in theirs for name in IDENTITY):
            parts += ["RESET SESSION AUTHORIZATION", "RESET ROLE"]
        done = (*IDENTITY, *_TIMEOUTS)
        gone = [name for name in theirs if name not in mine and name not in done]
        parts += [f"RESET {_quote_name(name)}" for name in gone if "." not in name]
        # In a statement a customized option's name would be cut to 63 bytes, and be read in the client's encoding.
        calls = [f"pg_catalog.set_config({_text(name)}, NULL, false)" for name in gone if "." in name]
        calls += [
            _set_config(name, value)
            for name, value in mine.items()
            if name not in IDENTITY and (name in _TIMEOUTS or theirs.get(name) != value)
        ]
        if calls:
            parts.append("SELECT " + ", ".join(calls))
        for name in IDENTITY:
            if name in mine and (len(parts) > 0 or theirs.get(name) != mine[name]):
                parts.append("SELECT " + _set_config(name, mine[name]))
        return "; ".join(parts)


#: Nothing set: what a server has after its login or a reset.
BASE = Settings.of({})


def valid_name(name: str) -> bool:
    """Whether ``name`` can be a parameter's name at all."""
    return _NAME.match(name) is not None


def _quote_name(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _set_config(name: str, value: str, local: str = "false") -> str:
    text = quote_literal(value)
    if not value.isascii():
        # Bytes of the database's encoding, whatever the client's is at the moment.
        data = value.encode(errors="surrogateescape").hex()
        text = f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), pg_catalog.getdatabaseencoding())"
    return f"pg_catalog.set_config({_text(name)}, {text}, {local})"


def _text(name: str) -> str:
    """The SQL of a setting's name, whatever the client's encoding is."""
    if name.isascii():
        return quote_literal(name)
    data = name.encode(errors="surrogateescape").hex()
    return f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), 'UTF8')"


def _encoded(value: str) -> str:
    """The SQL of ``value`` as bytes of the database's encoding in hexadecimal digits."""
    return f"pg_catalog.encode(pg_catalog.convert_to({value}, pg_catalog.getdatabaseencoding()), 'hex')"


def _current(name: str) -> str:
    """The SQL of a parameter's value, so encoded, or NULL."""
    return _encoded(f"pg_catalog.current_setting({_text(name)}, true)")


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
    if tag == b"LOAD":
        return DIRTY_LIBRARY
    return 0


def cleaning_sql(dirty: int, role: bool = False) -> list[str]:
    """The statements that take the traces away, in order; each is sent on its own.

    ``role``: sessions begin with another role than the one that logged in.
    """
    if dirty & DIRTY_SESSION:
        return ["DISCARD ALL", "RESET ROLE"] if role else ["DISCARD ALL"]
    statements = []
    if dirty & (DIRTY_PARAMETERS | DIRTY_CUSTOM | DIRTY_TAKEN_BACK):
        statements += ["SET SESSION AUTHORIZATION DEFAULT", "RESET ROLE", "RESET ALL"]
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
    if dirty & DIRTY_ORIGIN:
        statements.append("SELECT pg_catalog.pg_replication_origin_session_reset()")
    return statements


def reasons(pins: int) -> str:
    """The PINS of ``pins`` in words, for SHOW and the log."""
    return ", ".join(text for bit, text in PINS.items() if pins & bit)


# What is asked, as columns (kind, name, value): kind a DIRTY_* bit as text. A client's search_path must not decide what
# these mean, hence all the pg_catalog.
_THERE = "(SELECT 'x' FROM pg_catalog.{} LIMIT 1)"
_QUESTIONS = {
    DIRTY_CURSORS: _THERE.format("pg_cursors WHERE is_holdable"),
    DIRTY_LISTEN: _THERE.format("pg_listening_channels()"),
    # Everything in a schema depends on it; few sessions have one at all.
    DIRTY_TEMPORARY: "CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0 THEN "
    + _THERE.format(
        "pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
    )
    + " END",
    # The session's own: those of a transaction ended with it.
    DIRTY_LOCKS: _THERE.format(
        "pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=)"
        " pg_catalog.pg_backend_pid()"
    ),
    DIRTY_ORIGIN: "(SELECT 'x' WHERE pg_catalog.pg_replication_origin_session_is_setup())",
    DIRTY_SLOTS: _THERE.format(
        "pg_replication_slots WHERE temporary AND active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
    ),
    # Ours are asked for by their number.
    DIRTY_PREPARED: _THERE.format("pg_prepared_statements WHERE name OPERATOR(pg_catalog.!~) '^pgdoorman_'"),
}
#: Whether the role that asks may not see a setting; and whether it could not take one back.
_HIDDEN = (
    "(SELECT 'x' WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name)"
    " OPERATOR(pg_catalog.=) {}))"
)
_NOT_OURS = (
    "(SELECT 'x' FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' AND context"
    " OPERATOR(pg_catalog.=) 'superuser' AND pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'off'"
    " LIMIT 1)"
)
#: The SQL of when the backend has read the configuration, in digits that no setting changes.
CONFIGURATION_LOADED = "pg_catalog.encode(pg_catalog.timestamptz_send(pg_catalog.pg_conf_load_time()), 'hex')"
#: Kinds of columns that are no DIRTY_* bit: how many statements of ours are prepared, and the backend's process id.
OURS_PREPARED = 0
BACKEND = -1
_OURS = (
    "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements"
    " WHERE name OPERATOR(pg_catalog.~) '^pgdoorman_')"
)
#: All settings of the session that a catalogue lists, but those that a role may not see.
_LISTED = (
    f"SELECT '{DIRTY_PARAMETERS}', name, {_encoded('setting')} FROM pg_catalog.pg_settings"
    " WHERE source OPERATOR(pg_catalog.=) 'session'"
)
#: What the hexadecimal name of a setting begins with.
_IN_HEX = "~"
#: Questions and answers that are remembered, and characters of what makes one, or bytes of its rows, at the most.
_REMEMBERED = 512
_SMALL = 400
#: Columns of one row at the most, three for each thing that is asked (PostgreSQL has room for 1,664).
_MOST_COLUMNS = 500
# Nothing of what a client allows its statements, or wants of its transactions, holds for a question: who may see what,
# how long it takes, and whether it waits for a snapshot: that is the first, since a query would take one.
_UNHINDERED = (
    "SET LOCAL transaction_isolation = 'read committed'",
    "SELECT "
    + ", ".join(
        f"'{DIRTY_PARAMETERS}', {quote_literal(name)}, {_current(name)}"
        for name in ("statement_timeout", "lock_timeout", "role")
    )
    + f", '{DIRTY_PARAMETERS}', 'session_authorization', {_encoded('session_user::pg_catalog.text')}",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = 0",
    "RESET SESSION AUTHORIZATION",
    "RESET ROLE",
)

#: Has the open transaction used a sequence? Whoever takes or asks for a value holds this lock until its end.
SEQUENCES_QUESTION = (
    "SELECT 1 FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation"
    " WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
    " AND l.mode OPERATOR(pg_catalog.=) 'RowExclusiveLock' AND c.relkind OPERATOR(pg_catalog.=) 'S' LIMIT 1"
)


def restore_sql(name: str, value: str, default: str, local: bool) -> str:
    """The statement that gives a setting this value if it is as at the server's login; ``local``: for a transaction.

    ``default``: what a customized option is then, if it is anything.
    """
    call = _set_config(name, value, "true" if local else "false")
    if "." in name:
        there = f"coalesce(pg_catalog.current_setting({_text(name)}, true), '')"
        empty = f"{there} OPERATOR(pg_catalog.=) ''"
        return f"SELECT {call} WHERE {empty} OR {there} OPERATOR(pg_catalog.=) {quote_literal(default)}"
    return (
        f"SELECT {call} FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=)"
        f" {quote_literal(name)} AND source OPERATOR(pg_catalog.<>) 'session'"
    )


def _label(name: str) -> str:
    """The SQL of a setting's name as it comes back whatever the client's encoding is: in hexadecimal if need be."""
    return quote_literal(name if name.isascii() else _IN_HEX + name.encode(errors="surrogateescape").hex())


def _of_role(name: str) -> str | None:
    """The SQL of who one is, which is not asked as the others are; None for all other settings."""
    return _encoded("session_user::pg_catalog.text") if name == "session_authorization" else None


def _only_if_set(name: str, usual: str | None, applied: str | None, loaded: str) -> str:
    """The SQL of a setting's value if it was set in the session, else NULL; not for customized options.

    The view that tells whether it was set takes PostgreSQL 0.6 ms. It is not needed where the value is the ``applied``
    one, which was set, or the ``usual`` one, which the session began with, if the configuration was not read again
    since (``loaded``, of ``CONFIGURATION_LOADED``). Where those two are the same, or not known, it has to tell.
    """
    value = (
        f"(SELECT {_current(name)} FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=)"
        f" {quote_literal(name)}"
        " AND source OPERATOR(pg_catalog.=) 'session')"
    )
    if usual is None or usual == applied or not loaded:
        return value
    there = (
        f"{CONFIGURATION_LOADED} OPERATOR(pg_catalog.=) {quote_literal(loaded)}"
        f" AND pg_catalog.current_setting({_text(name)}, true) OPERATOR(pg_catalog.=)"
    )
    was_set = "" if applied is None else f" WHEN {there} {_text(applied)} THEN {_current(name)}"
    # Nor does it stay set, which a reload of the configuration would tell.
    unset = f"NULLIF(pg_catalog.set_config({_text(name)}, NULL, false), {_text(usual)})"
    return f"CASE{was_set} WHEN {there} {_text(usual)} THEN {unset} ELSE {value} END"


def question(
    bits: int,
    names: Iterable[str],
    *,
    listed: bool = False,
    unhindered: bool = False,
    defaults: Mapping[str, str] | None = None,
    usual: Mapping[str, str] | None = None,
    applied: Mapping[str, str] | None = None,
    loaded: str = "",
    as_another: bool = False,
) -> str:
    """The query that asks what of ``bits`` is there.

    ``names``: settings to ask for; those of which ``defaults`` has a value are told whatever it is now, others only if
    they were set, which takes least where it is that of ``usual`` or ``applied`` (``_only_if_set``). ``listed``: all
    others that a catalogue lists, too. ``unhindered``: whatever the session allows its statements, take as long as it
    takes, and see what others must not see; who one is, is put back by the caller.
    ``as_another``: what another role has set may be hidden from the one that logged in, or not be its to take back:
    then the state is unknown.

    It is meant for a server outside a transaction. Its rows go to ``Findings.of``.
    """
    known, began, set_before = defaults or {}, usual or {}, applied or {}
    asked = tuple(
        (name, "." in name or name in known or name == "role", began.get(name), set_before.get(name))
        for name in names
        if name not in _NOT_OF_THE_SESSION
    )
    small = sum(len(name) + len(usually or "") + len(before or "") for name, _, usually, before in asked) < _SMALL
    build = _built if small else _built.__wrapped__
    # Behind SET LOCAL a value tells nothing, and nothing may be reset.
    return build(bits, asked, listed, unhindered, "" if unhindered else loaded, as_another)


@lru_cache(maxsize=_REMEMBERED)
def _built(
    bits: int,
    asked: tuple[tuple[str, bool, str | None, str | None], ...],
    listed: bool,
    unhindered: bool,
    loaded: str,
    as_another: bool,
) -> str:
    """The SQL of ``question``; of a setting its name, whether it is told in any case, and its usual and last values."""
    columns = [f"'{BACKEND}', NULL, pg_catalog.pg_backend_pid()"]
    for name, in_any_case, usually, before in asked:
        value = _of_role(name)
        if value is None:
            value = _current(name) if in_any_case else _only_if_set(name, usually, before, loaded)
        columns.append(f"'{DIRTY_PARAMETERS}', {_label(name)}, {value}")
        if as_another and "." not in name and name not in IDENTITY:
            columns.append(f"'{DIRTY_UNKNOWN}', NULL, {_HIDDEN.format(quote_literal(name))}")
    if as_another:
        columns.append(f"'{DIRTY_UNKNOWN}', NULL, {_NOT_OURS}")
    columns += [f"'{bit}', NULL, {text}" for bit, text in _QUESTIONS.items() if bits & bit]
    if bits & DIRTY_PREPARED:
        columns.append(f"'{OURS_PREPARED}', NULL, {_OURS}")
    statements = list(_UNHINDERED) if unhindered else []
    for start in range(0, len(columns), _MOST_COLUMNS):
        statements.append("SELECT " + ", ".join(columns[start : start + _MOST_COLUMNS]))
    if listed:
        statements.append(_LISTED)
    return "; ".join(statements)


@dataclass
class Findings:
    """What a server has answered: settings (None: not set), and the PINS bits of what is there.

    ``ours`` is how many statements of ours it has prepared, ``backend`` its process id; -1 where it was not asked.
    """

    values: dict[str, str | None]
    pins: int = 0
    ours: int = -1
    backend: int = -1

    @classmethod
    def of(cls, rows: Iterable[bytes]) -> Findings:
        """From the bodies of the DataRows, not to be changed; ValueError for rows that can't be an answer."""
        told = tuple(rows)
        return (cls._read if sum(map(len, told)) < _SMALL else cls._read.__wrapped__)(told)

    @staticmethod
    @lru_cache(maxsize=_REMEMBERED)
    def _read(rows: tuple[bytes, ...]) -> Findings:
        found = Findings({})
        for body in rows:
            columns = parse_data_row(body)
            if not columns or len(columns) % 3:
                raise ValueError("columns do not come in threes")
            for at in range(0, len(columns), 3):
                found._take(columns[at], columns[at + 1], columns[at + 2])
        return found

    def _take(self, kind: bytes | None, name: bytes | None, value: bytes | None) -> None:
        bit = int(kind or b"")
        if bit == BACKEND:
            self.backend = int(value or b"")
        elif bit == OURS_PREPARED:
            self.ours = int(value or b"")
        elif bit != DIRTY_PARAMETERS:
            if bit not in PINS:
                raise ValueError("no such kind")
            if value is not None:
                self.pins |= bit
        else:
            key = (name or b"").decode("ascii").lower()
            if key.startswith(_IN_HEX):
                key = bytes.fromhex(key[1:]).decode(errors="surrogateescape")
            if key in _NOT_OF_THE_SESSION:
                return
            text = None if value is None else bytes.fromhex(value.decode("ascii")).decode(errors="surrogateescape")
            if self.values.get(key) is None:  # the first counts: behind SET LOCAL it is another one
                self.values[key] = text
