"""Reading a database's catalogue: what of it may leave something behind on a server, and whether it has moved.

``read`` asks a few queries, which mean the same under any search_path and which any role may ask, and wait for no lock.
When the value of ``marker`` is not ``Rows.mark`` any more, it is time to read again. PostgreSQL 12 and later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgdoorman_lib.wire import extensions
from pgdoorman_lib.wire.bodies import read as read_body
from pgdoorman_lib.wire.body import Body
from pgdoorman_lib.wire.hazards import (
    FUNCTION,
    USE,
    WRITE,
    Function,
    Hazards,
    Node,
    Rows,
    hazards,
)
from pgdoorman_lib.wire.traces import BUILTIN, BUILTIN_WRITTEN, EVERYTHING, option_name
from pgdoorman_lib.wire.trees import pattern, tree_traces

__all__ = ["Hazards", "Row", "Rows", "RunQuery", "hazards", "marker", "read"]

Row = Sequence[bytes | None]
#: Runs an SQL text (of more than one statement) as a simple query and returns the rows of all of them, as text.
RunQuery = Callable[[str], Sequence[Row]]

#: Numbers from here on are not PostgreSQL's own (FirstNormalObjectId).
OURS = 16384
#: Bodies asked for at once.
BODIES = 500
#: Characters of a body or a tree that is read; what a longer one leaves is not known.
LONGEST = 1 << 20

# What it costs, measured with PostgreSQL 15 on two busy cores. A fresh database: the marker 0.1 ms as a prepared
# statement with its round trip, 0.9 ms as a text, which is planning; reading 15 to 20 ms, six queries. One with 2,800
# functions of extensions and pgTAP: 2.2 ms; 160 ms of queries and 240 ms of ours, 80 ms again. One with 20,000 tables,
# 40,000 defaults and 20,000 functions of 1.3 KB: 60 ms; 2 s of queries and 7.4 s of ours, that is 0.4 ms a body, and
# 1.2 s and 0.6 s when it is read again with the bodies known. ``hazards`` 30 ms and 0.3 s there.

# Names may mean something else in the session's own path, and compiling a query takes longer than running it.
_SETUP = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off; "


def _hex(value: str) -> str:
    """The SQL of a text in UTF-8, whatever the client's encoding is; of one in no encoding, its bytes."""
    encoding = "CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END"
    return f"encode(convert_to({value}, {encoding}), 'hex')"


_BUILTIN = (
    "SELECT 'v', current_setting('server_version_num'), getdatabaseencoding()"
    " UNION ALL SELECT oid::text, proname::text, prosrc FROM pg_proc"
    " WHERE oid < {ours} AND proname = ANY ('{{{names}}}')"
    " UNION ALL SELECT oid::text, relname::text, '' FROM pg_class WHERE oid < {ours} AND relname = ANY ('{{{names}}}')"
)

# search_path of its own: 2 when pg_temp is in front, 1 when it is elsewhere. Customized options of its own, one a line.
_FUNCTIONS = f"""SELECT p.oid, p.xmin, {_hex("n.nspname::text")}, {_hex("p.proname::text")}, l.lanname, p.provolatile,
 e.extname, CASE WHEN l.lanname IN ('c', 'internal') THEN {_hex("p.prosrc")} END,
 (SELECT max(CASE WHEN c ~ '^search_path="?pg_temp' THEN 2 ELSE 1 END) FROM unnest(p.proconfig) c
  WHERE c ~ '^search_path=.*pg_temp'),
 {_hex("(SELECT string_agg(split_part(c, '=', 1), chr(10)) FROM unnest(p.proconfig) c WHERE c ~ '^[^=]*[.]')")}
 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
 LEFT JOIN pg_depend d ON d.classid = 1255 AND d.objid = p.oid AND d.deptype = 'e' AND d.refclassid = 3079
 LEFT JOIN pg_extension e ON e.oid = d.refobjid
 WHERE p.oid >= {OURS}"""

_BODIES = (
    f"SELECT oid, CASE WHEN length(prosrc) <= {LONGEST} THEN {_hex('prosrc')} END FROM pg_proc"
    + " WHERE oid = ANY ('{{{numbers}}}')"
)

# Names and the marker of one moment.
_RELATIONS = (
    f"SELECT oid::text, {_hex('relname::text')} FROM pg_class"
    + " WHERE oid = ANY ('{{{numbers}}}') UNION ALL SELECT 'm', ({marker})"
)

