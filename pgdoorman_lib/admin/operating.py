"""The console's commands that act on pools, clients and the process.

PAUSE and WAIT_CLOSE answer when what they wait for has come. A client of the console that leaves meanwhile takes back
nothing; one that cancels takes its PAUSE back. Whether a name means anything is looked at when a command runs, not when
it is planned.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

import gevent

from pgdoorman_lib.admin.plans import Cancelled, Plan, Session
from pgdoorman_lib.admin.rows import columns
from pgdoorman_lib.admin.statements import StatementError
from pgdoorman_lib.admin.tables import Row
from pgdoorman_lib.admin.targets import Refused, refused, target_of
from pgdoorman_lib.errors import UnsupportedFeature
from pgdoorman_lib.pool.holding import Target

log = logging.getLogger(__name__)

#: Seconds KILL waits for clients to have been told.
KILL_PATIENCE = 1.0

_CLIENT = re.compile(r"\w+\s+'?(?:#?c)?(?P<number>[0-9]{1,18})'?", re.IGNORECASE)
_SHUTDOWN_MODES = {"": "drain", "WAIT_FOR_SERVERS": "servers", "WAIT_FOR_CLIENTS": "clients"}


def _ordered(text: str, session: Session) -> None:
    log.warning("[%s] %s by the console", session.user, text)


def _pause(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session)
    operations = session.pooler.operations
    if operations.is_paused(target) and session.dialect.pgbouncer:
        raise Refused("already suspended/paused", sqlstate="08P01")
    _ordered(text, session)
    before = operations.is_paused(target)
    operations.pause(target)
    try:
        with session.cancellable():
            while operations.open_servers(target):
                _wait(session)
                if not operations.is_paused(target):
                    raise Refused("RESUME has taken the PAUSE back", sqlstate="57014")
    except Cancelled:
        if not before:
            operations.unpause(target)
        raise
    return ()


def _wait(session: Session) -> None:
    gevent.sleep(session.pooler.operations.look_interval)  # switch
    session.stay()


def _resume(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session)
    operations = session.pooler.operations
    _ordered(text, session)
    found = operations.resume(target)
    if target.database is not None and operations.is_paused(target):
        raise refused(
            session,
            "it is paused together with others",
            "55000",
            f"database {target.database} is not paused",
            hint="RESUME, without a name, ends every PAUSE.",
        )
    if not found:
        _was_not_so(session, "paused", _not_paused(target))
    return ()


def _not_paused(target: Target) -> str:
    if target.database is None:
        return "pooler is not paused/suspended"
    return f"database {target.database} is not paused"


def _was_not_so(session: Session, what: str, pgbouncer: str) -> None:
    """There was nothing to take back: an error in PgBouncer's dialect, else a notice."""
    if session.dialect.pgbouncer:
        raise Refused(pgbouncer, sqlstate="08P01")
    session.notice(f"nothing was {what}")


def _reconnect(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session)
    _ordered(text, session)
    session.pooler.operations.reconnect(target)
    return ()


def _wait_close(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session)
    with session.cancellable():
        while session.pooler.operations.condemned_servers(target):
            _wait(session)
    return ()


def _disable(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session, required=True)
    _ordered(text, session)
    session.pooler.operations.disable(target)
    return ()


def _enable(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session, required=True)
    _ordered(text, session)
    if not session.pooler.operations.enable(target) and not session.dialect.pgbouncer:
        session.notice("nothing was disabled")
    return ()


def _kill(text: str, session: Session) -> Sequence[Row]:
    target = target_of(text, session)
    operations = session.pooler.operations
    if operations.is_paused(Target()) and session.dialect.pgbouncer:
        raise Refused("already suspended/paused", sqlstate="08P01")
    _ordered(text, session)
    operations.kill(target)
    left = KILL_PATIENCE
    while left > 0 and (operations.clients(target) or operations.open_servers(target)):
        _wait(session)
        left -= operations.look_interval
    session.notice("new clients wait until RESUME")
    return ()


def _kill_client(text: str, session: Session) -> Sequence[Row]:
    match = _CLIENT.fullmatch(text)
    if match is None:
        raise refused(
            session,
            "KILL_CLIENT needs the number of a client",
            "42601",
            "invalid client pointer supplied",
            hint="SHOW CLIENTS has the numbers.",
        )
    _ordered(text, session)
    if not session.pooler.operations.kill_client(int(match["number"])):
        raise refused(session, f"no client has the number {match['number']}", "42704", "client not found")
    return ()


_ACTIONS: dict[str, Callable[[str, Session], Sequence[Row]]] = {
    "PAUSE": _pause,
    "RESUME": _resume,
    "RECONNECT": _reconnect,
    "WAIT_CLOSE": _wait_close,
    "DISABLE": _disable,
    "ENABLE": _enable,
    "KILL": _kill,
    "KILL_CLIENT": _kill_client,
}


def _act(text: str, words: list[str], session: Session) -> Plan:
    verb = words[0].upper()
    return Plan(verb, lambda: _ACTIONS[verb](text, session))


def _reload(text: str, words: list[str], session: Session) -> Plan:
    _no_arguments(words)

    def run() -> Sequence[Row]:
        for line in session.pooler.reload():
            session.notice(line)
        return ()

    return Plan("RELOAD", run)


def _shutdown(text: str, words: list[str], session: Session) -> Plan:
    mode = _SHUTDOWN_MODES.get(" ".join(words[1:]).upper())
    if mode is None:
        raise StatementError("syntax error in SHUTDOWN", hint="SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]")
    if session.dialect.pgbouncer and mode == "drain":
        mode = "now"

    def run() -> Sequence[Row]:
        _ordered(text, session)
        session.pooler.shutdown(mode)
        return [("t",)]

    if session.dialect.pgbouncer:
        return Plan("SHUTDOWN", lambda: run()[:0])
    return Plan("SHUTDOWN", run, columns("success"))


def _suspend(text: str, words: list[str], session: Session) -> Plan:
    raise UnsupportedFeature(
        "SUSPEND is not supported: it stops all sockets while another process takes them over, which is done otherwise"
        " here",
        hint="PAUSE waits for transactions to end, and holds what comes.",
    )


def _upgrade(text: str, words: list[str], session: Session) -> Plan:
    _no_arguments(words)

    def run() -> Sequence[Row]:
        _ordered(text, session)
        session.pooler.upgrade()
        return [("t",)]

    if session.dialect.pgbouncer:
        return Plan("UPGRADE", lambda: run()[:0])
    return Plan("UPGRADE", run, columns("success"))


def _no_arguments(words: list[str]) -> None:
    if len(words) > 1:
        raise StatementError(f"syntax error in {words[0].upper()}: it takes nothing")


PLANNERS: dict[str, Callable[[str, list[str], Session], Plan]] = {
    **dict.fromkeys(_ACTIONS, _act),
    "RELOAD": _reload,
    "SHUTDOWN": _shutdown,
    "SUSPEND": _suspend,
    "UPGRADE": _upgrade,
}
