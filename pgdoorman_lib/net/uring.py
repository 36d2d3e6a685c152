"""The epoll engine with an io_uring: what a turn receives is one system call, and so is what it sends.

Waiting stays with epoll: it wakes us on the processor of whoever has written, which for few clients matters more than
anything else, and io_uring does not.
"""

from __future__ import annotations

import sys
from typing import Any

from pgdoorman_lib.net.epoll import EpollEngine
from pgdoorman_lib.net.ring import Ring

_int = int

#: Receives or sends in one system call.
SUBMISSIONS = 256


class UringEngine(EpollEngine):
    """Receives and sends in batches (Linux 5.6 or later); OSError where io_uring is not to be had."""

    name = "uring"

    def __init__(self) -> None:
        self.ring = Ring(SUBMISSIONS)
        #: whose receives or sends stand on the ring, in order: the first ``count``
        self.batch: list[Any] = [None] * SUBMISSIONS
        self.count = 0
        EpollEngine.__init__(self)
        self.batches = 1

    def fetch(self) -> None:
        news = self.news
        if len(news) == 1:
            news.clear()
        for channel in news:
            try:
                if channel.begin_receive(self.ring):
                    self.batch[self.count] = channel
                    self.count += 1
                    if self.count == SUBMISSIONS:
                        self._receive_batch()
            except Exception:
                # A fault of one stream must not cost the others their bytes.
                self.hub.handle_error(channel, *sys.exc_info())
        news.clear()
        if self.count:
            self._receive_batch()

    def _receive_batch(self) -> None:
        """Receive what stands on the ring and tell its channels."""
        self.ring.run()
        for index in range(self.count):
            channel = self.batch[index]
            self.batch[index] = None
            channel.end_receive(self.ring.result(index))
        self.count = 0

    def send_together(self) -> None:
        while self.dirty is not None:  # sending may add more
            channel = self.next_dirty()
            try:
                if channel.begin_send(self.ring):
                    self.batch[self.count] = channel
                    self.count += 1
            except Exception:
                # A fault of one stream must not leave the others' bytes behind.
                self.hub.handle_error(channel, *sys.exc_info())
            if self.count == SUBMISSIONS or (self.count and self.dirty is None):
                self._send_batch()

    def _send_batch(self) -> None:
        """Send what stands on the ring and tell its channels."""
        self.ring.run()
        for index in range(self.count):
            channel = self.batch[index]
            self.batch[index] = None
            try:
                channel.end_send(self.ring.result(index))
            except Exception:
                self.hub.handle_error(channel, *sys.exc_info())
        self.count = 0

    def close(self) -> None:
        EpollEngine.close(self)
        self.ring.close()
