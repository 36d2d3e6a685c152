"""What a body of code says, as values: what it leaves by itself, and the names by which the rest of it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import reduce

from pgdoorman_lib.record import record
from pgdoorman_lib.wire.traces import ANYTHING, NOTHING, Traces, union


@record(frozen=True)
class Body:
    """What a body says: what it leaves by itself, and the names it mentions, of functions, relations and anything else.

    ``calls``: those of the names that may be called, with a parenthesis behind or a dot in front. ``writes``: it may
    write to relations. ``parameters``: numbers of the parameters that name settings, of a text that a client sends.
    """

    traces: Traces = NOTHING
    names: frozenset[bytes] = frozenset()
    calls: frozenset[bytes] = frozenset()
    writes: bool = False
    parameters: frozenset[int] = frozenset()


EMPTY = Body()


def said_traces(
    said: Body,
    hazards: Mapping[bytes, Traces],
    writing: AbstractSet[bytes] = frozenset(),
    calls: AbstractSet[bytes] = frozenset(),
) -> Traces:
    """What runs may leave that says this, as ``body_traces``.

    ``writing``: names that matter only where something is written; ``calls``: those that are of functions only.
    """
    found = union(said.traces, hazards.get(ANYTHING, NOTHING))
    for name in said.names & hazards.keys():
        if (said.writes or name not in writing) and (name in said.calls or name not in calls):
            found = union(found, hazards[name])
    return found


def joined(bodies: Iterable[Body]) -> Body:
    """What all of them say."""
    return reduce(_with, bodies, EMPTY)


def _with(a: Body, b: Body) -> Body:
    return Body(
        union(a.traces, b.traces),
        a.names | b.names,
        a.calls | b.calls,
        a.writes or b.writes,
        a.parameters | b.parameters,
    )
