"""What a database's catalogue says of the names in it, shared by its pools, and read again when it has moved.

Rules:
1. It is read before the first server of a database is lent.
2. Until what may have changed it has been looked at (``doubt``), every text has to be asked about.
3. What others do to it unseen is noticed by a look at a cheap marker: every MARKER_INTERVAL seconds while the database
   is in use, or as often as keeps the looking below MARKER_SHARE of the time, but every MARKER_LONGEST seconds. The
   worker process whose look finds it moved has the others look at once (``moved``).
4. While its servers are at more than one address, which may not have the same at the same moment, every text is asked
   about: what is read from one says little of the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

import gevent
import gevent.event

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.log import label
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.server.catalogue import Rows, hazards, marker, read
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.server.hosts import address_of
from pgdoorman_lib.wire.messages import parse_data_row
from pgdoorman_lib.wire.scan import Lexicon
from pgdoorman_lib.wire.traces import ANYTHING

log = logging.getLogger(__name__)

#: Seconds between two looks at the marker, and the share of the time that looking may take.
MARKER_INTERVAL = 1.0
MARKER_SHARE = 0.02
#: Seconds between two looks at the most: a busy machine makes a look seem to cost more than it does.
MARKER_LONGEST = 5.0
#: Seconds between two readings of a catalogue that keeps moving.
READING_PAUSE = 0.25


class Catalogue:
    """The catalogue of one database, and the pools that go by it."""

    def __init__(self) -> None:
        self._rows: Rows | None = None
        self._pools: WeakSet[Any] = WeakSet()
        #: by trusted functions, and whether options' names matter
        self._lexicons: dict[tuple[tuple[str, ...], bool], Lexicon] = {}
        #: seconds on the monotonic clock
        self._look_at = 0.0
        self._doubted = False
        self._warned = False
        #: its servers were at several addresses when that was looked at last
        self._is_spread = False
        #: set when there is something to look into at once
        self.wanted: gevent.event.Event | None = None

    def join(self, pool: Any) -> None:
        """One more pool goes by it."""
        self._pools.add(pool)
        if self._rows is not None:
            self._give(pool)

    def ready(self, server: Server, moved: Callable[[], None]) -> bool:
        """See that it has been read, if need be from ``server``, which nobody has borrowed: whether it was. May switch.

        While no pool of the database had a server, nobody has looked at the marker. ``moved`` is as for ``look``.
        """
        if self._rows is not None and not self.is_due():
            return False
        server.stream.task = Task(server.stream.engine)
        try:
            if self._rows is None:
                self._read(server)
            else:
                self.look(server, moved)
        finally:
            server.stream.task = None
        return True

    def doubt(self) -> None:
        """Something may have been made that may leave something: until that is known, nothing is."""
        self._doubted = True
        for pool in self._pools:
            pool.scanner.doubts = 1
        if self.wanted is not None:
            self.wanted.set()

    @property
    def doubted(self) -> bool:
        """Whether something has happened that was not looked into yet; no server may outlive a transaction then."""
        return self._doubted

    @property
    def is_read(self) -> bool:
        """Whether its pools go by it already."""
        return self._rows is not None

    def is_due(self) -> bool:
        """Whether the marker should be looked at."""
        return self._rows is not None and (self._doubted or clock() >= self._look_at)

    def look(self, server: Server, moved: Callable[[], None]) -> None:
        """Look at the marker, and read the catalogue again if it has moved; may switch.

        ``moved`` is called before it is read: whoever has told that it may have moved may have read it before that.
        """
        assert self._rows is not None
        started = clock()
        doubted, self._doubted = self._doubted, False
        try:
            mark = [parse_data_row(body) for body in run(server, marker(self._rows))]
        except BaseException:
            self._doubted = self._doubted or doubted
            raise
        spent = clock() - started
        self._look_at = clock() + min(MARKER_LONGEST, max(MARKER_INTERVAL, spent / MARKER_SHARE))
        if mark != [[self._rows.mark]]:
            moved()
            self._read(server)
        elif doubted or self._is_spread or self._spreads(server):
            self._believe(server)

    def _read(self, server: Server) -> None:
        self._doubted = False
        started = clock()

        def run_query(sql: str) -> list[list[bytes | None]]:
            return [parse_data_row(body) for body in run(server, sql)]

        try:
            self._rows = read(run_query, self._rows, lambda: gevent.sleep(0))  # switch
        except BaseException:
            self._doubted = True
            raise
        self._lexicons.clear()
        for pool in list(self._pools):
            self._give(pool)
        self._believe(server)
        if any(ANYTHING in lexicon.named for lexicon in self._lexicons.values()) and not self._warned:
            self._warned = True
            log.warning(
                "%s every transaction is asked what it has left: an operator, a cast or a type of this database calls"
                " a function that may leave something behind (trusted_functions excuses one that does not)",
                label(database=server.settings.server_database),
            )
        log.info(
            "%s catalogue read in %.0f ms: %d names may leave something behind",
            label(database=server.settings.server_database),
            (clock() - started) * 1000,
            len(next(iter(self._lexicons.values())).named) if self._lexicons else 0,
        )

    def _give(self, pool: Any) -> None:
        """Have a pool's texts looked at with the words there are now."""
        trusted = tuple(pool.settings.trusted_functions)
        names_matter = bool(pool.settings.forget_option_names)
        lexicon = self._lexicons.get((trusted, names_matter))
        if lexicon is None:
            assert self._rows is not None
            names = hazards(self._rows, trusted, names_matter)
            lexicon = Lexicon(names, names.writing, names.calls, names_matter)
            self._lexicons[trusted, names_matter] = lexicon
        pool.scanner.use(lexicon)
        if self._doubted or self._is_spread:
            pool.scanner.doubts = 1

    def _believe(self, server: Server) -> None:
        """What has been read from ``server`` holds, unless something has happened meanwhile, or there are others."""
        self._is_spread = self._spreads(server)
        if not self._doubted:
            for pool in self._pools:
                pool.scanner.doubts = int(self._is_spread)

    def _spreads(self, server: Server) -> bool:
        """Whether there are servers elsewhere than ``server`` is."""
        here = address_of(server)
        return any(address_of(other) != here for pool in self._pools for other in pool.servers)


