"""The prepared statements of a pool: what one is, and the registry by which clients share it.

Rules:
1. The statement behind a client's name is shared by all clients whose Parse had the same bytes (SQL, parameter types)
   under the same settings. Servers know it by our name only. That is made from what it is, so that any process that
   ever holds the server connection knows it: see ``shared_name``.
2. SQL's PREPARE, EXECUTE and DEALLOCATE know the same names: what they name in a text is put into the server's terms,
   too, and what running that text means for the books stands in its ``Acts``.
3. What a text means is believed for BELIEVED seconds after a server was asked. Who parses it later gets another version
   of the statement, with a name of its own; who holds the old one keeps it.
4. Servers' books hold only the Handle of a statement: when no client and no registry has it any more, its text is gone,
   and the server closes it before anything else.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from pgdoorman_lib.wire.measures import BELIEVED, OVERHEAD
from pgdoorman_lib.wire.messages import close_statement, parse_message
from pgdoorman_lib.wire.text import Text

_int = int
_bytes = bytes
_float = float

#: What our names on servers begin with. A client's own name that begins so is never looked up on a server.
PREFIX = b"pgdoorman_"
#: What they look like, shared or not, as a regular expression.
OUR_NAME = PREFIX + b"[0-9a-f]+_[0-9a-f]+"
#: Bytes of the digest in a shared statement's name, and of a process's in the name of one that is not.
DIGEST_SIZE = 16
TOKEN_SIZE = 6

# One series each for all pools: a client keeps its statements when a reload replaces its pool, and they may meet the
# new pool's on one server.
_numbers = count(1)
_newest = 0
_process = bytes(TOKEN_SIZE).hex().encode()


# The handles and statements of this process by their names, None where nobody asks for them.
_handles: Any = None
_statements: Any = None


def name_process(token: _bytes) -> None:
    """From now on statements that are not shared have ``token`` in their names: TOKEN_SIZE bytes that no other has."""
    global _process
    if len(token) != TOKEN_SIZE:
        raise ValueError(f"a process's token has {TOKEN_SIZE} bytes, not {len(token)}")
    _process = token.hex().encode()


def keep_handles() -> None:
    """From now on what is made is known by its name: clients and servers may bring what has such a name."""
    global _handles, _statements
    if _handles is None:
        _handles = WeakValueDictionary()
        _statements = WeakValueDictionary()


def known_handle(name: _bytes) -> Handle | None:
    """The handle of this name that somebody here has, since ``keep_handles``."""
    return _handles.get(name) if _handles is not None else None


def known_statement(name: _bytes) -> Statement | None:
    """The statement of this name that somebody here has, since ``keep_handles``: what is known of it holds for all."""
    return _statements.get(name) if _statements is not None else None


def digest_of(body: _bytes, environment: object) -> _bytes:
    """What a shared statement is, in DIGEST_SIZE bytes: its text and types, and the settings it depends on."""
    made = blake2b(body, digest_size=DIGEST_SIZE)
    if environment:
        made.update(repr(environment).encode())
    return made.digest()


def shared_name(digest: _bytes, now: _float) -> _bytes:
    """The name of a shared statement: its digest, and when it was analysed, in milliseconds of the machine's clock.

    No two of this process are the same: what one text meant before and after some DDL are two statements. Of another
    process's the same name is the same text, analysed at the same time.
    """
    global _newest
    stamp = int(now * 1000.0)
    _newest = stamp if stamp > _newest else _newest + 1
    return PREFIX + digest.hex().encode() + b"_%x" % _newest


def private_name() -> _bytes:
    """The name of a statement that is one client's."""
    return PREFIX + _process + b"_%x" % next(_numbers)


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

    __slots__ = ("bytes", "row")

    def __init__(self) -> None:
        self.bytes = 0
        #: what all worker processes count them in; None in one process (``client.memory``)
        self.row: Any = None

    def count(self, change: _int) -> None:
        """So many more, or less."""
        self.bytes += change
        if self.row is not None:
            self.row.count(change)


