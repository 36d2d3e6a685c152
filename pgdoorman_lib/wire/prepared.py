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
6. What a text means is believed for BELIEVED seconds after a server was asked. Who parses it later gets another version
   of the statement, with a name of its own; who holds the old one keeps it.
7. Servers' books hold only the Handle of a statement: when no client and no registry has it any more, its text is gone,
   and the server closes it before anything else.
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
_float = float

#: What our names on servers begin with. A client's own name that begins so is never looked up on a server.
PREFIX = b"pgdoorman_"

#: Seconds for which what a server has made of a text is believed to be what any server would make of it: somebody whom
#: the pooler does not see may have changed a table.
BELIEVED = 1.0
#: What a statement that a client holds costs the pooler beside its text, bytes.
OVERHEAD = 512
#: Bytes of a text from which a statement that nobody holds is not kept for whoever may come: in PostgreSQL it takes
#: thirty to seventy times as much.
LARGE = 8192
#: Superseded statements looked at, whether somebody still holds them, each time one is made on their server.
_LOOKED_AT = 4
#: The part of a server's statements (one in so many) that may be evicted before it is worth looking again for those
#: that nobody holds.
_PATIENCE = 4
#: The part of the bytes it may hold beyond which those are looked for that are of no use to anybody.
_CROWDED = 4

# The same numbers as C types, where this module is compiled.
_BELIEVED = BELIEVED
_OVERHEAD = OVERHEAD
_LARGE = LARGE

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


