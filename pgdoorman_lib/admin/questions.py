"""What is asked of the console: SHOW and SELECT, from the text of one statement to a plan.

Rules:
1. A query of the system catalogues gets what is true of catalogues with nothing in them (``catalogues``), with a column
   for each expression: that is what psql's and GUIs' completion and listings can go on with.
2. What drivers ask about the server (versions, users, settings) is answered; any other SELECT is refused.
3. PgBouncer takes SELECT for SHOW, and refuses ``SELECT 1``: by that some tools know it.
"""

from __future__ import annotations

import difflib
import re

from pgdoorman_lib.admin import catalogues, settings
from pgdoorman_lib.admin.catalogues import Answers
from pgdoorman_lib.admin.dialects import usage_detail
from pgdoorman_lib.admin.expressions import alias_of, expressions_of, has_more, plain
from pgdoorman_lib.admin.features import interner_top
from pgdoorman_lib.admin.parameters import SERVER_SETTINGS
from pgdoorman_lib.admin.plans import AdminAccessNeeded, Plan, Session, UnknownCommand
from pgdoorman_lib.admin.rows import BOOL, INT4, VOID, Column, columns
from pgdoorman_lib.admin.tables import Row, Show
from pgdoorman_lib.errors import UnsupportedFeature

_HINT = "SHOW HELP lists the commands."

#: psql's completion asks pg_settings for names like the letters typed so far.
_COMPLETION = re.compile(
    r"SELECT\s+(?:name|pg_catalog\.lower\(name\))\s+FROM\b.*\bpg_settings\b"
    r".*?(?:LIKE|=)\s*(?:pg_catalog\.lower\()?E?'(?P<prefix>[^'%]*)",
    re.IGNORECASE | re.DOTALL,
)
#: What says that a query is about catalogues: their schemas, what is named like one of their tables, the search path.
_CATALOGUE = re.compile(
    r"\b(?:FROM|JOIN)\s+(?:ONLY\s+|LATERAL\s+)?[(\s]*"
    r"(?:pg_|information_schema\b|(?:unnest\s*\(\s*)?current_schemas\s*\()",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"\$(\d{1,3})\b")
#: How GUIs stop what another of their connections waits for.
_CANCEL = re.compile(r"SELECT\s+(?:pg_catalog\.)?pg_cancel_backend\s*\(\s*(?P<process>\d{1,10})\s*\)", re.IGNORECASE)
_INTERNER = re.compile(r"INTERNER (\d{1,6})")


def show(text: str, words: list[str], session: Session) -> Plan:
    """The plan of SHOW; UnknownCommand (58000) or UnsupportedFeature (0A000)."""
    dialect = session.dialect
    name = " ".join(words[1:]).upper()
    if name == "HELP" and dialect.pgbouncer:
        return Plan("SHOW", lambda: _usage(session))
    table = dialect.shows.get(name)
    if table is None and (top := _INTERNER.fullmatch(name)):
        table = interner_top(int(top[1]))
    if table is not None:
        found = table
        return Plan("SHOW", lambda: _rows(found, session), table.described(session.pooler))
    if name in dialect.refused:
        raise UnsupportedFeature(dialect.refused[name])
    key = {"TIME ZONE": "timezone", "TRANSACTION ISOLATION LEVEL": "transaction_isolation"}.get(name, name.lower())
    known = SERVER_SETTINGS | session.parameters
    spelling = next((parameter for parameter in known if parameter.lower() == key), None)
    if spelling is not None:
        # Read when it runs: the statement may be prepared before a SET.
        return Plan("SHOW", lambda: [(_setting(session, spelling),)], columns(spelling))
    nearest = difflib.get_close_matches(name, dialect.shows, 1)
    hint = f"Did you mean SHOW {nearest[0]}?" if nearest else _HINT
    raise UnknownCommand("Unsupported SHOW query against the admin database", hint=hint)


