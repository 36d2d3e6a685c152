"""The console's commands: from the text of one statement to a plan that can be described first and run later.

Rules:
1. Planning has no effect; ``Plan.run`` has. Drivers Parse and Describe long before they Execute, or never do.
2. Transactions are accepted, since drivers open one around everything, and change nothing but the status reported:
   no command here can be undone, so an error leaves the status as it was rather than failing what follows.
3. Settings that drivers make for themselves are remembered for this session; any other SET is an error, not ignored.
4. Errors have severity ERROR and the session goes on. The reference says FATAL and goes on, which makes drivers close.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Sequence

from pgdoorman_lib.admin import operating, settings
from pgdoorman_lib.admin.parameters import CLIENT_PARAMETERS
from pgdoorman_lib.admin.plans import BadValue, Plan, Session, UnknownCommand, UnknownStatement
from pgdoorman_lib.admin.statements import StatementError
from pgdoorman_lib.admin.tables import Row
from pgdoorman_lib.errors import ConfigError, UnsupportedFeature

log = logging.getLogger(__name__)

_TRANSACTION_TAGS = {
    "BEGIN": "BEGIN",
    "START": "START TRANSACTION",
    "COMMIT": "COMMIT",
    "END": "COMMIT",
    "ROLLBACK": "ROLLBACK",
    "ABORT": "ROLLBACK",
    "SAVEPOINT": "SAVEPOINT",
    "RELEASE": "RELEASE",
}

_SET = re.compile(
    r"SET\s+(?:SESSION\s+|LOCAL\s+)?(?:(?P<zone>TIME\s+ZONE)\s+|(?P<names>NAMES)\s+|(?P<name>[\w.]+)\s*(?:=|\s+TO\s)\s*)"
    r"(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SET_TRANSACTION = re.compile(r"SET\s+(?:(?:SESSION|LOCAL)\s+)?(?:TRANSACTION|CHARACTERISTICS)\b", re.IGNORECASE)


def plan(text: str, session: Session) -> Plan:
    """Return the plan of one statement, as ``split_statements`` gives it.

    Raises UnknownCommand (58000), StatementError (42601), UnknownSetting (42704), BadValue (22023) or
    UnsupportedFeature (0A000).
    """
    words = text.split()
    verb = words[0].upper()
    planner = _PLANNERS.get(verb)
    if planner is not None:
        return planner(text, words, session)
    hint = "SHOW HELP lists the commands."
    if nearest := difflib.get_close_matches(verb, [*_PLANNERS, "SHOW", "SELECT"], 1):
        hint = f"Did you mean {nearest[0]}? {hint}"
    raise UnknownCommand("Unsupported query against the admin database", hint=hint)


def _set(text: str, words: list[str], session: Session) -> Plan:
    if _SET_TRANSACTION.match(text):
        return Plan("SET")
    match = _SET.fullmatch(text)
    if match is None:
        raise StatementError("syntax error in SET", hint="SET key = value")
    name = (match["name"] or ("TimeZone" if match["zone"] else "client_encoding")).lower()
    value = _unquote(match["value"])
    if name == "log_level":
        return Plan("SET", lambda: _set_log_level(session, value))
    if name not in CLIENT_PARAMETERS:
        return settings.plan_set(session, name, value)
    if name == "client_encoding" and value.lower().replace("-", "") not in ("utf8", "unicode", "default"):
        raise BadValue(f'the admin database speaks UTF8, not "{value}"')
    spelling = CLIENT_PARAMETERS[name]
    return Plan("SET", lambda: _set_parameter(session, spelling, value))


def _set_parameter(session: Session, name: str, value: str) -> Sequence[Row]:
    # The encoding and TimeZone of the answers stay what they are; only what the client is told of its own choice moves.
    if name == "client_encoding":
        value = "UTF8"
    session.parameters[name] = value
    return ()


def _set_log_level(session: Session, value: str) -> Sequence[Row]:
    try:
        session.pooler.set_log_level(value)
        log.warning("[%s] has set log_level to %r by the console", session.user, value)
    except (ValueError, ConfigError) as exc:
        raise StatementError(str(exc)) from exc
    return ()


def _unquote(text: str) -> str:
    """Return the value of SET: a quoted string's content, or the bare words."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        quote = text[0]
        return text[1:-1].replace(quote * 2, quote)
    if not text or "'" in text:
        raise StatementError("syntax error in SET: a value, or a string in single quotes, is expected")
    return text


