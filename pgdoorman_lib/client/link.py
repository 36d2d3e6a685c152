"""A client and the server it has borrowed: what everything between them shares."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client.batch import Batch
from pgdoorman_lib.client.tracking import Tracker
from pgdoorman_lib.log import Label, label
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.database import Database
from pgdoorman_lib.pool.queue import Borrower
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.baseline import UNKNOWN, Base
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.reported import NOTHING_REPORTED, Reported
from pgdoorman_lib.wire.scan import Scanner
from pgdoorman_lib.wire.session_state import DIRTY_PREPARED
from pgdoorman_lib.wire.settings import BASE

_int = int

#: For a session whose pool is not known yet: looks at texts; between two texts a scanner remembers nothing.
_no_words = Scanner()
#: And what is known of its database.
_nothing_known = Database()


class Owner(Borrower):
    """Whose link it is: a borrower, and what its parts ask of it."""

    __slots__ = ("asked_sequences", "drew")

    def __init__(self) -> None:
        self.init_owner()

    def init_owner(self) -> None:
        """As ``init_borrower``."""
        self.init_borrower()
        #: of this transaction, while ``drawing``: it may have taken a value from a sequence, and has asked for one
        self.drew = 0
        self.asked_sequences = 0

    def label(self) -> Label:
        """Who it is, for the log."""
        return label()


class Link:
    """The two ends, how far messages have come, and what is known of both.

    ``server``, ``srv`` (its stream) and ``replies`` are None while no server is borrowed. What belongs to a borrow only
    is in ``batch``.
    """

    __slots__ = (
        "base",
        "batch",
        "by_transaction",
        "check_query",
        "client",
        "client_drop",
        "client_left",
        "fault",
        "fault_sqlstate",
        "forgotten",
        "half_closed",
        "health",
        "knowledge",
        "log_parameters",
        "noted",
        "overdue",
        "owner",
        "parse_limit",
        "pins",
        "pool",
        "pool_stats",
        "process",
        "query_started",
        "registry",
        "replies",
        "scanner",
        "server",
        "server_drop",
        "server_left",
        "shared",
        "srv",
        "startup",
        "statements",
        "stats",
        "sync_parameters",
        "terminated",
        "told",
        "tracker",
        "transparent",
        "warned",
        "xact_started",
    )

    def __init__(self, owner: Owner, client: Stream, stats: Any) -> None:
        #: what is under way on the server
        self.batch = Batch()
        #: None behind the session's end
        self.owner: Any = owner
        self.client = client
        # None while no server is borrowed. The methods that use them run only while one is, which types can't say; the
        # compiled build has the types from the .pxd.
        self.server: Any = None
        self.srv: Any = None
        self.replies: Any = None

        # What the pool says.
        self.pool: Any = None
        self.pool_stats: Any = None
        self.registry: Any = None
        #: what is known of the database
        self.knowledge = _nothing_known
        #: looks at texts with the words that matter in this database
        self.scanner = _no_words
        #: a server is given back after each transaction
        self.by_transaction = 1
        #: prepared statements are shared in the pool (in transaction mode)
        self.shared = 1
        self.sync_parameters = 1
        #: what a transaction leaves is found out and stays the client's, instead of being cleaned away
        self.transparent = 0
        #: parameters that change are logged
        self.log_parameters = 0
        #: largest Parse of the unnamed statement that is remembered, bytes
        self.parse_limit = 1 << 20

        # The session.
        self.stats = stats
        #: the process id the client knows as its own
        self.process = 0
        self.statements = ClientStatements()
        #: the settings the session began with, to which RESET goes back, and the defaults, as far as they are known
        self.startup: Any = BASE
        self.base: Base = UNKNOWN
        #: what the client was told last of the parameters a server reports
        self.told: Reported = NOTHING_REPORTED
        #: the whole Query message that may be answered without a server, or None; the pool's ``Health`` has the answer
        self.check_query: bytes | None = None
        self.health: Any = None
        #: what the transaction under way may leave; None while nothing was ever noted
        self.tracker: Any = None
        #: something of it is noted there
        self.noted = 0
        #: what keeps the client on its server, bits of session_state.PINS
        self.pins = 0
        #: those of them that are surely gone
        self.forgotten = 0
        #: the log has been told that the client keeps its server
        self.warned = 0
        self.query_started = 0.0
        self.xact_started = 0.0

        # How far messages have come, and the end.
        #: bytes of the message under way still to come from the client (forwarded, or dropped if client_drop)
        self.client_left = 0
        self.client_drop = 0
        self.server_left = 0
        self.server_drop = 0
        #: the client has sent Terminate
        self.terminated = 0
        #: or has closed its side behind what it wants carried out
        self.half_closed = 0
        #: and its answers have taken too long
        self.overdue = 0
        #: what a *_FAULT status is about
        self.fault = ""
        self.fault_sqlstate = "08P01"

    def use(self, pool: Any) -> None:
        """Take what a pool's settings say about this session; at login and when a reload replaced the pool."""
        self.pool = pool
        self.pool_stats = pool.stats
        self.registry = pool.registry
        self.knowledge = pool.database
        self.by_transaction = pool.by_transaction
        self.shared = pool.shared
        self.scanner = pool.scanner
        self.use_health(pool)
        self.sync_parameters = pool.sync_parameters
        self.transparent = pool.transparent
        self.log_parameters = pool.log_parameters
        if pool.forget_names and self.owner.option_names is None:
            self.owner.option_names = set()
        if pool.parse_limit > 0:
            self.parse_limit = pool.parse_limit

    def use_health(self, pool: Any) -> None:
        """Take a pool's health query, which is answered without a server of the pool."""
        self.health = pool.health
        self.check_query = pool.health.message

    def begin_with(self, settings: Any, told: Any, base: Any) -> None:
        """Take the settings of the startup packet, over the defaults ``base``, and what the client is told of them."""
        self.owner.settings = settings
        self.startup = settings
        self.told = told
        self.base = base

    def attach(self, server: Server) -> None:
        """Borrow ``server``: its events are ours from here to ``detach``."""
        self.pool_stats.assignments += 1
        self.server = server
        self.srv = server.stream
        self.replies = server.replies
        server.stream.task = self.owner.task
        server.unanswered.forget()
        self.server_left = 0
        self.server_drop = 0
        self.batch.nothing_sent = 1
        self.xact_started = self.client.engine.now
        self.query_started = self.xact_started
        server.active_since = self.xact_started

    def detach(self) -> None:
        """The server is somebody else's from now on."""
        self.names_done()
        if self.srv is not None:
            self.srv.task = None
        self.server = None
        self.srv = None
        self.replies = None
        self.batch.reset()

    def account(self) -> None:
        """Add what went over the wire since the last time to the totals of the pool, the client and the server."""
        client = self.client
        server = self.server
        stats = self.stats
        received = client.received - stats.received
        sent = client.sent - stats.sent
        stats.received += received
        stats.sent += sent
        self.pool_stats.received += received
        self.pool_stats.sent += sent
        server.stats.received = server.stream.received
        server.stats.sent = server.stream.sent

    def notes(self) -> Tracker:
        """What the transaction under way may leave, made where it is first asked for: most clients never need it."""
        if self.tracker is None:
            self.tracker = Tracker()
        return self.tracker  # type: ignore[no-any-return]

    def names_done(self) -> None:
        """No PREPARE or DEALLOCATE is under way any more: those not heard of have failed or never ran."""
        batch = self.batch
        batch.hidden = 0
        batch.preparing = None
        if batch.deallocating:  # one that failed leaves its stand-in behind
            if self.server is not None:
                self.server.dirty |= DIRTY_PREPARED
            batch.deallocating = None

    def has_failed(self) -> bool:
        """Whether the transaction has failed, and nothing is under way that may have ended it."""
        return self.replies.status == consts.TX_FAILED and self.replies.count == 0 and not self.batch.in_batch

    def to_server_part(self, run: _int, pos: _int) -> None:
        """Queue the client's bytes block[run:pos] for the server; the block stays, since more of it is needed."""
        if pos > run:
            self.srv.send_copy(self.client.block, run, pos - run)


class Turn:
    """Whose turn it is: the link that the parts of a relay work on, and its batch. None while that is nobody's."""

    __slots__ = ("batch", "link")

    def __init__(self) -> None:
        self.link: Any = None
        self.batch: Any = None

    def take(self, link: Link) -> None:
        """It is the turn of ``link``."""
        self.link = link
        self.batch = link.batch

    def end(self) -> None:
        """It is nobody's any more."""
        self.link = None
        self.batch = None