class Tally:
    """Bytes of the statements that clients hold, in all pools together: shared ones count once."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


#: This process's.
REMEMBERED = Tally()
_remembered = REMEMBERED


class Handle:
    """What servers know of a statement: its ``name``; ``cname`` is that as it stands in messages."""

    __slots__ = ("cname", "current", "line", "name", "size", "users")

    def __init__(self, name: _bytes, size: _int) -> None:
        self.name = name
        self.cname = bytearray(name + b"\0")
        #: bytes of its body
        self.size = size
        #: names of clients that mean it
        self.users = 0
        #: a registry will give it to who parses the same
        self.current = 0
        #: the same number for all versions of a shared statement; 0 for one that is not shared
        self.line = 0

    def close_message(self) -> bytearray:
        """The Close message that drops it on a server."""
        size = 5 + len(self.cname)
        return bytearray(b"C" + size.to_bytes(4, "big") + b"S" + bytes(self.cname))


class Statement:
    """One SQL text with its parameter types: ``body`` is a Parse message behind the name (sql NUL int16 int32*).

    ``by_sql``: it was made by SQL's PREPARE, and ``body`` is what stands behind the name there.
    """

    __slots__ = (
        "acts",
        "analysed_at",
        "body",
        "by_sql",
        "cname",
        "confirmed",
        "description",
        "environment",
        "handle",
        "instead",
        "name",
        "seen",
        "shape",
        "stale",
        "suspect",
    )

    def __init__(self, name: _bytes, body: _bytes, acts: Acts | None = None, by_sql: _int = 0) -> None:
        self.name = name
        self.handle = Handle(name, len(body))
        #: the handle's, for messages
        self.cname = self.handle.cname
        self.body = body
        self.acts = acts
        self.by_sql = by_sql
        #: the lexicon its text was looked at with when it ran last
        self.seen: object = None
        #: the settings it was parsed under, if it is shared; None when it is one client's
        self.environment: object = None
        #: when it was first sent to a server, in the engine's seconds: no server has an older idea of it
        self.analysed_at = 0.0
        #: running it may change what other texts mean, or which names there are
        self.suspect = 0
        #: (a client's names, the name, the Statement) it has taken the place of, until it was made somewhere
        self.instead: tuple[ClientStatements, bytes, Statement] | None = None
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

    def sql(self) -> bytes:
        """Its text; of one made by SQL something that has the same words."""
        return b"SELECT" + self.body if self.by_sql else self.body.partition(b"\0")[0]

    def prepare_sql(self) -> bytes:
        """The SQL that makes one that was made by SQL."""
        return b"PREPARE " + self.name + self.body

    def close_message(self) -> bytearray:
        """The Close message that drops it on a server."""
        return self.handle.close_message()

    def hold(self) -> _int:
        """One more name of a client means it."""
        handle = self.handle
        handle.users += 1
        if handle.users == 1:
            _remembered.bytes += handle.size + _OVERHEAD
        return 0

    def drop(self) -> _int:
        """One name less."""
        handle = self.handle
        handle.users -= 1
        if handle.users == 0:
            _remembered.bytes -= handle.size + _OVERHEAD
        return 0


class Registry:
    """The statements of one pool that are shared: at most ``capacity`` of them, and ``capacity_bytes`` of their texts.

    The least recently parsed go first. Forgetting one harms nobody who uses it: clients hold the Statement itself.
    Times are the engine's.
    """

    __slots__ = ("__weakref__", "bytes", "capacity", "capacity_bytes", "known")

    def __init__(self, capacity: _int, capacity_bytes: _int = 1 << 62) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.known: OrderedDict[Any, Statement] = OrderedDict()
        #: of the bodies in ``known``
        self.bytes = 0

    def get(self, body: _bytes, environment: object, acts: Acts | None = None, now: _float = 0.0) -> Statement:
        """The statement of these bytes under these settings (any hashable that stands for them).

        It is a new one unless ``now`` is at most BELIEVED seconds after the last was. One too large to be remembered is
        nobody else's.
        """
        key = (body, environment) if environment else body
        statement = self.known.get(key)
        if statement is not None:
            if now - statement.analysed_at <= _BELIEVED:
                self.known.move_to_end(key)
                return statement
            body = statement.body  # all versions have one copy of the text
            self._remove(key)
        statement = self.private(body, acts)
        if len(body) > self.capacity_bytes:
            return statement
        statement.environment = environment
        statement.analysed_at = now
        statement.handle.line = hash(key) or 1
        statement.handle.current = 1
        self.known[key] = statement
        self.bytes += len(body)
        while len(self.known) > self.capacity or self.bytes > self.capacity_bytes:
            self._remove(next(iter(self.known)))
        return statement

    def find(self, body: _bytes, environment: object, now: _float = 0.0) -> Statement | None:
        """The statement that ``get`` would give, if there is one already."""
        key = (body, environment) if environment else body
        found: Statement | None = self.known.get(key)
        if found is None or now - found.analysed_at > _BELIEVED:
            return None
        self.known.move_to_end(key)
        return found

    def discard(self, statement: Statement) -> _int:
        """Share ``statement`` no more."""
        if statement.handle.current:
            self._remove((statement.body, statement.environment) if statement.environment else statement.body)
        return 0

    def forget(self) -> _int:
        """Share nothing that was parsed so far any more: the tables it is about have changed."""
        for statement in self.known.values():
            statement.handle.current = 0
        self.known.clear()
        self.bytes = 0
        return 0

    def _remove(self, key: Any) -> _int:
        statement = self.known.pop(key, None)
        if statement is not None:
            statement.handle.current = 0
            self.bytes -= len(statement.body)
        return 0

    def private(self, body: _bytes, acts: Acts | None = None, by_sql: _int = 0) -> Statement:
        """A statement nobody else will share."""
        return Statement(PREFIX + str(next(_numbers)).encode(), body, acts, by_sql)


class Unnamed:
    """A client's unnamed statement: the body of its Parse, or None when it was too large to remember.

    ``suspect``: as in Statement.
    """

    __slots__ = ("acts", "body", "seen", "suspect")

    def __init__(self, body: _bytes | None, acts: Acts | None = None) -> None:
        self.body = body
        self.acts = acts
        self.seen: object = None
        self.suspect = 0


class ClientStatements:
    """A client's names. ``names`` is changed only here."""

    __slots__ = ("names", "released", "unnamed")

    def __init__(self) -> None:
        self.names: dict[bytes, Statement] = {}
        self.unnamed: Unnamed | None = None
        #: the client has left
        self.released = 0

    def enter(self, name: _bytes, statement: Statement) -> _int:
        """From now on ``name`` means ``statement``."""
        if self.released:
            return 0
        before = self.names.get(name)
        self.names[name] = statement
        statement.hold()
        if before is not None:
            before.drop()
        return 0

    def leave(self, name: _bytes) -> Statement | None:
        """``name`` means nothing any more; what it meant."""
        statement = self.names.pop(name, None)
        if statement is not None:
            statement.drop()
        return statement

    def clear(self, pending: Iterable[Effect]) -> _int:
        """The server has dropped everything but what ``pending`` effects are about, which was sent behind that."""
        kept = [effect for effect in pending if isinstance(effect, NamedParse) and effect.client is self]
        for name in list(self.names):
            self.leave(name)
        for effect in kept:
            self.enter(effect.name, effect.statement)
        return 0

    def release(self) -> _int:
        """The client has left: it holds nothing any more, whatever is still under way."""
        for name in list(self.names):
            self.leave(name)
        self.unnamed = None
        self.released = 1
        return 0


