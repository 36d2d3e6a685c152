"""What a message changes in somebody's books (a prepared statement made or forgotten).

It is entered when the message is sent, confirmed when its answer comes, undone when it failed or was skipped; undoing
goes backwards.
"""

from __future__ import annotations

_int = int


class Effect:
    """What a message has entered in the books of a client or a server, to be confirmed or taken back."""

    __slots__ = ()

    def done(self) -> None:
        """The server has confirmed the message."""

    def undone(self, failed: _int) -> None:
        """The message failed (1) or was skipped behind an error (0)."""

    def renew(self, books: object) -> None:
        """These ``books`` were cleared by what was sent before the message: enter again what is theirs of it."""