def _rows(table: Show, session: Session) -> list[Row]:
    """The rows of a table about the whole pooler, with a notice of what could not be asked; may switch."""
    pooler = session.pooler.everyone(table.parts)
    for number, reason in sorted(pooler.missing.items()):
        who = f"worker {number}" if number else "the supervisor"
        session.notice(f"{who} is not in this table, but for what it had counted", f"{who}: {reason}")
    return table.rows(pooler)


def _usage(session: Session) -> list[Row]:
    session.notice("Console usage", usage_detail())
    return []


def _setting(session: Session, name: str) -> str:
    return session.parameters.get(name, SERVER_SETTINGS.get(name, ""))


def select(text: str, words: list[str], session: Session) -> Plan:
    """The plan of SELECT, or of WITH; UnknownCommand (58000) for one that is neither known nor about catalogues."""
    dialect = session.dialect
    if completion := _COMPLETION.match(text):
        # A LIKE pattern: its underscores are escaped.
        prefix = completion["prefix"].lower().replace("\\", "")
        # Its query for SET asks only for settings of some contexts; its query for SHOW takes all.
        known = settings.names() if "context" in text else tuple(sorted(name.lower() for name in dialect.shows))
        names = [(name,) for name in known if name.startswith(prefix)]
        return Plan("SELECT", lambda: names, columns("name"), count_rows=True)
    if dialect.pgbouncer and len(words) == 2:
        if words[1] == "1":
            raise UnknownCommand("Unsupported query against the admin database", hint=_HINT)
        if words[1].upper() in dialect.shows:
            return show(text, words, session)
    if cancel := _CANCEL.fullmatch(text):
        process = int(cancel["process"])
        return Plan("SELECT", lambda: _cancel(process, session), columns("pg_cancel_backend", BOOL), count_rows=True)
    asked = list(expressions_of(text))
    answers = _answers(session)
    if _CATALOGUE.search(text):
        described, rows = catalogues.answer(text, asked, answers)
        return Plan(
            "SELECT",
            lambda: rows,
            described,
            count_rows=True,
            parameters=max((int(number) for number in _PARAMETER.findall(text)), default=0),
        )
    found = [answers.get(plain(expression)) for expression in asked]
    if not found or None in found or words[0].upper() != "SELECT" or has_more(text):
        raise UnknownCommand("Unsupported query against the admin database", hint=_HINT)
    named = [answer for answer in found if answer is not None]
    described = tuple(
        Column(alias_of(expression) or column.name, column.type)
        for expression, (column, _) in zip(asked, named, strict=True)
    )
    row = tuple(value for _, value in named)
    return Plan("SELECT", lambda: [row], described, count_rows=True)


def _cancel(process: int, session: Session) -> list[Row]:
    """Cancel what a console session waits for; 'f' when it waits for nothing. AdminAccessNeeded for another user's."""
    waiting = session.pooler.cancel_commands(process, session.user if session.read_only else None)
    if session.read_only and any(user != session.user for user in waiting):
        raise AdminAccessNeeded
    return [("t" if waiting else "f",)]


def _answers(session: Session) -> Answers:
    """What is answered to which expression, in lower case."""
    return {
        "1": (Column("?column?", INT4), 1),
        "version()": (Column("version"), f"PostgreSQL {session.parameters.get('server_version', '')}"),
        "current_schema": (Column("current_schema"), None),
        "current_schema()": (Column("current_schema"), None),
        "current_database()": (Column("current_database"), session.dialect.database),
        "current_catalog": (Column("current_catalog"), session.dialect.database),
        "current_user": (Column("current_user"), session.user),
        "session_user": (Column("session_user"), session.user),
        "user": (Column("user"), session.user),
        "pg_backend_pid()": (Column("pg_backend_pid", INT4), session.cancel_key[0]),
        "pg_is_in_recovery()": (Column("pg_is_in_recovery", BOOL), "f"),
        "pg_advisory_unlock_all()": (Column("pg_advisory_unlock_all", VOID), ""),
    }
