"""The other worker processes, as the pools of this one deal with them: what is counted together, and servers sent.

A server goes as in an upgrade (``welcome``), and with a place: it counts here until the other worker has it, who counts
it from before that. So both count it for a moment, and there is never one that nobody counts, whoever dies.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent

from pgdoorman_lib.client import memory
from pgdoorman_lib.client.headcount import Headcount
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.net.tls_secrets import CanNotMove
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.pool.database import Database
from pgdoorman_lib.pool.exchange import Exchange
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.roll import Roll
from pgdoorman_lib.pool.row import Row
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.intake import Intake
from pgdoorman_lib.supervisor.transfers import Transfers
from pgdoorman_lib.supervisor.worker_cancels import WorkerCancels
from pgdoorman_lib.wire.handover import Book, Plain
from pgdoorman_lib.wire.statements import keep_handles

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: What ``WorkerCancels`` says and is told.
CANCELS = (kinds.CANCEL, kinds.DONE, kinds.NUMBERS)
#: Seconds for a server to go over.
SECONDS = 2.0


class Neighbours:
    """``app``'s; ``ledger`` is this worker's, ``peers`` are the channels to the others by number, as they are now.

    ``roll`` is this worker's, for whoever finds it dead.
    """

    def __init__(self, app: App, ledger: Ledger, peers: Mapping[int, Channel], roll: Roll | None = None) -> None:
        self._app = app
        self._ledger = ledger
        self._roll = roll
        self._peers = peers
        #: servers that others have taken
        self.sent = 0
        self._under_way: set[gevent.Greenlet[..., None]] = set()
        self.cancels = WorkerCancels(app.clients, peers, app.cancel_here, app.cancellable)
        app.clients.on_end = self.cancels.end_noticed
        self.transfers = Transfers(app, peers, self.cancels.departed)
        #: servers and clients go to none of them, nor come
        self.retired = False
        #: what the others were told of each pool
        self._told: weakref.WeakKeyDictionary[Pool, Plain] = weakref.WeakKeyDictionary()
        #: of databases that are gone
        self._unused: list[Row] = []
        keep_handles()
        app.be_one_of(ledger.count)
        app.headcount = Headcount(ledger.row)
        memory.share(app.engine, ledger.row("memory"))
        ledger.listen()

    # What is counted together.

    def join(self, pool: Pool) -> None:
        """Have ``pool``, which is new, be one with those of the same database and user in the other workers."""
        # One row whatever the settings: a pool that a reload has replaced has servers yet, and others may go by the
        # configuration before.
        row = self._ledger.row("pool", pool.settings.database, pool.settings.user)
        pool.share(
            Exchange(pool, row, self._send, self._tell),
            self._ledger.row("pinned", pool.settings.database, pool.settings.user),
        )
        pool.roll = self._roll

    def quota(self, name: str, of: str) -> Row:
        """The count of servers for a limit of that name, for ``pool.quota``."""
        return self._ledger.row(name, of)

    def secrets(self, name: str) -> Row:
        """By which it is told that a secret of a user who is looked up for a pool is another, for ``lookups``."""
        return self._ledger.row("secrets", name)

    def database(self, database: Database, of: tuple[str, int, str]) -> None:
        """Have ``database``, which is new, know what is seen in the other workers; see ``pool.database.Databases``."""
        while self._unused:
            self._unused.pop().leave()
        host, port, name = of
        row = self._ledger.row("objects", host, str(port), name)
        database.share(row)
        weakref.finalize(database, self._unused.append, row).atexit = False  # called anywhere: nothing is locked there

    def close(self) -> None:
        """Send nothing more, wait until what is under way has gone, and count nothing here any more; may switch."""
        self._peers = {}
        gevent.joinall(list(self._under_way))
        self._ledger.close()

    def retire(self, retired: bool) -> None:
        """Have servers and clients go to no other worker of these, as long as all hand over to those of another pooler.

        Who counts ours there must not count one twice, or not at all.
        """
        self.retired = retired

    # What is known of pools.

    def _tell(self, exchange: Exchange) -> None:
        """See ``exchange.Tell``."""
        state = _known(exchange.pool)
        if state != self._told.get(exchange.pool):
            self._told[exchange.pool] = state
            for worker in list(self._peers):
                self._spawn(self._say, worker, [state])

    def greet(self, worker: int) -> None:
        """Tell a worker whose channel is new what is known here, whoever has told it; may switch."""
        self.cancels.greet(worker)
        self._say(worker, [_known(pool) for pool in self._app.pools if pools.has_learnt(pool)])

    def _say(self, worker: int, known: list[Plain]) -> None:
        channel = self._peers.get(worker)
        if channel is None:
            return
        try:
            for state in known:
                channel.send(Parcel(kinds.KNOWN, state), SECONDS)  # switch
        except ParcelError as exc:
            log.debug("worker %d was not told what is known of pools: %s", worker, exc)

    # Servers.

    def receiver(self, worker: int) -> Receiver:
        """What takes what comes on the channel to another ``worker``."""
        return _FromNeighbour(self._app, self, worker)

    def _send(self, exchange: Exchange, server: Server, worker: int, claimed: int) -> None:
        """See ``exchange.Send``."""
        channel = self._peers.get(worker)
        if channel is None or channel.ended.is_set() or self.retired:
            exchange.stayed(server, worker, claimed)
            return
        self._spawn(self._move, channel, exchange, server, worker, claimed)

    def _spawn(self, run: Callable[..., None], *arguments: Any) -> None:
        greenlet = gevent.spawn(run, *arguments)
        self._under_way.add(greenlet)
        greenlet.link(self._under_way.discard)

    def _move(self, channel: Channel, exchange: Exchange, server: Server, worker: int, claimed: int) -> None:
        """Send ``server``, which counts as borrowed; may switch."""
        settings = exchange.pool.settings
        begun = clock()
        moved = False
        try:
            state: dict[str, Any] = servers.pack(server)
            state.update(database=settings.database, user=settings.user, settings=exchange.digest)
            parcel = Parcel(kinds.SERVER, state, [server.stream.fd])
            exchange.pool.strike_off(server)
            try:
                channel.send(parcel, SECONDS)  # switch
            finally:
                moved = parcel.moved
        except (CanNotMove, ParcelError) as exc:
            log.debug("worker %d does not take server #%d: %s", worker, server.id, exc)
        finally:
            if moved:
                self.sent += 1
                exchange.went(server, worker, claimed, clock() - begun)
            else:
                exchange.pool.enrol(server)
                exchange.stayed(server, worker, claimed)


class _FromNeighbour(Intake):
    """Takes for ``app`` what another worker sends."""

    def __init__(self, app: App, neighbours: Neighbours, worker: int) -> None:
        super().__init__(app, _book)
        self._prepare_server = self._prepare_server_of_same
        self._take_client = self._take_client_that_rests
        self._neighbours = neighbours
        self._cancels = neighbours.cancels
        self._worker = worker

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind in CANCELS:
            self._cancels.prepare(parcel)
        elif self._neighbours.retired:
            raise Refused("this worker hands over to another pooler's")
        else:
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        if parcel.kind in CANCELS:
            self._cancels.take(parcel, self._worker)
        else:
            super().take(parcel)

    def drop(self, parcel: Parcel) -> None:
        if parcel.kind not in CANCELS:
            super().drop(parcel)

    def _prepare_server_of_same(self, parcel: Parcel) -> None:
        if self._pool_of(parcel) is None:
            raise Refused("its pool has other settings here")
        self._welcome.prepare_server(parcel)

    def _prepare_known(self, parcel: Parcel) -> None:
        # One that is made for it, of a user who is looked up, is to have what was found with him there.
        pools.prepare(self._app.pools, parcel.state, parcel.state)
        parcel.prepared = self._pool_of(parcel)
        if parcel.prepared is None:
            raise Refused("there is no such pool here")

    def _pool_of(self, parcel: Parcel) -> Pool | None:
        """The pool that a parcel is about, None where it has other settings here, or is none."""
        pool = self._app.find_pool(parcel.state["database"], parcel.state["user"])
        return pool if pool is not None and pool.exchange.digest == parcel.state["settings"] else None

    def _take_known(self, parcel: Parcel) -> None:
        pools.know(parcel.prepared, parcel.state)

    def _take_client_that_rests(self, parcel: Parcel) -> None:
        self._neighbours.transfers.rest(parcel.state["id"])
        self._welcome.take_client(parcel)


def _known(pool: Pool) -> Plain:
    return {**pools.pack(pool), "settings": pool.exchange.digest}


def _book() -> Book:
    return Book(abroad=True)
