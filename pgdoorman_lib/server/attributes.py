"""What a server's host is, by ``target_session_attrs``: primary or standby, and whether its sessions may write.

PostgreSQL 14 and later report both at a login. Whoever does not is asked, and so is a session that has been lent since:
what its client has set there says nothing of the host.
"""

from __future__ import annotations

from pgdoorman_lib.errors import ServerProtocolViolation
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.server.login import before_it_is_lent, time_limit
from pgdoorman_lib.wire.messages import parse_data_row

ANY = "any"
READ_WRITE = "read-write"
PREFER_STANDBY = "prefer-standby"
STANDBY = "standby"

#: Whether it is a standby, and whether its sessions begin read-only by its configuration, a role's or a database's.
_SQL = (
    "SELECT pg_catalog.pg_is_in_recovery(), reset_val FROM pg_catalog.pg_settings"
    " WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only'"
)


def unmet_at_login(server: Server, wanted: str) -> str:
    """Why a server fresh from its login is not what is ``wanted``, in libpq's words; empty if it is; may switch.

    ServerUnavailable, and the connection is closed, when it is lost or does not answer within ``connect_timeout``.
    """
    if wanted == ANY:
        return ""
    values = server.reported.values
    standby, read_only = values.get("in_hot_standby"), values.get("default_transaction_read_only")
    if standby is not None and read_only is not None:
        return _unmet(wanted, standby == "on", read_only == "on")
    settings = server.settings
    with before_it_is_lent(server.stream), time_limit(settings, settings.connect_timeout, "log in to"):
        return unmet(server, wanted)


def unmet(server: Server, wanted: str) -> str:
    """The same of any server, which is asked; may switch. Raises what ``run`` does."""
    rows = run(server, _SQL)
    if len(rows) != 1:
        raise ServerProtocolViolation("the server does not tell whether it is a standby")
    standby, read_only = parse_data_row(rows[0])
    return _unmet(wanted, standby == b"t", read_only == b"on")


def _unmet(wanted: str, standby: bool, read_only: bool) -> str:
    """By libpq's rules: a standby's sessions are read-only, a primary's may be."""
    can_write = not (standby or read_only)
    meets, otherwise = {
        "read-write": (can_write, "session is read-only"),
        "read-only": (not can_write, "session is not read-only"),
        "primary": (not standby, "server is in hot standby mode"),
        "standby": (standby, "server is not in hot standby mode"),
    }[wanted]
    return "" if meets else otherwise
