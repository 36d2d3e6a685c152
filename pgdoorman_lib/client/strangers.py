"""What is logged about peers that anybody can be: at most once in a while for an address, however often it comes."""

from __future__ import annotations

#: Addresses remembered; they are all forgotten when there are too many.
MAX_ADDRESSES = 1000


class OncePerAddress:
    """Whether the ``seconds`` are over in which there is nothing to be said of an address."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def is_due(self, address: str, now: float) -> bool:
        """Whether to say it, at ``now`` (monotonic seconds); then it counts as said."""
        said = self._said.get(address)
        if said is not None and now < said + self._seconds:
            return False
        if len(self._said) >= MAX_ADDRESSES:
            self._said.clear()
        self._said[address] = now
        return True
