"""The question what a session has left on a server: its SQL, and what the answer to it says.

It is asked after a transaction that may have left something; the answer is ``Findings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pgdoorman_lib.wire.literals import current_setting, encoded, name_literal, quote_literal
from pgdoorman_lib.wire.messages import parse_data_row
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_ORIGIN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SLOTS,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
    PINS,
)
from pgdoorman_lib.wire.settings import IDENTITY

#: Parameters of a transaction, or that are not parameters at all.
_NOT_OF_THE_SESSION = frozenset(
    ("transaction_isolation", "transaction_read_only", "transaction_deferrable", "is_superuser", "seed")
)

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
    f"SELECT '{DIRTY_PARAMETERS}', name, {encoded('setting')} FROM pg_catalog.pg_settings"
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
        f"'{DIRTY_PARAMETERS}', {quote_literal(name)}, {current_setting(name)}"
        for name in ("statement_timeout", "lock_timeout", "role")
    )
    + f", '{DIRTY_PARAMETERS}', 'session_authorization', {encoded('session_user::pg_catalog.text')}",
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


def _label(name: str) -> str:
    """The SQL of a setting's name as it comes back whatever the client's encoding is: in hexadecimal if need be."""
    return quote_literal(name if name.isascii() else _IN_HEX + name.encode(errors="surrogateescape").hex())


def _of_role(name: str) -> str | None:
    """The SQL of who one is, which is not asked as the others are; None for all other settings."""
    return encoded("session_user::pg_catalog.text") if name == "session_authorization" else None


def _only_if_set(name: str, usual: str | None, applied: str | None, loaded: str) -> str:
    """The SQL of a setting's value if it was set in the session, else NULL; not for customized options.

    The view that tells whether it was set takes PostgreSQL 0.6 ms. It is not needed where the value is the ``applied``
    one, which was set, or the ``usual`` one, which the session began with, if the configuration was not read again
    since (``loaded``, of ``CONFIGURATION_LOADED``). Where those two are the same, or not known, it has to tell.
    """
    value = (
        f"(SELECT {current_setting(name)} FROM pg_catalog.pg_settings"
        f" WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) {quote_literal(name)}"
        " AND source OPERATOR(pg_catalog.=) 'session')"
    )
    if usual is None or usual == applied or not loaded:
        return value
    there = (
        f"{CONFIGURATION_LOADED} OPERATOR(pg_catalog.=) {quote_literal(loaded)}"
        f" AND pg_catalog.current_setting({name_literal(name)}, true) OPERATOR(pg_catalog.=)"
    )
    was_set = "" if applied is None else f" WHEN {there} {name_literal(applied)} THEN {current_setting(name)}"
    # Nor does it stay set, which a reload of the configuration would tell.
    unset = f"NULLIF(pg_catalog.set_config({name_literal(name)}, NULL, false), {name_literal(usual)})"
    return f"CASE{was_set} WHEN {there} {name_literal(usual)} THEN {unset} ELSE {value} END"


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
            value = current_setting(name) if in_any_case else _only_if_set(name, usually, before, loaded)
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
