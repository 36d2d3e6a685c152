"""Records: frozen dataclasses whose methods are not each written and compiled when their module is imported.

``dataclasses`` makes source code of six methods for every class, which for all of ours was a quarter of the time that a
start takes. Here it makes ``__init__`` alone; the others are the same for all. That nothing is assigned to a field is
what mypy sees to, for which a record is a dataclass like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as record

    __all__ = ["record"]
else:

    def record(*, frozen: bool, kw_only: bool = False, slots: bool = False) -> Callable[[type[T]], type[T]]:
        """The decorator of a record, which is compared and hashed by its fields; arguments are those of dataclass."""
        assert frozen, "dataclass is for those that change"

        def make(cls: type[T]) -> type[T]:
            made = dataclasses.dataclass(eq=False, repr=False, kw_only=kw_only, slots=slots)(cls)
            _add_methods(made)
            return made

        return make


T = TypeVar("T")


def _add_methods(cls: type[Any]) -> None:
    """Give a record what it has not written itself."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    values: Callable[[object], object] = attrgetter(*names) if names else type

    def __eq__(self: object, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: object) -> int:
        return hash(values(self))

    for method in (__eq__, __hash__, __repr__):
        if method.__name__ not in cls.__dict__:
            setattr(cls, method.__name__, method)


def __repr__(self: Any) -> str:
    shown = [f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"