#: This process's.
REMEMBERED = Tally()
# It has a name as a C variable, too, which others could not import.
_remembered = REMEMBERED


class Handle:
    """What servers know of a statement: its ``name``; ``cname`` is that as it stands in messages."""

    __slots__ = ("__weakref__", "abroad", "cname", "current", "line", "name", "size", "users")

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
        #: clients of another worker process may mean it
        self.abroad = 0
        if _handles is not None:
            _handles.setdefault(name, self)

    def close_message(self) -> bytearray:
        """The Close message that drops it on a server."""
        return bytearray(close_statement(self.name))


class Statement:
    """One SQL text with its parameter types: ``body`` is a Parse message behind the name (sql NUL int16 int32*).

    ``by_sql``: it was made by SQL's PREPARE, and ``body`` is what stands behind the name there.
    """

    __slots__ = (
        "__weakref__",
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
        "told",
    )

    def __init__(self, name: _bytes, body: _bytes, acts: Acts | None = None, by_sql: _int = 0) -> None:
        if _statements is not None:
            _statements.setdefault(name, self)
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
        #: (a client's ClientStatements, the name, the Statement) it has taken the place of, until it was made somewhere
        self.instead: tuple[Any, bytes, Statement] | None = None
        #: a server has accepted it once
        self.confirmed = 0
        #: PostgreSQL's answer to Describe, whole messages; None until it is known
        self.description: bytes | None = None
        #: what clients know of its rows, from Describe of a portal; as ``shape_of`` gives it
        self.shape: bytes | None = None
        #: both in the terms of ``wire.told``, if they were asked for
        self.told: Any = None
        #: made again it had another description: who knows the old one must not be given its results
        self.stale = 0

    def parse_message(self) -> bytearray:
        """The whole Parse message that makes it on a server."""
        return bytearray(parse_message(self.name, self.body))

    def sql(self) -> bytes:
        """Its text; of one made by SQL something that has the same words."""
        return b"SELECT" + self.body if self.by_sql else self.body.partition(b"\0")[0]

    def prepare_sql(self) -> bytes:
        """The SQL that makes one that was made by SQL."""
        return b"PREPARE " + self.name + self.body

    def close_message(self) -> bytearray:
        """The Close message that drops it on a server."""
        return self.handle.close_message()

    def hold(self) -> None:
        """One more name of a client means it."""
        handle = self.handle
        handle.users += 1
        if handle.users == 1:
            _remembered.count(handle.size + OVERHEAD)

    def drop(self) -> None:
        """One name less."""
        handle = self.handle
        handle.users -= 1
        if handle.users == 0:
            _remembered.count(-(handle.size + OVERHEAD))


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
            if now - statement.analysed_at <= BELIEVED:
                self.known.move_to_end(key)
                return statement
            body = statement.body  # all versions have one copy of the text
            self._remove(key)
        if len(body) > self.capacity_bytes:
            return self.private(body, acts)
        digest = digest_of(body, environment)
        statement = Statement(shared_name(digest, now), body, acts)
        statement.environment = environment
        statement.analysed_at = now
        statement.handle.line = int.from_bytes(digest[:7], "big") or 1
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
        if found is None or now - found.analysed_at > BELIEVED:
            return None
        self.known.move_to_end(key)
        return found

    def discard(self, statement: Statement) -> None:
        """Share ``statement`` no more."""
        if statement.handle.current:
            self._remove((statement.body, statement.environment) if statement.environment else statement.body)

    def forget(self) -> None:
        """Share nothing that was parsed so far any more: the tables it is about have changed."""
        for statement in self.known.values():
            statement.handle.current = 0
        self.known.clear()
        self.bytes = 0

    def _remove(self, key: Any) -> None:
        statement = self.known.pop(key, None)
        if statement is not None:
            statement.handle.current = 0
            self.bytes -= len(statement.body)

    def private(self, body: _bytes, acts: Acts | None = None, by_sql: _int = 0) -> Statement:
        """A statement nobody else will share."""
        return Statement(private_name(), body, acts, by_sql)
