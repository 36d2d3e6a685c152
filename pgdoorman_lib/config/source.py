"""Where each key of a configuration was written, over all files it was merged from, and errors that say so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from pgdoorman_lib.config.document import Document, Path, format_path
from pgdoorman_lib.errors import ConfigError


class Source:
    """The merged tree ``data``, the origin (file, line) of each path in it, and the warnings found on the way."""

    def __init__(self, document: Document, file: str) -> None:
        self.file = file
        self.data = document.data
        self.origins: dict[Path, tuple[str, int]] = {path: (file, line) for path, line in document.lines.items()}
        self.warnings: list[str] = []

    def where(self, path: Path) -> str:
        """``FILE:LINE`` of ``path``, or of the nearest table around it; the main file alone when there is none."""
        while path:
            if path in self.origins:
                file, line = self.origins[path]
                return f"{file}:{line}"
            path = path[:-1]
        return self.file

    def fail(self, path: Path, problem: str) -> NoReturn:
        raise ConfigError(f"{self.where(path)}: {format_path(path)}: {problem}" if path else f"{self.file}: {problem}")

    def warn(self, path: Path, text: str) -> None:
        self.warnings.append(f"{self.where(path)}: {format_path(path)}: {text}")

    def unknown(self, path: Path, known: Iterable[str], elsewhere: Mapping[str, str]) -> NoReturn:
        """Refuse the last name of ``path``; ``elsewhere`` maps names known in other sections to those sections."""
        name = str(path[-1])
        what = "section" if len(path) == 1 else "key"
        known = list(known)
        if f"server_{name}" in known:
            self.fail(path, f"unknown {what}; did you mean server_{name}?")
        if name in elsewhere and name not in known:
            self.fail(path, f"unknown {what}; {name} belongs to {elsewhere[name]}")
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            self.fail(path, f"unknown {what}; did you mean {near[0]}?")
        if len(known) <= 8:
            self.fail(path, f"unknown {what}; known here: {', '.join(known)}")
        self.fail(path, f"unknown {what}")

    def merge(self, document: Document, file: str) -> None:
        """Merge an included file: tables key by key, arrays one after the other, any other value replaces."""
        self._merge(self.data, document.data, (), document, file)

    def _merge(self, base: dict[str, Any], extra: dict[str, Any], at: Path, document: Document, file: str) -> None:
        for name, value in extra.items():
            path = (*at, name)
            there = base.get(name)
            if name in base and (_shape(there) is not _shape(value)):
                raise ConfigError(
                    f"Could not merge config file {file}:{document.lines.get(path, 1)}: {format_path(path)} is "
                    f"{_SHAPES[_shape(value)]} here and {_SHAPES[_shape(there)]} at {self.where(path)}"
                )
            if isinstance(value, dict) and isinstance(there, dict):
                self._merge(there, value, path, document, file)
                continue
            if isinstance(value, list) and isinstance(there, list):
                for index, item in enumerate(value):
                    self._adopt((*path, index), (*path, len(there)), document, file)
                    there.append(item)
                continue
            base[name] = value
            self._adopt(path, path, document, file)

    def _adopt(self, theirs: Path, ours: Path, document: Document, file: str) -> None:
        """Take over the lines of ``theirs`` and all below it as those of ``ours``."""
        for path, line in document.lines.items():
            if path[: len(theirs)] == theirs:
                self.origins[ours + path[len(theirs) :]] = (file, line)


_SHAPES = {dict: "a table", list: "an array", object: "a value"}


def _shape(value: object) -> type:
    return dict if isinstance(value, dict) else list if isinstance(value, list) else object
