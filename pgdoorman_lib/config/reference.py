"""conf/reference.toml: every key with its meaning and default, written from the model; `generate` writes by the same.

``python -m pgdoorman_lib.config.reference > conf/reference.toml`` renews it; a test holds the two equal.
"""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Any

from pgdoorman_lib.config import writing
from pgdoorman_lib.config.keys import Key, keys_of
from pgdoorman_lib.config.model import AuthQuery, General, Include, Peer, Pool, Statsd, Talos, User, Web, written
from pgdoorman_lib.config.writing import TOML, Entry, Section, Value

_WRITTEN_BY = "Written by `python -m pgdoorman_lib.config.reference`: don't edit."
_HEAD = """\
# Every key pgdoorman knows, with its default. {}
#
# A key that stands in a comment is unset by default, has no effect here, or is not supported yet.
# Durations are milliseconds, or "500ms", "5s", "10m", "1h", "1d"; those said to be in seconds take a plain number as
# seconds. Sizes are bytes, or "64KB", "1MB", "1G" (powers of 1024).
# After a reload: live = holds at once; pool = the pools it concerns are rebuilt; restart = waits for a restart.
"""
_WIDTH = 116

_EXAMPLES = {
    "admin_username": '"admin"',
    "host": '"10.0.0.2"',
    "admin_password": '"change-me"',
    "username": '"doorman"',
    "password": '"password"',
    "pool_size": "40",
    "worker_threads": "4",
    "query": '"SELECT passwd FROM pg_shadow WHERE usename = $1"',
    "user": '"doorman"',
}

_KIND_EXAMPLES = {
    "boolean": Value("false"),
    "integer": Value("0"),
    "duration": Value('"30s"'),
    "seconds": Value("5"),
    "size": Value('"1MB"'),
    "strings": Value("[]"),
    "pg_hba": Value('{ path = "pg_hba.conf" }', '{ path: "pg_hba.conf" }'),
    "pg_ident": Value('{ path = "pg_ident.conf" }', '{ path: "pg_ident.conf" }'),
}


def render(form: str = TOML, *, comments: bool = True, source: str = _WRITTEN_BY) -> str:
    """Every key with its default: a valid configuration that says what the defaults say.

    ``source`` says in the first line where the text comes from. Without ``comments`` there are only the keys that are
    set.
    """
    sections = [
        _section(("include",), "[include]", Include, comments),
        _section(("general",), "[general]", General, comments),
        _section(("pools", "exampledb"), "[pools.exampledb]", Pool, comments),
        _section(("pools", "exampledb", "users"), "[[pools.exampledb.users]]", User, comments, item=True),
    ]
    if comments:
        hidden: tuple[tuple[tuple[str, ...], Any], ...] = (
            (("pools", "exampledb", "auth_query"), AuthQuery),
            (("peers", "2"), Peer),
            (("talos",), Talos),
        )
        for path, model in hidden:
            sections.append(_section(path, f"[{'.'.join(path)}]", model, comments, hidden=True))
    for name, table in (("web", Web), ("statsd", Statsd)):
        sections.append(_section((name,), f"[{name}]", table, comments))
    head = _HEAD.format(source) if comments else ""
    return writing.render(head, sections, form)


def _section(
    path: tuple[str, ...], header: str, model: Any, comments: bool, *, item: bool = False, hidden: bool = False
) -> Section:
    entries = (entry_of(name, key, textwrap.wrap(_meaning(key), _WIDTH)) for name, key in keys_of(model))
    doc = textwrap.wrap((model.__doc__ or "").strip(), _WIDTH)
    if not comments:
        shown = tuple(Entry(entry.name, entry.value) for entry in entries if not entry.hidden)
        return Section(path, shown, item=item)
    return Section(path, tuple(entries), tuple(doc), item=item, hidden=hidden, spaced=True)


def entry_of(name: str, key: Key, comment: list[str]) -> Entry:
    """``key`` with its default, or an example in a comment where it has none or does nothing here."""
    if key.required:
        value = Value(_EXAMPLES[name])
    elif key.default is None:
        other = Value(f'"{key.choices[0]}"') if key.choices else _KIND_EXAMPLES.get(key.kind, Value('"..."'))
        value = Value(_EXAMPLES[name]) if name in _EXAMPLES else other
    else:
        value = Value(written(key, key.default_value()))
    hidden = key.support != "yes" or (key.default is None and not key.required)
    return Entry(name, value, tuple(comment), hidden)


def summary(key: Key) -> str:
    """What a key means, in one line: the first sentence of its documentation."""
    return re.split(r"(?<=\.) (?=[A-Z])", key.doc, maxsplit=1)[0]


def _meaning(key: Key) -> str:
    notes = []
    if key.kind == "seconds":
        notes.append("in seconds")
    if key.kind == "choice":
        notes.append("one of " + ", ".join(key.choices))
    if key.unset:
        notes.append(f"unset: {key.unset}")
    if key.required:
        notes.append("required")
    notes += [f"also written {alias}" for alias in key.aliases]
    if key.ours:
        notes.append("not in pg_doorman")
    if key.support == "not yet":
        notes.append("not supported yet")
    elif key.support == "no effect":
        notes.append("no effect in pgdoorman")
    else:
        notes.append(key.reload)
    return f"{key.doc} ({'; '.join(notes)})"


if __name__ == "__main__":
    sys.stdout.write(render())
