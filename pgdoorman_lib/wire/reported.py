"""What a server reports of its parameters by ParameterStatus, and so what a client was told last; interned.

Two that report the same share one object: whether a client has to be told anything is a comparison of pointers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from weakref import WeakValueDictionary

from pgdoorman_lib.wire.messages import parameter_status


class Reported:
    """The reported parameters as ``values``, in the order the server sent them; never changed."""

    __slots__ = ("__weakref__", "values")

    _known: ClassVar[WeakValueDictionary[tuple[tuple[str, str], ...], Reported]] = WeakValueDictionary()

    values: dict[str, str]

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Reported:
        """The one object for these values in this order."""
        key = tuple(values.items())
        found = cls._known.get(key)
        if found is None:
            found = cls()
            found.values = dict(key)
            cls._known[key] = found
        return found

    def changed(self, name: str, value: str) -> Reported:
        """These with one more or another value."""
        if self.values.get(name) == value:
            return self
        return Reported.of({**self.values, name: value})

    def messages(self) -> bytes:
        """The ParameterStatus messages of a login."""
        return b"".join([parameter_status(_sent(name), _sent(value)) for name, value in self.values.items()])

    def news_for(self, told: Reported) -> bytes:
        """The ParameterStatus messages for a client that was told ``told``."""
        before = told.values
        return b"".join(
            [
                parameter_status(_sent(name), _sent(value))
                for name, value in self.values.items()
                if before.get(name) != value
            ]
        )


def _sent(text: str) -> bytes:
    """The bytes as they came from the server, of whatever encoding."""
    return text.encode(errors="surrogateescape")


#: Nothing was reported.
NOTHING_REPORTED = Reported.of({})
