"""TOML text to a tree of values, with the line of every key.

The toml package reads booleans and dates. Numbers, strings and structure (TOML 1.0, https://toml.io/en/v1.0.0) are read
by a scanner here, because the package, at 0.10.2,

1. reads ``"\\""`` as an empty string, ``[1, 2`` and ``["a",,"b"]`` as arrays, ``--5`` as 5, all without complaint;
2. refuses two ``[[pools.b.users]]`` after a ``[pools.a.users.0]``, and multi-line strings in inline tables;
3. does not tell on which line a key stands;
4. quotes the file in its messages, passwords included,
5. refuses a zero with an exponent, ``0e0``.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import toml

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.record import record

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9][0-9:.+Zz-]*|[A-Za-z0-9_+.:-]+")
_NUMBER = re.compile(
    r"[+-]?(?:inf|nan|(?:0|[1-9](?:_?[0-9])*)(?:\.[0-9](?:_?[0-9])*)?(?:[eE][+-]?[0-9](?:_?[0-9])*)?)"
    r"|0x[0-9A-Fa-f](?:_?[0-9A-Fa-f])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*"
)
_WHOLE = re.compile(r"[+-]?[0-9_]+|0[xob].*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{2}:[0-9]{2}.*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([btnfr\"\\])|([ \t]*\n[ \t\n]*)|(.?))", re.DOTALL)
_SIMPLE_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
MAX_DEPTH = 64


@record(frozen=True)
class Document:
    """``data``: dicts, lists and values; ``lines``: the line (from 1) of every key and table by its path."""

    data: dict[str, Any]
    lines: dict[Path, int]


@record(frozen=True)
class _Scalar:
    """A boolean or date, for the package to read: its place among all, its line and its source."""

    index: int
    line: int
    source: str


@dataclass
class _Table:
    """A table as the scanner sees it.

    ``defined``: a header named it; ``dotted``: dotted keys made it, so it takes more of them but no header;
    ``sealed``: it is inline and takes nothing more.
    """

    entries: dict[str, Any] = field(default_factory=dict)
    defined: bool = False
    dotted: bool = False
    sealed: bool = False


@dataclass
class _TableArray:
    """What [[name]] makes: one table for each header."""

    tables: list[_Table] = field(default_factory=list)


def parse(text: str, file: str) -> Document:
    """Read ``text`` of ``file``; raises ``ConfigError`` naming file and line, without quoting the text."""
    scanner = _Scanner(text.removeprefix("\ufeff").replace("\r\n", "\n"), file)
    scanner.document()
    return Document(_plain(scanner.root, _read_scalars(scanner.scalars, file)), scanner.lines)


def _read_scalars(scalars: list[_Scalar], file: str) -> list[Any]:
    """Have the package read every scalar, one a line."""
    try:
        read = toml.loads("\n".join(f"v{scalar.index} = {scalar.source}" for scalar in scalars))
    except (ValueError, LookupError, AttributeError, TypeError) as exc:
        # The package's own error is a ValueError; the others escape from it on input it did not foresee. Its text
        # may quote the value, so only the line is used.
        scalar = scalars[min(getattr(exc, "lineno", len(scalars)), len(scalars)) - 1]
        raise ConfigError(f"{file}:{scalar.line}: this is not a valid date") from None
    return [read[f"v{scalar.index}"] for scalar in scalars]


def _plain(node: Any, values: list[Any]) -> Any:
    """The scanner's tree as dicts, lists and values."""
    if isinstance(node, str | int | float):
        return node
    if isinstance(node, _Scalar):
        return values[node.index]
    if isinstance(node, _Table):
        return {name: _plain(entry, values) for name, entry in node.entries.items()}
    items = node.tables if isinstance(node, _TableArray) else node
    return [_plain(item, values) for item in items]


