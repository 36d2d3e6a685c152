"""Servers of a worker that has died: what runs there is cancelled, and PostgreSQL is asked until it has none of them.

The kernel has closed their connections, but each is a connection to PostgreSQL until its process has noticed, which may
be at work. Before that nobody must take its place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import gevent
from gevent.pool import Pool as Greenlets

from pgdoorman_lib.cancel import CANCEL_TIMEOUT
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.log import of_pool
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.pool.roll import Orphan
from pgdoorman_lib.server.cancel import send_cancel
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.server.hosts import address_of
from pgdoorman_lib.wire.messages import parse_data_row

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: As ``address_of`` gives it.
_Address = tuple[str, int]

#: Cancel requests that are under way at a time.
CANCELS_AT_ONCE = 20
#: Seconds for all of it, and between two looks whether they have ended.
SECONDS = 0.5
LOOK_INTERVAL = 0.005


def end(app: App, orphans: Iterable[Orphan]) -> bool:
    """Cancel what runs on them, and wait until they have ended, SECONDS at most; may switch. Whether all have."""
    deadline = clock() + SECONDS
    cancels = Greenlets(CANCELS_AT_ONCE)
    by_address: dict[_Address, list[int]] = {}
    for orphan in orphans:
        pool = app.find_pool(orphan.database, orphan.user)
        if pool is not None:
            by_address.setdefault((orphan.address or orphan.host, orphan.port), []).append(orphan.pid)
            cancels.spawn(_cancel, app, pool, orphan)
    cancels.join(SECONDS)
    looks = [gevent.spawn(_await_end, app, address, pids) for address, pids in by_address.items()]
    try:
        gevent.joinall(looks, timeout=max(0.0, deadline - clock()))
        return all(look.value for look in looks)
    finally:
        gevent.killall(looks)


def _cancel(app: App, pool: Pool, orphan: Orphan) -> None:
    try:
        settings = pool.settings.at(orphan.host, orphan.port)
        send_cancel(settings, app.engine, orphan.pid, orphan.secret, CANCEL_TIMEOUT, address=orphan.address)
    except DoormanError as exc:
        log.warning("%s what runs there for a worker that has died goes on: %s", of_pool(pool.settings), exc.message)


def _await_end(app: App, address: _Address, pids: Sequence[int]) -> bool:
    """Ask PostgreSQL there until it has none of these processes any more; may switch. False: it can't be asked."""
    pools = [pool for pool in app.pools if _may_be_at(pool, address) and not pool.held]
    if not pools:
        return False
    asked = max(pools, key=lambda pool: pool.queue.qsize())  # any of its users sees process ids
    numbers = ", ".join(map(str, pids))
    try:
        with asked.connection() as server:
            while address_of(server) == address:
                (body,) = run(server, f"SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE pid IN ({numbers})")
                if parse_data_row(body) == [b"0"]:
                    return True
                gevent.sleep(LOOK_INTERVAL)
            return False
    except (DoormanError, Moved) as exc:
        log.debug("%s was not asked for servers of a worker that has died: %s", of_pool(asked.settings), exc)
        return False


def _may_be_at(pool: Pool, address: _Address) -> bool:
    """Whether its next server may be at ``address``: one at rest is, or there is none, which is opened anywhere."""
    resting = list(pool.queue)
    return any(address_of(server) == address for server in resting) if resting else True