# Rows of a node and what it uses. Numbers of catalogues: 1247 pg_type, 1255 pg_proc, 1259 pg_class, 2602 pg_amop,
# 2603 pg_amproc, 2604 pg_attrdef, 2605 pg_cast, 2606 pg_constraint, 2607 pg_conversion, 2616 pg_opclass, 2617
# pg_operator, 2618 pg_rewrite, 2620 pg_trigger, 2753 pg_opfamily, 3256 pg_policy, 3381 pg_statistic_ext, 3576
# pg_transform. What uses PostgreSQL's own functions has no dependency; that is in the trees.
_FUNCTIONS_USED = f"d.refclassid = 1255 AND d.refobjid >= {OURS}"
_RELATIONS_USED = f"d.refclassid = 1259 AND d.refobjid >= {OURS}"
_EDGES = f"""
 SELECT CASE WHEN r.ev_type = '1' THEN 'u' ELSE 'w' END, r.ev_class, 'f', d.refobjid FROM pg_depend d
  JOIN pg_rewrite r ON r.oid = d.objid WHERE d.classid = 2618 AND {_FUNCTIONS_USED}
 UNION ALL SELECT DISTINCT CASE WHEN r.ev_type = '1' THEN 'v' ELSE 'w' END, r.ev_class, 'r', d.refobjid FROM pg_depend d
  JOIN pg_rewrite r ON r.oid = d.objid WHERE d.classid = 2618 AND {_RELATIONS_USED} AND d.refobjid <> r.ev_class
 UNION ALL SELECT 'w', a.adrelid, 'f', d.refobjid FROM pg_depend d
  JOIN pg_attrdef a ON a.oid = d.objid WHERE d.classid = 2604 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'u', p.polrelid, 'f', d.refobjid FROM pg_depend d
  JOIN pg_policy p ON p.oid = d.objid WHERE d.classid = 3256 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'u', p.polrelid, 'u', d.refobjid FROM pg_depend d
  JOIN pg_policy p ON p.oid = d.objid WHERE d.classid = 3256 AND {_RELATIONS_USED} AND d.refobjid <> p.polrelid
 UNION ALL SELECT CASE WHEN c.conrelid = 0 THEN 'k' ELSE 'u' END, CASE WHEN c.conrelid = 0 THEN 1 ELSE c.conrelid END,
  'f', d.refobjid FROM pg_depend d
  JOIN pg_constraint c ON c.oid = d.objid WHERE d.classid = 2606 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'w', t.tgrelid, 'f', d.refobjid FROM pg_depend d
  JOIN pg_trigger t ON t.oid = d.objid WHERE d.classid = 2620 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'u', coalesce(i.indrelid, d.objid), 'f', d.refobjid FROM pg_depend d
  LEFT JOIN pg_index i ON i.indexrelid = d.objid WHERE d.classid = 1259 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'u', s.stxrelid, 'f', d.refobjid FROM pg_depend d
  JOIN pg_statistic_ext s ON s.oid = d.objid WHERE d.classid = 3381 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'f', d.objid, 'f', d.refobjid FROM pg_depend d WHERE d.classid = 1255 AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'f', d.objid, 'r', d.refobjid FROM pg_depend d WHERE d.classid = 1255 AND {_RELATIONS_USED}
 UNION ALL SELECT 'k', 1, 'f', d.refobjid FROM pg_depend d
  WHERE d.classid = ANY ('{{1247,2602,2603,2605,2607,2616,2617,2753,3576}}') AND {_FUNCTIONS_USED}
 UNION ALL SELECT 'k', 0, 'f', evtfoid FROM pg_event_trigger WHERE evtevent <> 'login'
 UNION ALL SELECT 'w', confrelid, 'w', conrelid FROM pg_constraint
  WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
 UNION ALL SELECT 'v', inhparent, 'r', inhrelid FROM pg_inherits WHERE inhrelid >= {OURS}"""


def _trees(version: int) -> str:
    """Nodes, and the trees in them that are worth reading; those of indexes may call nothing that is not IMMUTABLE."""
    found = []

    def add(kind: str, number: str, tree: str, source: str) -> None:
        text = f"{tree}::text"
        short = f"CASE WHEN length({text}) <= {LONGEST} THEN {_hex(text)} END"
        found.append(f"SELECT {kind}, {number}, {short} FROM {source} AND {text} ~ '{{calls}}'")

    add("CASE WHEN ev_type = '1' THEN 'v' ELSE 'w' END", "ev_class", "ev_action", f"pg_rewrite WHERE oid >= {OURS}")
    add("'w'", "ev_class", "ev_qual", f"pg_rewrite WHERE oid >= {OURS}")
    add("'w'", "adrelid", "adbin", f"pg_attrdef WHERE oid >= {OURS}")
    add("'u'", "polrelid", "polqual", f"pg_policy WHERE oid >= {OURS}")
    add("'u'", "polrelid", "polwithcheck", f"pg_policy WHERE oid >= {OURS}")
    add("'u'", "conrelid", "conbin", f"pg_constraint WHERE oid >= {OURS} AND conrelid <> 0")
    add("'k'", "1", "conbin", f"pg_constraint WHERE oid >= {OURS} AND conrelid = 0")
    add("'w'", "tgrelid", "tgqual", f"pg_trigger WHERE oid >= {OURS}")
    add("'k'", "1", "typdefaultbin", f"pg_type WHERE oid >= {OURS}")
    add("'f'", "oid", "proargdefaults", f"pg_proc WHERE oid >= {OURS}")
    if version >= 140000:
        add("'f'", "oid", "prosqlbody", f"pg_proc WHERE oid >= {OURS}")
    return " UNION ALL ".join(found)