def _transaction(text: str, words: list[str], session: Session) -> Plan:
    verb = words[0].upper()
    rest = {word.upper() for word in words[1:]}
    if verb in ("COMMIT", "ROLLBACK") and "PREPARED" in rest:
        raise UnsupportedFeature("the admin database has no prepared transactions")
    opens = verb in ("BEGIN", "START") or (verb in ("COMMIT", "END", "ROLLBACK", "ABORT") and _chains(words))
    keeps = verb in ("SAVEPOINT", "RELEASE") or "TO" in rest

    def run() -> Sequence[Row]:
        if not keeps:
            session.in_transaction = opens
        return ()

    return Plan(_TRANSACTION_TAGS[verb], run)


def _chains(words: list[str]) -> bool:
    tail = [word.upper() for word in words[-3:]]
    return tail[-2:] == ["AND", "CHAIN"]


def _reset(text: str, words: list[str], session: Session) -> Plan:
    target = " ".join(words[1:]).lower()
    key = {"time zone": "timezone"}.get(target, target)
    if target == "log_level":
        return Plan("RESET", lambda: _set_log_level(session, "default"))
    if target == "interner":
        raise UnsupportedFeature("RESET INTERNER is not supported yet")
    if key != "all" and key not in CLIENT_PARAMETERS:
        return settings.plan_reset(session, target)
    return Plan("RESET", lambda: _restore(session, None if key == "all" else CLIENT_PARAMETERS[key]))


def _restore(session: Session, only: str | None = None) -> Sequence[Row]:
    if only is None:
        session.parameters = dict(session.defaults)
    elif only in session.defaults:
        session.parameters[only] = session.defaults[only]
    else:
        session.parameters.pop(only, None)
    return ()


def _discard(text: str, words: list[str], session: Session) -> Plan:
    target = " ".join(words[1:]).upper()
    if target not in ("ALL", "PLANS", "SEQUENCES", "TEMP", "TEMPORARY"):
        raise StatementError("syntax error in DISCARD")

    def run() -> Sequence[Row]:
        if target == "ALL":
            session.statements.clear()
            _restore(session)
        return ()

    return Plan(f"DISCARD {target}", run)


def _deallocate(text: str, words: list[str], session: Session) -> Plan:
    names = words[2:] if len(words) > 2 and words[1].upper() == "PREPARE" else words[1:]
    if len(names) != 1:
        raise StatementError("syntax error in DEALLOCATE")
    if names[0].upper() == "ALL":
        return Plan("DEALLOCATE ALL", lambda: _forget_all(session))
    name = _unquote(names[0])

    def run() -> Sequence[Row]:
        if name not in session.statements:
            raise UnknownStatement(f'prepared statement "{name}" does not exist')
        del session.statements[name]
        return ()

    return Plan("DEALLOCATE", run)


def _forget_all(session: Session) -> Sequence[Row]:
    session.statements.clear()
    return ()


def _nothing_to_close(text: str, words: list[str], session: Session) -> Plan:
    """CLOSE ALL and UNLISTEN *: asyncpg's pool sends them before it reuses a connection."""
    if words[1:] not in (["*"], ["ALL"], ["all"]):
        raise UnknownCommand("Unsupported query against the admin database", hint="SHOW HELP lists the commands.")
    return Plan("UNLISTEN" if words[0].upper() == "UNLISTEN" else "CLOSE CURSOR ALL")


_PLANNERS: dict[str, Callable[[str, list[str], Session], Plan]] = {
    "SET": _set,
    **operating.PLANNERS,
    **dict.fromkeys(_TRANSACTION_TAGS, _transaction),
    "RESET": _reset,
    "DISCARD": _discard,
    "DEALLOCATE": _deallocate,
    "CLOSE": _nothing_to_close,
    "UNLISTEN": _nothing_to_close,
}

#: The words that commands begin with; SHOW and SELECT are ``questions``'.
VERBS = frozenset(_PLANNERS)
