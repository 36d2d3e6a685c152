"""What one key of the configuration is: its kind, default, meaning, reload class and support, and how to read a value.

Values are read from what TOML gave; ``Key.read`` raises ``ValueError`` with a text that says what was found and what
is accepted, and never shows the value of a secret.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from pgdoorman_lib.config import units
from pgdoorman_lib.config.names import near
from pgdoorman_lib.record import record

Kind = Literal[
    "boolean",
    "integer",
    "duration",
    "seconds",
    "size",
    "text",
    "secret",
    "path",
    "choice",
    "metric",
    "strings",
    "hosts",
    "servers",
    "ports",
    "addresses",
    "networks",
    "mode",
    "pg_hba",
    "pg_ident",
    "parameters",
]
Reload = Literal["live", "pool", "restart"]
Support = Literal["yes", "no effect", "not yet"]
Unmet = Literal["refused", "warned"]

REQUIRED: Any = object()
"""The default of a key that must be written."""

HIDDEN = "********"
"""What stands for a secret wherever the configuration is shown."""

EXPECTED: dict[str, str] = {
    "boolean": "true or false",
    "integer": "an integer",
    "duration": 'milliseconds or a string such as "500ms", "5s", "10m", "1h", "1d"',
    "seconds": 'whole seconds or a string such as "5s", "10m", "1h"',
    "size": 'bytes or a string such as "64KB", "1MB", "1G"',
    "text": "a string",
    "secret": "a string",
    "path": "a path",
    "choice": "a string",
    "metric": "letters, digits, - and _, in parts with dots between them",
    "strings": "a list of strings",
    "hosts": "a string or a list of strings",
    "servers": "hosts, as a list of strings or a string with commas between them",
    "ports": "a port, a list of ports, or a string with commas between them, each from 1 to 65535",
    "addresses": 'a list of "host:port" strings',
    "networks": 'a list of networks such as "10.0.0.0/8"',
    "mode": 'an octal string such as "0600"',
    "pg_hba": "a string of rules, {path = ...} or {content = ...}",
    "pg_ident": "a string of maps, {path = ...} or {content = ...}",
    "parameters": "a table of strings",
}

_ADDRESS = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")
_METRIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_OCTAL = re.compile(r"(?:0[oO])?([0-7]{1,6})")


@record(frozen=True)
class HbaSource:
    """Where address rules, or maps of names, come from.

    ``name`` for messages, the ``text``, and the ``path`` it was read from, if any.
    """

    name: str
    text: str
    path: str | None = None


PLAUSIBLE = {"duration": (1.0, float("inf"))}
"""By kind, the least and the most seconds that a plain number is believed to be meant as, unless the key says other."""


@record(frozen=True)
class Key:
    """One key. ``default`` is written as in TOML: ``REQUIRED``, None for unset, or a value ``read`` accepts.

    ``off``: of a key whose feature is not there yet, the values that leave it off; None when it only tunes a feature
    that another key turns on. ``unmet``: what becomes of any other value: it is refused, or only warned of, and the
    first of ``off`` taken. ``plausible``: least and most seconds that a number without a unit is believed to mean.
    ``unset`` says in words what a missing key means. ``empty``: the empty string is a value. ``ours``: not a key of
    pg_doorman's. ``reload``: ``live`` = at once, ``pool`` = the pools it concerns are rebuilt.
    """

    kind: Kind
    default: Any
    doc: str
    reload: Reload = "pool"
    support: Support = "yes"
    positive: bool = False
    minimum: int = 0
    maximum: int = units.MAX_INTEGER
    choices: tuple[str, ...] = ()
    invalid: str = "unknown variant {}"
    aliases: tuple[str, ...] = ()
    off: tuple[Any, ...] | None = None
    unmet: Unmet = "refused"
    plausible: tuple[float, float] | None = None
    unset: str = ""
    empty: bool = False
    ours: bool = False

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    def expected(self) -> str:
        """What is accepted, in words."""
        if self.kind == "choice":
            return " or ".join(f'"{choice}"' for choice in self.choices)
        if self.kind == "integer" and self.maximum < units.MAX_INTEGER:
            return f"an integer from {self.minimum} to {self.maximum}"
        if self.kind == "integer" and self.minimum:
            return f"an integer of at least {self.minimum}"
        return EXPECTED[self.kind]

    def found(self, raw: object) -> str:
        """``raw`` in words; of a secret only its type."""
        if self.kind == "secret":
            return f"{type_name(raw)} (not shown)"
        return describe(raw)

    def wrong(self, raw: object) -> ValueError:
        return ValueError(f"found {self.found(raw)}, expected {self.expected()}")

    def read(self, raw: object) -> Any:
        """Turn what TOML gave into the model's value: seconds, bytes, tuples; raises ``ValueError``."""
        value = _READERS[self.kind](self, raw)
        if self.positive and value <= 0:
            raise ValueError(f"found {self.found(raw)}, must be > 0")
        if self.kind == "integer" and not self.minimum <= value <= self.maximum:
            raise self.wrong(raw)
        return value

    def implausible(self, raw: object) -> str | None:
        """What is odd about a duration, written as ``raw``, which ``read`` accepts: its unit may have been mistaken."""
        if self.kind not in ("duration", "seconds") or (isinstance(raw, str) and not raw.strip().isdigit()):
            return None
        number = int(raw) if isinstance(raw, int | str) else 0
        unit, others = ("s", "milliseconds") if self.kind == "seconds" else ("ms", "seconds")
        least, most = self.plausible or PLAUSIBLE.get(self.kind, (0.0, float("inf")))
        if not number or least <= self.read(raw) <= most:
            return None
        meant = f"{number}ms" if unit == "s" else f"{number}s"
        return f'{number} without a unit is {number} {unit} here; PgBouncer counts {others}: was "{meant}" meant?'

    def default_value(self) -> Any:
        """The default as the model holds it; None when unset."""
        return None if self.default is None else self.read(self.default)


