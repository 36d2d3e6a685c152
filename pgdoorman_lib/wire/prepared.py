"""Prepared statements shared in a pool: whose name means which statement, and which server has it.

Rules:
1. A client's name is its own; the statement behind it is shared by all clients whose Parse had the same bytes (SQL,
   parameter types) under the same settings. Servers know it by our name only, ``pgdoorman_<n>``.
2. The books (a client's names, a server's set) are changed when a message is sent; the Effect queued with it takes the
   change back if the message fails or is skipped.
3. The unnamed statement stays unnamed: it is passed through, and remembered, so that it can be made again if the
   client binds it on another server.
4. A statement is closed on a server only by a message in sequence, so nothing already sent can miss it.
5. SQL's PREPARE, EXECUTE and DEALLOCATE know the same names: what they name in a text is put into the server's terms,
   too, and what running that text means for the books stands in its ``Acts``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import count
from typing import Any

from pgdoorman_lib.wire.replies import Effect
from pgdoorman_lib.wire.sqltext import Text

_int = int
_bytes = bytes

#: What our names on servers begin with. A client's own name that begins so is never looked up on a server.
PREFIX = b"pgdoorman_"

#: One series for all pools: a client keeps its statements when a reload replaces its pool, and they may meet the new
#: pool's on one server.
_numbers = count(1)


class Acts:
    """What must be done, and noted, when a statement with a certain text is run; most texts have none of it.

    ``text`` is what its analysis found; ``original`` the SQL as the client sent it, ``sql`` as servers get it, and
    ``edits`` what was changed, as in ``rewritten.Rewriting``. The names in it were taken for what ``resolved`` says
    (name, Statement or None). ``needs`` must be on the server,
    ``creates`` and ``drops`` are (name, Statement) that running it makes and takes away, ``taken`` names it can't make
    because they exist. ``stand_ins`` are empty statements for DEALLOCATE to drop, since the real ones are others', too.
    """

    __slots__ = ("creates", "drops", "edits", "needs", "original", "resolved", "sql", "stand_ins", "taken", "text")

    def __init__(self, text: Text, original: _bytes = b"") -> None:
        self.text = text
        self.original = original
        self.sql = original
        self.edits: list[tuple[int, int, int]] = []
        self.resolved: list[tuple[bytes, Statement | None]] = []
        self.needs: list[Statement] = []
        self.creates: list[tuple[bytes, Statement]] = []
        self.drops: list[tuple[bytes, Statement]] = []
        self.stand_ins: list[Statement] = []
        self.taken: list[bytes] = []

    def holds(self, names: dict[bytes, Statement]) -> bool:
        """Whether the client's names still mean what they meant when this was made."""
        return all(names.get(name) is statement for name, statement in self.resolved)


class Statement:
    """One SQL text with its parameter types: ``body`` is a Parse message behind the name (sql NUL int16 int32*).

    ``by_sql``: it was made by SQL's PREPARE, and ``body`` is what stands behind the name there.
    """

    __slots__ = (
        "acts",
        "body",
        "by_sql",
        "cname",
        "confirmed",
        "description",
        "environment",
        "instead",
        "name",
        "shape",
        "stale",
    )

    def __init__(self, name: _bytes, body: _bytes, acts: Acts | None = None, by_sql: _int = 0) -> None:
        self.name = name
        #: the name as it stands in messages
        self.cname = bytearray(name + b"\0")
        self.body = body
        self.acts = acts
        self.by_sql = by_sql
        #: the settings it was parsed under, if it is shared; None when it is one client's
        self.environment: object = None
        #: (a client's names, the name, the Statement) it has taken the place of, until it was made somewhere
        self.instead: tuple[dict[bytes, Statement], bytes, Statement] | None = None
        #: a server has accepted it once
        self.confirmed = 0
        #: PostgreSQL's answer to Describe, whole messages; None until it is known
        self.description: bytes | None = None
        #: what clients know of its rows, from Describe of a portal; as ``shape_of`` gives it
        self.shape: bytes | None = None
        #: made again it had another description: who knows the old one must not be given its results
        self.stale = 0

    def parse_message(self) -> bytearray:
        """The whole Parse message that makes it on a server."""
        size = 4 + len(self.cname) + len(self.body)
        return bytearray(b"P" + size.to_bytes(4, "big") + bytes(self.cname) + self.body)

    def prepare_sql(self) -> bytes:
        """The SQL that makes one that was made by SQL."""
        return b"PREPARE " + self.name + self.body

    def close_message(self) -> bytearray:
        """The Close message that drops it on a server."""
        size = 5 + len(self.cname)
        return bytearray(b"C" + size.to_bytes(4, "big") + b"S" + bytes(self.cname))


