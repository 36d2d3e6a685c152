"""One client after its login: wait for a message, borrow a server, relay, give it back; until either side ends.

``serve`` is the greenlet's body, ``poll`` what it waits for: each step of a transaction stands there once, and is taken
in the engine's turns. It must not switch. Between ``_borrow`` and ``_give_back`` the server is the session's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.errands import Errands
from pgdoorman_lib.client.tracking import found_settings, known_settings
from pgdoorman_lib.errors import (
    DoormanError,
    NoSuchPool,
    ProtocolViolation,
    ServerGone,
    TooManyPins,
)
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.pool.sequences import MIXED, REASON
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.baseline import NO_ROLE
from pgdoorman_lib.wire.framing import frame_size
from pgdoorman_lib.wire.question import SEQUENCES_QUESTION, Findings, question
from pgdoorman_lib.wire.reading import reading_of
from pgdoorman_lib.wire.session_state import (
    ASKED,
    DIRTY_CUSTOM,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SESSION,
    DIRTY_TAKEN_BACK,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
    GRANTED,
    reasons,
)
from pgdoorman_lib.wire.settings import BASE, DEFERRABLE, IDENTITY
from pgdoorman_lib.wire.sqltext import LONGEST, analyse
from pgdoorman_lib.wire.text import RESETS_ALL, Text
from pgdoorman_lib.wire.traces import POSSIBLE

_int = int
_float = float
_bytes = bytes

log = logging.getLogger(__name__)

# The same numbers as C integers, where this module is compiled.
_ASKED = ASKED
_POSSIBLE = POSSIBLE
#: Of so many transactions with a known end on a server, at one it is asked whether the backend is still the same.
ASK_AGAIN = 16
#: Asked for instead of DIRTY_* bits when it is only about that.
ONLY_BACKEND = 1 << 30
_ASK_AGAIN = ASK_AGAIN
_ONLY_BACKEND = ONLY_BACKEND
_MIXED = MIXED

_numbers = count(1)


class Session(Errands):
    """A logged-in client.

    ``id`` is its number, ``process`` the process id in its cancel key, ``secret`` the other half of the key;
    ``find_pool`` gives the pool of (database, user) or None; ``abandon`` takes a server that can't just be given back;
    ``close`` is called at the end with the error the client must be told, or with the reason for the log.
    """

    __slots__ = (
        "abandon",
        "asked_names",
        "asking_sequences",
        "close",
        "connected_at",
        "database",
        "eof_timer",
        "find_pool",
        "id",
        "in_vain",
        "kept",
        "listed",
        "plain",
        "pool",
        "secret",
        "termination",
        "unhindered",
        "unpinning",
        "user",
        "waiting",
        "warned",
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
        self.init_errands(client, LinkStats())
        self.id = id
        self.process = consts.PROCESS_BASE + id
        self.number = next(_numbers)
        self.secret = secret
        self.user = user
        self.database = database
        self.connected_at = connected_at
        self.find_pool = find_pool
        self.abandon = abandon
        self.close = close
        self.settings = BASE
        #: how long the client, which has closed its side, waits for its answers
        self.eof_timer: Any = None
        #: the settings last seen that make no temporary objects and do nothing to a server at rest
        self.plain = BASE
        self.pool: Any = None
        #: the log has been told that the client keeps its server
        self.warned = 0
        #: it is being asked whether the server is still to be kept
        self.unpinning = 0
        #: the question under way is the one that nothing the client has set can hinder
        self.unhindered = 0
        #: it asks for all settings that are listed
        self.listed = False
        #: it keeps its server for the values of sequences, and how often it has had some and not asked for them
        self.kept = 0
        self.in_vain = 0
        #: the question under way is whether the open transaction has used a sequence
        self.asking_sequences = 0
        self.waiting = 0
        #: the error to say goodbye with, once no transaction is open
        self.termination: DoormanError | None = None

    # What SHOW CLIENTS reads.

    @property
    def peer(self) -> str:
        """The client's address as logs show it."""
        return str(self.client.peer)

    @property
    def application_name(self) -> str:
        """What the client calls itself."""
        return str(self.settings.values.get("application_name", ""))

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.client.tls is not None

    @property
    def state(self) -> str:
        """``active`` with a server, ``waiting`` for one, else ``idle``: also with one that it only keeps."""
        if self.server is None:
            return "waiting" if self.waiting else "idle"
        return "idle" if (self.pins or self.kept) and self._idle() else "active"

    @property
    def wait(self) -> str:
        """``write`` while the client does not take its answers, ``read`` while its server works, else ``idle``."""
        if self.client.blocked:
            return "write"
        return "read" if self.state == "active" else "idle"

    @property
    def pinned(self) -> str:
        """What keeps the client on its server, in words; empty when nothing does."""
        return ", ".join(filter(None, (reasons(self.pins), REASON if self.kept else "")))

    # Configuration.

    def use(self, pool: Any) -> None:
        """Take what a pool's settings say about this session; at login and when a reload replaced the pool."""
        self.pool = pool
        self.pool_stats = pool.stats
        self.registry = pool.registry
        self.knowledge = pool.database
        self.by_transaction = pool.by_transaction
        self.shared = pool.shared
        self.scanner = pool.scanner
        self.sync_parameters = pool.sync_parameters
        self.transparent = pool.transparent
        self.log_parameters = pool.log_parameters
        if pool.parse_limit > 0:
            self.parse_limit = pool.parse_limit

    def begin_with(self, settings: Any, told: Any, base: Any) -> None:
        """Take the settings of the startup packet, over the defaults ``base``, and what the client is told of them."""
        self.settings = settings
        self.startup = settings
        self.told = told
        self.base = base

    def parameter_changed(self, name: str, value: str) -> None:
        log.info("[%s@%s #%d] parameter %s is now %r", self.user, self.database, self.id, name, value)

    # The greenlet's body.

    def start(self, task: Task | None = None) -> Task:
        """Begin to serve; no switch. ``task``: the login's, if it has needed no greenlet.

        There is no greenlet until polling has come to an event: most clients have none before their end.
        """
        client = self.client
        if task is None:
            task = Task(client.engine, self)
        else:
            task.pollable = self
        self.task = task
        client.task = task
        if client.readable or client.end > client.start or client.inbox is not None:
            task.wake()  # the first query may be here already
        return task

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

    def run_blocks(self) -> bool:
        """As in Pollable: to leave without a server is a matter of a moment."""
        return self.server is not None

    def serve(self) -> str:
        """Serve the client until it or its server is gone; may switch. Returns why it ended, for the log.

        DoormanError: what the client must still be told. The server, if one is borrowed, is given back or abandoned in
        any case, also when the greenlet is killed.
        """
        try:
            return self._ended(self.task.wait(self))
        except DoormanError:
            raise
        except Exception:
            if self.server is not None:
                self.server.fatal_received = 1  # by a fault of ours nobody knows what is on it: nobody else may get it
            raise
        finally:
            self._leave()

    def poll(self) -> _int:
        """As in Pollable: the client's transactions, one after the other. PENDING is where blocking code would wait."""
        while True:
            event = self._still_waiting() if self.waiting else self.step()
            if event == events.PENDING:
                if self.termination is not None and self._idle():
                    self._say_goodbye()
                return events.PENDING
            if event == events.RELEASE:
                self._give_back()
                if self.termination is not None and not self.batch.settling:
                    self._say_goodbye()
                if self._resting():
                    return events.PENDING  # as ``step`` would find by a longer way
            elif event == events.NEED_SERVER:
                self._borrow()
            else:
                return event

    def _say_goodbye(self) -> None:
        """The session is to end here, once the client has taken its answers."""
        if self.client.push() != 0:
            raise self.termination  # type: ignore[misc]

    def _idle(self) -> bool:
        """Whether the client has nothing under way: no message begun, no statement, no transaction."""
        if self.waiting or self.client.end > self.client.start:
            return False
        if self.server is None:
            return True
        replies = self.replies
        if self.batch.settling or replies.count or replies.status != consts.TX_IDLE:
            return False
        return not (self.batch.in_batch or self.client_left)

    def _resting(self) -> bool:
        """Whether there is no server, and nothing from the client that asks for one or for the end."""
        return not (self.server is not None or self.terminated or self.client.has_news())

    def _ended(self, event: _int) -> str:
        """What polling has come to at last, for the log; raises what the client must be told."""
        if event == events.CLIENT_GONE and self.waiting:
            return "client left while waiting for a server"
        if event == events.CLIENT_GONE or event == events.TERMINATE:
            return self._parting(event)
        if event == events.CLIENT_FAULT:
            raise ProtocolViolation(self.fault, sqlstate=self.fault_sqlstate)
        if event == events.TOO_MANY_PINS:
            raise self._too_many_pins()
        return self._server_ended(event)

    def _parting(self, event: _int) -> str:
        """How the client has left, for the log."""
        if event == events.TERMINATE and not self.half_closed:
            return "client closed the session"
        return "client closed the connection" if not self.client.error else "connection to client lost"

    # Borrowing.

    def _borrow(self) -> None:
        """Borrow a server for the message at the front, or wait for one; never switches."""
        pool = self.pool
        if pool.retired:
            pool = self.find_pool(self.database, self.user)
            if pool is None:
                raise NoSuchPool(
                    f"No pool configured for database: {self.database}, user: {self.user}",
                    hint="The pool was removed from the configuration.",
                )
            self.use(pool)
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
        if (server is None or self.client.eof or self.client.hangup) and self.gone():
            return events.CLIENT_GONE
        if server is None:
            return events.PENDING
        self.waiting = 0
        self._prepare(server)
        return self.step()

    def _prepare(self, server: Server) -> None:
        """``server`` is borrowed: have on it what the client has set, before its message goes there."""
        if self.transparent != server.pool.transparent:
            self.use(server.pool)  # its servers have proven to be others' (``Pool.backend_moved``)
        self.attach(server)
        if server.drawn_by != self.number:
            server.drawn_by = _MIXED if server.drawn_by else self.number
        if (server.applied is not self.settings or server.base is not self.base) and self.sync_parameters:
            self._apply()
        if server.reported is not self.told and not self.batch.settling:
            self._tell()
        if self.pool.sequences is not None:
            self.pool.sequences.lent(self, server)
        if self.settings is not self.plain:
            if self.settings.temporary:
                server.dirty |= DIRTY_TEMPORARY  # any CREATE TABLE makes one
            elif not self.settings.restless:
                self.plain = self.settings

    # The client's end.

    def gone(self) -> bool:
        """Whether the client has closed its connection and does not want what it waits for; never switches.

        Who closes it behind a Terminate has sent all it had to say: PostgreSQL would carry that out.
        """
        client = self.client
        while client.readable and client.fill() > 0:
            pass
        if not (client.eof or client.hangup):
            return False
        said = 0 if client.error or self.overdue else self._has_said_all()
        if said == 2 and client.eof:
            self._close_half()
        return not said

    def _has_said_all(self) -> _int:
        """Whether whole messages wait for a server: 1 up to a Terminate, 2 such as may be answered to a client that has
        closed its side.
        """
        client = self.client
        data: Any = client.block
        pos = client.start
        if self.client_left:
            return 0
        lasting = 2 if self.pool.eof_timeout > 0 else 0
        whole = 0
        while pos < client.end:
            size = frame_size(data, pos, client.end)
            if size < 0 or pos + size > client.end:
                break
            if data[pos] == consts.TERMINATE:
                return 1
            whole = lasting
            pos += size
        return whole

    def at_eof(self) -> _int:
        """As in Relay: what was wholly received is carried out and answered, for a while, as by PostgreSQL.

        A client that has vanished looks the same until it is sent something.
        """
        if self.client.error or self.client_left or self.pool.eof_timeout <= 0:
            return events.CLIENT_GONE
        if self.server is None or not self.replies.count:
            return events.CLIENT_GONE
        self.terminated = 1
        self._close_half()
        return events.PENDING

    def _close_half(self) -> None:
        """The client has closed its side: begin to count the time."""
        self.half_closed = 1
        if self.eof_timer is None:
            self.eof_timer = self.client.engine.loop.timer(self.pool.eof_timeout)
            self.eof_timer.start(self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self.overdue = 1
        self.task.wake()

    def _stop_timer(self) -> None:
        if self.eof_timer is not None:
            self.eof_timer.stop()
            self.eof_timer.close()
            self.eof_timer = None

    def _give_back(self) -> None:
        """The transaction is over: the server goes back to the pool, or straight to the next in its queue.

        It stays while it is asked what the transaction has left on it, and as long as something pins it.
        """
        server = self.server
        self._account(server)
        if self._stays(server):
            pass
        elif server.applied is not self.plain and server.applied.restless:
            self._calm()
        else:
            self.detach()
            self.assigned = None
            pool = server.pool
            pool.checkin(server)

    def _stays(self, server: Server) -> bool:
        """Whether the server is not given back: for a question under way, or for what is on it."""
        batch = self.batch
        if self.transparent:
            if (server.dirty & _ASKED or self.noted or (self.pins and self.pins & DIRTY_PREPARED)) and self._examine():
                return True
            if self.noted:
                self._forget_notes()
            if self.drawing:
                self.kept = self.pool.sequences.over(self) if self.pool.sequences is not None else 0
            if self.pins or self.kept:
                batch.told_sets = 0
                batch.planning_changed = 0
                batch.altered = 0
                return True
        elif self.noted:
            self._forget_notes()
        return False

    # What a transaction leaves behind.

    def _examine(self) -> _int:
        """Find out what is there of what may have been left; 0 when nothing has to be waited for."""
        server = self.server
        tracker = self.tracker
        known = tracker.known
        if known is not None and not tracker.failed and not self.pins and self._take_known(known):
            server.unasked += 1
            if server.unasked % _ASK_AGAIN != 1:
                return 0
            self._question(_ONLY_BACKEND, 0)  # it has to be seen now and then that the backend is the session's own
            return 1
        if tracker.unnamed == _POSSIBLE:
            server.dirty |= DIRTY_CUSTOM
        elif tracker.unnamed:
            server.dirty |= DIRTY_TAKEN_BACK
        asked = server.dirty & _ASKED
        if self.pins & DIRTY_PREPARED or (
            tracker.unnamed and not self.batch.taken and not server.dirty & DIRTY_PREPARED
        ):
            asked |= DIRTY_PREPARED
        if self.settings.temporary:
            asked |= DIRTY_TEMPORARY
        if not self.sync_parameters:
            asked &= ~DIRTY_PARAMETERS  # they are taken back at check-in
        if not asked & ~GRANTED:
            server.dirty &= ~asked
            self._forget_notes()
            self._pin(self.pins | asked & GRANTED)
            return 0
        if self.pins:
            self.unpinning = 1
            server.pool.unpinning += 1
        self._question(asked, tracker.hindered or DEFERRABLE in self.settings.values)
        return 1

    def _take_known(self, text: Text) -> bool:
        """Note what the only statement has done, which has succeeded; False if that has to be asked."""
        server = self.server
        if server.applied is not self.settings or server.dirty & _ASKED & ~(text.traces.bits | DIRTY_PARAMETERS):
            return False
        if not self.sync_parameters:
            return False  # nothing is the client's that it sets
        if text.only_resets & RESETS_ALL and self.base.role != NO_ROLE:
            return False  # there is none behind it
        after = known_settings(text, self.settings, self.startup)
        if after is None:
            return False
        self.settings, server.applied = after
        server.dirty &= ~(text.traces.bits | DIRTY_PARAMETERS)
        self._forget_notes()
        return True

    def _forget_notes(self) -> None:
        """The transaction's end has been looked into."""
        self.batch.told_sets = 0
        self.batch.planning_changed = 0
        if self.noted:
            self.noted = 0
            self.tracker.clear()

    def _question(self, asked: _int, unhindered: _int) -> None:
        """Send the question about ``asked``; the answer ends up in ``findings``.

        ``unhindered``: also by what was set in ways nobody saw; a second time it is asked so in any case.
        """
        self.batch.examining = asked
        self.unhindered = unhindered
        if asked != _ONLY_BACKEND:
            self.pool_stats.asked += 1
            if self.tracker.unnamed:
                self.pool_stats.asked_unknown += 1
        self.batch.findings = []
        names: Any = ()
        self.listed = False
        if asked & DIRTY_PARAMETERS:
            names, self.listed = self.tracker.to_ask(self.settings)
        server = self.server
        defaults = self._defaults()
        usual = server.base.values if server.base is self.base else {}
        if self.startup is not BASE:  # of what the session began with it must be known whether it was reset
            began = self.startup.values
            defaults = {name: value for name, value in defaults.items() if name not in began}
            usual = {name: usual[name] for name in names if name in usual and name not in began}
        another = bool(unhindered) and self.tracker.as_another
        self._ask_server(
            question(
                asked,
                names,
                listed=self.listed,
                unhindered=bool(unhindered),
                defaults=defaults,
                usual=usual,
                applied=server.applied.values,
                loaded=server.loaded,
                as_another=another,
            )
        )

    def _defaults(self) -> Any:
        """The values settings have where the session has set nothing, as far as they are known.

        Those that a reload of the server's configuration may change are not.
        """
        return self.base.fixed

    def let_go(self) -> None:
        """The server that is kept for the values of sequences is wanted by others, or has been kept for long enough."""
        if self.kept and self._idle():
            self._give_back()

    def ask_sequences(self) -> None:
        """As in SqlPrepare; the answer ends up in ``findings``."""
        self.asking_sequences = 1
        self.batch.examining = DIRTY_UNKNOWN
        self.batch.findings = []
        self._ask_server(SEQUENCES_QUESTION)

    def _sequences_told(self) -> None:
        """The server has answered ``ask_sequences``."""
        batch = self.batch
        found = batch.findings
        batch.findings = None
        batch.examining = 0
        self.asking_sequences = 0
        if self.replies.status != consts.TX_BLOCK:
            return  # a cancel request has hit the question: the transaction has failed, and tells nothing any more
        self.server.drawn_by = self.number
        if not found:
            self._ask_server("DISCARD SEQUENCES")

    def restore(self) -> bool:
        """As in Relay: on the server RESET goes back to what the pool's own login had."""
        status = self.server.replies.status
        if self.startup is BASE or (status != consts.TX_BLOCK and (status != consts.TX_IDLE or self.by_transaction)):
            return False  # behind a transaction that is asked about anyway, and in a failed one it is undone
        sql = self.tracker.restoring(self.startup, self._defaults())
        if not self.by_transaction and status == consts.TX_IDLE:
            self._forget_notes()
        if not sql:
            return False
        self.batch.announcing = 1
        self._ask_server(sql)
        return True

    def examined(self) -> _int:
        """Take the server's answer in: the client's settings, and what pins it. A status as of ``step``."""
        batch = self.batch
        if self.asking_sequences:
            self._sequences_told()
            return events.PENDING
        server = self.server
        asked = batch.examining
        batch.examining = 0
        if batch.findings is None and not self.unhindered:
            # A cancel request for the statement before has hit it, or something the client has set hinders it.
            self._question(asked, 1)
            return events.PENDING
        try:
            found = Findings.of(batch.findings if batch.findings is not None else [b""])
        except ValueError:
            # It can't be told what is there: the client keeps the server, and nobody else will get it.
            server.dirty &= ~asked
            self._forget_notes()
            self._pin(self.pins | DIRTY_UNKNOWN)
            return events.TOO_MANY_PINS if self._over_limit() else events.PENDING
        batch.findings = None
        if found.backend > 0 and server.backend and found.backend != server.backend:
            server.pool.backend_moved(server, found.backend)
        server.dirty &= ~asked
        if found.ours >= 0 and found.ours != len(server.statements.prepared):
            server.dirty |= DIRTY_PREPARED  # something has dropped or made some behind our back
        if asked & DIRTY_PARAMETERS or self.unhindered:
            self._take_settings(found)
        self._forget_notes()
        self._pin((self.pins & ~asked & ~self.forgotten) | found.pins | (asked & GRANTED))
        self.forgotten = 0
        if self._over_limit():
            return events.TOO_MANY_PINS
        return events.RELEASE if not batch.settling else events.PENDING

    def _take_settings(self, found: Findings) -> None:
        """The client's settings are those that were found."""
        server = self.server
        login = self.pool.settings.server_username
        defaults = {**self._defaults(), "role": self.base.role, "session_authorization": login}
        present = found_settings(found.values, defaults, None if self.listed else server.applied)
        self.settings = self.tracker.own_settings(present, found.values, self.startup, self.settings, defaults)
        # Who one is was taken off for a question that nothing may hinder.
        server.applied = present.without(IDENTITY) if self.unhindered else present
        if self.settings is not server.applied:
            self.batch.announcing = 1
            self._apply()

    def _pin(self, pins: _int) -> None:
        """Change what keeps the client on its server."""
        if bool(pins) != bool(self.pins):
            self.server.pool.pinned += 1 if pins else -1
        if self.unpinning:
            self.unpinning = 0
            self.server.pool.unpinning -= 1
        self.pins = pins
        self.server.pins = pins
        if pins and not self.warned:
            self.warned = 1
            log.warning(
                "[%s@%s #%d] keeps its server connection between transactions: %s",
                self.user,
                self.database,
                self.id,
                reasons(pins),
            )

    def _over_limit(self) -> bool:
        """Whether the client keeps a server that would be one too many; those being let go are not counted."""
        pool = self.server.pool
        return bool(self.pins and pool.pinned - pool.unpinning > pool.max_pinned)

    def _too_many_pins(self) -> TooManyPins:
        pool = self.pool
        return TooManyPins(
            f"cannot keep a server connection for this session: {pool.max_pinned} of {pool.size} may be kept",
            detail="In transaction mode LISTEN, temporary tables, cursors WITH HOLD, session-level advisory locks and"
            " LOAD keep their server connection.",
            hint="Raise max_pinned_servers or pool_size, or use a pool in session mode.",
        )

    def refuses(self, data: bytearray, start: _int, stop: _int) -> bool:
        """Whether a statement begun outside a transaction would keep a server, and no more may be kept.

        One that has just been let go, as far as its client knows, is not counted.
        """
        pool = self.pool
        if not self.transparent or pool.pinned - pool.unpinning < pool.max_pinned:
            return False
        values = self.settings.values
        reading = reading_of(values.get("standard_conforming_strings", "on"), values.get("client_encoding", "UTF8"))
        if not self.scanner.scan(data, start, stop, reading.flags):
            return False
        text = bytes(data[start:stop]).partition(b"\0")[0]
        if len(text) > LONGEST or not analyse(text, self.scanner.lexicon, reading).keeps:
            return False
        error = self._too_many_pins()
        self.refusal_message = messages.error_response(
            "ERROR", error.sqlstate, error.message, detail=error.detail, hint=error.hint
        )
        return True

    def _account(self, server: Server) -> None:
        """Add what went over the wire since the last time to the totals of the pool, the client and the server."""
        client = self.client
        stats = self.stats
        received = client.received - stats.received
        sent = client.sent - stats.sent
        stats.received += received
        stats.sent += sent
        self.pool_stats.received += received
        self.pool_stats.sent += sent
        server.stats.received = server.stream.received
        server.stats.sent = server.stream.sent

    def _server_ended(self, status: _int) -> str:
        """The server is gone or not to be understood: tell the client, unless PostgreSQL has done so itself."""
        server = self.server
        if status == events.SERVER_FAULT:
            server.fatal_received = 1  # whatever it says from here on: nobody else may get it
        if self.refusal is not None:
            fields = messages.parse_fields(self.refusal)
            raise ServerGone(
                fields.get("M", self.fault),
                detail=fields.get("D"),
                hint=fields.get("H"),
                sqlstate=fields.get("C", "08006"),
            )
        if status == events.SERVER_GONE and server.fatal_received:
            return "server ended the session"
        if status == events.SERVER_GONE and not server.replies.count and server.replies.status != consts.TX_IDLE:
            raise ServerGone("server closed the connection unexpectedly while client was idle in transaction")
        if status == events.SERVER_GONE:
            raise ServerGone(
                "server closed the connection unexpectedly",
                detail="The server process terminated before or while processing the request.",
            )
        raise ServerGone(self.fault, sqlstate="08P01")

    def _leave(self) -> None:
        """The session is over: nothing of it stays on a server."""
        self._stop_timer()
        self.statements.release()
        if self.waiting:
            self.waiting = 0
            self.pool.withdraw(self)
        server = self.server
        if server is None:
            return
        self._account(server)
        in_batch = self.batch.in_batch
        half_sent = self.client_left > 0 or self.server_left > 0
        if self.pins:
            server.dirty |= self.pins
            self._pin(0)
        if self.kept:
            self.kept = 0
            if self.pool.sequences is not None:
                self.pool.sequences.leave(self)
        self.detach()
        self.assigned = None
        if not self.by_transaction:
            server.dirty |= DIRTY_SESSION
        elif server.applied.restless:
            server.dirty |= DIRTY_PARAMETERS
        if server.is_reusable() and not in_batch and not half_sent:
            server.pool.checkin(server)
        else:
            self.abandon(server.pool, server, bool(in_batch), bool(half_sent))

    def cancel_waiting(self) -> None:
        """Cancel the statement that waits for a server, as PostgreSQL cancels one that runs; never switches."""
        self.pool.withdraw(self)
        self.waiting = 0
        self.discarding = 1
        self.refusal_message = messages.error_response("ERROR", "57014", "canceling statement due to user request")
        self.task.wake()

    def cut_off(self) -> bool:
        """Whether the client has been sent only the beginning of a message: nothing can be told it any more."""
        return bool(self.server_left and not self.server_drop)

    def terminate_when_idle(self, error: DoormanError) -> None:
        """End the session with ``error`` once no transaction is open and its answers are taken; never switches."""
        self.termination = error
        self.task.wake()
