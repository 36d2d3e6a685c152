"""From a statement to its plan: which part of the console it is for, who may, and how it is refused in the dialect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pgdoorman_lib.admin import commands, questions
from pgdoorman_lib.admin.parameters import CLIENT_PARAMETERS
from pgdoorman_lib.admin.plans import AdminAccessNeeded, InvalidCommand, Plan, Session, UnknownCommand
from pgdoorman_lib.admin.tables import Row

_QUESTIONS = {"SHOW": questions.show, "SELECT": questions.select, "WITH": questions.select}

#: What a driver does around a question, in its own session: it needs no rights.
_HOUSEKEEPING = frozenset(
    (
        *("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"),
        *("DISCARD", "DEALLOCATE", "CLOSE", "UNLISTEN"),
    )
)
_OWN = re.compile(r"(?:SET|RESET)\s+(?:SESSION\s+|LOCAL\s+)?(?P<name>\w+)", re.IGNORECASE)
_OWN_WORDS = frozenset(("all", "time", "names", "transaction", "characteristics"))


def plan(text: str, session: Session) -> Plan:
    """Return the plan of one statement, as ``split_statements`` gives it.

    Raises AdminAccessNeeded or InvalidCommand (08P01), UnknownCommand (58000), StatementError (42601), UnknownSetting
    (42704), BadValue (22023) or UnsupportedFeature (0A000).
    """
    words = text.split()
    verb = words[0].upper()
    # Of a query in parentheses, as parts of a UNION stand.
    inner = text.lstrip("( \t\r\n").split() or words
    question = _QUESTIONS.get(inner[0].upper())
    try:
        if question is not None:
            return question(text, inner, session)
        if verb not in commands.VERBS or _is_its_own(text, verb):
            return commands.plan(text, session)
        if session.read_only:
            raise AdminAccessNeeded
        planned = commands.plan(text, session)
        return replace(planned, run=partial(_run_as_admin, planned, session))
    except UnknownCommand as exc:
        if not session.dialect.pgbouncer:
            raise _hinted(exc, text, session) from None
        raise InvalidCommand(f"invalid command '{text}', use SHOW HELP;", hint=exc.hint) from exc


def _run_as_admin(planned: Plan, session: Session) -> Sequence[Row]:
    """Run a plan; AdminAccessNeeded when a reload has taken the right away since it was made."""
    if session.read_only:
        raise AdminAccessNeeded
    return planned.run()


def _is_its_own(text: str, verb: str) -> bool:
    """Whether a command concerns nobody but the session it is given in."""
    if verb in _HOUSEKEEPING:
        return True
    match = _OWN.match(text)
    name = match["name"].lower() if match is not None else ""
    return name in CLIENT_PARAMETERS or name in _OWN_WORDS


def _hinted(exc: UnknownCommand, text: str, session: Session) -> UnknownCommand:
    """The same error, for the name of a table alone with what was meant."""
    if text.upper() in session.dialect.shows:
        return UnknownCommand(exc.message, hint=f"Did you mean SHOW {text.upper()}?")
    return exc
