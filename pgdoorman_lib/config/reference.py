"""conf/reference.toml: every key with its meaning and default, written from the model.

``python -m pgdoorman_lib.config.reference > conf/reference.toml`` renews it; a test holds the two equal.
"""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from pgdoorman_lib.config.keys import Key, keys_of
from pgdoorman_lib.config.model import AuthQuery, General, Include, Pool, Statsd, Talos, User, Web, written

_HEAD = """\
# Every key pgdoorman knows, with its default. Written by `python -m pgdoorman_lib.config.reference`: don't edit.
#
# A key that stands in a comment is unset by default, has no effect here, or is not supported yet.
# Durations are milliseconds, or "500ms", "5s", "10m", "1h", "1d"; those said to be in seconds take a plain number as
# seconds. Sizes are bytes, or "64KB", "1MB", "1G" (powers of 1024).
# After a reload: live = holds at once; pool = the pools it concerns are rebuilt; restart = waits for a restart.
"""

_EXAMPLES = {
    "admin_username": '"admin"',
    "admin_password": '"change-me"',
    "username": '"doorman"',
    "password": '"password"',
    "pool_size": "40",
    "query": '"SELECT passwd FROM pg_shadow WHERE usename = $1"',
    "user": '"doorman"',
}

_KIND_EXAMPLES = {
    "boolean": "false",
    "integer": "0",
    "duration": '"30s"',
    "seconds": "5",
    "size": '"1MB"',
    "strings": "[]",
    "pg_hba": '{ path = "pg_hba.conf" }',
}


def render() -> str:
    """The text of conf/reference.toml; it is itself a valid configuration that says what the defaults say."""
    sections = [
        _HEAD,
        _section("[include]", Include),
        _section("[general]", General),
        _section("[pools.exampledb]", Pool),
        _section("[[pools.exampledb.users]]", User),
        _section("[pools.exampledb.auth_query]", AuthQuery, commented=True),
        _section("[talos]", Talos, commented=True),
        _section("[web]", Web),
        _section("[statsd]", Statsd),
    ]
    return "\n".join(sections)


def _section(header: str, model: Any, *, commented: bool = False) -> str:
    lines = [f"# {header}" if commented else header]
    doc = textwrap.wrap((model.__doc__ or "").strip(), 116)
    lines = [*(f"# {line}" for line in doc), *lines]
    for name, key in keys_of(model):
        lines += ["", *(f"# {line}" for line in textwrap.wrap(_meaning(key), 116)), _assignment(name, key, commented)]
    return "\n".join(lines) + "\n"


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


def _assignment(name: str, key: Key, commented: bool) -> str:
    if key.required:
        value = _EXAMPLES[name]
    elif key.default is None:
        value = f'"{key.choices[0]}"' if key.choices else _KIND_EXAMPLES.get(key.kind, '"..."')
    else:
        value = written(key, key.default_value())
    hidden = commented or key.support != "yes" or (key.default is None and not key.required)
    return f"{'# ' if hidden else ''}{name} = {value}"


if __name__ == "__main__":
    sys.stdout.write(render())
