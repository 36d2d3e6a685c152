"""One connection to PostgreSQL: its stream, the answers it owes, what is prepared and set on it, and its state.

Rules:
1. A server belongs to exactly one owner: the pool (``idle``), a borrower (``active``) or the janitor (``cleaning``).
   ``state`` says which; only ``enter`` changes it.
2. ``applied`` is what of a client's parameters is in effect, over ``base``, which its login has left; ``reported`` is
   what it has told of them; ``dirty`` is what must be cleaned before it is lent on.
3. A server of which anything is uncertain is closed, never lent.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.server import states
from pgdoorman_lib.server.unanswered import Unanswered
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.baseline import UNKNOWN
from pgdoorman_lib.wire.prepared import ServerStatements
from pgdoorman_lib.wire.reading import AS_USUAL, reading_of
from pgdoorman_lib.wire.replies import Replies
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.session_state import reasons
from pgdoorman_lib.wire.settings import BASE

_int = int
_bytes = bytes
_float = float

_ids = count(1)


def number_servers(first: _int, step: _int) -> None:
    """Number servers from ``first`` on by ``step``: of several processes that do, no two give the same number."""
    global _ids
    _ids = count(first, step)


#: What SHOW calls the states.
WORDS = {
    states.LOGIN: "login",
    states.IDLE: "idle",
    states.ACTIVE: "active",
    states.CLEANING: "cleaning",
    states.CLOSED: "closed",
}
#: What may follow: a server that has logged in goes to a waiter or rests; one that comes back may go straight on to the
#: next; one at rest is nobody's but the pool's to clean.
FOLLOWING = {
    states.LOGIN: (states.IDLE, states.ACTIVE, states.CLOSED),
    states.IDLE: (states.ACTIVE, states.CLOSED),
    states.ACTIVE: (states.IDLE, states.ACTIVE, states.CLEANING, states.CLOSED),
    states.CLEANING: (states.IDLE, states.ACTIVE, states.CLOSED),
    states.CLOSED: (),
}
#: Bits of a state's number in eight are those that may follow it.
_legal = sum(1 << 8 * before + after for before, following in FOLLOWING.items() for after in following)


class Server:
    """A logged-in server connection.

    ``pid`` and ``secret`` (4 to 256 bytes) are its cancel key, ``parameters`` what it reported of them at its login,
    ``settings`` the PoolSettings it was made for; times are monotonic seconds.
    """

    __slots__ = (
        "active_since",
        "applied",
        "backend",
        "base",
        "cancels",
        "condemned",
        "created_at",
        "dirty",
        "drawn_by",
        "expires_at",
        "fatal_received",
        "id",
        "idle_since",
        "loaded",
        "login_application_name",
        "option_names",
        "pid",
        "pins",
        "pool",
        "reading",
        "reading_flags",
        "replies",
        "reported",
        "secret",
        "settings",
        "stage",
        "statements",
        "stats",
        "stream",
        "unanswered",
        "unasked",
    )

    def __init__(
        self,
        stream: Stream,
        settings: Any,
        pid: _int,
        secret: _bytes,
        parameters: Mapping[str, str],
        created_at: _float,
        expires_at: _float,
    ) -> None:
        self.id = next(_ids)
        self.stream = stream
        self.settings = settings
        self.pid = pid
        self.secret = secret
        #: what it reports by ParameterStatus
        self.reported = Reported.of(parameters)
        self.created_at = created_at
        self.expires_at = expires_at
        self.idle_since = created_at
        self.active_since = created_at
        #: how it reads texts, and its flags
        self.reading = AS_USUAL
        self.reading_flags = 0
        self._read_by()
        self.replies = Replies()
        self.statements = ServerStatements(
            settings.server_prepared_statements_cache_size, settings.prepared_statements_cache_bytes
        )
        self.applied = BASE
        #: what its session began with, and the process that said so (0: not known); see ``server.baseline``
        self.base = UNKNOWN
        self.backend = 0
        #: when it had read the configuration at its login (``CONFIGURATION_LOADED``), empty if it does not tell
        self.loaded = ""
        self.dirty = 0
        #: what its client may still have it do once more
        self.unanswered = Unanswered()
        #: transactions whose end was known without a question
        self.unasked = 0
        #: what keeps its borrower on it between transactions, bits of session_state.PINS
        self.pins = 0
        #: whose values of sequences may be there: a borrower's number, 0 nobody's, -1 several ones'
        self.drawn_by = 0
        #: customized options that were ever set on it, None before the first (``pool.names``)
        self.option_names: set[str] | None = None
        #: why it is closed as soon as it is given back; empty: it is not
        self.condemned = ""
        #: cancel requests under way to it
        self.cancels = 0
        #: PostgreSQL has said FATAL: nothing more will come
        self.fatal_received = 0
        #: a number of ``server.states``
        self.stage = states.LOGIN
        self.pool: Any = None
        self.stats = LinkStats()
        self.login_application_name = settings.application_name

    def _read_by(self) -> None:
        values = self.reported.values
        self.reading = reading_of(
            values.get("standard_conforming_strings", "on"), values.get("client_encoding", "UTF8")
        )
        self.reading_flags = self.reading.flags

    @property
    def state(self) -> str:
        """Whose it is, in the words of SHOW SERVERS."""
        return WORDS[self.stage]

    def enter(self, stage: _int) -> None:
        """It has another owner: its state is ``stage`` from now on; RuntimeError if that can't follow."""
        if not _legal >> 8 * self.stage + stage & 1:
            raise RuntimeError(f"server #{self.id} is {WORDS[self.stage]} and can't be {WORDS[stage]}")
        self.stage = stage

    @property
    def worker(self) -> _int:
        """As views.ServerView: this process's."""
        return 0

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.stream.tls is not None

    @property
    def wait(self) -> str:
        """What is waited for, in SHOW SERVERS' words: ``read`` while an answer is owed, else ``idle``."""
        return "read" if self.replies.count else "idle"

    @property
    def pinned(self) -> str:
        """What keeps its client on it, in words; empty when nothing does."""
        return reasons(self.pins)

    @property
    def prepared_count(self) -> _int:
        """How many statements are prepared on it under our names."""
        return len(self.statements.prepared)

    @property
    def application_name(self) -> str:
        """The application_name in effect."""
        name = str(self.reported.values.get("application_name", self.login_application_name))
        return name.encode(errors="surrogateescape").decode(errors="replace")

    def condemn(self, reason: str) -> None:
        """Have it closed, for ``reason``, as soon as it is given back: nobody else gets it."""
        self.condemned = reason
        self.expires_at = 0.0

    def report(self, name: str, value: str) -> None:
        """The server has reported a parameter."""
        self.reported = self.reported.changed(name, value)
        self._read_by()
        if name == "in_hot_standby" and self.pool is not None:
            self.pool.beginnings.hears(name, value)  # no client's doing: it holds for all
            if self.pool.standing is not None:
                self.pool.standing.doubt()

    def is_reusable(self) -> bool:
        """Whether nothing is owed, no transaction is open and nothing unread is there: it may be lent."""
        # No short names for the stream and the books: counting the references would cost more than asking them does.
        if (
            self.fatal_received
            or self.stream.closed
            or self.stream.eof
            or self.stream.hangup
            or self.stream.send_failed
        ):
            return False
        if (
            self.replies.count
            or self.replies.skipping
            or self.replies.uncertain
            or self.replies.status != consts.TX_IDLE
        ):
            return False
        return not (self.cancels or self.stream.end > self.stream.start)
