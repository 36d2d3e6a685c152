"""The books of prepared statements: what a client's names mean, and what a server connection has prepared.

Rules:
1. A client's name is its own; the statement behind it may be others', too.
2. The books (a client's names, a server's set) are changed when a message is sent; the Effect queued with it takes the
   change back if the message fails or is skipped.
3. The unnamed statement stays unnamed: it is passed through, and remembered, so that it can be made again if the
   client binds it on another server.
4. A statement is closed on a server only by a message in sequence, so nothing already sent can miss it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.measures import LARGE
from pgdoorman_lib.wire.statements import Acts, Handle, Statement, Unnamed

_int = int
_bytes = bytes

#: Superseded statements looked at, whether somebody still holds them, each time one is made on their server.
_LOOKED_AT = 4
#: The part of a server's statements (one in so many) that may be evicted before it is worth looking again for those
#: that nobody holds.
_PATIENCE = 4
#: The part of the bytes it may hold beyond which those are looked for that are of no use to anybody.
_CROWDED = 4


class ClientStatements:
    """A client's names. ``names`` is changed only here."""

    __slots__ = ("names", "released", "unnamed")

    def __init__(self) -> None:
        self.names: dict[bytes, Statement] = {}
        self.unnamed: Unnamed | None = None
        #: the client has left
        self.released = 0

    def enter(self, name: _bytes, statement: Statement) -> None:
        """From now on ``name`` means ``statement``."""
        if not self.released:
            before = self.names.get(name)
            self.names[name] = statement
            statement.hold()
            if before is not None:
                before.drop()

    def leave(self, name: _bytes) -> Statement | None:
        """``name`` means nothing any more; what it meant."""
        statement = self.names.pop(name, None)
        if statement is not None:
            statement.drop()
        return statement

    def clear(self, pending: Iterable[Effect]) -> None:
        """The server has dropped everything but what ``pending`` effects are about, which was sent behind that."""
        for name in list(self.names):
            self.leave(name)
        for effect in pending:
            effect.renew(self)

    def release(self) -> None:
        """The client has left: it holds nothing any more, whatever is still under way."""
        if self.names:
            for name in list(self.names):
                self.leave(name)
        self.unnamed = None
        self.released = 1


class ServerStatements:
    """What a server connection has prepared under our names, least recently used first, and its unnamed statement.

    At most ``capacity`` statements, and ``capacity_bytes`` of their texts unless a single one has more.
    """

    __slots__ = (
        "bytes",
        "capacity",
        "capacity_bytes",
        "doubtful",
        "foreign",
        "outdated",
        "patience",
        "prepared",
        "spare",
        "unnamed",
        "versions",
    )

    def __init__(self, capacity: _int, capacity_bytes: _int = 1 << 62) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.prepared: OrderedDict[Any, None] = OrderedDict()
        #: of the bodies of ``prepared``
        self.bytes = 0
        #: whose unnamed statement the server holds
        self.unnamed: Unnamed | None = None
        #: there may be statements of ours on the server that are not in ``prepared``
        self.doubtful = 0
        #: those that another process has made, each with what was told of it there (``handover.told_of``), as long as
        #: nobody here has compared it with what clients were told here
        self.foreign: dict[Any, Any] = {}
        #: the newest version of each shared statement, by its line
        self.versions: dict[int, Handle] = {}
        #: the versions before that, which somebody may still hold
        self.outdated: list[Handle] = []
        #: what nobody held when that was last looked for, the best to evict last
        self.spare: list[Handle] = []
        #: evictions before it is looked for again
        self.patience = 0

    def has(self, statement: Statement) -> bool:
        """Whether ``statement`` is on the server, or will be when the next message gets there."""
        return statement.handle in self.prepared

    def enter(self, statement: Statement) -> None:
        """``statement`` is made on the server."""
        handle = statement.handle
        if handle not in self.prepared:
            self.prepared[handle] = None
            self.bytes += handle.size
            if self.foreign:
                self.foreign.pop(handle, None)

    def leave(self, handle: Handle) -> None:
        """The statement is gone from the server."""
        if handle in self.prepared:
            del self.prepared[handle]
            self.bytes -= handle.size
            if self.foreign:
                self.foreign.pop(handle, None)
            if handle.line and self.versions.get(handle.line) is handle:
                del self.versions[handle.line]

    def touch(self, statement: Statement) -> None:
        """Note a use, for the order of eviction; only where eviction is near."""
        if len(self.prepared) * 2 > self.capacity or self.bytes * 2 > self.capacity_bytes:
            self.prepared.move_to_end(statement.handle)

    def supersede(self, statement: Statement) -> None:
        """``statement`` is about to be made: earlier versions of it go when nobody holds them."""
        line = statement.handle.line
        if line:
            older = self.versions.get(line)
            if older is not None and older is not statement.handle:
                self.outdated.insert(0, older)
            self.versions[line] = statement.handle

    def surplus(self, acts: Acts | None = None, size: _int = 0) -> Handle | None:
        """What to close before one more, of ``size`` bytes, is made, or None; never what ``acts`` needs.

        First what can be of no use to anybody any more, then what nobody holds, then what was not used for longest.
        """
        if self.outdated:
            victim = self._abandoned()
            if victim is not None:
                return victim
        held = self.prepared
        full = bool(held) and (len(held) >= self.capacity or self.bytes + size > self.capacity_bytes)
        if not full and self.bytes + size <= self.capacity_bytes // _CROWDED:
            return None
        needed = [statement.handle for statement in acts.needs] if acts is not None else []
        if not self.spare and self.patience <= 0:
            unheld = [handle for handle in held if handle.users == 0 and not handle.abroad]
            unheld.sort(key=_current)
            unheld.reverse()
            self.spare = unheld
            self.patience = len(held) // _PATIENCE - len(unheld)
        while self.spare:
            victim = self.spare.pop()
            useless = full or not victim.current or victim.size >= LARGE
            if useless and victim.users == 0 and victim in held and victim not in needed:
                return victim
        self.patience -= 1
        if full:
            for oldest in held:
                if oldest not in needed:
                    return oldest  # type: ignore[no-any-return]
        return None

    def _abandoned(self) -> Handle | None:
        """A superseded version that nobody holds any more, of those whose turn it is."""
        outdated = self.outdated
        for _ in range(min(_LOOKED_AT, len(outdated))):
            handle = outdated.pop(0)
            if handle not in self.prepared:
                continue
            if handle.users == 0 and not handle.abroad:
                return handle
            outdated.append(handle)
        return None

    def clear(self, pending: Iterable[Effect] = ()) -> None:
        """The server has dropped everything (DEALLOCATE ALL, DISCARD ALL) but what ``pending`` effects will make."""
        self.prepared.clear()
        self.foreign.clear()
        self.bytes = 0
        self.doubtful = 0
        self.versions.clear()
        self.outdated.clear()
        self.spare.clear()
        for effect in pending:
            effect.renew(self)

    def doubt(self, pending: Iterable[Effect]) -> None:
        """The books were wrong: whatever they say is made again, in the place of what may be there."""
        self.clear(pending)
        self.doubtful = 1


def _current(handle: Handle) -> int:
    return int(handle.current)
