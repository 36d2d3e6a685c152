"""Groups of the extended protocol that stand one after the other, and in the queue of answers as one entry, RUN.

A group is Parse, Bind, perhaps Describe (of the portal) and Execute, none of which has a name. Each message of a run is
answered as it would be alone, so how far a run has come is known at every answer.
"""

from __future__ import annotations

from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import UnnamedEffect
from pgdoorman_lib.wire.prepared import ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements import Unnamed

_int = int


class UnnamedRun(UnnamedEffect):
    """A run, which leaves its last statement as the unnamed one; alike but for their texts and values.

    None of its texts begins a copy.
    """

    __slots__ = ("described", "due", "left", "statements")

    def __init__(self, client: ClientStatements, server: ServerStatements, described: _int) -> None:
        self.begin(client, server)
        #: each group has a Describe
        self.described = described
        #: the statement of each group; the books have the last
        self.statements: list[Unnamed] = []
        #: what is answered next, an operation as in ``owed``, and the groups whose answers are not complete
        self.due = owed.PARSE
        self.left = 0

    def enter(self, statement: Unnamed) -> None:
        """One more group, of this statement."""
        self.statements.append(statement)
        self.left += 1
        self.client.unnamed = statement
        self.server.unnamed = statement

    def answered(self, kind: _int) -> bool:
        """The server sends a message of type byte ``kind``, no error, row or notice: whether it is the one due."""
        due = self.due
        if due == owed.PARSE:
            self.due = owed.BIND
            return kind == consts.PARSE_COMPLETE
        if due == owed.BIND:
            self.due = owed.DESCRIBE if self.described else owed.EXECUTE
            return kind == consts.BIND_COMPLETE
        if due == owed.DESCRIBE:
            self.due = owed.EXECUTE
            return kind == consts.ROW_DESCRIPTION or kind == consts.NO_DATA
        self.due = owed.PARSE
        self.left -= 1
        return kind == consts.COMMAND_COMPLETE or kind == consts.EMPTY_QUERY_RESPONSE or kind == consts.PORTAL_SUSPENDED

    def undone(self, failed: _int) -> None:
        """The run ends with an error where it has come to (1), or was skipped as a whole (0)."""
        number = len(self.statements)
        last = self.statements[number - 1]
        mine = self.old_client
        held = self.old_server
        if failed:
            # A Parse that fails leaves no statement, what fails behind one that did not leaves its.
            mine = held = None if self.due == owed.PARSE else self.statements[number - self.left]
        if self.client.unnamed is last:
            self.client.unnamed = mine
        if self.server.unnamed is last:
            self.server.unnamed = held
