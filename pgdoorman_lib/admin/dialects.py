"""The two dialects of the console, by the database that leads to them: the reference's tables, and PgBouncer's.

Each has its own tables first, and those of the other that it has none of.
"""

from __future__ import annotations

from pgdoorman_lib.admin.pgbouncer import CONSOLE, PGBOUNCER_SHOWS, REFUSED
from pgdoorman_lib.admin.rows import columns
from pgdoorman_lib.admin.show import SHOWS
from pgdoorman_lib.admin.tables import Dialect, Row, Show
from pgdoorman_lib.views import RunningPooler

#: Commands as they are written, and what they do.
COMMANDS = {
    "RELOAD": "read the configuration again",
    "PAUSE [<db>[, <user>]]": "lend no servers, and wait until all have come back",
    "RESUME [<db>[, <user>]]": "lend servers again",
    "RECONNECT [<db>[, <user>]]": "open all servers anew, as they come back",
    "DISABLE <db>[, <user>]": "let no new clients in",
    "ENABLE <db>[, <user>]": "let them in again",
    "KILL [<db>[, <user>]]": "disconnect clients and servers at once, and pause",
    "KILL_CLIENT <id>": "disconnect one client; SHOW CLIENTS has the number",
    "WAIT_CLOSE [<db>[, <user>]]": "wait until servers that RECONNECT is about are closed",
    "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]": "let transactions end, then end",
    "UPGRADE": "have a new process of the installed program take over",
    "SET <key> = <value>": "change a key until the next RELOAD; log_level = '<level>'|'default'",
    "RESET <key>": "what SET has changed is again as in the file",
}


def _help(pooler: RunningPooler) -> list[Row]:
    tables = [(f"SHOW {name}", show.about) for name, show in sorted(PGDOORMAN.shows.items())]
    return [(f"{usage}: {about}",) for usage, about in (*tables, *COMMANDS.items())]


HELP = {"HELP": Show(columns("item"), _help, "this list")}

PGDOORMAN = Dialect("pgdoorman", HELP | PGBOUNCER_SHOWS | SHOWS, REFUSED)
PGBOUNCER = Dialect(CONSOLE, HELP | SHOWS | PGBOUNCER_SHOWS, REFUSED, pgbouncer=True)

DIALECTS = {dialect.database: dialect for dialect in (PGDOORMAN, PGBOUNCER)}


def usage_detail() -> str:
    """The DETAIL of PgBouncer's SHOW HELP: a line for each kind of table, and one for each command."""
    shows = "|".join(sorted(PGBOUNCER.shows))
    return "".join(f"\n\t{usage}" for usage in (f"SHOW {shows}", *COMMANDS))