def type_name(raw: object) -> str:
    """The type of ``raw`` in TOML's words, with its article."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a float",
        str: "a string",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(raw), "a date or time")


def describe(raw: object) -> str:
    """``raw`` for a message: scalars themselves, shortened; containers by their type alone, secrets may lie in them."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        text = raw if len(raw) <= 60 else raw[:57] + "..."
        return '"' + text.encode("unicode_escape").decode("ascii") + '"'
    if isinstance(raw, int | float):
        return str(raw)
    return type_name(raw)


def _boolean(key: Key, raw: object) -> bool:
    if not isinstance(raw, bool):
        raise key.wrong(raw)
    return raw


def _integer(key: Key, raw: object) -> int:
    if type(raw) is not int:
        raise key.wrong(raw)
    return raw


def _quantity(parse: Callable[[int | str], float]) -> Callable[[Key, object], float]:
    def read(key: Key, raw: object) -> float:
        if type(raw) is not int and not isinstance(raw, str):
            raise key.wrong(raw)
        return parse(raw)

    return read


def _text(key: Key, raw: object) -> str:
    if not isinstance(raw, str):
        raise key.wrong(raw)
    if "\0" in raw:
        raise ValueError("the value contains a null byte")
    if not raw and not key.empty:
        raise ValueError(f"found an empty string, expected {key.expected()}")
    return raw


def _choice(key: Key, raw: object) -> str:
    text = _text(key, raw)
    # "Transaction" and "Session" stand in many configurations.
    value = text[:1].lower() + text[1:]
    if value not in key.choices:
        meant = near(value.replace("_", "-").lower(), key.choices)
        raise ValueError(f"{key.invalid.format(describe(text))}, expected {key.expected()}{meant}")
    return value


def _metric(key: Key, raw: object) -> str:
    text = _text(key, raw)
    if _METRIC.fullmatch(text) is None:
        raise key.wrong(raw)
    return text


