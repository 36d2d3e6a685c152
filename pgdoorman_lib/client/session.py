"""One client after its login: wait for a message, borrow a server, relay, give it back; until either side ends.

``serve`` is the greenlet's body, ``poll`` what it waits for: each step of a transaction stands there once, and is taken
in the engine's turns. It must not switch. Between ``_borrow`` and ``_give_back`` the server is the session's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.departure import Departure
from pgdoorman_lib.client.faults import ended
from pgdoorman_lib.client.info import ClientInfo, session_info
from pgdoorman_lib.client.served import Served
from pgdoorman_lib.errors import DoormanError, NoSuchPool
from pgdoorman_lib.log import Label, label
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.pool.sequences import MIXED
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.session_state import ASKED, DIRTY_PARAMETERS, DIRTY_PREPARED, DIRTY_SESSION, DIRTY_TEMPORARY
from pgdoorman_lib.wire.settings import BASE

_int = int
_float = float
_bytes = bytes

_REMOVED = "The pool was removed from the configuration."
_numbers = count(1)


class Session(Served):
    """A logged-in client.

    ``id`` is its number, ``process`` the process id in its cancel key, ``secret`` the other half of the key;
    ``find_pool`` gives the pool of (database, user) or None; ``abandon`` takes a server that can't just be given back;
    ``close`` is called at the end with the error the client must be told, or with the reason for the log.
    """

    __slots__ = (
        "abandon",
        "close",
        "connected_at",
        "database",
        "find_pool",
        "id",
        "in_vain",
        "kept",
        "leaving",
        "plain",
        "secret",
        "termination",
        "user",
    )

    def __init__(
        self,
        client: Stream,
        id: _int,
        secret: _bytes,
        user: str,
        database: str,
        connected_at: _float,
        find_pool: Callable[[str, str], Any],
        abandon: Callable[[Any, Server, bool, bool], None],
        close: Callable[[DoormanError | None, str], None],
    ) -> None:
        self.init_served(client)
        self.link.process = consts.PROCESS_BASE + id
        self.id = id
        self.number = next(_numbers)
        self.secret = secret
        self.user, self.database = user, database
        self.connected_at = connected_at
        self.find_pool = find_pool
        self.abandon = abandon
        self.close = close
        self.settings = BASE
        #: the settings last seen that make no temporary objects and do nothing to a server at rest
        self.plain = BASE
        #: it keeps its server for the values of sequences, and how often it has had some and not asked for them
        self.kept = self.in_vain = 0
        #: it is on its way to another process: nothing of it may be touched
        self.leaving = 0
        #: the error to say goodbye with, once no transaction is open; or why it is to leave for another process
        self.termination: DoormanError | Departure | None = None

    def label(self) -> Label:
        return label(self.user, self.database, self.id, self.link.client.peer)

    def info(self) -> ClientInfo:
        """What SHOW CLIENTS tells."""
        return session_info(self)

    @property
    def pool_user(self) -> str:
        return str(self.link.pool.settings.user)

    @property
    def application_name(self) -> str:
        """What the client calls itself."""
        return str(self.settings.values.get("application_name", ""))

    @property
    def state(self) -> str:
        """As in ``ClientInfo``."""
        if self.link.server is None:
            return "waiting" if self.waiting else "idle"
        return "idle" if (self.link.pins or self.kept) and self.idle() else "active"

    @property
    def held(self) -> tuple[int, int]:
        """As in ClientView."""
        return len(self.link.statements.names), int(self.link.statements.unnamed is not None)

    # The greenlet's body.

    def start(self) -> Task:
        """Begin to serve; no switch. There is no greenlet until polling has come to an event, mostly the end."""
        client = self.link.client
        task = Task(client.engine, self)
        self.task = task
        client.task = task
        if client.has_news() or client.inbox is not None or self.termination is not None:
            task.wake()  # the first query may be here already, or it is to leave
        return task

    def go_on_with(self, task: Task) -> _int:
        """As ``start``, with the client's task so far, which is being polled: what polling comes to."""
        task.pollable = self
        self.task = task
        return self.poll()

    def run(self) -> None:
        """Serve, then close in any case."""
        error: DoormanError | None = None
        reason = ""
        try:
            reason = self.serve()
        except DoormanError as exc:
            error = exc
        finally:
            self.close(error, reason)
        self.link.owner = None  # it knows us and we it: the collector need not find that out
        self.put_down()  # not after a fault of ours: nobody knows what is in it then

    def run_blocks(self, event: _int) -> bool:
        """As in Pollable: to leave without a server is a matter of a moment, if nothing is queued for the client."""
        left = event == events.CLIENT_GONE or event == events.TERMINATE
        return not left or self.link.server is not None or self.link.client.out_pending > 0

    def serve(self) -> str:
        """Serve the client until it, or its server, is gone; may switch. Returns why it ended, for the log.

        DoormanError: what the client must still be told. A borrowed server is given back or abandoned in any case.
        """
        try:
            while True:
                try:
                    event = self.task.wait(self)
                    if event == events.TERMINATE or (event == events.CLIENT_GONE and not self.waiting):
                        return self.at_work().client_end.parting(event)
                    return ended(self, event)
                except Departure as departure:
                    self.termination = None
                    if departure.take(self):
                        return "client has gone to another process"
        except DoormanError:
            raise
        except Exception:
            if self.link.server is not None:
                # By a fault of ours nobody knows what is on it: nobody else may get it.
                self.link.server.fatal_received = 1
            raise
        finally:
            self._leave()

    def poll(self) -> _int:
        """As in Pollable: the client's transactions, one after the other. PENDING is where blocking code would wait."""
        relay = self.at_work()
        while True:
            event = self._still_waiting() if self.waiting else relay.step()
            if event == events.PENDING:
                if self.termination is not None and self._may_end():
                    self._say_goodbye()
                if self.link.server is None:
                    self.put_down()
                return events.PENDING
            if event == events.RELEASE:
                self._give_back()
                if self.termination is not None and not self.batch.settling and self._may_end():
                    self._say_goodbye()
                if self.resting():
                    self.put_down()
                    return events.PENDING  # as ``step`` would find by a longer way
            elif event == events.NEED_SERVER:
                self._borrow()
            else:
                return event

    def _say_goodbye(self) -> None:
        """The session is to end here, once the client has taken its answers."""
        if self.link.client.push() != 0:
            if self.waiting:
                self.waiting = 0
                self.link.pool.withdraw(self)
            raise self.termination  # type: ignore[misc]

    def _may_end(self) -> bool:
        """Whether this is the place for the session's termination."""
        how = self.termination
        return how.suits(self) if isinstance(how, Departure) else self.idle()

    # Borrowing.

    def _borrow(self) -> None:
        """Borrow a server for the message at the front, or wait for one; never switches."""
        pool = self.link.pool
        if pool.retired:
            pool = self.find_pool(self.database, self.user)
            if pool is None:
                raise NoSuchPool(f"No pool configured for database: {self.database}, user: {self.user}", hint=_REMOVED)
            self.link.use(pool)
        pool.request(self)
        self.waiting = 1

    def _still_waiting(self) -> _int:
        """What has come of waiting for a server: PENDING, CLIENT_GONE, or as ``step`` when it is there."""
        error = self.wait_error
        if error is not None:
            self.wait_error = None
            self.waiting = 0
            if not isinstance(error, Moved):
                raise error
            self._borrow()  # of the pool's replacement
        server = self.assigned
        if (server is None or self.link.client.eof or self.link.client.hangup) and self.at_work().client_end.gone():
            return events.CLIENT_GONE
        if server is None:
            return events.PENDING
        self.waiting = 0
        self._prepare(server)
        return self.at_work().step()

    def _prepare(self, server: Server) -> None:
        """``server`` is borrowed: have on it what the client has set, before its message goes there."""
        link = self.link
        pool = server.pool
        if link.transparent != pool.transparent:
            link.use(pool)  # its servers have proven to be others' (``pool.backends``)
        link.attach(server)
        if server.drawn_by != self.number:
            server.drawn_by = MIXED if server.drawn_by else self.number
        if (server.applied is not self.settings or server.base is not link.base) and link.sync_parameters:
            self.at_work().errands.apply()
        if server.reported is not link.told and not self.batch.settling:
            self.at_work().reports.tell()
        if link.pool.sequences is not None:
            link.pool.sequences.lent(self, server)
        if self.settings is not self.plain:
            if self.settings.temporary:
                server.dirty |= DIRTY_TEMPORARY  # any CREATE TABLE makes one
            elif not self.settings.restless:
                self.plain = self.settings

    # Giving back.

    def _give_back(self) -> None:
        """The transaction is over: the server goes back to the pool, or straight to the next in its queue.

        It stays while it is asked what the transaction has left on it, and as long as something pins it.
        """
        link = self.link
        server = link.server
        link.account()
        if link.pool.forget_names:
            self.at_work().leftovers.note_names()
        if self._stays(server):
            pass
        elif server.applied is not self.plain and server.applied.restless:
            self.at_work().errands.calm()
        else:
            link.detach()
            self.assigned = None
            pool = server.pool
            pool.checkin(server)

    def _stays(self, server: Server) -> bool:
        """Whether the server is not given back: for a question under way, or for what is on it."""
        link = self.link
        batch = self.batch
        if link.transparent:
            asks = server.dirty & ASKED or link.noted or link.pins & DIRTY_PREPARED
            if asks and self.at_work().leftovers.examine():
                return True
            if link.noted:
                self.at_work().leftovers.forget_notes()
            if self.drawing:
                self.kept = link.pool.sequences.over(self) if link.pool.sequences is not None else 0
            if link.pins or self.kept:
                batch.told_sets = 0
                batch.planning_changed = 0
                batch.altered = 0
                return True
        elif link.noted:
            self.at_work().leftovers.forget_notes()
        return False

    # What a pool's ``Sequences`` calls.

    def let_go(self) -> None:
        """The server that is kept for the values of sequences is wanted by others, or has been kept for long enough."""
        if self.kept and self.idle():
            self._give_back()

    def forget_sequences(self) -> None:
        """As ``Texts`` does."""
        self.at_work().texts.forget_sequences()

    # The end.

    def _leave(self) -> None:
        """The session is over: nothing of it stays on a server."""
        link = self.link
        if self.relay is not None:
            self.relay.client_end.wait_no_more()
        link.statements.release()
        if self.waiting:
            self.waiting = 0
            link.pool.withdraw(self)
        server = link.server
        if server is None:
            return
        link.account()
        if link.pool.forget_names:
            self.at_work().leftovers.note_names()
        in_batch = self.batch.in_batch
        half_sent = link.client_left > 0 or link.server_left > 0
        if link.pins:
            server.dirty |= link.pins
            self.at_work().leftovers.pin(0)
        if self.kept:
            self.kept = 0
            if link.pool.sequences is not None:
                link.pool.sequences.leave(self)
        link.detach()
        self.assigned = None
        if not link.by_transaction:
            server.dirty |= DIRTY_SESSION
        elif server.applied.restless:
            server.dirty |= DIRTY_PARAMETERS
        if server.is_reusable() and not in_batch and not half_sent:
            server.pool.checkin(server)
        else:
            self.abandon(server.pool, server, bool(in_batch), bool(half_sent))

    def end(self, error: DoormanError) -> None:
        """End the session with ``error`` wherever it waits (only the hub may call this)."""
        if self.leaving:
            self.termination = error  # should it come back
        else:
            self.task.throw(error)

    def terminate_when_idle(self, error: DoormanError) -> None:
        """End the session with ``error`` once no transaction is open and its answers are taken; never switches."""
        self.termination = error
        self.task.wake()
