"""How a pool grows: which connections are being made, what is tried again and when, and what waiters are told of it."""

from __future__ import annotations

import logging
import random
from typing import Any

import gevent

from pgdoorman_lib.errors import (
    CheckoutTimeout,
    DoormanError,
    LocalResourcesExhausted,
    ServerRefused,
    ServerUnavailable,
)
from pgdoorman_lib.log import of_pool
from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server.login import failure

_int = int
_float = float

log = logging.getLogger(__name__)

#: Seconds between attempts to connect while PostgreSQL can't be reached: doubled from the first to the last.
BACKOFF_FIRST = 0.05
BACKOFF_LAST = 1.0
#: The last where another host may take over at any moment.
BACKOFF_LAST_OF_SEVERAL = 0.25
#: Seconds between two lines in the log about the same failure.
REPORT_INTERVAL = 60.0
#: Why servers are closed that were opened before a RECONNECT.
RENEWED = "RECONNECT by the console"
#: SQLSTATEs of a refused login that may go away by waiting: starting up, shutting down, too many connections.
PASSING_REFUSALS = ("57P03", "57P01", "57P02", "53300", "53400", "53000", "53200")


class Opening:
    """Connections a pool is making: ``pool.connect`` makes one, ``pool.welcome`` takes it, in greenlets of ours."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        #: under way, and how many may be at once
        self.count = 0
        #: how often the servers opened until then were told to go
        self.generation = 0
        #: and when that was last (monotonic seconds)
        self.renewed_at = 0.0
        self.parallel = min(pool.settings.scaling_max_parallel_creates, pool.settings.max_concurrent_creates)
        #: connections made over its life
        self.made = 0
        #: why the last one failed; None since one has succeeded
        self.last_error: DoormanError | None = None
        #: in a row, and what was logged of the last (message, SQLSTATE), and when the same is worth a line again
        self.failures = 0
        self.reported = ("", "")
        self.report_at = 0.0
        self.backoff = 0.0
        self.retry_at = 0.0
        #: when it is tried again
        self.retry = Deadline(self._retry_now)

    def grow(self, now: float) -> None:
        """Open as many servers as waiters need for whom no probe is under way, a few at a time; no switch."""
        pool = self.pool
        if pool.held or not pool.queue.waiting:
            return
        if now < self.retry_at:
            self._arm(now)
            return
        if pool.exchange is not None and pool.exchange.yields(now):
            return
        coming = pool.exchange.coming(now) if pool.exchange is not None else 0
        wanted = pool.queue.waiting - pool.probes.count - coming
        while self.count < wanted and self.count < self.parallel and pool.has_room() and self.start(pool.most):
            if self.last_error is not None:
                break  # PostgreSQL was out of reach: one tries, the others wait for its answer

    def start(self, most: _int) -> bool:
        """Begin to open one server in a greenlet of its own, unless there are ``most`` in all worker processes by now.

        False: none is opened, another process was quicker.
        """
        pool = self.pool
        if pool.row is not None and not pool.row.take(most):
            return False
        if pool.quota is not None and not pool.quota.take(pool):
            if pool.row is not None:
                pool.row.give_back()
            return False
        self.count += 1
        pool.stats.open_count += 1
        if pool.quota is not None:
            pool.quota.show()  # whoever waits here for this place has it: others need not give way any more
        gevent.spawn(self._open)
        return True

    def _given_up(self) -> None:
        """One that was being opened will not be."""
        self.count -= 1
        self.pool.free_place()

    def _open(self) -> None:
        """The opener greenlet: connect, log in, lend."""
        generation = self.generation
        try:
            server = self.pool.connect(self.pool)  # switch
        except DoormanError as exc:  # also of a server that breaks the protocol, or is none
            self._given_up()
            self._failed(exc)
            return
        except Exception:
            self._given_up()
            self._failed(DoormanError("the pooler has made a mistake"))  # what it was is logged where this is raised
            raise
        except BaseException:
            self._given_up()
            raise
        self.count -= 1
        self._succeeded()
        if generation != self.generation:
            server.condemn(RENEWED)
        self.pool.welcome(server)
        self.grow(clock())

    def _succeeded(self) -> None:
        self.made += 1
        if self.failures:
            log.info(
                "%s connected to the server again, after %d failed attempts", of_pool(self.pool.settings), self.failures
            )
        self.failures = 0
        self.backoff = 0.0
        self.last_error = None

    def _report(self, exc: DoormanError, now: float) -> None:
        """Log that no server could be opened: what is new at once, the same again once a minute."""
        self.failures += 1
        same = self.last_error is not None and (exc.message, exc.sqlstate) == self.reported
        if same and now < self.report_at:
            return
        count = f"; {self.failures} attempts have failed in a row" if self.failures > 1 else ""
        log.warning("%s %s%s", of_pool(self.pool.settings), failure(self.pool.settings, exc), count)
        self.reported = (exc.message, exc.sqlstate)
        self.report_at = now + REPORT_INTERVAL

    def _failed(self, exc: DoormanError) -> None:
        pool = self.pool
        pool.stats.open_failures += 1
        now = clock()
        several = len(pool.settings.servers) > 1 or pool.settings.patroni_api_urls
        self.backoff = min(BACKOFF_LAST_OF_SEVERAL if several else BACKOFF_LAST, self.backoff * 2 or BACKOFF_FIRST)
        self.retry_at = now + self.backoff * random.uniform(0.8, 1.2)
        self._report(exc, now)
        self.last_error = exc
        if isinstance(exc, ServerRefused) and exc.sqlstate not in PASSING_REFUSALS:
            while pool.queue.waiting:
                pool.queue.next().fail(exc)
        pool.refuse_overdue(now)
        self._arm(now)
        if pool.quota is not None:
            pool.quota.freed(pool)

    def _arm(self, now: float) -> None:
        if self.retry.due == 0.0 and self.pool.queue.waiting:
            self.retry.set(self.retry_at, now)

    def _retry_now(self) -> None:
        self.grow(max(clock(), self.retry_at))

    def close(self) -> None:
        """Try no more."""
        self.retry.clear()

    def timeout_error(self) -> DoormanError:
        """What somebody is told who has waited long enough: by the cause, if servers could not be opened."""
        text = (
            "Could not get a database connection from the pool. All servers may be busy or down. Error details: {}."
            " Please try again later."
        )
        cause = self.last_error
        if cause is None:
            exhausted = self.pool.quota.exhausted(self.pool) if self.pool.quota is not None else ""
            return CheckoutTimeout(
                text.format(
                    exhausted or "Timeout occurred while waiting free connection from pool (query_wait_timeout)"
                )
            )
        if isinstance(cause, LocalResourcesExhausted):
            return LocalResourcesExhausted(cause.message)
        return ServerUnavailable(
            text.format(
                "Error occurred while creating a new connection to postgresql (postgresql_login_error): "
                + cause.message
            ),
            sqlstate=cause.sqlstate,
        )
