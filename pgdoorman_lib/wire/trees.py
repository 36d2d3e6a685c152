"""What an expression or a query that PostgreSQL has stored as a tree (pg_node_tree) may leave behind.

Trees say which functions they call by number; they are read where ``pg_get_expr`` and its kin would have to wait for
locks. Dependencies (pg_depend) tell of all functions but PostgreSQL's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pgdoorman_lib.wire.traces import BUILTIN, NOTHING, SET_CONFIG, Traces, set_config_traces, union

_CALL = re.compile(rb":(?:funcid|relid) ([0-9]+) ")
_ARGUMENTS = re.compile(rb"[^{}]*?:args \(")
#: A CONST node that is not null: its type, and its bytes as signed numbers.
_CONSTANT = re.compile(
    rb"\{CONST :consttype ([0-9]+) [^{}]*?:constisnull false [^{}]*?:constvalue [0-9]+ \[ ([-0-9 ]+) \]\}"
)
_BOOL, _TEXT = b"16", b"25"
#: Bytes in front of a text's letters: their number.
_HEADER = 4


def pattern(numbers: Iterable[int]) -> str:
    """The regular expression (of PostgreSQL) that finds calls of these functions, or uses of relations, in a tree."""
    return f":(funcid|relid) ({'|'.join(map(str, sorted(numbers)))}) "


def tree_traces(tree: bytes, builtin: Mapping[int, bytes]) -> Traces:
    """What ``tree`` may leave by calling PostgreSQL's own; ``builtin``: their names by number."""
    found = NOTHING
    for match in _CALL.finditer(tree):
        name = builtin.get(int(match[1]))
        if name is None:
            continue
        traces = _set_config(tree, match.end()) if name == SET_CONFIG else BUILTIN[name]
        found = union(found, traces)
    return found


def _set_config(tree: bytes, start: int) -> Traces:
    match = _ARGUMENTS.match(tree, start)
    arguments = _nodes(tree, match.end()) if match else []
    if len(arguments) != 3:
        return BUILTIN[SET_CONFIG]
    local = _constant(arguments[2], _BOOL)
    return set_config_traces(_text(arguments[0]), local is not None and local[0] != 0, _text(arguments[1]))


def _nodes(tree: bytes, start: int) -> list[bytes]:
    """The nodes of a list whose inside begins at ``start``."""
    found = []
    depth = 0
    begin = at = start
    while at < len(tree):
        byte = tree[at : at + 1]
        if byte == b"\\":
            at += 1
        elif byte == b"{":
            if depth == 0:
                begin = at
            depth += 1
        elif byte == b"}":
            depth -= 1
            if depth == 0:
                found.append(tree[begin : at + 1])
        elif byte == b")" and depth == 0:
            break
        at += 1
    return found


def _constant(node: bytes, kind: bytes) -> bytes | None:
    """The bytes of a constant of this type; None for any other node."""
    match = _CONSTANT.fullmatch(node)
    if match is None or match[1] != kind:
        return None
    return bytes(int(number) & 0xFF for number in match[2].split())


def _text(node: bytes) -> bytes | None:
    """The value of a constant text; None for any other node."""
    value = _constant(node, _TEXT)
    if value is None or len(value) < _HEADER:
        return None
    sizes = [int.from_bytes(value[:_HEADER], order) for order in ("little", "big")]
    if len(value) not in (sizes[0] >> 2, sizes[1]):
        return None
    return value[_HEADER:]