class Watch:
    """The greenlet that looks at the catalogues of databases in use; each look has one of its own.

    While a pool is busy or paused nobody waits for it but the look at its own database.
    """

    def __init__(self) -> None:
        self.wanted = gevent.event.Event()
        #: looks under way, and the pool whose server each uses or waits for
        self._looks: dict[Catalogue, tuple[Pool, gevent.Greenlet[..., None]]] = {}

    def run(self, pools: Any) -> None:
        """Look at them for ever; ``pools`` gives the pools there are."""
        try:
            while True:
                self.wanted.wait(MARKER_INTERVAL)
                self.wanted.clear()
                self.round(pools())
                gevent.sleep(READING_PAUSE)
        finally:
            gevent.killall([greenlet for _, greenlet in self._looks.values()])  # before their sockets' engine ends

    def round(self, pools: Iterable[Pool]) -> None:
        """Look at each once that is due and in use; those that take longer than READING_PAUSE go on behind this."""
        for pool, greenlet in self._looks.values():
            if pool.held:
                greenlet.kill(block=False)  # nothing is lent there; another pool of the database may
        begun = []
        for pool in list(pools):
            catalogue = pool.database.catalogue
            catalogue.wanted = self.wanted
            busy = catalogue in self._looks or pool.held
            if busy or not (pool.servers or catalogue.doubted) or not catalogue.is_due():
                continue
            begun.append(gevent.spawn(self._look, pool, catalogue))
            self._looks[catalogue] = pool, begun[-1]
        gevent.joinall(begun, timeout=READING_PAUSE)

    def _look(self, pool: Pool, catalogue: Catalogue) -> None:
        try:
            with pool.connection() as server:  # switch
                catalogue.look(server, pool.database.objects_moved)
                pool.database.address = address_of(server)  # what is believed now is from there
        except (DoormanError, Moved) as exc:
            log.debug("%s the catalogue could not be looked at: %s", label(database=pool.settings.database), exc)
        finally:
            self._looks.pop(catalogue, None)
