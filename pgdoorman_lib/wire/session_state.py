"""What a session may leave behind on a server: its kinds, which of them hold a client there, and how it is cleaned.

Parameters are *replayed* (``wire.settings``). What can't be moved *pins* the client to its server. After a transaction
that may have left something, ``wire.question`` asks the server what is really there.
"""

from __future__ import annotations

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
#: whether its host still is what target_session_attrs asks for is not known
DIRTY_DOUBTED = 32768

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
