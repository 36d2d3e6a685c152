"""The application as its clients' connections see it: the parts they use, and who is let in."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pgdoorman_lib.client.login import Accepted
from pgdoorman_lib.client.logins import Logins
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import ShuttingDown, TooManyClients
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server.connection import Server

if TYPE_CHECKING:
    from pgdoorman_lib.client.connection import Connection

#: Clients of the console that get in beyond max_connections.
CONSOLE_PLACES = 3
GOODBYE = "terminating connection due to administrator command"


class Pooler:
    """What connections need of the application around them, which derives from this."""

    engine: Engine
    logins: Logins
    clients: Clients
    connections: ConnectionStats
    general: General
    policy: Any  # LoginPolicy

    def __init__(self, general: General) -> None:
        self.govern(general)
        #: those accepted and not ended
        self.open: set[Connection] = set()
        #: how many of them count against max_connections
        self.admitted = 0
        #: max_db_client_connections of pools that have their own, by name
        self.max_clients_by_database: dict[str, int] = {}
        #: databases that have a pool of their own
        self.named: Collection[str] = ()
        #: nobody new comes in
        self.draining = 0

    def govern(self, general: General) -> None:
        """Go by another [general] section from now on."""
        self.general = general
        self.max_connections = general.max_connections
        self.log_connections = 1 if general.log_client_connections else 0
        self.add_host = 1 if general.application_name_add_host else 0
        self.log_disconnections = 1 if general.log_client_disconnections else 0

    def admit(self, console: bool) -> None:
        """Count a client that wants to log in; TooManyClients when max_connections are there, ShuttingDown.

        For the ``console`` there are places more: who looks for the reason must get in.
        """
        if self.draining:
            raise ShuttingDown(GOODBYE)
        if self.admitted >= (self.max_connections + CONSOLE_PLACES if console else self.max_connections):
            raise TooManyClients("sorry, too many clients already")
        self.admitted += 1

    def admit_to(self, database: str) -> None:
        """TooManyClients when a database has as many clients as it may; the client has proven who it is."""
        limits = self.max_clients_by_database
        limit = self.general.max_db_client_connections
        if limits:
            limit = limits.get(database if database in self.named else EVERY_DATABASE, limit)
        if limit and self.clients.count_of(database) >= limit:
            raise TooManyClients(f'too many connections for database "{database}"')

    def find_pool(self, database: str, user: str) -> Pool | None:
        """The pool of (database, user)."""
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
