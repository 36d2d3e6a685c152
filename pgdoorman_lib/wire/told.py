"""What clients of one process were told of a statement's parameters and rows, in terms by which another can compare it.

Who knows a description must not be given rows of another. Within a process each server either has a shared statement
from before it was described to a client, so that PostgreSQL itself refuses it once a table has changed, or was asked
what it has made of it (``effects.Verification``). That does not hold between processes: one may have made a statement
on a server of which it has told nobody anything, or something else than the other, to which that server goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from pgdoorman_lib.wire.effects import UNTOLD, parameters_of, same_description, shape_of
from pgdoorman_lib.wire.prepared import ServerStatements
from pgdoorman_lib.wire.statements import Handle, Statement, known_statement

#: Digests of parameters and rows, and of rows alone; empty where nothing was told.
Told = tuple[bytes, bytes]
_DIGEST = 12


def told_of(statement: Statement) -> Told:
    """What was told of ``statement`` in this process, computed once for each answer."""
    source = (statement.description, statement.shape)
    if statement.told is None or statement.told[0] != source:
        description, shape = source
        rows = shape if description is None else shape_of(description)
        whole = b"" if description is None else _digest(parameters_of(description), shape_of(description))
        statement.told = (source, (whole, b"" if rows is None else _digest(rows)))
    found: Told = statement.told[1]
    return found


def told_here(held: ServerStatements, handle: Handle) -> Told:
    """What clients of this process were told of a statement that a server has."""
    foreign: Told | None = held.foreign.get(handle)
    if foreign is not None:
        return foreign
    statement = known_statement(handle.name)
    return UNTOLD if statement is None or statement.stale else told_of(statement)


def was_told(held: ServerStatements, statement: Statement) -> bool:
    """Whether who has made ``statement`` on a server has told its clients what was told here."""
    theirs: Sequence[bytes] | None = held.foreign.get(statement.handle)
    if theirs is None:
        return True
    whole, rows = told_of(statement)
    if theirs[0] != whole if whole else theirs[1] != rows:
        return False
    del held.foreign[statement.handle]
    return True


def is_covered(statement: Statement, description: bytes | None, shape: bytes | None) -> bool:
    """Whether who was told ``description`` and ``shape`` in another process can do with ``statement`` of this one."""
    if statement.stale:
        return True  # it is refused
    mine = statement.description
    if description is not None and (mine is None or not same_description(mine, description)):
        return False
    return shape is None or shape == (statement.shape if mine is None else shape_of(mine))


def _digest(*parts: bytes) -> bytes:
    made = blake2b(digest_size=_DIGEST)
    for part in parts:
        made.update(len(part).to_bytes(4, "big") + part)
    return made.digest()