# Temporary relations come and go; what depends on their schemas is known without a look at all relations.
_TEMPORARY = """SELECT d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_namespace n
 ON d.refclassid OPERATOR(pg_catalog.=) 2615 AND d.refobjid OPERATOR(pg_catalog.=) n.oid
 WHERE n.nspname OPERATOR(pg_catalog.~) '^pg_temp_' AND d.classid OPERATOR(pg_catalog.=) 1259"""


def _marked(source: str, number: str, condition: str = "", relation: str = "") -> str:
    ours = f" WHERE {number} OPERATOR(pg_catalog.>=) {OURS}"
    lasting = f" AND {relation} OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT objid FROM temporary))" if relation else ""
    return f"SELECT xmin FROM pg_catalog.{source}{ours}{condition}{lasting}"


# How many rows there are, and the sum of the transactions they are from: what DDL adds is from a younger one than all
# it takes away. ``age`` is the cheapest way to a number; counted from a fixed transaction it does not move by itself.
_SUM = (
    "(coalesce(pg_catalog.sum(pg_catalog.age(xmin)), 0) OPERATOR(pg_catalog.-)"
    " (pg_catalog.count(*) OPERATOR(pg_catalog.*) pg_catalog.age('3'::pg_catalog.xid)))"
)
_WRAP = 1 << 32

_MARKER = (
    f"WITH temporary AS MATERIALIZED ({_TEMPORARY}) SELECT pg_catalog.concat(pg_catalog.count(*), ' ',"
    f" pg_catalog.mod(pg_catalog.mod({_SUM}, {_WRAP}) OPERATOR(pg_catalog.+) {_WRAP}, {_WRAP}), ' ',"
    " (SELECT pg_catalog.sum(pg_catalog.hashtext(relname::pg_catalog.text)) FROM pg_catalog.pg_class"
    " WHERE oid OPERATOR(pg_catalog.=) ANY ('{{{relations}}}'::pg_catalog.oid[]))) FROM ("
    + " UNION ALL ".join(
        (
            _marked("pg_proc", "oid"),
            _marked("pg_depend", "refobjid", " AND refclassid OPERATOR(pg_catalog.=) 1255"),
            _marked("pg_type", "oid", " AND typtype OPERATOR(pg_catalog.=) 'd'"),
            _marked("pg_trigger", "oid", " AND NOT tgisinternal", "tgrelid"),
            _marked("pg_rewrite", "oid", "", "ev_class"),
            _marked("pg_attrdef", "oid", "", "adrelid"),
            _marked("pg_policy", "oid", "", "polrelid"),
            _marked("pg_constraint", "oid", " AND contype OPERATOR(pg_catalog.=) ANY ('{{c,f}}')", "conrelid"),
            _marked("pg_inherits", "inhrelid", "", "inhrelid"),
            "SELECT xmin FROM pg_catalog.pg_event_trigger",
        )
    )
    + ") AS marks"
)


def marker(rows: Rows) -> str:
    """A query whose one value is not ``rows.mark`` once DDL was committed, by whomever, that changes what was read.

    TRUNCATE, temporary tables and a plain CREATE TABLE don't move it; the names of the relations in ``rows`` do.
    """
    return _MARKER.format(relations=",".join(map(str, sorted(rows.relations))))


