"""Names for statsd: what every server takes, with database and user as parts or as tags; two never become one.

Servers differ in what they make of other characters than letters, digits, ``_`` and ``-``: they drop them, exchange
them, or end the name there. So they are written out, see ``escape``.
"""

from __future__ import annotations

import hashlib
import re

#: Letters of an escaped name; the rest of a longer one is told by a hash. PostgreSQL's have 63 bytes, three each here.
LONGEST = 190
_HASH_DIGITS = 16

_other = re.compile(r"[^A-Za-z0-9_]")


def escape(name: str) -> str:
    """Return ``name`` in letters, digits, ``_`` and ``-``, another for each name.

    ``-`` becomes ``--``, and each byte of any other character in UTF-8 ``-`` and two digits: my.db is my-2edb.
    """
    text = _other.sub(_written_out, name)
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{text[: LONGEST - _HASH_DIGITS - 2]}-x{digest}"


def _written_out(match: re.Match[str]) -> str:
    if match[0] == "-":
        return "--"
    return "".join(f"-{byte:02x}" for byte in match[0].encode("utf-8", "surrogatepass"))


class PoolNames:
    """The names of one pool's metrics; ``of`` gives (name, what is written behind the value)."""

    __slots__ = ("_database", "_style", "_user")

    def __init__(self, style: str, database: str, user: str) -> None:
        """``style``: a value of config.metrics.TAG_STYLES."""
        self._style = style
        self._database = escape(database)
        self._user = escape(user)

    def of(self, metric: str, sqlstate: str = "") -> tuple[str, str]:
        """The name of ``metric``, of the part of it with ``sqlstate`` if given."""
        if self._style == "none":
            return f"pools.{self._database}.{self._user}.{metric}" + (f".{sqlstate}" if sqlstate else ""), ""
        tags = {"database": self._database, "user": self._user}
        if sqlstate:
            tags["sqlstate"] = sqlstate
        name = f"pools.{metric}"
        if self._style == "datadog":
            return name, "|#" + ",".join(f"{tag}:{value}" for tag, value in tags.items())
        separator = "," if self._style == "influx" else ";"
        return name + "".join(f"{separator}{tag}={value}" for tag, value in tags.items()), ""
