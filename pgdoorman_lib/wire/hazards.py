"""Which names of a database may leave something behind on a server, by its catalogue, closed over who calls whom.

``Rows`` is the catalogue as far as it matters, ``hazards`` what follows. Functions, and relations used and written to,
are the nodes of a graph; what one reaches it may leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from pgdoorman_lib.record import record
from pgdoorman_lib.wire import extensions
from pgdoorman_lib.wire.body import Body
from pgdoorman_lib.wire.traces import ANYTHING, DDL, MAKES_TEMPORARY, NOTHING, UNREADABLE, Traces, locally, union

# Kinds of nodes.
FUNCTION = "f"
#: a relation that is read, or used in any way
USE = "u"
#: a relation that is written to
WRITE = "w"
#: ``DDL`` and ``ANYTHING``
KEY = "k"
Node = tuple[str, int]
#: Encodings of one byte a letter begin so.
_ONE_BYTE = ("LATIN", "ISO_8859", "WIN", "KOI8")
ON_DDL: Node = (KEY, 0)
ON_ANYTHING: Node = (KEY, 1)


@record(frozen=True, slots=True)
class Function:
    """A function that is not PostgreSQL's own. ``version`` changes with it; ``symbol``: what a function in C is called.

    ``temporary``: its own search_path has pg_temp in it, 2: in front; ``options``: customized options it has values of
    its own for. The last four are what its body says (``Body``):
    there may be many, so in little room.
    """

    version: bytes
    schema: bytes
    name: bytes
    language: str
    volatile: bool
    extension: str
    symbol: bytes = b""
    temporary: int = 0
    options: tuple[str, ...] = ()
    traces: Traces = NOTHING
    names: tuple[bytes, ...] = ()
    calls: tuple[bytes, ...] = ()
    writes: bool = False

    def with_body(self, body: Body, words: dict[bytes, bytes]) -> Function:
        """The same with what its body says; ``words`` are those of all bodies, each once."""
        return replace(
            self,
            traces=body.traces,
            names=tuple(words.setdefault(name, name) for name in body.names),
            calls=tuple(words.setdefault(name, name) for name in body.calls),
            writes=body.writes,
        )

    def said_by(self, other: Function) -> Function:
        """The same with what the body of ``other`` says."""
        return replace(self, traces=other.traces, names=other.names, calls=other.calls, writes=other.writes)

    @property
    def compiled(self) -> bool:
        return self.language in ("c", "internal")


@dataclass
class Rows:
    """A database's catalogue, as far as it tells what may leave something; names are in UTF-8.

    ``encoding`` is the database's: in those of one byte a letter, PostgreSQL changes the case of any letter.
    ``edges``: what a node calls, reads or writes to. ``direct``: what nodes leave that call PostgreSQL's own functions.
    ``builtin``: traces by the symbol in C. ``mark``: what the marker of these rows was; empty if it had moved.
    """

    encoding: str = "UTF8"
    mark: bytes = b""
    functions: dict[int, Function] = field(default_factory=dict)
    relations: dict[int, bytes] = field(default_factory=dict)
    edges: dict[Node, set[Node]] = field(default_factory=lambda: defaultdict(set))
    direct: dict[Node, Traces] = field(default_factory=dict)
    builtin: dict[bytes, Traces] = field(default_factory=dict)

    def add(self, node: Node, *targets: Node) -> None:
        self.edges[node].update(targets)

    def leaves(self, node: Node, traces: Traces) -> None:
        self.direct[node] = union(self.direct.get(node, NOTHING), traces)


class Hazards(dict[bytes, Traces]):
    """Traces by the names of functions and relations whose use may leave something, and DDL and ANYTHING.

    ``writing``: those of them that matter only where something is written (a text with a word of ``traces.WRITES``).
    ``calls``: those that are functions only, and so need a parenthesis behind them, or a dot in front, to run.
    """

    def __init__(
        self,
        names: dict[bytes, Traces],
        writing: AbstractSet[bytes] = frozenset(),
        calls: AbstractSet[bytes] = frozenset(),
    ) -> None:
        super().__init__(names)
        self.writing = frozenset(writing)
        self.calls = frozenset(calls)


def hazards(rows: Rows, trusted: Sequence[str] = (), names_matter: bool = False) -> Hazards:
    """What the names of a database may leave; functions that match a pattern of ``trusted`` are excused.

    ``names_matter``: see ``Traces.with_names``.
    """
    excused = {oid for oid, function in rows.functions.items() if trusted and _trusted(function, trusted)}
    found = {(FUNCTION, oid): _own(function, rows) for oid, function in rows.functions.items() if oid not in excused}
    for node, traces in rows.direct.items():
        if node[0] != FUNCTION or node[1] not in excused:
            found[node] = union(found.get(node, NOTHING), traces)
    found = {node: traces.with_names(names_matter) for node, traces in found.items()}
    edges = {node: set(targets) for node, targets in rows.edges.items()}
    for node in [(FUNCTION, oid) for oid in excused]:
        edges.pop(node, None)
    # What a type or an operator in C does by itself was thought of by who made it; what those in SQL call was not.
    edges[ON_ANYTHING] = {
        (kind, oid)
        for kind, oid in edges.get(ON_ANYTHING, ())
        if oid in rows.functions and rows.functions[oid].language != "c"
    }
    for oid, targets in _mentioned(rows).items():
        if oid not in excused:
            edges.setdefault((FUNCTION, oid), set()).update(targets)
    _close(found, edges)
    return _by_name(rows, found)


def _trusted(function: Function, patterns: Iterable[str]) -> bool:
    name = function.name.decode(errors="surrogateescape")
    full = f"{function.schema.decode(errors='surrogateescape')}.{name}"
    return any(fnmatchcase(full if "." in pattern else name, pattern) for pattern in patterns)


def _own(function: Function, rows: Rows) -> Traces:
    """What a function leaves by itself."""
    known = extensions.known(function.extension, function.name.decode(errors="replace"), function.volatile)
    if known is not None:
        return known
    if function.language == "internal":
        return rows.builtin.get(function.symbol, NOTHING)
    if function.language == "c":
        return UNREADABLE if function.volatile else NOTHING
    found = union(function.traces, locally(*function.options))
    if function.temporary > 1 or (function.temporary and DDL in function.names):
        return union(found, MAKES_TEMPORARY)
    return found


def _mentioned(rows: Rows) -> dict[int, set[Node]]:
    """What functions name in their bodies."""
    functions: dict[bytes, list[Node]] = defaultdict(list)
    relations: dict[bytes, list[Node]] = defaultdict(list)
    for oid, function in rows.functions.items():
        functions[function.name].append((FUNCTION, oid))
    for oid, name in rows.relations.items():
        relations[name] += [(USE, oid), (WRITE, oid)]
    relations[DDL].append(ON_DDL)
    found = {}
    for oid, function in rows.functions.items():
        if extensions.known(function.extension, "", function.volatile) is not None:
            continue
        targets = {node for name in functions.keys() & function.calls for node in functions[name]}
        for name in relations.keys() & function.names:
            targets.update(node for node in relations[name] if function.writes or node[0] != WRITE)
        if targets:
            found[oid] = targets
    return found


def _close(found: dict[Node, Traces], edges: dict[Node, set[Node]]) -> None:
    """Give each node what those leave that it reaches."""
    callers: dict[Node, list[Node]] = defaultdict(list)
    for node, targets in edges.items():
        for target in targets:
            callers[target].append(node)
    moved = [node for node, traces in found.items() if traces != NOTHING]
    while moved:
        node = moved.pop()
        traces = found[node]
        for caller in callers.get(node, ()):
            before = found.get(caller, NOTHING)
            after = union(before, traces)
            if after != before:
                found[caller] = after
                moved.append(caller)


def _by_name(rows: Rows, found: dict[Node, Traces]) -> Hazards:
    names: dict[bytes, Traces] = {}
    used: set[bytes] = set()
    others: set[bytes] = set()
    for (kind, oid), traces in found.items():
        name: bytes | None
        if kind == KEY:
            name = DDL if (kind, oid) == ON_DDL else ANYTHING
        elif kind == FUNCTION:
            name = rows.functions[oid].name if oid in rows.functions else None
        else:
            name = rows.relations.get(oid) or None
        if traces == NOTHING or name is None:  # one that was dropped, or made, while the catalogue was read
            continue
        if kind != WRITE:
            used.add(name)
        if kind != FUNCTION:
            others.add(name)
        names[name] = union(names.get(name, NOTHING), traces)
        if not name.isascii() and rows.encoding.startswith(_ONE_BYTE):
            used.add(ANYTHING)  # it has other spellings
            names[ANYTHING] = union(names.get(ANYTHING, NOTHING), traces)
    return Hazards(names, names.keys() - used, names.keys() - others)
