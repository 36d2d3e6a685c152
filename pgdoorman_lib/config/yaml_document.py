"""YAML text to the tree that TOML becomes, with the line of every key.

PyYAML finds the structure; it makes no objects here, so no tag of a file can call anything. What a plain scalar means
is decided here, by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema) with what serde_yaml,
which pg_doorman reads by, adds to it: PyYAML's own rules are YAML 1.1's, where ``no`` is false, ``1:30`` is 90 and
``0600`` is 384. Keys whose value is null count as not written. Errors say file and line and never quote the text.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from pgdoorman_lib.config.document import MAX_DEPTH, Document, Path, format_path
from pgdoorman_lib.errors import ConfigError

if TYPE_CHECKING:
    import yaml

MAX_REPEATED = 10_000
"""Nodes that aliases may repeat in one file: a few lines of nested ones stand for billions."""

_PLAIN = "plain"
_STRING = "tag:yaml.org,2002:str"
_TAGS = {_PLAIN, _STRING, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*|0x[0-9A-Fa-f]+|0o[0-7]+|0b[01]+)")
_FLOAT = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.?)(?:[eE][+-]?[0-9]+)?|[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# What PyYAML quotes in its problems: single characters and the names of tokens tell nothing of the text.
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_HARMLESS = re.compile(r"\\?.|<[a-z ]+>")


@cache
def _loader() -> type[Any]:
    """The loader, in C where PyYAML has been built so (13 times as fast); imported only once a file needs it."""
    import yaml

    return loader_on(getattr(yaml, "CBaseLoader", yaml.BaseLoader))


def loader_on(base: type[Any]) -> type[Any]:
    """A loader that tells plain scalars from others; ``base`` is PyYAML's BaseLoader or CBaseLoader."""

    class Loader(base):  # type: ignore[misc]  # a class chosen at run time
        def resolve(self, kind: type[Any], value: Any, implicit: Any) -> Any:
            if isinstance(value, str) and implicit[0]:
                return _PLAIN
            return super().resolve(kind, value, implicit)

    return Loader


def parse_yaml(text: str, file: str, loader: type[Any] | None = None) -> Document:
    """Read ``text`` of ``file``; raises ``ConfigError`` naming file and line, without quoting the text."""
    import yaml

    try:
        root = yaml.compose(text.removeprefix("\ufeff"), Loader=loader or _loader())
    except RecursionError:
        raise ConfigError(f"{file}: values are nested more than {MAX_DEPTH} deep") from None
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = 1 if mark is None else mark.line + 1
        texts = [_QUOTED.sub(_unless_told, text) for text in (exc.context, exc.problem) if text]
        raise ConfigError(f"{file}:{line}: this is not YAML: {', '.join(texts)}") from None
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigError(f"{file}:{line}: this is not YAML: a character that is not allowed in it") from None
    reader = _Reader(file)
    data = {} if root is None else reader.value(root, ())
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: expected keys with values here, such as general:")
    return Document(data, reader.lines)


def _unless_told(quoted: re.Match[str]) -> str:
    """A quoted part of a problem, or dots where it would show the text."""
    return quoted[0] if _HARMLESS.fullmatch(quoted[1] or quoted[2] or "") else "..."


class _Reader:
    """Turns nodes into values; fills ``lines``."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Path, int] = {}
        self.seen: set[int] = set()
        self.repeated = 0

    def fail(self, node: yaml.Node, problem: str) -> NoReturn:
        raise ConfigError(f"{self.file}:{node.start_mark.line + 1}: {problem}")

    def value(self, node: Any, path: Path) -> Any:
        """What stands at ``node``: a dict, a list, a scalar, or None for null."""
        if len(path) > MAX_DEPTH:
            self.fail(node, f"values are nested more than {MAX_DEPTH} deep")
        if id(node) in self.seen:
            self.repeated += 1
            if self.repeated > MAX_REPEATED:
                self.fail(node, f"aliases repeat more than {MAX_REPEATED} values")
        self.seen.add(id(node))
        if node.tag not in _TAGS:
            self.fail(
                node, f"{format_path(path)} has a tag, which is not supported; strings that begin with ! need quotes"
            )
        if isinstance(node.value, str):
            return self.scalar(node, path)
        return self.sequence(node, path) if node.id == "sequence" else self.mapping(node, path)

    def scalar(self, node: Any, path: Path) -> Any:
        text: str = node.value
        if node.tag != _PLAIN:
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if _INTEGER.fullmatch(text):
            try:
                return int(text, 0)
            except ValueError:  # Python reads no more than a few thousand digits
                self.fail(node, f"{format_path(path)} is longer than any number")
        if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return text

    def sequence(self, node: Any, path: Path) -> list[Any]:
        items: list[Any] = []
        for item in node.value:
            place = (*path, len(items))
            value = self.value(item, place)
            if value is not None:
                self.lines[place] = item.start_mark.line + 1
                items.append(value)
        return items

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, item in node.value:
            if key.tag not in (_PLAIN, _STRING):
                self.fail(key, f"a key of {format_path(path) or 'the file'} is no name")
            place = (*path, key.value)
            if place in self.lines:
                self.fail(key, f"{format_path(place)} is defined twice, first on line {self.lines[place]}")
            self.lines[place] = key.start_mark.line + 1
            value = self.value(item, place)
            if value is not None:
                entries[key.value] = value
        return entries
