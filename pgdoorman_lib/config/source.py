"""Where each key of a configuration was written, over all files it was merged from, and errors that say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from pgdoorman_lib.config.document import Document, Path, format_path
from pgdoorman_lib.config.names import hint
from pgdoorman_lib.errors import ConfigError


class _Problem(NamedTuple):
    """One line of an error, and the place it is about; line 0 is the file as a whole."""

    file: str
    line: int
    text: str


class Source:
    """The merged tree ``data``, the origin (file, line) of each path in it, and what was found on the way.

    Problems are collected, so that all of them are told at once: ``finish`` raises what there is. ``lenient``: names
    that are no keys are only warned of, as with ``general.strict_config = false``.
    """

    def __init__(self, document: Document, file: str, *, lenient: bool = False) -> None:
        self.file = file
        self.data = document.data
        self.lenient = lenient
        self.origins: dict[Path, tuple[str, int]] = {path: (file, line) for path, line in document.lines.items()}
        self.files = [file]
        self.warnings: list[str] = []
        self._problems: list[_Problem] = []
        self._unknown: list[_Problem] = []

    @property
    def strict(self) -> bool:
        """Whether a name that is no key is an error."""
        general = self.data.get("general")
        return not self.lenient and not (isinstance(general, dict) and general.get("strict_config") is False)

    def where(self, path: Path) -> str:
        """``FILE:LINE`` of ``path``, or of the nearest table around it; the main file alone when there is none."""
        file, line = self.origin(path)
        return f"{file}:{line}" if line else file

    def origin(self, path: Path) -> tuple[str, int]:
        """File and line of ``path``, or of the nearest table around it; the main file and 0 when there is none."""
        while path:
            if path in self.origins:
                return self.origins[path]
            path = path[:-1]
        return self.file, 0

    def _at(self, path: Path, problem: str) -> str:
        return f"{self.where(path)}: {format_path(path)}: {problem}" if path else f"{self.file}: {problem}"

    def refuse(self, path: Path, problem: str) -> None:
        """Take down what makes the configuration unusable."""
        self._problems.append(_Problem(*self.origin(path), self._at(path, problem)))

    def warn(self, path: Path, text: str) -> None:
        self.warnings.append(self._at(path, text))

    def unknown(self, path: Path, known: Iterable[str], elsewhere: Mapping[str, str]) -> None:
        """Take down that the last name of ``path`` is no key there, see ``names.hint``."""
        what = "section" if len(path) == 1 else "key"
        text = self._at(path, f"unknown {what}; {hint(str(path[-1]), known, elsewhere)}")
        self._unknown.append(_Problem(*self.origin(path), text))

    @property
    def usable(self) -> bool:
        """Whether every value could be read; names that are no keys aside."""
        return not self._problems

    def finish(self) -> None:
        """ConfigError with every problem on a line of its own, in the order of files and lines, if there is one."""
        if self._problems or (self._unknown and self.strict):
            self.give_up()
        self.warnings += [f"{problem.text} (ignored)" for problem in self._unknown]
        self._unknown = []

    def give_up(self) -> NoReturn:
        """The same when there is one."""
        problems = self._problems + (self._unknown if self.strict else [])
        problems.sort(key=lambda problem: (self.files.index(problem.file), problem.line))
        raise ConfigError("\n".join(problem.text for problem in problems))

    def merge(self, document: Document, file: str) -> None:
        """Merge an included file: tables key by key, arrays one after the other, any other value replaces."""
        self.files.append(file)
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
