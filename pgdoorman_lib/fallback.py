"""Where servers are opened while a pool's own hosts have none: on another member of its Patroni cluster.

Rules, pg_doorman's:
1. When no server can be opened at the pool's hosts, all of ``patroni_api_urls`` are asked at once, and the first answer
   counts. What we lack ourselves (descriptors) is no reason to ask.
2. All members called sync_standby are tried at once, of which one is the next primary, then all others; the first to
   answer that is what ``target_session_attrs`` asks for is taken.
3. It is kept for ``fallback_cooldown``, during which the pool's own hosts are not tried, and for as long as none of
   those answers who asks whether it is there again; its connections live for ``fallback_lifetime``.
4. A member where no server could be opened is tried behind the others for a while, as any host (``server.hosts``).

Each worker process finds out by itself. Pools with the same URLs share an answer for FRESH_SECONDS.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gevent
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.config.model import format_address
from pgdoorman_lib.errors import DoormanError, LocalResourcesExhausted, ServerUnavailable, UnsuitableHost
from pgdoorman_lib.log import Limited, label
from pgdoorman_lib.metrics.counters import Histogram
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.hosts import FAILURES, Hosts, another_may_do
from pgdoorman_lib.server.patroni import SYNC_STANDBY, Member, PatroniError, ask

log = logging.getLogger(__name__)

#: Seconds for which an answer of Patroni's is everybody's.
FRESH_SECONDS = 1.0
#: Seconds for which it is kept on while the pool's own hosts are known to be down.
LOOK_INTERVAL = 1.0
#: Seconds between two lines in the log that no member could be found.
COMPLAINT_INTERVAL = 10.0
#: Databases that are remembered: there may be as many as clients can name.
MOST_POOLS = 1000

Attempt = Callable[[Any, str, str], Server]


class Cluster:
    """The members that ``urls`` tell of."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._members: list[Member] = []
        self._fresh_until = 0.0
        self._asking = BoundedSemaphore(1)

    def members(self, timeout: float, stats: FallbackStats) -> list[Member]:
        """Those that serve; may switch. PatroniError when no URL tells of any, LocalResourcesExhausted."""
        with self._asking:
            if clock() >= self._fresh_until:
                self._members = self._ask_all(timeout, stats)
                self._fresh_until = clock() + FRESH_SECONDS
            return self._members

    def _ask_all(self, timeout: float, stats: FallbackStats) -> list[Member]:
        asking = [gevent.spawn(_ask, url, timeout, stats) for url in self._urls]
        failures = []
        try:
            for answered in gevent.iwait(asking):
                found = answered.get()
                if isinstance(found, LocalResourcesExhausted):
                    raise found
                if isinstance(found, list) and found:
                    return found
                failures.append(found.message if isinstance(found, DoormanError) else "no member serves")
        finally:
            gevent.killall(asking, block=False)
        raise PatroniError("; ".join(failures))


def _ask(url: str, timeout: float, stats: FallbackStats) -> list[Member] | DoormanError:
    """What one URL tells; what is wrong is returned: this is a greenlet of its own."""
    stats.api_requests += 1
    begun = clock()
    try:
        return ask(url, timeout)
    except (PatroniError, LocalResourcesExhausted) as exc:
        stats.api_errors += 1
        return exc
    finally:
        stats.api_duration.add(int((clock() - begun) * 1_000_000))


class FallbackStats:
    """What is counted of one pool's."""

    NAMES = ("api_requests", "api_errors", "connections", "cache_hits")

    def __init__(self) -> None:
        self.api_requests = 0
        self.api_errors = 0
        #: servers opened at another member, and how many of them where the one before was
        self.connections = 0
        self.cache_hits = 0
        #: members where none could be opened, by reason
        self.failures: Counter[str] = Counter()
        self.api_duration = Histogram()


class FallbackView(NamedTuple):
    """What there is of the pools of ``database``; ``members``: host and port of where servers are opened now.

    ``counted``: see ``FallbackStats.NAMES``.
    """

    database: str
    members: tuple[tuple[str, int], ...]
    counted: tuple[int, ...]
    failures: Mapping[str, int]
    duration: Histogram


