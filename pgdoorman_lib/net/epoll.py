"""The engine that goes by one edge-triggered epoll instance, itself a single io watcher on the hub (Linux)."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.engine import Channel, Engine
from pgdoorman_lib.net.measures import CLOSE_SECONDS
from pgdoorman_lib.net.syscalls import Epoll, clock

_int = int

#: Polls in one turn: answers that arrive while the batch is sent are taken along, yet timers and accepts get theirs.
POLLS_PER_TURN = 2

#: With so few events a second poll would hardly find any.
FEW_EVENTS = 4

_READ = 1


class EpollEngine(Engine):
    """Readiness by one edge-triggered epoll instance, itself a single io watcher on the hub (Linux)."""

    name = "epoll"

    def __init__(self) -> None:
        Engine.__init__(self)
        self.level_triggered = 0
        #: channel by descriptor
        self.channels: list[Any] = []
        #: who has had an event that says there is something to read, where several have
        self.news: list[Any] = []
        self.epoll = Epoll()
        self.watcher = self.loop.io(self.epoll.fileno(), _READ)
        self.watcher.start(self.turn)

    def collect(self) -> None:
        polls = 0
        wait = 0.0
        before = 0.0
        foreign = 0
        while True:
            count = self.epoll.poll(wait)
            if wait > 0.0:
                before = self.now
                self.now = clock()
            for index in range(count):
                fd = self.epoll.fd_at(index)
                if fd < len(self.channels):
                    channel = self.channels[fd]
                    if channel is not None:
                        self.note(channel, self.epoll.mask_at(index))
                        if count > 1 and self.batches and channel.readable:
                            self.news.append(channel)
                        continue
                foreign = 1  # the hub's to act on, or closed within this turn
            if self.news:
                self.fetch()
            self.run()
            polls += 1
            if foreign:
                break
            if wait > 0.0 and count == 0:
                if self.now - before > CLOSE_SECONDS:
                    self.heat = 0
                break
            # So few events have taken no time worth looking at the clock for.
            wait = self.spare(self.now if count <= FEW_EVENTS else clock())
            if wait == 0.0 and (count <= FEW_EVENTS or polls >= POLLS_PER_TURN):
                break

    def fetch(self) -> None:
        """Receive for everybody on ``news``, if that is worth it."""
        self.news.clear()

    def register(self, channel: Channel) -> None:
        while len(self.channels) <= channel.fd:
            self.channels.append(None)
        self.channels[channel.fd] = channel
        self.epoll.add(channel.fd)

    def unregister(self, channel: Channel) -> None:
        if channel.fd < len(self.channels) and self.channels[channel.fd] is channel:
            self.channels[channel.fd] = None
            self.epoll.remove(channel.fd)

    def rearm(self, channel: Channel) -> None:
        pass

    def want_write(self, channel: Channel, wanted: _int) -> None:
        channel.armed = wanted
        self.epoll.want_write(channel.fd, bool(wanted))

    def close(self) -> None:
        self.closed = 1
        self.end_spare_greenlets()
        self.watcher.stop()
        self.watcher.close()
        self.epoll.close()
