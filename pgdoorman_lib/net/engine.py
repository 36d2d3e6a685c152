"""Readiness of the relay's sockets: which streams have something to do, and one turn that lets them do it.

Rules:
1. A channel is registered once, for its life. What the kernel tells is remembered in the channel (``readable``,
   ``hangup``, ``blocked``), never asked again while nobody acted on it.
2. A task is the one greenlet that waits on a channel. It waits only in ``Task.wait`` and ``Task.park``; every switch
   point of the data path is a call of one of them.
3. A turn: collect all that is ready, resume each waiting task once, then send everything they queued. Sending last
   keeps the peers asleep until the batch is complete, which is where the speed comes from.
4. Nothing called from a turn but ``Task.resume`` may switch greenlets. It does so only when polling for the task has
   come to an event: a greenlet switch costs as much as relaying a small message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from pgdoorman_lib.net import greenlets
from pgdoorman_lib.net.buffers import Buffers
from pgdoorman_lib.net.measures import CLOSE_SECONDS, HOT_TURNS, SPARE_GREENLETS, TURN_SECONDS
from pgdoorman_lib.net.pollable import PENDING, Pollable
from pgdoorman_lib.net.ring import Ring
from pgdoorman_lib.net.syscalls import clock

_int = int
_float = float


class Task:
    """The greenlet that waits on one or more channels, perhaps for what a pollable comes to.

    It is the running greenlet, or with a ``pollable`` one that is made, for its ``run``, once ``poll`` has said
    anything but PENDING: until then there is nothing for a greenlet to do.
    """

    __slots__ = ("engine", "event", "fault", "following", "greenlet", "parked", "pollable", "polling", "scheduled")

    def __init__(self, engine: Engine, pollable: Pollable | None = None) -> None:
        self.engine = engine
        self.greenlet: Any = getcurrent() if pollable is None else None
        self.parked = 0 if pollable is None else 1
        self.scheduled = 0
        #: the next on the engine's queue of those to resume
        self.following: Task | None = None
        #: who is polled while the greenlet is parked
        self.pollable = pollable
        #: its ``poll`` is at work: what is raised meanwhile is the greenlet's
        self.polling = 0
        #: what it has said, or raised before there was a greenlet
        self.event = PENDING
        self.fault: BaseException | None = None

    def wait(self, pollable: Pollable) -> _int:
        """Wait until ``pollable.poll()`` says anything but PENDING, and return that; may switch.

        As ``threading.Condition.wait_for``, but that the engine asks the question in its turns.
        """
        mine: Any = self  # see ``park``
        fault = mine.fault
        if fault is not None:
            mine.fault = None
            raise fault
        if mine.event == PENDING:
            mine.event = pollable.poll()
        mine.pollable = pollable
        try:
            while mine.event == PENDING:
                mine.park()
        finally:
            mine.pollable = None
        event: _int = mine.event
        mine.event = PENDING
        return event

    def park(self) -> None:
        """Wait until a channel of this task has news or somebody calls ``wake``: a greenlet switch.

        Returns without news now and then; callers loop over their condition. Whatever is thrown into the greenlet
        (GreenletExit, a gevent.Timeout) is raised here.
        """
        # Compiled, a call takes no reference of its own: whose task it is may let go of it meanwhile (a stream that is
        # closed), and it must live until this returns.
        mine: Any = self
        engine: Any = mine.engine
        if not engine.in_turn:
            engine.flush()
        mine.parked = 1
        try:
            greenlets.switch(engine.hub)
        finally:
            mine.parked = 0

    def wake(self) -> None:
        """Let the greenlet run in this turn, or the next one when none is under way; no switch here."""
        if self.parked and not self.scheduled:
            self.engine.schedule(self)
            if not self.engine.in_turn:
                self.engine.kick()

    def resume(self) -> None:
        """Poll, or switch to the greenlet, if it still waits (only the hub may call this)."""
        self.scheduled = 0
        if self.parked:
            pollable = self.pollable  # it may leave its place to another, and must live until it returns
            if pollable is not None:
                self.polling = 1
                self.event = pollable.poll()
                self.polling = 0
            if pollable is not None and self.event == PENDING:
                pass  # it goes on waiting
            elif self.greenlet is None:
                self.begin()
            else:
                greenlets.switch(self.greenlet)

    def failed(self, error: Exception) -> None:
        """``resume`` has raised ``error``: it is the greenlet's if ``poll`` raised it, else nobody's (raised again).

        Nothing is caught in ``resume`` itself, since that would cost every step what only a fault needs.
        """
        if not self.polling:
            raise error
        self.polling = 0
        self.throw(error)

    def throw(self, error: BaseException) -> None:
        """Raise ``error`` in the greenlet where it is parked, or at its first wait (only the hub may call this)."""
        if self.greenlet is not None:
            if not self.greenlet.dead:
                self.greenlet.throw(error)
        elif self.parked:
            self.fault = error
            self.begin()

    def begin(self) -> None:
        """Make the greenlet and let it run, if it needs to be one (only the hub may call this)."""
        pollable = self.pollable
        assert pollable is not None
        self.parked = 0
        if self.fault is None and not pollable.run_blocks(self.event):
            self.pollable = None
            pollable.run()
        else:
            self.greenlet = self.engine.take_greenlet(self)
            greenlets.switch(self.greenlet)

    def run(self) -> None:
        """The part of a greenlet's life that belongs to this task."""
        pollable = self.pollable
        assert pollable is not None
        self.pollable = None
        try:
            pollable.run()
        finally:
            self.greenlet = None


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
        self.init_channel(engine, fd)

    def init_channel(self, engine: Engine, fd: _int) -> None:
        """As ``__init__``, which those who inherit would call as Python does."""
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

    def begin_receive(self, ring: Ring) -> bool:
        """Queue on ``ring`` what ``fill`` would do first: 1, and ``end_receive`` must follow, or 0 for nothing."""
        raise NotImplementedError

    def end_receive(self, n: _int) -> None:
        """What ``begin_receive`` queued has received ``n`` bytes, or failed with ``-errno``."""
        raise NotImplementedError

    def begin_send(self, ring: Ring) -> bool:
        """Queue on ``ring`` what ``push`` would do first: 1, and ``end_send`` must follow, or 0: it is done."""
        raise NotImplementedError

    def end_send(self, n: _int) -> None:
        """What ``begin_send`` queued has sent ``n`` bytes, or failed with ``-errno``: do the rest of ``push``."""
        raise NotImplementedError


