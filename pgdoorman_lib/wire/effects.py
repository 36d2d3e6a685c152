"""What messages about prepared statements do to the books: the Effects that stand in the queue of answers.

Each enters its change when it is made, which is when its message is sent, and takes it back if that fails or is
skipped.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.prepared import ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements import Acts, Handle, Registry, Statement, Unnamed

_int = int
_bytes = bytes

#: Stands in the books of a server for what clients were told of a statement: nothing (``told.Told``).
UNTOLD = (b"", b"")


class NamedParse(Effect):
    """A client's named Parse: its name, and on the server unless it was there already."""

    __slots__ = ("client", "made", "name", "server", "statement")

    def __init__(
        self, client: ClientStatements, name: _bytes, statement: Statement, server: ServerStatements, made: _int
    ) -> None:
        self.client = client
        self.name = name
        self.statement = statement
        self.server = server
        self.made = made
        client.enter(name, statement)
        if not made:
            server.enter(statement)

    def done(self) -> None:
        self.statement.confirmed = 1

    def undone(self, failed: _int) -> None:
        if self.client.names.get(self.name) is self.statement:
            self.client.leave(self.name)
        if not self.made:
            self.server.leave(self.statement.handle)

    def renew(self, books: object) -> None:
        if books is self.client:
            self.client.enter(self.name, self.statement)
        elif books is self.server and not self.made:
            self.server.enter(self.statement)


class InjectedParse(Effect):
    """A Parse of ours in front of a Bind or Describe."""

    __slots__ = ("server", "statement")

    def __init__(self, statement: Statement, server: ServerStatements) -> None:
        self.statement = statement
        self.server = server
        server.enter(statement)

    def done(self) -> None:
        self.statement.instead = None

    def undone(self, failed: _int) -> None:
        self.server.leave(self.statement.handle)
        if self.statement.instead is not None:
            client, name, before = self.statement.instead
            if client.names.get(name) is self.statement:
                client.enter(name, before)  # whose own Parse may be the next to be undone

    def renew(self, books: object) -> None:
        if books is self.server:
            self.server.enter(self.statement)


class QueryParse(InjectedParse):
    """A Parse of ours, in a batch of its own, in front of a Query that needs it: if it fails, so does the Query."""

    __slots__ = ()


class AwaitedParse(InjectedParse):
    """A Parse of ours, within the client's batch, for which the Query behind that has to wait."""

    __slots__ = ("failed", "finished")

    def __init__(self, statement: Statement, server: ServerStatements) -> None:
        InjectedParse.__init__(self, statement, server)
        #: its answer has come, or never will
        self.finished = 0
        #: that was an ErrorResponse of its own
        self.failed = 0

    def done(self) -> None:
        self.finished = 1
        InjectedParse.done(self)

    def undone(self, failed: _int) -> None:
        self.finished = 1
        self.failed = failed
        InjectedParse.undone(self, failed)


class Described(Effect):
    """A Describe whose answer is to be remembered: of a statement, or of a ``portal`` bound to it."""

    __slots__ = ("answer", "broken", "portal", "statement")

    def __init__(self, statement: Statement, portal: _int = 0) -> None:
        self.statement = statement
        self.portal = portal
        self.answer = b""
        #: it did not come in one piece
        self.broken = 0

    def done(self) -> None:
        if self.answer and not self.broken:  # nobody reads what comes once who had asked is gone
            if self.portal:
                self.statement.shape = shape_of(self.answer)
            else:
                self.statement.description = self.answer


class Refused(Effect):
    """A message that PostgreSQL is made to refuse: the client gets ``message`` instead of its ErrorResponse."""

    __slots__ = ("message",)

    def __init__(self, message: _bytes) -> None:
        self.message = message


class Verification(Effect):
    """A Describe of ours: whether the statement that was made on a server is still what its clients were told."""

    __slots__ = ("answer", "broken", "finished", "held", "registry", "statement")

    def __init__(self, statement: Statement, registry: Registry, held: ServerStatements) -> None:
        self.statement = statement
        self.registry = registry
        self.held = held
        self.answer = b""
        self.broken = 0
        #: its answer has come, or never will
        self.finished = 0

    def done(self) -> None:
        self.finished = 1
        if not self.answer and not self.broken:
            # Nobody has read what came, as above: the next who uses the statement is to ask again.
            self.held.foreign.setdefault(self.statement.handle, UNTOLD)
        else:
            self.held.foreign.pop(self.statement.handle, None)
            if self.broken or not self._same():
                self.statement.stale = 1
                self.registry.forget()

    def _same(self) -> bool:
        """Whether the answer is what clients were told."""
        told, shape = self.statement.description, self.statement.shape
        return (told is None or same_description(told, self.answer)) and (
            shape is None or shape_of(self.answer) == shape
        )

    def undone(self, failed: _int) -> None:
        self.finished = 1


def same_description(one: _bytes, other: _bytes) -> bool:
    """Whether two answers to Describe of a statement (ParameterDescription first) mean the same to a client."""
    return parameters_of(one) == parameters_of(other) and shape_of(one) == shape_of(other)


