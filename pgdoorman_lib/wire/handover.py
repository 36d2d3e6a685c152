"""Prepared statements as they go to another process, and as they come from one: as plain values.

Shared statements are the same in both processes if their names on servers are (``statements.shared_name``), so a
``Book`` finds them by that: clients that shared one share it again, and servers that have it made need not make it
again. Nothing else that one process knows of a text holds in another: it is looked at again where it runs next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgdoorman_lib.wire.prepared import ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements import (
    Acts,
    Handle,
    Statement,
    Unnamed,
    known_handle,
    known_statement,
    private_name,
)
from pgdoorman_lib.wire.text import Name, Text
from pgdoorman_lib.wire.told import is_covered, told_here
from pgdoorman_lib.wire.traces import Traces

Plain = dict[str, Any]

#: A name that a text was not found to have meant anything by: what it names is looked up again.
_UNKNOWN_NAME = b"\0"


class Book:
    """The statements that have come in one handover, by their names on servers.

    ``abroad``: the process they come from goes on, and so do its clients, who mean the same.
    """

    def __init__(self, abroad: bool = False) -> None:
        self._abroad = abroad
        self._statements: dict[bytes, Statement] = {}
        self._handles: dict[bytes, Handle] = {}

    def handle(self, name: bytes, size: int, line: int) -> Handle:
        """The handle of a statement with a body of ``size`` bytes."""
        found = self._handles.get(name)
        if found is None:
            found = known_handle(name)
            if found is None:
                found = Handle(name, size)
                found.line = line
                found.abroad = int(self._abroad)
            self._handles[name] = found
        return found

    def statement(self, name: bytes, state: Mapping[str, Any]) -> Statement:
        """The statement that ``pack_statement`` has made ``state`` of."""
        found = self._statements.get(name)
        if found is None:
            found = known_statement(name)
            if found is None:
                found = self._made(name, state)
            elif state["stale"] or not is_covered(found, state["description"], state["shape"]):
                # Servers here have it, of which nobody has asked whether it is what this client was told.
                found = self._made(private_name(), {**state, "line": 0})
                found.handle.abroad = 0
            self._statements[name] = found
        return found

    def _made(self, name: bytes, state: Mapping[str, Any]) -> Statement:
        handle = self.handle(name, len(state["body"]), state["line"])
        statement = Statement(name, state["body"], _acts(state["acts"]), int(state["by_sql"]))
        statement.handle = handle
        statement.cname = statement.handle.cname
        environment = state["environment"]
        statement.environment = None if environment is None else tuple((key, value) for key, value in environment)
        statement.analysed_at = state["analysed_at"]
        statement.suspect = int(state["suspect"])
        statement.confirmed = int(state["confirmed"])
        statement.description = state["description"]
        statement.shape = state["shape"]
        statement.stale = int(state["stale"])
        return statement


def pack_statement(statement: Statement) -> Plain:
    """A statement without its name. ``analysed_at`` is monotonic: both processes are on one machine."""
    return {
        "body": statement.body,
        "by_sql": bool(statement.by_sql),
        "acts": _plain_acts(statement.acts),
        "line": statement.handle.line,
        "environment": statement.environment,
        "analysed_at": statement.analysed_at,
        "suspect": bool(statement.suspect),
        "confirmed": bool(statement.confirmed),
        "description": statement.description,
        "shape": statement.shape,
        "stale": bool(statement.stale),
    }


def pack_client(mine: ClientStatements) -> Plain:
    """A client's names, the statements behind them, and its unnamed one."""
    unnamed = mine.unnamed
    return {
        "names": [[name, statement.name] for name, statement in mine.names.items()],
        "statements": [
            [name, pack_statement(statement)]
            for name, statement in {statement.name: statement for statement in mine.names.values()}.items()
        ],
        "unnamed": None
        if unnamed is None
        else {"body": unnamed.body, "acts": _plain_acts(unnamed.acts), "suspect": int(unnamed.suspect)},
    }


def unpack_client(mine: ClientStatements, state: Mapping[str, Any], book: Book) -> None:
    """Enter what ``pack_client`` has made into a client's empty books."""
    made = {name: book.statement(name, body) for name, body in state["statements"]}
    for name, own in state["names"]:
        mine.enter(name, made[own])
    unnamed = state["unnamed"]
    if unnamed is not None:
        mine.unnamed = Unnamed(unnamed["body"], _acts(unnamed["acts"]))
        mine.unnamed.suspect = int(unnamed["suspect"])


def pack_server(held: ServerStatements) -> Plain:
    """What is prepared on a server under our names, least recently used first, and whether there is an unnamed one."""
    return {
        "unnamed": held.unnamed is not None,
        "doubtful": bool(held.doubtful),
        "prepared": [[handle.name, handle.size, handle.line, *told_here(held, handle)] for handle in held.prepared],
    }


def unpack_server(held: ServerStatements, state: Mapping[str, Any], book: Book) -> None:
    """Enter what ``pack_server`` has made into a server's empty books."""
    held.doubtful = 1 if state["doubtful"] else 0
    if state["unnamed"]:
        held.unnamed = Unnamed(None)  # nobody's here: whoever has none must not come to find it
    for name, size, line, *told in state["prepared"]:
        handle = book.handle(name, size, line)
        held.prepared[handle] = None
        if told:  # versions before did not say
            held.foreign[handle] = tuple(told)
        held.bytes += handle.size
        if handle.line:
            held.versions[handle.line] = handle


def _plain_acts(acts: Acts | None) -> Plain | None:
    if acts is None:
        return None
    return {"text": _plain_text(acts.text), "original": acts.original, "sql": acts.sql, "edits": list(acts.edits)}


def _acts(state: Mapping[str, Any] | None) -> Acts | None:
    if state is None:
        return None
    text = _text(state["text"])
    acts = Acts(text, state["original"])
    if state["sql"] != acts.original:
        acts.sql = state["sql"]
    acts.edits = [(start, end, size) for start, end, size in state["edits"]]
    if text.names:
        # What it named were objects of the other process.
        acts.resolved.append((_UNKNOWN_NAME, Statement(_UNKNOWN_NAME, b"")))
    return acts


def _plain_text(text: Text) -> Plain:
    traces = text.traces
    return {
        "traces": [traces.bits, traces.options, traces.unnamed, traces.disturbs, traces.locally],
        "parameters": text.parameters,
        "keeps": text.keeps,
        "sets": text.sets,
        "names": [[found.verb, found.start, found.end, found.stop, found.name, found.plain] for found in text.names],
        "sequences": text.sequences,
        "resets": text.resets,
        "defines": text.defines,
        "assigns": text.assigns,
        "only_resets": text.only_resets,
        "hides": text.hides,
        "enables": text.enables,
    }


def _text(state: Mapping[str, Any]) -> Text:
    bits, options, unnamed, disturbs, locally = state["traces"]
    assigns = state["assigns"]
    return Text(
        traces=Traces(bits, tuple(options), unnamed, disturbs, tuple(locally)),
        parameters=tuple(state["parameters"]),
        keeps=state["keeps"],
        sets=state["sets"],
        names=tuple(Name(*found) for found in state["names"]),
        sequences=state["sequences"],
        resets=tuple((name, local) for name, local in state["resets"]),
        defines=state["defines"],
        assigns=None if assigns is None else (assigns[0], assigns[1]),
        only_resets=state["only_resets"],
        hides=state["hides"],
        enables=state["enables"],
    )