class Fallback:
    """That of the pools of one database."""

    def __init__(self, database: str, hosts: Hosts, cluster: Cluster) -> None:
        self.database = database
        self.stats = FallbackStats()
        self._hosts = hosts
        self._cluster = cluster
        self._member: Member | None = None
        self._until = 0.0
        self._searching = BoundedSemaphore(1)
        self._failing = Limited(log, COMPLAINT_INTERVAL)

    @property
    def member(self) -> Member | None:
        """Where servers are opened in place of the pool's hosts, None: there."""
        return self._member if clock() < self._until else None

    def view(self) -> FallbackView:
        """What is told of it."""
        stats, member = self.stats, self.member
        members = () if member is None else ((member.host, member.port),)
        counted = tuple(getattr(stats, name) for name in FallbackStats.NAMES)
        return FallbackView(self.database, members, counted, stats.failures, stats.api_duration)

    def open(self, settings: Any, attempt: Attempt) -> Server:
        """As ``Hosts.open``: at the pool's hosts, or where else there is one; may switch.

        When there is none at all, what is raised is of the pool's hosts.
        """
        server = self._at_kept(settings, attempt)
        if server is not None:
            return server
        try:
            return self._hosts.open(settings, attempt)
        except FAILURES as exc:
            if not another_may_do(exc):
                raise
            server = self._elsewhere(settings, attempt)
            if server is None:
                raise
            return server

    def _at_kept(self, settings: Any, attempt: Attempt) -> Server | None:
        """A server at the member that was found last, if that is not too long ago."""
        if self._member is not None and clock() >= self._until and self._hosts.are_down(settings):
            self._until = clock() + LOOK_INTERVAL
        member = self.member
        if member is None:
            return None
        try:
            server = self._open_at(settings, member, attempt)
        except FAILURES as exc:
            if not another_may_do(exc):
                raise
            if self._member == member:
                self._member = None
            return None
        self.stats.cache_hits += 1
        return server

    def _elsewhere(self, settings: Any, attempt: Attempt) -> Server | None:
        """A server at another member; None, and the log says why, if there is none."""
        who = label(database=self.database)
        with self._searching:  # one looks for it, the others go where it has found one
            server = self._at_kept(settings, attempt)
            if server is not None:
                return server
            try:
                members = self._cluster.members(settings.patroni_api_timeout, self.stats)
            except PatroniError as exc:
                self._failing.warning("%s Patroni does not tell of another host: %s", who, exc.message)
                return None
            others = [each for each in members if (each.host, each.port) not in settings.servers]
            for race in (
                [each for each in others if each.role == SYNC_STANDBY],
                [each for each in others if each.role != SYNC_STANDBY],
            ):
                for member in self._answering(settings, race):
                    try:
                        server = self._open_at(settings, member, attempt)
                    except FAILURES as exc:
                        self._failed(member, exc)
                        continue
                    self._member, self._until = member, clock() + settings.fallback_cooldown
                    log.warning(
                        "%s the pool's hosts can't be used: for %g s servers are opened at %s (%s, by Patroni)",
                        *(who, settings.fallback_cooldown, format_address(member.host, member.port), member.role),
                    )
                    return server
        self._failing.warning("%s no member of the Patroni cluster can be used: %d were tried", who, len(others))
        return None

    def _answering(self, settings: Any, members: Sequence[Member]) -> Iterator[Member]:
        """Those where PostgreSQL answers, in the order in which they do, all asked at once; may switch.

        Those known to be down are only asked when no other can be used.
        """
        up = [each for each in members if not self._hosts.is_down(each.host, each.port)]
        for some in (up, [each for each in members if each not in up]):
            asking = [gevent.spawn(self._knock, settings, member) for member in some]
            try:
                for answered in gevent.iwait(asking):
                    member = answered.get()
                    if member is not None:
                        yield member
            finally:
                gevent.killall(asking, block=False)

    def _knock(self, settings: Any, member: Member) -> Member | None:
        try:
            self._hosts.knock(_settings_for(settings, member))
        except LocalResourcesExhausted:
            return None  # no fault of the member's
        except DoormanError as exc:
            self._failed(member, exc)
            return None
        return member

    def _open_at(self, settings: Any, member: Member, attempt: Attempt) -> Server:
        server = self._hosts.open(_settings_for(settings, member), attempt)
        server.expires_at = min(server.expires_at, clock() + settings.fallback_lifetime)
        self.stats.connections += 1
        return server

    def _failed(self, member: Member, exc: DoormanError) -> None:
        reason = "unsuitable" if isinstance(exc, UnsuitableHost) else "refused"
        if isinstance(exc, ServerUnavailable) and not isinstance(exc, UnsuitableHost):
            reason = "timeout" if isinstance(exc.__cause__, TimeoutError) else "connect"
        self.stats.failures[reason] += 1
        log.info(
            "%s no server at %s: %s",
            *(label(database=self.database), format_address(member.host, member.port), exc.message),
        )


class Fallbacks:
    """Those of all pools that have one."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._by_pool: dict[tuple[str, tuple[str, ...]], Fallback] = {}
        self._clusters: dict[tuple[str, ...], Cluster] = {}

    def __iter__(self) -> Iterator[Fallback]:
        return iter(self._by_pool.values())

    def of(self, settings: Any) -> Fallback | None:
        """That of a pool with these settings, None where there is none."""
        urls = settings.patroni_api_urls
        if not urls:
            return None
        key = settings.database, urls
        found = self._by_pool.get(key)
        if found is None:
            if len(self._by_pool) >= MOST_POOLS:
                del self._by_pool[next(iter(self._by_pool))]
            cluster = self._clusters.setdefault(urls, Cluster(urls))
            found = self._by_pool[key] = Fallback(settings.database, self._hosts, cluster)
        return found


def join_views(one: FallbackView, other: FallbackView) -> FallbackView:
    """What two processes tell of the same."""
    duration = Histogram()
    duration.merge(one.duration)
    duration.merge(other.duration)
    return FallbackView(
        one.database,
        tuple(sorted({*one.members, *other.members})),
        tuple(map(sum, zip(one.counted, other.counted, strict=True))),
        Counter(one.failures) + Counter(other.failures),
        duration,
    )


def _settings_for(settings: Any, member: Member) -> Any:
    """A pool's settings for a server at ``member``."""
    return dataclasses.replace(settings.at(member.host, member.port), connect_timeout=settings.fallback_connect_timeout)
