"""On which of a pool's hosts a server is opened: in what order they are tried, and which of them are known to be down.

Rules:
1. A name is resolved anew for each server that is opened, by gevent's resolver: nothing is kept. Each of its addresses
   is tried, for ``connect_timeout``.
2. An address where no server could be opened is tried behind all others, for a time that is doubled from BREAK_FIRST to
   BREAK_LAST with each failure in a row. After that one greenlet asks whether PostgreSQL answers there (``_probe``);
   only when it does is the address tried in its place again. Where nothing else is left, it is tried anyway.
3. One that answered, but is not what ``target_session_attrs`` asks for, is tried behind those that may be, for
   UNSUITABLE_SECONDS.
4. What a server refuses for a reason that is not its own (a password, a database) is no reason to ask another.
5. All pools of a process share what is known of an address; each process finds out by itself.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import gevent

from pgdoorman_lib.config.model import format_address
from pgdoorman_lib.errors import (
    DoormanError,
    LocalResourcesExhausted,
    ServerProtocolViolation,
    ServerRefused,
    ServerUnavailable,
    UnsuitableHost,
)
from pgdoorman_lib.net.connect import is_numeric, resolve
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.sockopt import SocketOptions
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server.attributes import ANY, PREFER_STANDBY, STANDBY
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.login import PLAIN, as_server, ask_for_tls, describe, dial, time_limit

log = logging.getLogger(__name__)

#: Seconds for which an address is tried last: doubled from the first to the last with each failure in a row.
BREAK_FIRST = 1.0
BREAK_LAST = 60.0
#: Seconds for which an address is tried behind others that was not what was asked for.
UNSUITABLE_SECONDS = 5.0
#: SQLSTATEs of a host that is shutting down or starting: another may do.
PASSING = ("57P01", "57P02", "57P03")
#: What is raised where no server could be opened.
FAILURES = (ServerUnavailable, ServerRefused, ServerProtocolViolation)
#: Addresses that are remembered; those tried longest ago go first.
MOST_KNOWN = 1000

#: What is asked for, one after the other, where that is not ``target_session_attrs`` itself.
_WISHES = {PREFER_STANDBY: (STANDBY, ANY)}


class Place(NamedTuple):
    """A host as configured, and one of its addresses: numeric, the directory of its socket, or empty: not resolved."""

    host: str
    port: int
    address: str

    def __str__(self) -> str:
        name = format_address(self.host, self.port)
        return name if self.address in (self.host, "") else f"{name} ({self.address})"


class Breaker:
    """What is known of one place: ``failures`` in a row, until when it is tried last, and why."""

    __slots__ = ("failures", "probe", "reason", "role", "unsuitable", "until")

    def __init__(self) -> None:
        self.failures = 0
        #: monotonic seconds; 0.0: it has answered since, and is tried in its place
        self.until = 0.0
        self.reason = ""
        #: primary or standby, as its last login told; empty: not known
        self.role = ""
        #: for what it was found not to do, and until when that is believed
        self.unsuitable: dict[str, float] = {}
        self.probe: gevent.Greenlet[..., None] | None = None

    def state(self, now: float) -> str:
        """In the words of a circuit breaker."""
        if not self.failures:
            return "closed"
        return "open" if now < self.until else "half-open"

    def worked(self) -> None:
        """A server was opened, or refused for good: it is there."""
        self.failures = 0
        self.until = 0.0
        self.reason = ""

    def failed(self, reason: str, now: float) -> None:
        """None could be opened."""
        self.failures += 1
        self.until = now + min(BREAK_LAST, BREAK_FIRST * 2.0 ** min(self.failures - 1, 10))
        self.reason = reason


class HostView(NamedTuple):
    """One address of a host of the pools, as ``worker`` knows it.

    ``role``: what it was at its last login; ``retry_in``: seconds until it is asked whether it is there again.
    """

    worker: int
    host: str
    port: int
    address: str
    state: str
    role: str
    failures: int
    retry_in: float
    reason: str
    servers: int


def knock(settings: Any, engine: Engine, address: str) -> None:
    """Ask whether PostgreSQL answers at ``address``, without logging in; may switch. Raises as ``login`` does."""
    timeout = settings.connect_timeout
    with time_limit(settings, timeout, "ask"):
        stream = dial(settings, engine, timeout, PLAIN, SocketOptions.of(settings), address=address)
        try:
            with as_server(stream):
                ask_for_tls(stream)
        finally:
            stream.close()


class Hosts:
    """The places of all pools of this process. ``probe`` knocks at one; DoormanError if nobody answers."""

    def __init__(self, engine: Engine, probe: Callable[[Any, Engine, str], None] = knock) -> None:
        self._engine = engine
        self._probe_at = probe
        self._known: dict[Place, Breaker] = {}

    def known(self, others: Iterable[Place] = ()) -> list[tuple[Place, Breaker]]:
        """What has been tried, in order; and ``others``, from where other processes have sent servers."""
        return sorted(({place: Breaker() for place in others} | self._known).items())

    def is_down(self, host: str, port: int) -> bool:
        """Whether no address of a host that was tried is known to be there."""
        now = clock()
        known = [breaker for place, breaker in self._known.items() if (place.host, place.port) == (host, port)]
        return bool(known) and all(now < breaker.until for breaker in known)

    def are_down(self, settings: Any) -> bool:
        """Whether no server could be opened at any host of ``settings``, and none has answered since; no switch.

        Those whose time is over are asked whether they are there again, of which a later call will know.
        """
        known = [(place, breaker) for place, breaker in self._known.items() if place[:2] in settings.servers]
        for place, breaker in known:
            self._ask_again(settings, place, breaker)
        now = clock()  # of a name that was not resolved there is nobody to ask: it is tried again
        return bool(known) and all(breaker.until > (0.0 if place.address else now) for place, breaker in known)

    def knock(self, settings: Any) -> None:
        """Ask whether PostgreSQL answers at any address of the only host of ``settings``; may switch. DoormanError."""
        failures: dict[Place, DoormanError] = {}
        for place in self._in_order(settings, ANY, failures):
            try:
                self._probe_at(settings, self._engine, place.address)  # switch
            except LocalResourcesExhausted:
                raise
            except DoormanError as exc:
                self._of(place).failed(exc.message, clock())
                failures[place] = exc
            else:
                return
        raise _joined(failures)

    def open(self, settings: Any, attempt: Callable[[Any, str, str], Server]) -> Server:
        """What ``attempt`` opens at the first place where it can; may switch.

        It is called with settings for one host, an address, and what that is to be (of ``target_session_attrs``), and
        raises UnsuitableHost when it is not. Raises what it has raised, of several failures the one that tells most,
        with all of them as its cause.
        """
        failures: dict[Place, DoormanError] = {}
        wishes = _WISHES.get(settings.target_session_attrs, (settings.target_session_attrs,))
        for wish in wishes:
            for place in self._in_order(settings, wish, failures):
                if place in failures and not isinstance(failures[place], UnsuitableHost):
                    continue
                if wish != wishes[-1] and self._of(place).unsuitable.get(wish, 0.0) > clock():
                    continue
                try:
                    return self._try(settings, place, wish, attempt)
                except FAILURES as exc:
                    if not another_may_do(exc):
                        raise
                    failures[place] = exc
        raise _joined(failures)

    def _try(self, settings: Any, place: Place, wish: str, attempt: Callable[[Any, str, str], Server]) -> Server:
        breaker = self._of(place)
        try:
            server = attempt(settings.at(place.host, place.port), place.address, wish)
        except UnsuitableHost:
            breaker.worked()
            breaker.unsuitable[wish] = clock() + UNSUITABLE_SECONDS
            raise
        except FAILURES as exc:
            if another_may_do(exc):
                breaker.failed(exc.message, clock())
            else:
                breaker.worked()
            raise
        breaker.worked()
        breaker.unsuitable.pop(wish, None)
        breaker.role = {"on": "standby", "off": "primary"}.get(server.reported.values.get("in_hot_standby", ""), "")
        return server

    def _in_order(self, settings: Any, wish: str, failures: dict[Place, DoormanError]) -> Iterator[Place]:
        """All places, the most promising first; what can't be resolved goes to ``failures``; may switch."""
        servers = list(settings.servers)
        at_random = settings.load_balance_hosts == "random"
        if at_random:
            random.shuffle(servers)
        doubtful = [(host, port) for host, port in servers if self._is_down(Place(host, port, ""))]
        # A name that could not be resolved holds nobody up before the others have been tried.
        for batch in ([each for each in servers if each not in doubtful], doubtful):
            places = self._resolve(batch, settings.connect_timeout, failures)
            if at_random:
                random.shuffle(places)
            yield from sorted(places, key=lambda place: self._rank(place, wish, settings, len(places)))

    def _resolve(
        self, servers: Iterable[tuple[str, int]], timeout: float, failures: dict[Place, DoormanError]
    ) -> list[Place]:
        """The addresses of all; names are looked up at the same time; may switch."""
        looks = {
            (host, port): None if is_numeric(host) else gevent.spawn(self._addresses, host, port, timeout)
            for host, port in servers
        }
        places = []
        try:
            for (host, port), look in looks.items():
                found = [host] if look is None else look.get()  # switch
                if isinstance(found, LocalResourcesExhausted):
                    raise found
                if isinstance(found, DoormanError):
                    failures[Place(host, port, "")] = found
                else:
                    places += [Place(host, port, address) for address in found]
        finally:
            gevent.killall([look for look in looks.values() if look is not None], block=False)
        return places

    def _addresses(self, host: str, port: int, timeout: float) -> list[str] | DoormanError:
        """A name's; what is wrong is returned: this is a greenlet of its own."""
        place = Place(host, port, "")
        try:
            found = resolve(host, port, timeout)  # switch
        except LocalResourcesExhausted as exc:
            return exc
        except DoormanError as exc:
            self._of(place).failed(exc.message, clock())
            return exc
        self._known.pop(place, None)
        return found or ServerUnavailable("the server's host name has no address")

    def _is_down(self, place: Place) -> bool:
        breaker = self._known.get(place)
        return breaker is not None and clock() < breaker.until

    def _rank(self, place: Place, wish: str, settings: Any, number: int) -> int:
        """How late a place is tried: 0 in its order, 1 behind those, 2 behind all; no switch."""
        breaker = self._of(place)
        if breaker.until:
            if number > 1:
                self._ask_again(settings, place, breaker)
            return 2
        return 1 if breaker.unsuitable.get(wish, 0.0) > clock() else 0

    def _ask_again(self, settings: Any, place: Place, breaker: Breaker) -> None:
        """Have one greenlet ask whether anybody answers at a place that was down, once its time is over."""
        if breaker.until and clock() >= breaker.until and breaker.probe is None and place.address:
            breaker.probe = gevent.spawn(self._probe, settings.at(place.host, place.port), place, breaker)

    def _probe(self, settings: Any, place: Place, breaker: Breaker) -> None:
        """Ask once whether anybody answers there again; a greenlet's body."""
        try:
            self._probe_at(settings, self._engine, place.address)  # switch
        except LocalResourcesExhausted:
            return
        except DoormanError as exc:
            breaker.failed(exc.message, clock())
        else:
            breaker.until = 0.0
            log.info("the server %s answers again, after %d failures", place, breaker.failures)
        finally:
            breaker.probe = None

    def _of(self, place: Place) -> Breaker:
        breaker = self._known.get(place)
        if breaker is None:
            if len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            breaker = self._known[place] = Breaker()
        return breaker

    def close(self) -> None:
        """Ask nobody any more; may switch."""
        gevent.killall([breaker.probe for breaker in self._known.values() if breaker.probe is not None])


def another_may_do(exc: DoormanError) -> bool:
    """Whether one of FAILURES is a host's own; another would refuse for any other reason, too."""
    return not isinstance(exc, ServerRefused) or exc.sqlstate in PASSING


def _joined(failures: dict[Place, DoormanError]) -> DoormanError:
    """What is told when all have failed: who is down before who is not what was asked for."""
    first = next((exc for exc in failures.values() if not isinstance(exc, UnsuitableHost)), None)
    first = first or next(iter(failures.values()))
    if len(failures) == 1:
        return first
    told = "; ".join(f"{place}: {describe(exc)}" for place, exc in failures.items())
    joined = ServerUnavailable(first.message, sqlstate=first.sqlstate)
    joined.__cause__ = OSError(told)
    return joined


def place_of(server: Server) -> Place:
    """Where a server is, by its host's name, too."""
    host = server.settings.server_host
    return Place(host, server.settings.server_port, server.stream.peer_host or host)


def address_of(server: Server) -> tuple[str, int]:
    """Where a server really is: another address is another PostgreSQL."""
    return server.stream.peer_host or server.settings.server_host, server.settings.server_port
