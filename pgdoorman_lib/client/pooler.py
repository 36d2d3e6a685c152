"""The application as its clients' connections see it: the parts they use, and who is let in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from pgdoorman_lib.auth.hba import Networks
from pgdoorman_lib.client.headcount import DATABASE, USER, Headcount
from pgdoorman_lib.client.login import Accepted
from pgdoorman_lib.client.logins import MANY, Logins
from pgdoorman_lib.client.places import CONSOLE_PLACES, FEWEST_LOGINS, Shares
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import ShuttingDown, TooManyClients, TooManyLogins
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.registry import Pools
from pgdoorman_lib.server.connection import Server

if TYPE_CHECKING:
    from pgdoorman_lib.client.connection import Connection

GOODBYE = "terminating connection due to administrator command"
_FULL = "sorry, too many clients already"


class Pooler:
    """What connections need of the application around them, which derives from this."""

    engine: Engine
    clients: Clients
    connections: ConnectionStats
    general: General
    policy: Any  # LoginPolicy
    pools: Pools

    def __init__(self, general: General) -> None:
        # Bound once for all sessions.
        self.pool_finder = self.find_pool
        self.abandoner = self.abandon
        self.logins = Logins(lambda: self.general.client_login_timeout)
        #: how many take clients in as one pooler
        self.processes = 1
        #: connections there may be, and what the process may have as open files if that is why
        self.max_open = MANY
        self.max_files = 0
        self.govern(general)
        #: those accepted and not ended
        self.open: set[Connection] = set()
        #: how many of them count against max_connections
        self.admitted = 0
        #: those of all worker processes, None in one process
        self.headcount: Headcount | None = None
        #: max_db_client_connections of pools that have their own, by name
        self.max_clients_by_database: dict[str, int] = {}
        #: max_user_client_connections of users that have their own, by database and name
        self.max_clients_by_user: dict[tuple[str, str], int] = {}
        #: databases that have a pool of their own
        self.named: Collection[str] = ()
        #: takes sessions away to another process (``Departure``), those that begin now, too; None: they stay
        self.take_away: Callable[[Any], bool] | None = None
        #: nobody new comes in
        self.draining = 0

    def govern(self, general: General) -> None:
        """Go by another [general] section from now on; ConfigError for networks that are none.

        What the limit of open files leaves of it has to be told anew (``keep_within``).
        """
        self.general = general
        self.max_connections = general.max_connections
        self.max_db_clients = general.max_db_client_connections
        self.max_user_clients = general.max_user_client_connections
        logins = self.logins
        logins.most = self._share(general.max_login_connections or max(general.max_connections, FEWEST_LOGINS))
        logins.most_per_address = self._share(general.max_login_connections_per_address or MANY)
        self.proxies = Networks(general.proxy_protocol, "general.proxy_protocol") if general.proxy_protocol else None
        self.log_connections = 1 if general.log_client_connections else 0
        self.add_host = 1 if general.application_name_add_host else 0
        self.log_disconnections = 1 if general.log_client_disconnections else 0

    def _share(self, limit: int) -> int:
        """This process's part of a limit for those who have not logged in, whom nobody counts over all processes."""
        return -(-limit // self.processes)

    def be_one_of(self, processes: int) -> None:
        """So many processes take clients in as one pooler."""
        self.processes = processes
        self.govern(self.general)

    def keep_within(self, shares: Shares) -> None:
        """Have no more connections than the limit of open files has room for."""
        self.max_open = shares.connections
        self.max_files = shares.limit if shares.clients < self.max_connections else 0
        self.max_connections = min(self.max_connections, shares.clients)

    def check_room(self, console: bool) -> None:
        """TooManyClients when max_connections have logged in, ShuttingDown.

        For the ``console`` there are places more: who looks for the reason must get in.
        """
        if self.draining:
            raise ShuttingDown(GOODBYE)
        more = CONSOLE_PLACES if console else 0
        if self.admitted >= self.max_connections + more:
            text = _FULL
            if self.max_files:
                text += f": the pooler's limit of {self.max_files} open files leaves room for {self.max_connections}"
            raise TooManyClients(text)
        if self.headcount is not None and self.headcount.total >= self.general.max_connections + more:
            raise TooManyClients(_FULL)

    def admit(self, console: bool) -> None:
        """Count a client that has logged in; raises as ``check_room``: others may have come while it did."""
        self.check_room(console)
        if self.headcount is not None and not self.headcount.admit(
            self.general.max_connections + (CONSOLE_PLACES if console else 0)
        ):
            raise TooManyClients(_FULL)
        self.admitted += 1

    def discharge(self) -> None:
        """A client that was admitted has left."""
        self.admitted -= 1
        if self.headcount is not None:
            self.headcount.leave()

    def too_many(self) -> TooManyLogins:
        """What one is told who has to go before he has logged in."""
        return TooManyLogins(
            f"too many connections that have not logged in: one of the oldest gives way ({self.logins.exceeded})"
        )

    def admit_to(self, database: str, user: str) -> None:
        """TooManyClients when a database or a user has as many clients as it may; who it is has been proven."""
        headcount = self.headcount
        limit = self._most_on(database)
        if limit:
            on_it = self.clients.count_of(database) if headcount is None else headcount.count_of(DATABASE, database)
            if on_it >= limit:
                raise _full(DATABASE, database)
        limit = self._most_of(database, user)
        if limit:
            of_him = self.clients.count_of_user(user) if headcount is None else headcount.count_of(USER, user)
            if of_him >= limit:
                raise _full(USER, user)

    def enter(self, database: str, user: str) -> None:
        """Count a client on ``database``, which has to ``exit``; raises as ``admit_to``: others may have come."""
        headcount = self.headcount
        if headcount is None:
            self.admit_to(database, user)
            return
        if not headcount.enter(DATABASE, database, self._most_on(database)):
            raise _full(DATABASE, database)
        if not headcount.enter(USER, user, self._most_of(database, user)):
            headcount.exit(DATABASE, database)
            raise _full(USER, user)

    def exit(self, database: str, user: str) -> None:
        """A client has left ``database``."""
        if self.headcount is not None:
            self.headcount.exit(DATABASE, database)
            self.headcount.exit(USER, user)

    def expect(self, database: str, user: str) -> None:
        """Count a client on ``database`` that another process has let in, and that is about to come from there."""
        if self.headcount is not None:
            self.headcount.expect()
            self.headcount.enter(DATABASE, database)
            self.headcount.enter(USER, user)

    def dismiss(self, database: str, user: str) -> None:
        """Who was expected does not come."""
        if self.headcount is not None:
            self.headcount.leave()
            self.exit(database, user)

    def _most_on(self, database: str) -> int:
        """How many clients a database may have, 0: any number."""
        limits = self.max_clients_by_database
        limit = self.max_db_clients
        if limits:
            limit = limits.get(database if database in self.named else EVERY_DATABASE, limit)
        return limit

    def _most_of(self, database: str, user: str) -> int:
        """How many clients a user may have for one more to log in to ``database``, 0: any number."""
        limits = self.max_clients_by_user
        limit = self.max_user_clients
        if limits:
            limit = limits.get((database if database in self.named else EVERY_DATABASE, user), limit)
        return limit

    def find_pool(self, database: str, user: str) -> Pool | None:
        """The pool of (database, user)."""
        return self.pools.find(database, user)

    def is_looked_up(self, database: str, user: str) -> bool:
        """Whether a user that may log in is none of the configuration: PostgreSQL knows him by that name."""
        return self.policy.find_user(database, user) is None

    def learn_parameters(self, database: str, user: str) -> None:
        """A user who was looked up is let in: his pool is to have what was found with him; no switch."""
        raise NotImplementedError

    def open_server(self, pool: Pool, parameters: dict[str, str]) -> Server:
        """Open a server outside the pool, for one client; may switch."""
        raise NotImplementedError

    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None:
        """A session leaves a server that can't simply be given back."""
        raise NotImplementedError

    def cancel(self, number: int, secret: bytes) -> None:
        """Carry out a cancel request; may switch."""
        raise NotImplementedError

    def console(self, stream: Stream, accepted: Accepted) -> None:
        """Serve the admin console; may switch."""
        raise NotImplementedError


def _full(kind: str, name: str) -> TooManyClients:
    """In PostgreSQL's words."""
    return TooManyClients(f'too many connections for {"database" if kind == DATABASE else "role"} "{name}"')