def read(run_query: RunQuery, known: Rows | None = None, pause: Callable[[], None] | None = None) -> Rows:
    """Read the catalogue of the database a server is connected to, outside a transaction.

    Bodies that are in the rows ``known`` from before are not read again. ``pause`` is called between pieces of work.
    """
    rows = Rows()
    before = _value(run_query(marker(rows))[0][0])
    numbers: dict[int, bytes] = {}
    version = 0
    names = ",".join(sorted(name.decode() for name in BUILTIN))
    for number, name, symbol in run_query(_SETUP + _BUILTIN.format(ours=OURS, names=names)):
        if number == b"v":
            version = int(_value(name))
            rows.encoding = _value(symbol).decode()
            continue
        numbers[int(_value(number))] = _value(name)
        rows.builtin[_value(symbol)] = BUILTIN[_value(name)]
    _read_functions(rows, run_query, known, pause or _no_pause)
    for row in run_query(_SETUP + _EDGES):
        _add_edge(rows, *(_value(column) for column in row))
    for kind, number, tree in run_query(_SETUP + _trees(version).format(calls=pattern(numbers))):
        _add_tree(rows, _value(kind), int(_value(number)), tree, numbers)
    _read_relations(rows, run_query)
    if rows.mark.split()[:2] != before.split()[:2]:
        rows.mark = b""  # some of it may be from before, some from after
    return rows


def _no_pause() -> None:
    pass


def _value(column: bytes | None) -> bytes:
    if column is None:
        raise ValueError("a NULL where the catalogue has none")
    return column


def _text(column: bytes | None) -> bytes:
    """What ``_hex`` asked for; empty for NULL."""
    return b"" if column is None else bytes.fromhex(column.decode("ascii"))


def _read_functions(rows: Rows, run_query: RunQuery, known: Rows | None, pause: Callable[[], None]) -> None:
    before = known.functions if known is not None and known.encoding == rows.encoding else {}
    wanted: list[int] = []
    words = {word: word for old in before.values() for word in old.names}
    for row in run_query(_SETUP + _FUNCTIONS):
        number, version, schema, name, language, volatile, extension, symbol, temporary, options = row
        function = Function(
            version=_value(version),
            schema=_text(schema),
            name=_text(name),
            language=_value(language).decode(errors="replace"),
            volatile=volatile == b"v",
            extension=(extension or b"").decode(errors="replace"),
            symbol=_text(symbol),
            temporary=int(temporary or b"0"),
            options=tuple(map(option_name, _text(options).splitlines())),
        )
        oid = int(_value(number))
        rows.functions[oid] = function
        old = before.get(oid)
        if old is not None and old.version == function.version:
            rows.functions[oid] = function.said_by(old)
        elif not function.compiled and extensions.known(function.extension, "", function.volatile) is None:
            wanted.append(oid)
    for start in range(0, len(wanted), BODIES):
        part = ",".join(map(str, wanted[start : start + BODIES]))
        pause()
        for number, body in run_query(_SETUP + _BODIES.format(numbers=part)):
            oid = int(_value(number))
            function = rows.functions[oid]
            said = Body(EVERYTHING) if body is None else read_body(function.language, _text(body))
            rows.functions[oid] = function.with_body(said, words)
            pause()


def _add_edge(rows: Rows, kind: bytes, number: bytes, used: bytes, target: bytes) -> None:
    """``kind`` "v" is a view, or a parent: reading it reads, writing to it writes to the target "r"."""
    node, other = int(number), int(target)
    if kind == b"v":
        rows.add((USE, node), (USE, other))
        rows.add((WRITE, node), (WRITE, other))
        return
    nodes = [(USE, other), (WRITE, other)] if used == b"r" else [(used.decode(), other)]
    rows.add((kind.decode(), node), *nodes)


def _add_tree(rows: Rows, kind: bytes, number: int, tree: bytes | None, numbers: dict[int, bytes]) -> None:
    """``kind`` "v" is a view; a tree that was too long is None."""
    called = {oid: name for oid, name in numbers.items() if kind != b"v" or name not in BUILTIN_WRITTEN}
    node = (USE if kind == b"v" else kind.decode(), number)
    rows.leaves(node, EVERYTHING if tree is None else tree_traces(_text(tree), called))
    if kind == b"v" and tree is not None:
        rows.leaves((WRITE, number), tree_traces(_text(tree), numbers))


def _read_relations(rows: Rows, run_query: RunQuery) -> None:
    """The names of the relations from which something is reached that may leave anything: the others don't matter."""
    callers: dict[Node, list[Node]] = {}
    for node, targets in rows.edges.items():
        for target in targets:
            callers.setdefault(target, []).append(node)
    reached: set[Node] = set()
    waiting = [(FUNCTION, oid) for oid in rows.functions] + list(rows.direct)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += callers.get(node, ())
    for node in [*rows.edges]:
        if node not in reached:
            del rows.edges[node]
    rows.relations = dict.fromkeys((oid for kind, oid in reached if kind in (USE, WRITE)), b"")
    listed = ",".join(map(str, rows.relations))
    for number, name in run_query(_SETUP + _RELATIONS.format(numbers=listed, marker=marker(rows))):
        if number == b"m":
            rows.mark = _value(name)
        else:
            rows.relations[int(_value(number))] = _text(name)