def format_path(path: Path) -> str:
    """``pools."my db".users[0].password``: a key's path as one would write it in TOML."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else _quoted(part))
    return text


def _quoted(part: str) -> str:
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"').encode("unicode_escape").decode("ascii") + '"'


class _Scanner:
    """Walks the text once; fills ``root``, ``lines`` and ``scalars``."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self.depth = 0
        self.line_ends = [match.start() for match in re.finditer("\n", text)]
        self.root = _Table(defined=True)
        self.lines: dict[Path, int] = {}
        self.scalars: list[_Scalar] = []

    def line(self) -> int:
        return bisect.bisect_left(self.line_ends, self.at) + 1

    def line_of(self, path: Path) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fail(self, problem: str, line: int | None = None) -> NoReturn:
        raise ConfigError(f"{self.file}:{line or self.line()}: {problem}")

    # -- statements

    def document(self) -> None:
        table: _Table = self.root
        path: Path = ()
        while True:
            self.skip(newlines=True)
            if self.at >= len(self.text):
                return
            if self.peek("["):
                table, path = self.header(self.line())
            else:
                self.key_value(table, path)
            self.skip()
            if self.at < len(self.text) and self.text[self.at] != "\n":
                self.fail("expected the end of the line here")

    def header(self, line: int) -> tuple[_Table, Path]:
        double = self.peek("[[")
        self.at += 2 if double else 1
        self.skip()
        names = self.key_path()
        closing = "]]" if double else "]"
        self.take(closing, f"expected {closing} here")
        return self.open_table(names, double, line)

    def open_table(self, names: list[str], double: bool, line: int) -> tuple[_Table, Path]:
        """The table a header names; refuses one that is there already."""
        table: _Table = self.root
        path: Path = ()
        for name in names[:-1]:
            table, path = self.enter(table, path, name, line)
        last = names[-1]
        path = (*path, last)
        there = table.entries.get(last)
        if double:
            if there is None:
                there = table.entries[last] = _TableArray()
            if not isinstance(there, _TableArray):
                self.fail(f"{format_path(path)} is defined twice, before as something else", line)
            there.tables.append(_Table(defined=True))
            self.lines.setdefault(path, line)
            path = (*path, len(there.tables) - 1)
            self.lines[path] = line
            return there.tables[-1], path
        if there is None:
            there = table.entries[last] = _Table()
        if not isinstance(there, _Table) or there.defined or there.dotted:
            self.fail(f"{format_path(path)} is defined twice, first on line {self.line_of(path)}", line)
        there.defined = True
        self.lines[path] = line
        return there, path

    def enter(self, table: _Table, path: Path, name: str, line: int) -> tuple[_Table, Path]:
        """The table ``name`` in ``table``, made when missing: a middle part of a header."""
        path = (*path, name)
        there = table.entries.get(name)
        if there is None:
            there = table.entries[name] = _Table()
            self.lines[path] = line
        if isinstance(there, _TableArray):
            return there.tables[-1], (*path, len(there.tables) - 1)
        if not isinstance(there, _Table) or there.dotted:
            self.fail(f"{format_path(path)} is not a table that can be added to", line)
        return there, path

    def key_value(self, table: _Table, path: Path) -> None:
        """Read ``a.b = value`` into ``table``."""
        line = self.line()
        names = self.key_path()
        self.take("=", "expected = after the key")
        self.skip()
        for name in names[:-1]:
            path = (*path, name)
            there = table.entries.get(name)
            if there is None:
                there = table.entries[name] = _Table(dotted=True)
                self.lines[path] = line
            if not isinstance(there, _Table) or not there.dotted or there.sealed:
                self.fail(f"{format_path(path)} is defined twice, first on line {self.line_of(path)}", line)
            table = there
        path = (*path, names[-1])
        if names[-1] in table.entries:
            self.fail(f"{format_path(path)} is defined twice, first on line {self.line_of(path)}", line)
        self.lines[path] = line
        table.entries[names[-1]] = self.value(path)

    def key_path(self) -> list[str]:
        names = [self.key()]
        self.skip()
        while self.peek("."):
            self.at += 1
            self.skip()
            names.append(self.key())
            self.skip()
            if len(names) > MAX_DEPTH:
                self.fail(f"a key of more than {MAX_DEPTH} parts")
        return names

    def key(self) -> str:
        if self.peek('"') or self.peek("'"):
            return self.string(multiline=False)
        match = _BARE_KEY.match(self.text, self.at)
        if match is None:
            self.fail("expected a key here")
        self.at = match.end()
        return match[0]

    # -- values

    def value(self, path: Path) -> Any:
        """What stands here: a string, a scalar, a list or a closed table."""
        if self.peek('"') or self.peek("'"):
            return self.string(multiline=True)
        if self.peek("[") or self.peek("{"):
            if self.depth == MAX_DEPTH:
                self.fail(f"values are nested more than {MAX_DEPTH} deep")
            self.depth += 1
            value: Any = self.array(path) if self.peek("[") else self.inline_table(path)
            self.depth -= 1
            return value
        match = _SCALAR.match(self.text, self.at)
        if match is None:
            self.fail(f"{format_path(path)} has no value")
        if match[0] not in ("true", "false") and not _NUMBER.fullmatch(match[0]) and not _DATE.fullmatch(match[0]):
            self.fail(f"{format_path(path)} has no TOML value; strings need quotes")
        self.at = match.end()
        if _NUMBER.fullmatch(match[0]):
            try:
                return int(match[0], 0) if _WHOLE.fullmatch(match[0]) else float(match[0])
            except ValueError:  # Python reads no more than a few thousand digits
                self.fail(f"{format_path(path)} is longer than any number")
        scalar = _Scalar(len(self.scalars), self.line(), match[0])
        self.scalars.append(scalar)
        return scalar

    def array(self, path: Path) -> list[Any]:
        start = self.line()
        self.at += 1
        items: list[Any] = []
        while True:
            self.skip(newlines=True)
            if self.peek("]"):
                break
            place = (*path, len(items))
            self.lines[place] = self.line()
            items.append(self.value(place))
            self.skip(newlines=True)
            if not self.peek(","):
                break
            self.at += 1
        self.take("]", f"the array {format_path(path)}, begun on line {start}: expected , or ] here")
        return items

    def inline_table(self, path: Path) -> _Table:
        self.at += 1
        table = _Table(dotted=True)
        self.skip()
        while not self.peek("}"):
            if table.entries:
                self.take(",", f"the inline table {format_path(path)}: expected , or }} here")
                self.skip()
            self.key_value(table, path)
            self.skip()
        self.at += 1
        table.sealed = True
        return table

    def string(self, *, multiline: bool) -> str:
        quote = self.text[self.at]
        start = self.line()
        if multiline and self.peek(quote * 3):
            self.at += 3
            if self.peek("\n"):
                self.at += 1
            body = self.until(quote, 3, start)
        else:
            self.at += 1
            body = self.until(quote, 1, start)
        if _CONTROL.search(body):
            self.fail("a string may not contain control characters; escape them", start)
        return body if quote == "'" else self.unescape(body, start)

    def until(self, quote: str, count: int, start: int) -> str:
        """The text up to ``count`` quotes, which are skipped; up to two more of three belong to the text."""
        begin = self.at
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\n" and count == 1:
                break
            if char == "\\" and quote == '"':
                # An escaped line end stays for the branch above when the string is a single line.
                self.at += 1 if count == 1 and self.text.startswith("\n", self.at + 1) else 2
            elif char == quote and self.peek(quote * count):
                extra = 0
                while count == 3 and extra < 2 and self.text.startswith(quote, self.at + count + extra):
                    extra += 1
                self.at += count + extra
                return self.text[begin : self.at - count]
            else:
                self.at += 1
        self.fail("this string is not closed", start)

    def unescape(self, body: str, line: int) -> str:
        def replace(match: re.Match[str]) -> str:
            short, long, simple, fold, bad = match.groups()
            if simple:
                return _SIMPLE_ESCAPES[simple]
            if fold is not None:
                return ""
            code = int(short or long, 16) if bad is None else -1
            if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                self.fail("a string has an unknown escape sequence", line)
            return chr(code)

        return _ESCAPE.sub(replace, body)

    # -- characters

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def take(self, text: str, problem: str) -> None:
        if not self.peek(text):
            self.fail(problem)
        self.at += len(text)

    def skip(self, *, newlines: bool = False) -> None:
        """Over blanks and comments; over line ends too where they mean nothing."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                end = self.text.find("\n", self.at)
                comment = self.text[self.at : end if end >= 0 else len(self.text)]
                if _CONTROL.search(comment):
                    self.fail("a comment may not contain control characters")
                self.at += len(comment)
            elif char in " \t" or (newlines and char == "\n"):
                self.at += 1
            else:
                return
