"""What a task may have beside its greenlet: somebody who takes its steps without a switch, while it is parked."""

from __future__ import annotations

_int = int


class Stepper:
    """Somebody whose next step can be taken without its greenlet: the common case costs no switch."""

    __slots__ = ()

    def advance(self) -> _int:
        """Do what can be done now, without switching: 1 when that was all, 0 when the greenlet must go on itself.

        What it raises is raised in the greenlet, where it is parked.
        """
        raise NotImplementedError

    def run(self, fault: BaseException | None) -> None:
        """What the greenlet does that a task makes when it needs one; ``fault`` is to be raised there first."""
        raise NotImplementedError