class Registry:
    """The statements of one pool: at most ``capacity`` remembered for sharing, the least recently parsed go first.

    Forgetting one harms nobody who uses it: clients hold the Statement itself.
    """

    __slots__ = ("__weakref__", "capacity", "known")

    def __init__(self, capacity: _int) -> None:
        self.capacity = capacity
        self.known: OrderedDict[Any, Statement] = OrderedDict()

    def get(self, body: _bytes, environment: object, acts: Acts | None = None) -> Statement:
        """The statement of these bytes under these settings (any hashable that stands for them)."""
        key = (body, environment) if environment else body
        statement = self.known.get(key)
        if statement is None:
            statement = self.private(body, acts)
            statement.environment = environment
            self.known[key] = statement
            if len(self.known) > self.capacity:
                self.known.popitem(last=False)
        else:
            self.known.move_to_end(key)
        return statement

    def find(self, body: _bytes, environment: object) -> Statement | None:
        """The statement that ``get`` would give, if there is one already."""
        found: Statement | None = self.known.get((body, environment) if environment else body)
        return found

    def forget(self) -> _int:
        """Share nothing that was parsed so far any more: the tables it is about have changed."""
        self.known.clear()
        return 0

    def private(self, body: _bytes, acts: Acts | None = None, by_sql: _int = 0) -> Statement:
        """A statement nobody else will share."""
        return Statement(PREFIX + str(next(_numbers)).encode(), body, acts, by_sql)


class Unnamed:
    """A client's unnamed statement: the body of its Parse, or None when it was too large to remember."""

    __slots__ = ("acts", "body")

    def __init__(self, body: _bytes | None, acts: Acts | None = None) -> None:
        self.body = body
        self.acts = acts


class ClientStatements:
    """A client's names."""

    __slots__ = ("names", "unnamed")

    def __init__(self) -> None:
        self.names: dict[bytes, Statement] = {}
        self.unnamed: Unnamed | None = None

    def clear(self, pending: Iterable[Effect]) -> _int:
        """The server has dropped everything but what ``pending`` effects are about, which was sent behind that."""
        self.names.clear()
        for effect in pending:
            if isinstance(effect, NamedParse) and effect.client is self:
                self.names[effect.name] = effect.statement
        return 0


class ServerStatements:
    """What a server connection has prepared under our names, least recently used first, and its unnamed statement."""

    __slots__ = ("capacity", "prepared", "unnamed")

    def __init__(self, capacity: _int) -> None:
        self.capacity = capacity
        self.prepared: OrderedDict[Any, None] = OrderedDict()
        #: whose unnamed statement the server holds
        self.unnamed: Unnamed | None = None

    def touch(self, statement: Statement) -> _int:
        """Note a use, for the order of eviction; only where eviction is near."""
        if len(self.prepared) * 2 > self.capacity:
            self.prepared.move_to_end(statement)
        return 0

    def surplus(self, acts: Acts | None = None) -> Statement | None:
        """The statement to close before another is made, or None; never one that ``acts`` needs."""
        if len(self.prepared) < self.capacity:
            return None
        victim: Statement
        for victim in self.prepared:
            if acts is None or victim not in acts.needs:
                return victim
        return None

    def clear(self, pending: Iterable[Effect] = ()) -> _int:
        """The server has dropped everything (DEALLOCATE ALL, DISCARD ALL) but what ``pending`` effects will make."""
        self.prepared.clear()
        for effect in pending:
            if isinstance(effect, InjectedParse) or (isinstance(effect, NamedParse) and not effect.made):
                self.prepared[effect.statement] = None
        return 0


def unnamed_parse(
    client: ClientStatements, server: ServerStatements, body: _bytes | None, acts: Acts | None
) -> UnnamedParse:
    """The effect of a client's Parse of the unnamed statement with this ``body`` (None: too large to remember)."""
    statement = Unnamed.__new__(Unnamed)
    statement.body = body
    statement.acts = acts
    effect = UnnamedParse.__new__(UnnamedParse)
    effect.enter(client, server, statement)
    return effect


def unnamed_close(client: ClientStatements, server: ServerStatements) -> UnnamedParse:
    """The effect of a client's Close of the unnamed statement."""
    effect = UnnamedParse.__new__(UnnamedParse)
    effect.enter(client, server, None)
    return effect


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
        client.names[name] = statement
        if not made:
            server.prepared[statement] = None

    def done(self) -> _int:
        self.statement.confirmed = 1
        return 0

    def undone(self, failed: _int) -> _int:
        if self.client.names.get(self.name) is self.statement:
            del self.client.names[self.name]
        if not self.made:
            self.server.prepared.pop(self.statement, None)
        return 0


