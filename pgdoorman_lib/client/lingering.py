"""The last of a connection: what is queued for the peer is for it to take, within a time.

Whoever waits for that reads on: closing over unread bytes would reset the connection, and our last words with it.
"""

from __future__ import annotations

from contextlib import suppress

import gevent

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.stream import EOF, Stream

#: Fills in a row before others get their turn.
FAIRNESS = 16


class TimeIsUp(Exception):
    """A peer had its time to take what is left for it."""


def linger(stream: Stream, seconds: float) -> None:
    """Wait up to ``seconds`` until the peer has taken what is queued, or will not; may switch.

    The running greenlet is the one of ``stream.task``. A DoormanError thrown into it says that it is not to wait.
    """
    task = stream.task
    assert task is not None
    with suppress(TimeIsUp, DoormanError), gevent.Timeout(seconds, TimeIsUp):
        while stream.push() == 0:
            discard(stream)
            task.park()


def discard(stream: Stream) -> bool:
    """Forget what ``stream`` has received, and have its task look again if there was much; whether more may come."""
    for _ in range(FAIRNESS):
        n = stream.fill()
        if n <= 0:
            return n != EOF
        stream.start = stream.end
        stream.release()
    task = stream.task
    assert task is not None
    stream.engine.again(task)
    return True