def shape_of(answer: _bytes) -> bytes:
    """The RowDescription or NoData of an answer to Describe, without what does not matter to who reads the rows.

    That is from which column of which table a value comes, so that a table made anew is no other result, and the format
    codes, which are a portal's own.
    """
    kept = bytearray(answer[_parameters_end(answer) :])
    if kept[:1] != b"T":
        return bytes(kept)
    at = 7
    for _ in range(int.from_bytes(kept[5:7], "big")):
        at = kept.index(0, at) + 1
        kept[at : at + 6] = bytes(6)
        kept[at + 16 : at + 18] = bytes(2)
        at += 18
    return bytes(kept)


def _parameters_end(answer: _bytes) -> int:
    return 1 + int32(answer, 1) if answer[:1] == b"t" else 0


def parameters_of(answer: _bytes) -> bytes:
    return answer[: _parameters_end(answer)]


class Eviction(Effect):
    """A Close of ours that makes room on the server."""

    __slots__ = ("handle", "server", "there")

    def __init__(self, handle: Handle, server: ServerStatements) -> None:
        self.handle = handle
        self.server = server
        #: it is known to be there
        self.there = 1 if handle in server.prepared else 0
        server.leave(handle)

    def undone(self, failed: _int) -> None:
        if self.there and self.handle not in self.server.prepared:
            self.server.prepared[self.handle] = None
            self.server.bytes += self.handle.size


class NameClosed(Effect):
    """A client's Close of a name: the statement stays on the server for the others."""

    __slots__ = ("client", "name", "statement")

    def __init__(self, client: ClientStatements, name: _bytes) -> None:
        self.client = client
        self.name = name
        self.statement = client.leave(name)

    def undone(self, failed: _int) -> None:
        if self.statement is not None:
            self.client.enter(self.name, self.statement)


class UnnamedEffect(Effect):
    """What has another statement be the unnamed one: before it there were ``old_client`` and ``old_server``."""

    __slots__ = ("client", "old_client", "old_server", "server")

    def begin(self, client: ClientStatements, server: ServerStatements) -> None:
        """Note whose books it changes, and what they say before it."""
        self.client = client
        self.server = server
        self.old_client = client.unnamed
        self.old_server = server.unnamed

    def step_back(self) -> tuple[Unnamed | None, Unnamed | None]:
        """Have the books say what was before it while that is put right; what they said, for ``step_on``."""
        now = self.client.unnamed, self.server.unnamed
        self.client.unnamed, self.server.unnamed = self.old_client, self.old_server
        return now

    def step_on(self, now: Any) -> None:
        """What was before it is what the books say now: have them say ``now`` again."""
        self.old_client, self.old_server = self.client.unnamed, self.server.unnamed
        self.client.unnamed, self.server.unnamed = now


def first_unnamed(effects: Any) -> UnnamedEffect | None:
    """The first of ``effects``, a list of Effects, that has another statement be the unnamed one."""
    for effect in effects:
        if isinstance(effect, UnnamedEffect):
            return effect
    return None


def take_back(voided: Any, failed: _int, behind: Any) -> None:
    """Undo ``voided``, the first of which has failed or was skipped, too; what comes ``behind`` is on its way still."""
    unnamed = first_unnamed(behind)
    now = unnamed.step_back() if unnamed is not None else (None, None)
    for position in range(len(voided) - 1, -1, -1):
        effect = voided[position]
        effect.undone(failed if position == 0 else 0)
    if unnamed is not None:
        unnamed.step_on(now)


class UnnamedParse(UnnamedEffect):
    """A Parse (or with ``statement`` None a Close) of the unnamed statement. A failed Parse leaves none."""

    __slots__ = ("statement",)

    def __init__(self, client: ClientStatements, server: ServerStatements, statement: Unnamed | None) -> None:
        self.enter(client, server, statement)

    def enter(self, client: ClientStatements, server: ServerStatements, statement: Unnamed | None) -> None:
        """Fill a new effect in: drivers without prepared statements bring one of these with every statement."""
        self.begin(client, server)
        self.statement = statement
        client.unnamed = statement
        server.unnamed = statement

    def undone(self, failed: _int) -> None:
        if self.client.unnamed is self.statement:
            self.client.unnamed = None if failed else self.old_client
        if self.server.unnamed is self.statement:
            self.server.unnamed = None if failed else self.old_server


class UnnamedInjected(Effect):
    """A Parse of ours that makes a client's unnamed statement again on the server it has now."""

    __slots__ = ("old_server", "server")

    def __init__(self, server: ServerStatements, statement: Unnamed | None) -> None:
        self.server = server
        self.old_server = server.unnamed
        server.unnamed = statement

    def undone(self, failed: _int) -> None:
        self.server.unnamed = None if failed else self.old_server


def unnamed_parse(
    client: ClientStatements, server: ServerStatements, body: _bytes | None, acts: Acts | None
) -> UnnamedParse:
    """The effect of a client's Parse of the unnamed statement with this ``body`` (None: too large to remember)."""
    statement = Unnamed.__new__(Unnamed)
    statement.body = body
    statement.acts = acts
    statement.seen = None
    effect = UnnamedParse.__new__(UnnamedParse)
    effect.enter(client, server, statement)
    return effect


def unnamed_close(client: ClientStatements, server: ServerStatements) -> UnnamedParse:
    """The effect of a client's Close of the unnamed statement."""
    effect = UnnamedParse.__new__(UnnamedParse)
    effect.enter(client, server, None)
    return effect