class Engine(Buffers):
    """Turns, and who takes part in the next one; how the kernel is asked is for those who inherit."""

    name = ""

    def __init__(self) -> None:
        Buffers.__init__(self)
        hub = gevent.get_hub()
        self.hub = hub
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
        #: greenlets at rest, which have served others, and the task that the next one to be switched to is to run
        self.spare_greenlets: list[greenlet] = []
        self.beginning: Task | None = None
        self.later: list[Any] = []
        self.idle: list[Any] = []
        self.level_triggered = 1
        #: several receives or sends are one system call: ``news`` is kept for ``fetch``, there is ``send_together``
        self.batches = 0
        #: when the turn under way began and the last one ended; how many turns followed each other closely
        self.began = self.ended = 0.0
        self.heat = 0

    # Greenlets.

    def take_greenlet(self, task: Task) -> greenlet:
        """One that runs ``task`` once it is switched to."""
        self.beginning = task
        return self.spare_greenlets.pop() if self.spare_greenlets else greenlet(self.run_tasks, self.hub)

    def run_tasks(self) -> None:
        """The life of a greenlet: one task after the other."""
        while True:
            self._run_task()
            if self.closed or len(self.spare_greenlets) >= SPARE_GREENLETS:
                return
            self.spare_greenlets.append(getcurrent())
            greenlets.switch(self.hub)

    def _run_task(self) -> None:
        # Of the task nothing is left behind on the stack of a greenlet at rest.
        task: Any = self.beginning
        self.beginning = None
        task.run()

    def end_spare_greenlets(self) -> None:
        """None is at rest any more; no switch but to those."""
        while self.spare_greenlets:
            spare = self.spare_greenlets.pop()
            spare.parent = getcurrent()
            spare.throw()

    # Sending.

    def defer(self, channel: Channel) -> None:
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

    def flush(self) -> None:
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

    def send_together(self) -> None:
        """Send for everybody on the queue; engines with ``batches`` do it in one system call."""
        raise NotImplementedError

    # Turns.

    def kick(self) -> None:
        """Have a turn soon although no descriptor asks for one."""
        if not self.kicked:
            self.kicked = 1
            self.loop.run_callback(self.turn)

    def again(self, task: Task) -> None:
        """Resume ``task`` in the next turn: for one that has more to do but should let others go first."""
        if not task.scheduled:
            task.scheduled = 1
            self.later.append(task)
            self.kick()

    def schedule(self, task: Task) -> None:
        """Put ``task`` on the queue of those to resume; it must not stand there."""
        task.scheduled = 1
        if self.last_ready is None:
            self.ready = task
        else:
            self.last_ready.following = task
        self.last_ready = task

    def note(self, channel: Channel, mask: _int) -> None:
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

    def run(self) -> None:
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
        self.now = self.began = clock()
        self.heat = self.heat + 1 if self.now - self.ended < CLOSE_SECONDS else 0
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
        if self.heat < HOT_TURNS or self.closed or self.callbacks:
            return 0.0
        left = TURN_SECONDS - (now - self.began)
        return left if left > 0.0 else 0.0

    def collect(self) -> None:
        """Gather events and run whoever they concern."""
        raise NotImplementedError

    # Registration.

    def register(self, channel: Channel) -> None:
        """Watch a channel from now until ``unregister``."""
        raise NotImplementedError

    def unregister(self, channel: Channel) -> None:
        """Forget a channel; before its descriptor is closed."""
        raise NotImplementedError

    def rearm(self, channel: Channel) -> None:
        """All there was has been read: tell about the next bytes (level-triggered engines only)."""
        raise NotImplementedError

    def want_write(self, channel: Channel, wanted: _int) -> None:
        """Tell when a channel has room to write, or cease to."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop watching; channels still registered are forgotten."""
        raise NotImplementedError
