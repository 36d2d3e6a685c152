"""How a configuration file is laid out as text, in TOML or YAML: comments, sections, keys and quoted strings.

What stands in it is for others to say (`config.reference`, `generate`): here are only the two forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pgdoorman_lib.record import record

TOML = "toml"
YAML = "yaml"
FORMS = (TOML, YAML)

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_INDENT = "  "


@record(frozen=True)
class Value:
    """A value as each form writes it; ``yaml`` None: as TOML does."""

    toml: str
    yaml: str | None = None


@record(frozen=True)
class Entry:
    """One key with the lines of its comment; ``hidden``: the key itself stands in a comment."""

    name: str
    value: Value
    comment: tuple[str, ...] = ()
    hidden: bool = False


@record(frozen=True)
class Section:
    """A table by its path. ``item``: one of a list of tables; ``hidden``: all of it stands in a comment.

    ``spaced``: an empty line before each key.
    """

    path: tuple[str, ...]
    entries: tuple[Entry, ...]
    comment: tuple[str, ...] = ()
    item: bool = False
    hidden: bool = False
    spaced: bool = False


def quoted(text: str) -> str:
    """``text`` as a string in double quotes, which both forms read alike."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def string(text: str) -> Value:
    """A string on one line."""
    return Value(quoted(text))


def lines(text: Iterable[str]) -> Value:
    """A string of several lines, each of which must be printable and without three apostrophes in a row."""
    body = "\n".join(text)
    return Value(f"'''\n{body}\n'''", f"|\n{body}")


def render(head: str, sections: Iterable[Section], form: str = TOML) -> str:
    """The whole file: ``head``, lines of its own, then the sections, in ``form`` (one of ``FORMS``)."""
    made = _toml(sections) if form == TOML else _yaml(sections)
    return "\n".join([*([head] if head else []), *("\n".join(block) + "\n" for block in made)])


def _commented(texts: Iterable[str], margin: str = "") -> list[str]:
    return [f"{margin}# {text}" for text in texts]


def _toml(sections: Iterable[Section]) -> Iterable[list[str]]:
    for section in sections:
        name = ".".join(part if _BARE.fullmatch(part) else quoted(part) for part in section.path)
        header = f"[[{name}]]" if section.item else f"[{name}]"
        block = [*_commented(section.comment), f"# {header}" if section.hidden else header]
        for entry in section.entries:
            hidden = section.hidden or entry.hidden
            text = f"{entry.name} = {entry.value.toml}"
            block += [*([""] if section.spaced else []), *_commented(entry.comment), f"# {text}" if hidden else text]
        yield block


def _yaml(sections: Iterable[Section]) -> Iterable[list[str]]:
    opened: tuple[str, ...] = ()
    for section in sections:
        block = []
        for depth, part in enumerate(section.path):
            if opened[: depth + 1] == section.path[: depth + 1]:
                continue
            last = depth == len(section.path) - 1
            margin = _INDENT * depth
            if last:
                block += _commented(section.comment, margin)
            # A name that is no key of ours may be a word that YAML takes for something else.
            name = quoted(part) if depth == 1 else part
            block.append(f"{margin}{'# ' if section.hidden else ''}{name}:")
        opened = section.path
        margin = _INDENT * len(section.path)
        first = "- " if section.item else ""
        for entry in section.entries:
            block += [""] if section.spaced else []
            block += _commented(entry.comment, margin + (_INDENT if section.item and not first else ""))
            hidden = section.hidden or entry.hidden
            value = entry.value.toml if entry.value.yaml is None else entry.value.yaml
            at = margin + (first or (_INDENT if section.item else ""))
            text, *rest = f"{entry.name}: {value}".split("\n")
            block.append(f"{at}{'# ' if hidden else ''}{text}")
            block += [f"{margin}{_INDENT}{_INDENT if section.item else ''}{line}" for line in rest]
            first = ""
        yield block
