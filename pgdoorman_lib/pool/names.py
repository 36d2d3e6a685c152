"""Which server may be lent to whom in a pool that has the names of customized options forgotten (forget_option_names).

PostgreSQL forgets such a name only with its session: what one client has set once reads as an empty string from then
on. So a server goes to those alone who have set all that was ever set on it; for others a new one takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.measures import NEAR
from pgdoorman_lib.pool.queue import Borrower, ServerQueue
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server

#: Why a server is closed.
REASON = "customized options were set on it that its next client has never set"


def suits(server: Server, borrower: Borrower) -> bool:
    """Whether ``borrower`` has set every option that was ever set on ``server``, or reads none."""
    there = server.option_names
    return not there or borrower.option_names is None or there <= borrower.option_names


def note(server: Server, borrower: Borrower, options: Iterable[str]) -> None:
    """``borrower`` may have set these ``options`` on ``server``, whether or not anything of them is left."""
    custom = {name for name in options if "." in name}
    if custom:
        for side in (server, borrower):
            side.option_names = custom | (side.option_names or set())


def note_unknown(server: Server, borrower: Borrower) -> None:
    """``borrower`` may have set options on ``server`` whose names nobody knows: nobody else may get it."""
    note(server, borrower, (f".{borrower.number}",))


def bring_one(pool: Any, borrower: Borrower) -> bool:
    """Have an idle server that suits ``borrower`` be the next of the ``pool``; False if none does, and room for one.

    Of several it is one with most of its options: those with fewer are for others.
    """
    fitting = [server for server in pool.queue if suits(server, borrower)]
    if not fitting:
        if not pool.has_room():
            pool.forget(pool.queue.resting.take_first(), REASON)
        return False
    # The last of equals is the one that has rested least, which is next where that goes first.
    best = max(reversed(fitting) if pool.queue.lifo else fitting, key=lambda server: len(server.option_names or ()))
    resting = pool.queue.resting
    resting.remove(best)
    others = [] if pool.queue.lifo else list(resting)
    for other in others:
        resting.remove(other)
    for server in (best, *others):
        resting.add(server)
    return True


def take_waiter(queue: ServerQueue, server: Server) -> Borrower | None:
    """Take the first off the line whom ``server`` suits; None if there is none, or the first was passed over enough.

    There must be one who waits.
    """
    first: Any = queue.first
    if suits(server, first):
        return queue.next()
    if queue.passed >= NEAR:
        return None
    borrower = first.behind
    while borrower is not None:
        if suits(server, borrower):
            queue.passed += 1
            queue.leave(borrower)
            return borrower  # type: ignore[no-any-return]
        borrower = borrower.behind
    return None


def lend(pool: Any, server: Server) -> None:
    """Lend ``server`` to a waiter whom it suits; if it suits none, it rests or makes room for one that does."""
    borrower = take_waiter(pool.queue, server)
    if borrower is not None:
        borrower.set(server)
        server.enter(states.ACTIVE)
        pool.count_wait(borrower)
    elif pool.has_room() or pool.opening.count >= pool.queue.waiting:
        pool.queue.resting.add(server)
        pool.rests(server)
        pool.opening.grow(clock())
    else:
        pool.discard(server, REASON)
