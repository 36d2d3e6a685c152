"""A list for what is taken off and put back all the time: idle servers, free buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_int = int


class Line:
    """A list whose last item stands apart, in ``top``: taking it off and putting it back costs next to nothing."""

    __slots__ = ("items", "older", "top")

    def __init__(self) -> None:
        #: the last item, unless it has been taken off since
        self.top: Any = None
        #: the others are the first ``older``; the room behind them is kept
        self.items: list[Any] = []
        self.older = 0

    def __len__(self) -> int:
        return int(self.older) + (self.top is not None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items[: self.older] + ([] if self.top is None else [self.top]))

    def size(self) -> _int:
        """How many items there are."""
        return self.older if self.top is None else self.older + 1

    def add(self, item: object) -> None:
        """Put ``item``, which must not be None, at the end."""
        if self.top is not None:
            if self.older < len(self.items):
                self.items[self.older] = self.top
            else:
                self.items.append(self.top)
            self.older += 1
        self.top = item

    def take(self) -> Any:
        """Take the last item off; None when there is none."""
        item = self.top
        if item is not None:
            self.top = None
        elif self.older:
            self.older -= 1
            item = self.items[self.older]
            self.items[self.older] = None
        return item

    def take_first(self) -> Any:
        """Take the first item off; None when there is none."""
        if not self.older:
            return self.take()
        self.older -= 1
        return self.items.pop(0)

    def remove(self, item: object) -> None:
        """Take ``item`` off; ValueError when it is not there."""
        if item is self.top:
            self.top = None
            return
        self.items.remove(item)
        self.older -= 1