class InjectedParse(Effect):
    """A Parse of ours in front of a Bind or Describe."""

    __slots__ = ("server", "statement")

    def __init__(self, statement: Statement, server: ServerStatements) -> None:
        self.statement = statement
        self.server = server
        server.prepared[statement] = None

    def done(self) -> _int:
        self.statement.instead = None
        return 0

    def undone(self, failed: _int) -> _int:
        self.server.prepared.pop(self.statement, None)
        if self.statement.instead is not None:
            names, name, before = self.statement.instead
            if names.get(name) is self.statement:
                names[name] = before  # whose own Parse may be the next to be undone
        return 0


class QueryParse(InjectedParse):
    """A Parse of ours, in a batch of its own, in front of a Query that needs it: if it fails, so does the Query."""

    __slots__ = ()


class Described(Effect):
    """A Describe whose answer is to be remembered: of a statement, or of a ``portal`` bound to it."""

    __slots__ = ("answer", "broken", "portal", "statement")

    def __init__(self, statement: Statement, portal: _int = 0) -> None:
        self.statement = statement
        self.portal = portal
        self.answer = b""
        #: it did not come in one piece
        self.broken = 0

    def done(self) -> _int:
        if not self.broken and self.portal:
            self.statement.shape = shape_of(self.answer)
        elif not self.broken:
            self.statement.description = self.answer
        return 0


class Refused(Effect):
    """A message that PostgreSQL is made to refuse: the client gets ``message`` instead of its ErrorResponse."""

    __slots__ = ("message",)

    def __init__(self, message: _bytes) -> None:
        self.message = message


class Verification(Effect):
    """A Describe of ours behind a Parse of ours: whether the statement is still what its clients were told."""

    __slots__ = ("answer", "broken", "finished", "registry", "statement")

    def __init__(self, statement: Statement, registry: Registry) -> None:
        self.statement = statement
        self.registry = registry
        self.answer = b""
        self.broken = 0
        #: its answer has come, or never will
        self.finished = 0

    def done(self) -> _int:
        self.finished = 1
        told, shape = self.statement.description, self.statement.shape
        if (
            self.broken
            or (told is not None and not same_description(told, self.answer))
            or (shape is not None and shape_of(self.answer) != shape)
        ):
            self.statement.stale = 1
            self.registry.forget()
        return 0

    def undone(self, failed: _int) -> _int:
        self.finished = 1
        return 0


def same_description(one: _bytes, other: _bytes) -> bool:
    """Whether two answers to Describe of a statement (ParameterDescription first) mean the same to a client."""
    return _parameters(one) == _parameters(other) and shape_of(one) == shape_of(other)


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
    return 1 + int.from_bytes(answer[1:5], "big") if answer[:1] == b"t" else 0


def _parameters(answer: _bytes) -> bytes:
    return answer[: _parameters_end(answer)]


class Eviction(Effect):
    """A Close of ours that makes room on the server."""

    __slots__ = ("server", "statement")

    def __init__(self, statement: Statement, server: ServerStatements) -> None:
        self.statement = statement
        self.server = server
        server.prepared.pop(statement, None)

    def undone(self, failed: _int) -> _int:
        self.server.prepared[self.statement] = None
        return 0


class NameClosed(Effect):
    """A client's Close of a name: the statement stays on the server for the others."""

    __slots__ = ("client", "name", "statement")

    def __init__(self, client: ClientStatements, name: _bytes) -> None:
        self.client = client
        self.name = name
        self.statement = client.names.pop(name, None)

    def undone(self, failed: _int) -> _int:
        if self.statement is not None:
            self.client.names[self.name] = self.statement
        return 0


class UnnamedParse(Effect):
    """A Parse (or with ``statement`` None a Close) of the unnamed statement. A failed Parse leaves none."""

    __slots__ = ("client", "old_client", "old_server", "server", "statement")

    def __init__(self, client: ClientStatements, server: ServerStatements, statement: Unnamed | None) -> None:
        self.enter(client, server, statement)

    def enter(self, client: ClientStatements, server: ServerStatements, statement: Unnamed | None) -> _int:
        """Fill a new effect in: drivers without prepared statements bring one of these with every statement."""
        self.client = client
        self.server = server
        self.statement = statement
        self.old_client = client.unnamed
        self.old_server = server.unnamed
        client.unnamed = statement
        server.unnamed = statement
        return 0

    def undone(self, failed: _int) -> _int:
        if self.client.unnamed is self.statement:
            self.client.unnamed = None if failed else self.old_client
        if self.server.unnamed is self.statement:
            self.server.unnamed = None if failed else self.old_server
        return 0


class UnnamedInjected(Effect):
    """A Parse of ours that makes a client's unnamed statement again on the server it has now."""

    __slots__ = ("old_server", "server")

    def __init__(self, server: ServerStatements, statement: Unnamed | None) -> None:
        self.server = server
        self.old_server = server.unnamed
        server.unnamed = statement

    def undone(self, failed: _int) -> _int:
        self.server.unnamed = None if failed else self.old_server
        return 0
