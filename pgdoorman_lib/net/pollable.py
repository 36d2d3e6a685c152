"""Who is asked in the engine's turns how far it can go without waiting."""

from __future__ import annotations

_int = int

#: What ``Pollable.poll`` says while it would have to wait.
PENDING = 0


class Pollable:
    """Somebody who goes on without a greenlet as far as no waiting is needed: the common case costs no switch."""

    __slots__ = ()

    def poll(self) -> _int:
        """Go on as far as possible without waiting or switching: PENDING, or the event that ``Task.wait`` returns.

        What it raises is raised in the greenlet that waits.
        """
        raise NotImplementedError

    def run(self) -> None:
        """What a greenlet does that is made for it (see ``Task``); it calls ``Task.wait`` with it."""
        raise NotImplementedError

    def run_blocks(self, event: _int) -> bool:
        """Whether ``run`` may have to wait behind the ``event`` it begins with: if not, no greenlet is made for it."""
        return True
