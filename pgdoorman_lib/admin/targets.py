"""The names behind a command of the console, ``[db[, user]]``, and what is said of them in each dialect.

PgBouncer's console has words of its own, and one SQLSTATE (08P01) for whatever goes wrong.
"""

from __future__ import annotations

import re

from pgdoorman_lib.admin.plans import Session
from pgdoorman_lib.admin.statements import StatementError
from pgdoorman_lib.config.validate import ADMIN_DATABASES
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.pool.holding import Target

_NAME = r"\"(?:[^\"]|\"\")+\"|'(?:[^']|'')+'|[^\s,;\"']+"
_TARGET = re.compile(rf"\w+(?:\s+(?P<database>{_NAME})(?:(?:\s*,\s*|\s+)(?P<user>{_NAME}))?)?\s*")

#: What PgBouncer's console calls an error, whichever.
PGBOUNCER_SQLSTATE = "08P01"


class Refused(DoormanError):
    """A command that can't be carried out as things are (55000, or as PgBouncer has it)."""

    sqlstate = "55000"
    fault = "client"


def refused(session: Session, text: str, sqlstate: str, pgbouncer: str, *, hint: str | None = None) -> Refused:
    """The error in the words of the session's dialect."""
    if session.dialect.pgbouncer:
        return Refused(pgbouncer, hint=hint, sqlstate=PGBOUNCER_SQLSTATE)
    return Refused(text, hint=hint, sqlstate=sqlstate)


def target_of(text: str, session: Session, *, required: bool = False) -> Target:
    """The pools that a command names; StatementError (42601), Refused (3D000) when there are none."""
    verb = text.split()[0].upper()
    match = _TARGET.fullmatch(text)
    if match is None:
        raise StatementError(
            f"syntax error in {verb}", hint=f"{verb} [database[, user]], each in double quotes if need be"
        )
    target = Target(_unquoted(match["database"]), _unquoted(match["user"]))
    database = target.database
    if database is None:
        if required:
            raise refused(session, f"{verb} needs the name of a database", "42601", "a database is required")
        return target
    if database in ADMIN_DATABASES:
        what = "wait in" if verb == "WAIT_CLOSE" else verb.lower()
        raise refused(session, f'"{database}" is the console itself', "0A000", f"cannot {what} admin db: {database}")
    if not session.pooler.operations.knows(target):
        of_user = f' of user "{target.user}"' if target.user is not None else ""
        raise refused(session, f'No pool for database "{database}"{of_user}', "3D000", f"no such database: {database}")
    return target


def _unquoted(name: str | None) -> str | None:
    if name is None or name[0] not in "\"'":
        return name
    return name[1:-1].replace(name[0] * 2, name[0])
