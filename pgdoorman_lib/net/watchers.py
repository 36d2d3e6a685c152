"""The engine that goes by gevent's own watchers, one per channel: works wherever gevent does."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.engine import Channel, Engine

_int = int

_READ = 1
_WRITE = 2


class GeventEngine(Engine):
    """Readiness by level-triggered watchers of the hub's loop."""

    name = "gevent"

    def __init__(self) -> None:
        Engine.__init__(self)
        #: by descriptor, for writing by what is below zero
        self.watchers: dict[int, Any] = {}

    def collect(self) -> None:
        self.run()  # the watchers have noted the events already

    def register(self, channel: Channel) -> None:
        watcher = self.loop.io(channel.fd, _READ)
        self.watchers[channel.fd] = watcher
        watcher.start(self._on_read, channel)

    def unregister(self, channel: Channel) -> None:
        watcher = self.watchers.pop(channel.fd, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()
        self.want_write(channel, 0)

    def rearm(self, channel: Channel) -> None:
        watcher = self.watchers.get(channel.fd)
        if watcher is not None and not watcher.active:
            watcher.start(self._on_read, channel)

    def want_write(self, channel: Channel, wanted: _int) -> None:
        channel.armed = wanted
        key = -1 - channel.fd
        if wanted:
            if key not in self.watchers:
                watcher = self.loop.io(channel.fd, _WRITE)
                self.watchers[key] = watcher
                watcher.start(self._on_write, channel)
        else:
            watcher = self.watchers.pop(key, None)
            if watcher is not None:
                watcher.stop()
                watcher.close()

    def _on_read(self, channel: Channel) -> None:
        self.watchers[channel.fd].stop()
        self.note(channel, 1)
        self.kick()

    def _on_write(self, channel: Channel) -> None:
        self.want_write(channel, 0)
        self.note(channel, 2)
        self.kick()

    def close(self) -> None:
        self.closed = 1
        self.end_spare_greenlets()
        for watcher in self.watchers.values():
            watcher.stop()
            watcher.close()
        self.watchers.clear()