class ServerStatements:
    """What a server connection has prepared under our names, least recently used first, and its unnamed statement.

    At most ``capacity`` statements, and ``capacity_bytes`` of their texts unless a single one has more.
    """

    __slots__ = (
        "bytes",
        "capacity",
        "capacity_bytes",
        "doubtful",
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
        #: the newest version of each shared statement, by its line
        self.versions: dict[int, Handle] = {}
        #: the versions before that, which somebody may still hold
        self.outdated: list[Handle] = []
        #: what nobody held when that was last looked for, the best to evict last
        self.spare: list[Handle] = []
        #: evictions before it is looked for again
        self.patience = 0

    def has(self, statement: Statement) -> _int:
        """Whether ``statement`` is on the server, or will be when the next message gets there."""
        return 1 if statement.handle in self.prepared else 0

    def enter(self, statement: Statement) -> _int:
        """``statement`` is made on the server."""
        handle = statement.handle
        if handle not in self.prepared:
            self.prepared[handle] = None
            self.bytes += handle.size
        return 0

    def leave(self, handle: Handle) -> _int:
        """The statement is gone from the server."""
        if handle in self.prepared:
            del self.prepared[handle]
            self.bytes -= handle.size
            if handle.line and self.versions.get(handle.line) is handle:
                del self.versions[handle.line]
        return 0

    def touch(self, statement: Statement) -> _int:
        """Note a use, for the order of eviction; only where eviction is near."""
        if len(self.prepared) * 2 > self.capacity or self.bytes * 2 > self.capacity_bytes:
            self.prepared.move_to_end(statement.handle)
        return 0

    def supersede(self, statement: Statement) -> _int:
        """``statement`` is about to be made: earlier versions of it go when nobody holds them."""
        line = statement.handle.line
        if line:
            older = self.versions.get(line)
            if older is not None and older is not statement.handle:
                self.outdated.insert(0, older)
            self.versions[line] = statement.handle
        return 0

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
            unheld = [handle for handle in held if handle.users == 0]
            unheld.sort(key=_current)
            unheld.reverse()
            self.spare = unheld
            self.patience = len(held) // _PATIENCE - len(unheld)
        while self.spare:
            victim = self.spare.pop()
            useless = full or not victim.current or victim.size >= _LARGE
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
            if handle.users == 0:
                return handle
            outdated.append(handle)
        return None

    def clear(self, pending: Iterable[Effect] = ()) -> _int:
        """The server has dropped everything (DEALLOCATE ALL, DISCARD ALL) but what ``pending`` effects will make."""
        self.prepared.clear()
        self.bytes = 0
        self.doubtful = 0
        self.versions.clear()
        self.outdated.clear()
        self.spare.clear()
        for effect in pending:
            if isinstance(effect, InjectedParse) or (isinstance(effect, NamedParse) and not effect.made):
                self.enter(effect.statement)
        return 0

    def doubt(self, pending: Iterable[Effect]) -> _int:
        """The books were wrong: whatever they say is made again, in the place of what may be there."""
        self.clear(pending)
        self.doubtful = 1
        return 0


def _current(handle: Handle) -> int:
    return int(handle.current)


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

    def done(self) -> _int:
        self.statement.confirmed = 1
        return 0

    def undone(self, failed: _int) -> _int:
        if self.client.names.get(self.name) is self.statement:
            self.client.leave(self.name)
        if not self.made:
            self.server.leave(self.statement.handle)
        return 0


class InjectedParse(Effect):
    """A Parse of ours in front of a Bind or Describe."""

    __slots__ = ("server", "statement")

    def __init__(self, statement: Statement, server: ServerStatements) -> None:
        self.statement = statement
        self.server = server
        server.enter(statement)

    def done(self) -> _int:
        self.statement.instead = None
        return 0

    def undone(self, failed: _int) -> _int:
        self.server.leave(self.statement.handle)
        if self.statement.instead is not None:
            client, name, before = self.statement.instead
            if client.names.get(name) is self.statement:
                client.enter(name, before)  # whose own Parse may be the next to be undone
        return 0


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

    def done(self) -> _int:
        self.finished = 1
        return InjectedParse.done(self)

    def undone(self, failed: _int) -> _int:
        self.finished = 1
        self.failed = failed
        return InjectedParse.undone(self, failed)


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

    __slots__ = ("handle", "server", "there")

    def __init__(self, handle: Handle, server: ServerStatements) -> None:
        self.handle = handle
        self.server = server
        #: it is known to be there
        self.there = 1 if handle in server.prepared else 0
        server.leave(handle)

    def undone(self, failed: _int) -> _int:
        if self.there and self.handle not in self.server.prepared:
            self.server.prepared[self.handle] = None
            self.server.bytes += self.handle.size
        return 0


class NameClosed(Effect):
    """A client's Close of a name: the statement stays on the server for the others."""

    __slots__ = ("client", "name", "statement")

    def __init__(self, client: ClientStatements, name: _bytes) -> None:
        self.client = client
        self.name = name
        self.statement = client.leave(name)

    def undone(self, failed: _int) -> _int:
        if self.statement is not None:
            self.client.enter(self.name, self.statement)
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