def _strings(key: Key, raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise key.wrong(raw)
    return tuple(_text(key, item) for item in raw)


def _hosts(key: Key, raw: object) -> tuple[str, ...]:
    return _strings(key, [raw] if isinstance(raw, str) else raw)


def _parts(key: Key, raw: object) -> list[Any]:
    """The items of a list, which may be written as in libpq: one, or several with commas between them."""
    if isinstance(raw, str):
        return [part.strip() for part in raw.split(",")]
    items = raw if isinstance(raw, list) else [raw]
    if not items:
        raise ValueError(f"found an empty list, expected {key.expected()}")
    return items


def _servers(key: Key, raw: object) -> tuple[str, ...]:
    hosts = _strings(key, _parts(key, raw))
    for host in hosts:
        if ":" in host and not host.startswith("/"):
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise ValueError(f"found {describe(host)}, expected a host alone: ports stand in server_port") from None
    return hosts


def _ports(key: Key, raw: object) -> tuple[int, ...]:
    return tuple(_port(key, item) for item in _parts(key, raw))


def _port(key: Key, item: object) -> int:
    port = int(item) if isinstance(item, str) and item.isascii() and item.isdigit() else item
    if type(port) is not int or not 1 <= port <= 65535:
        raise key.wrong(item)
    return port


def _addresses(key: Key, raw: object) -> tuple[tuple[str, int], ...]:
    return tuple(_address(key, item) for item in _strings(key, raw))


def _address(key: Key, item: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(item)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f'found {describe(item)}, expected "host:port" or "[address]:port" with a port up to 65535')
    return match[1] or match[2], int(match[3])


def _networks(key: Key, raw: object) -> tuple[str, ...]:
    networks = _strings(key, raw)
    for item in networks:
        try:
            ipaddress.ip_network(item, strict=False)
        except ValueError:
            raise ValueError(f'found {describe(item)}, expected a network such as "10.0.0.0/8" or "::1/128"') from None
    return networks


def _mode(key: Key, raw: object) -> int:
    text = _text(key, raw).strip()
    match = _OCTAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{describe(text)} is not a valid octal number: expected {key.expected()}")
    mode = int(match[1], 8)
    if mode & ~0o777:
        raise ValueError(f"{describe(text)} sets bits outside 0o777; only standard rwx permissions are allowed")
    return mode


def _pg_hba(key: Key, raw: object) -> HbaSource:
    """The source; a ``path`` is left for the loader to read."""
    inline = f"general.{key.kind}"
    if isinstance(raw, str):
        return HbaSource(inline, _text(key, raw))
    if not isinstance(raw, dict):
        raise key.wrong(raw)
    for name in raw:
        if name not in ("path", "content"):
            raise ValueError(f'unknown field {describe(name)}, expected "path" or "content"')
    if len(raw) != 1:
        raise ValueError("expected exactly one of path and content")
    if "content" in raw:
        return HbaSource(inline, _text(key, raw["content"]))
    path = _text(key, raw["path"])
    return HbaSource(path, "", path)


def _parameters(key: Key, raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, dict):
        raise key.wrong(raw)
    for name, value in raw.items():
        if isinstance(value, dict):
            raise ValueError(f'\'{name}\' is a table, expected a string; quote a dotted name: "{name}.x" = "..."')
        if not isinstance(value, str):
            raise ValueError(f"value for '{name}' is {type_name(value)}, expected a string")
    return tuple(raw.items())


_READERS: dict[str, Callable[[Key, Any], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "duration": _quantity(units.parse_duration),
    "seconds": _quantity(units.parse_seconds),
    "size": _quantity(units.parse_size),
    "text": _text,
    "secret": _text,
    "path": _text,
    "choice": _choice,
    "metric": _metric,
    "strings": _strings,
    "hosts": _hosts,
    "servers": _servers,
    "ports": _ports,
    "addresses": _addresses,
    "networks": _networks,
    "mode": _mode,
    "pg_hba": _pg_hba,
    "pg_ident": _pg_hba,
    "parameters": _parameters,
}


def setting(kind: Kind, default: Any, doc: str, **rest: Any) -> Any:
    """A dataclass field for one key, see ``Key``; its default is checked here, once, when the module is imported."""
    key = Key(kind, default, doc, **rest)
    visible = kind != "secret"
    if key.required:
        return dataclasses.field(repr=visible, metadata={"key": key})
    return dataclasses.field(default=key.default_value(), repr=visible, metadata={"key": key})


def keys_of(model: Any) -> Iterator[tuple[str, Key]]:
    """Name and Key of every key of a model class or instance, in the order they are documented."""
    for item in dataclasses.fields(model):
        if "key" in item.metadata:
            yield item.name, item.metadata["key"]
