"""Readiness of the relay's sockets: which streams have something to do, and one turn that lets them do it.

Rules:
1. A channel is registered once, for its life. What the kernel tells is remembered in the channel (``readable``,
   ``hangup``, ``blocked``), never asked again while nobody acted on it.
2. A task is the one greenlet that waits on a channel. It waits only in ``Task.park``; every switch point of the data
   path is a call of it.
3. A turn: collect all that is ready, resume each waiting task once, then send everything they queued. Sending last
   keeps the peers asleep until the batch is complete, which is where the speed comes from.
4. Nothing called from a turn but ``Task.resume`` may switch greenlets. It does so only when the task's stepper can't
   finish the step by itself: a greenlet switch costs as much as relaying a small message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from pgdoorman_lib.net.ring import Ring
from pgdoorman_lib.net.syscalls import Epoll, clock

_int = int
_float = float

#: Bytes of one buffer. Larger ones save few system calls and cost cache; 16 KiB is also the TLS record size.
BLOCK_SIZE = 16384
#: Free blocks kept per process (16 MiB): what a burst needs again soon, but no more.
MAX_FREE_BLOCKS = 1024
#: Polls in one turn: answers that arrive while the batch is sent are taken along, yet timers and accepts get theirs.
POLLS_PER_TURN = 2

#: With so few events a second poll would hardly find any.
FEW_EVENTS = 4
#: Seconds a turn may go on, waiting included, before timers and the hub's own descriptors get theirs; callbacks of the
#: loop end it at once. It costs as much as a transaction: the way through the hub and back, and a timer of the kernel.
TURN_SECONDS = 0.004
#: A turn that follows the last one within so many seconds counts as traffic, and so many of them in a row as hot: then
#: the turn waits for more by itself, which spares the way through the hub.
CLOSE_SECONDS = 0.0004
HOT_TURNS = 4

_READ = 1
_WRITE = 2

# The same numbers as C integers, where this module is compiled.
_BLOCK_SIZE = BLOCK_SIZE
_MAX_FREE_BLOCKS = MAX_FREE_BLOCKS
_POLLS_PER_TURN = POLLS_PER_TURN
_FEW_EVENTS = FEW_EVENTS
_TURN_SECONDS = TURN_SECONDS
_CLOSE_SECONDS = CLOSE_SECONDS
_HOT_TURNS = HOT_TURNS


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


class Task:
    """The greenlet that waits on one or more channels, perhaps with a stepper that acts while it is parked.

    It is the running greenlet, unless a stepper begins: that one is parked from the start, with a greenlet only once
    there is something to do that ``advance`` can't.
    """

    __slots__ = ("engine", "following", "greenlet", "parked", "scheduled", "stepper", "stepping")

    def __init__(self, engine: Engine, stepper: Stepper | None = None) -> None:
        self.engine = engine
        self.greenlet: Any = getcurrent() if stepper is None else None
        self.parked = 0 if stepper is None else 1
        self.scheduled = 0
        #: the next on the engine's queue of those to resume
        self.following: Task | None = None
        self.stepper = stepper
        #: the stepper is at work: what is raised meanwhile is the greenlet's
        self.stepping = 0

    def park(self) -> _int:
        """Wait until a channel of this task has news or somebody calls ``wake``: a greenlet switch.

        Returns without news now and then; callers loop over their condition. Whatever is thrown into the greenlet
        (GreenletExit, a gevent.Timeout) is raised here.
        """
        engine = self.engine
        if not engine.in_turn:
            engine.flush()
        self.parked = 1
        try:
            engine.switch_to_hub()
        finally:
            self.parked = 0
        return 0

    def wake(self) -> _int:
        """Let the greenlet run in this turn, or the next one when none is under way; no switch here."""
        if self.parked and not self.scheduled:
            self.engine.schedule(self)
            if not self.engine.in_turn:
                self.engine.kick()
        return 0

    def resume(self) -> _int:
        """Let the stepper act, or switch to the greenlet, if it still waits (only the hub may call this)."""
        self.scheduled = 0
        if self.parked:
            stepper = self.stepper  # it may leave its place to another, and must live until it returns
            if stepper is not None:
                self.stepping = 1
                done = stepper.advance()
                self.stepping = 0
                if done:
                    return 0
            if self.greenlet is None:
                self.begin(None)
            else:
                self.greenlet.switch()
        return 0

    def failed(self, error: Exception) -> _int:
        """``resume`` has raised ``error``: it is the greenlet's if the stepper raised it, else nobody's (raised again).

        Nothing is caught in ``resume`` itself, since that would cost every step what only a fault needs.
        """
        if not self.stepping:
            raise error
        self.stepping = 0
        return self.throw(error)

    def throw(self, error: BaseException) -> _int:
        """Raise ``error`` in the greenlet where it is parked, or at its beginning (only the hub may call this)."""
        if self.greenlet is not None:
            if not self.greenlet.dead:
                self.greenlet.throw(error)
        elif self.parked:
            self.begin(error)
        return 0

    def begin(self, fault: BaseException | None) -> _int:
        """Let the stepper go on in a greenlet of its own (only the hub may call this)."""
        stepper = self.stepper
        assert stepper is not None
        self.stepper = None
        self.parked = 0
        self.greenlet = greenlet(stepper.run, self.engine.hub)
        self.greenlet.switch(fault)
        return 0


class Channel:
    """What the engine knows of a stream: its descriptor, what the kernel told, and who waits."""

    __slots__ = (
        "armed",
        "blocked",
        "dirty",
        "drained",
        "engine",
        "fd",
        "following",
        "hangup",
        "on_idle",
        "readable",
        "task",
    )

    def __init__(self, engine: Engine, fd: _int) -> None:
        self.engine = engine
        self.fd = fd
        #: the greenlet to resume; None while the stream rests in a pool
        self.task: Task | None = None
        #: called (without switching) when a stream without a task has news
        self.on_idle: Callable[[], Any] | None = None
        self.readable = 0
        self.hangup = 0
        #: queued bytes met a full socket; an event clears it
        self.blocked = 0
        #: stands on the engine's queue of streams with bytes to send, and the next there
        self.dirty = 0
        self.following: Channel | None = None
        #: the engine watches for room to write
        self.armed = 0
        #: what ``end_receive`` got was all there was, as far as is known
        self.drained = 0

    def push(self) -> _int:
        """Send what is queued without waiting: 1 all gone, 0 the socket is full, -1 the connection is broken."""
        raise NotImplementedError

    def begin_receive(self, ring: Ring) -> _int:
        """Queue on ``ring`` what ``fill`` would do first: 1, and ``end_receive`` must follow, or 0 for nothing."""
        raise NotImplementedError

    def end_receive(self, n: _int) -> _int:
        """What ``begin_receive`` queued has received ``n`` bytes, or failed with ``-errno``."""
        raise NotImplementedError

    def begin_send(self, ring: Ring) -> _int:
        """Queue on ``ring`` what ``push`` would do first: 1, and ``end_send`` must follow, or 0: it is done."""
        raise NotImplementedError

    def end_send(self, n: _int) -> _int:
        """What ``begin_send`` queued has sent ``n`` bytes, or failed with ``-errno``: do the rest of ``push``."""
        raise NotImplementedError


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

    def add(self, item: object) -> _int:
        """Put ``item``, which must not be None, at the end."""
        if self.top is not None:
            if self.older < len(self.items):
                self.items[self.older] = self.top
            else:
                self.items.append(self.top)
            self.older += 1
        self.top = item
        return 0

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

    def remove(self, item: object) -> _int:
        """Take ``item`` off; ValueError when it is not there."""
        if item is self.top:
            self.top = None
            return 0
        self.items.remove(item)
        self.older -= 1
        return 0


class Engine:
    """Readiness by gevent's own watchers, one per channel: works wherever gevent does."""

    name = "gevent"

    def __init__(self) -> None:
        hub = gevent.get_hub()
        self.hub = hub
        self.switch_to_hub = hub.switch
        self.loop: Any = hub.loop
        #: monotonic seconds at the start of the turn
        self.now = clock()
        self.in_turn = 0
        self.kicked = 0
        self.closed = 0
        #: what the loop is to call next, to be looked at only
        self.callbacks: Any = hub.loop._callbacks  # type: ignore[attr-defined]
        #: the first and last of the tasks to resume, and of the channels with bytes to send
        self.ready: Task | None = None
        self.last_ready: Task | None = None
        self.dirty: Channel | None = None
        self.last_dirty: Channel | None = None
        self.later: list[Any] = []
        self.idle: list[Any] = []
        self.blocks = Line()
        #: bytes in buffers larger than a block, and how many there may be
        self.grown = 0
        self.memory_limit = 1 << 62
        #: watcher by descriptor, or channel by descriptor, as the engine needs
        self.channels: list[Any] = []
        self.level_triggered = 1
        #: several receives or sends are one system call: ``news`` is kept for ``fetch``, there is ``send_together``
        self.batches = 0
        self.watchers: dict[Any, Any] = {}
        #: when the turn under way began and the last one ended; how many turns followed each other closely
        self.began = 0.0
        self.ended = 0.0
        self.heat = 0

    # Buffers.

    def take_block(self) -> bytearray:
        """A buffer of BLOCK_SIZE bytes from the free list."""
        blocks = self.blocks
        block: bytearray | None = blocks.top
        if block is None:
            block = blocks.take()
            return block if block is not None else bytearray(_BLOCK_SIZE)
        blocks.top = None
        return block

    def give_block(self, block: bytearray) -> _int:
        """Give a buffer back; one of another size, or beyond MAX_FREE_BLOCKS, is let go."""
        if len(block) != _BLOCK_SIZE:
            self.grown -= len(block)
        elif self.blocks.older < _MAX_FREE_BLOCKS - 1:
            self.blocks.add(block)
        return 0

    # Sending.

    def defer(self, channel: Channel) -> _int:
        """Send what ``channel`` has queued at the end of this turn, or when the running greenlet parks."""
        if not channel.dirty:
            channel.dirty = 1
            if self.last_dirty is None:
                self.dirty = channel
            else:
                self.last_dirty.following = channel
            self.last_dirty = channel
            if not self.in_turn and not self.kicked:
                self.kick()
        return 0

    def next_dirty(self) -> Channel:
        """Take the first off the queue of channels with bytes to send, which must not be empty."""
        channel: Any = self.dirty
        self.dirty = channel.following
        if self.dirty is None:
            self.last_dirty = None
        else:
            channel.following = None
        channel.dirty = 0
        return channel  # type: ignore[no-any-return]

    def flush(self) -> _int:
        """Send everything queued; no switch."""
        while self.dirty is not None:  # pushing may add more
            if self.batches and self.dirty is not self.last_dirty:
                self.send_together()
                continue
            channel = self.next_dirty()
            try:
                channel.push()
            except Exception:
                # A fault of one stream must not leave the others' bytes behind.
                self.hub.handle_error(channel, *sys.exc_info())
        return 0

    def send_together(self) -> _int:
        """Send for everybody on the queue; engines with ``batches`` do it in one system call."""
        raise NotImplementedError

    # Turns.

    def kick(self) -> _int:
        """Have a turn soon although no descriptor asks for one."""
        if not self.kicked:
            self.kicked = 1
            self.loop.run_callback(self.turn)
        return 0

    def again(self, task: Task) -> _int:
        """Resume ``task`` in the next turn: for one that has more to do but should let others go first."""
        if not task.scheduled:
            task.scheduled = 1
            self.later.append(task)
            self.kick()
        return 0

    def schedule(self, task: Task) -> _int:
        """Put ``task`` on the queue of those to resume; it must not stand there."""
        task.scheduled = 1
        if self.last_ready is None:
            self.ready = task
        else:
            self.last_ready.following = task
        self.last_ready = task
        return 0

    def note(self, channel: Channel, mask: _int) -> _int:
        """Remember an event (bits of syscalls.mask_at) and put whoever waits for it on the list; no switch."""
        if mask & 1:
            channel.readable = 1
            channel.drained = 0
            if mask & 4:
                channel.hangup = 1
        if mask & 2 and channel.blocked:
            channel.blocked = 0
            channel.push()
        task = channel.task
        if task is None:
            self.idle.append(channel)
        elif task.parked and not task.scheduled:
            self.schedule(task)
        return 0

    def run(self) -> _int:
        """Resume everyone on the list once, then send what they queued."""
        if self.idle:
            resting = self.idle
            self.idle = []
            for channel in resting:
                if channel.task is None and channel.on_idle is not None:
                    try:
                        channel.on_idle()
                    except Exception:
                        # A fault of one stream must not cost the others their events.
                        self.hub.handle_error(channel, *sys.exc_info())
        while self.ready is not None:  # wake() may add more while we go
            task = self.ready
            self.ready = task.following
            if self.ready is None:
                self.last_ready = None
            else:
                task.following = None
            try:
                task.resume()
            except Exception as exc:
                self.failed(task, exc)
        self.flush()
        return 0

    def failed(self, task: Task, error: Exception) -> None:
        """Resuming ``task`` has raised ``error``: tell who has to know."""
        try:
            task.failed(error)
        except Exception:
            self.hub.handle_error(task, *sys.exc_info())

    def turn(self) -> None:
        """One batch: collect, resume, send. Called by the hub's loop only."""
        self.kicked = 0
        if self.closed:
            return
        self.in_turn = 1
        self.now = clock()
        self.began = self.now
        self.heat = self.heat + 1 if self.now - self.ended < _CLOSE_SECONDS else 0
        try:
            if self.later:
                for task in self.later:
                    self.schedule(task)
                self.later.clear()
            self.collect()
        finally:
            self.in_turn = 0
            self.ended = clock()

    def spare(self, now: _float) -> _float:
        """Seconds this turn may wait for more instead of the hub; 0 if it is not worth it, or others have work."""
        if self.heat < _HOT_TURNS or self.closed or self.callbacks:
            return 0.0
        left = _TURN_SECONDS - (now - self.began)
        return left if left > 0.0 else 0.0

    def collect(self) -> _int:
        """Gather events and run whoever they concern; here the watchers have noted them already."""
        self.run()
        return 0

    # Registration.

    def register(self, channel: Channel) -> _int:
        """Watch a channel from now until ``unregister``."""
        watcher = self.loop.io(channel.fd, _READ)
        self.watchers[channel.fd] = watcher
        watcher.start(self._on_read, channel)
        return 0

    def unregister(self, channel: Channel) -> _int:
        """Forget a channel; before its descriptor is closed."""
        watcher = self.watchers.pop(channel.fd, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()
        self.want_write(channel, 0)
        return 0

    def rearm(self, channel: Channel) -> _int:
        """All there was has been read: tell about the next bytes (level-triggered engines only)."""
        watcher = self.watchers.get(channel.fd)
        if watcher is not None and not watcher.active:
            watcher.start(self._on_read, channel)
        return 0

    def want_write(self, channel: Channel, wanted: _int) -> _int:
        """Tell when a channel has room to write, or cease to."""
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
        return 0

    def _on_read(self, channel: Channel) -> None:
        self.watchers[channel.fd].stop()
        self.note(channel, 1)
        self.kick()

    def _on_write(self, channel: Channel) -> None:
        self.want_write(channel, 0)
        self.note(channel, 2)
        self.kick()

    def close(self) -> None:
        """Stop watching; channels still registered are forgotten."""
        self.closed = 1
        for watcher in self.watchers.values():
            watcher.stop()
            watcher.close()
        self.watchers.clear()


class EpollEngine(Engine):
    """Readiness by one edge-triggered epoll instance, itself a single io watcher on the hub (Linux)."""

    name = "epoll"

    def __init__(self) -> None:
        Engine.__init__(self)
        self.level_triggered = 0
        #: who has had an event that says there is something to read, where several have
        self.news: list[Any] = []
        self.epoll = Epoll()
        self.watcher = self.loop.io(self.epoll.fileno(), _READ)
        self.watcher.start(self.turn)

    def collect(self) -> _int:
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
                if self.now - before > _CLOSE_SECONDS:
                    self.heat = 0
                break
            # So few events have taken no time worth looking at the clock for.
            wait = self.spare(self.now if count <= _FEW_EVENTS else clock())
            if wait == 0.0 and (count <= _FEW_EVENTS or polls >= _POLLS_PER_TURN):
                break
        return 0

    def fetch(self) -> _int:
        """Receive for everybody on ``news``, if that is worth it."""
        self.news.clear()
        return 0

    def register(self, channel: Channel) -> _int:
        while len(self.channels) <= channel.fd:
            self.channels.append(None)
        self.channels[channel.fd] = channel
        self.epoll.add(channel.fd)
        return 0

    def unregister(self, channel: Channel) -> _int:
        if channel.fd < len(self.channels) and self.channels[channel.fd] is channel:
            self.channels[channel.fd] = None
            self.epoll.remove(channel.fd)
        return 0

    def rearm(self, channel: Channel) -> _int:
        return 0

    def want_write(self, channel: Channel, wanted: _int) -> _int:
        channel.armed = wanted
        self.epoll.want_write(channel.fd, bool(wanted))
        return 0

    def close(self) -> None:
        self.closed = 1
        self.watcher.stop()
        self.watcher.close()
        self.epoll.close()
