"""What these programs share: every feature run by CLIENTS connections at once, its checks counted, the outcome told."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLIENTS = int(os.environ["CLIENTS"])
PREFIX = os.environ["PREFIX"]
#: Seconds after which the program says where it hangs, and ends.
DEADLINE = float(os.environ["DEADLINE"])
#: Seconds between the plain queries of a client that is not on its turn.
PAUSE = 0.003

#: Drops what a run left, whole or broken off; each program runs it at its start and at its end.
TIDY = f"""DO $tidy$
DECLARE entry record;
BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    FOR entry IN SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname LIKE '{PREFIX}%'
        AND relnamespace = 'public'::regnamespace
    LOOP EXECUTE format('DROP TABLE IF EXISTS public.%I CASCADE', entry.relname); END LOOP;
    FOR entry IN SELECT nspname FROM pg_namespace WHERE nspname LIKE '{PREFIX}%'
    LOOP EXECUTE format('DROP SCHEMA %I CASCADE', entry.nspname); END LOOP;
    FOR entry IN SELECT oid::regprocedure AS signature FROM pg_proc WHERE proname LIKE '{PREFIX}%'
    LOOP EXECUTE format('DROP ROUTINE %s', entry.signature); END LOOP;
    FOR entry IN SELECT typname FROM pg_type WHERE typname LIKE '{PREFIX}%' AND typelem = 0
    LOOP EXECUTE format('DROP TYPE IF EXISTS %I CASCADE', entry.typname); END LOOP;
    FOR entry IN SELECT relname FROM pg_class WHERE relkind = 'S' AND relname LIKE '{PREFIX}%'
    LOOP EXECUTE format('DROP SEQUENCE IF EXISTS %I', entry.relname); END LOOP;
END $tidy$"""


class Wrong(Exception):
    """A check that did not pass."""


class Client:
    """One of the connections that run a feature. A check that fails ends its part in the feature."""

    def __init__(self, program: Any, number: int) -> None:
        self.program = program
        self.number = number
        self.connection: Any = None
        self.checks = 0

    def name(self, what: str) -> str:
        """A name for a table or the like that no other client and no other run has."""
        return f"{PREFIX}{what}_{self.number}"

    def key(self, what: int) -> int:
        """A number for an advisory lock of this client's own."""
        return hash_of(PREFIX) * 1000 + what * 100 + self.number

    def equal(self, got: object, wanted: object) -> None:
        if got != wanted:
            raise Wrong(f"{got!r:.400} instead of {wanted!r:.400}")
        self.checks += 1

    def true(self, got: object, about: str = "") -> None:
        if not got:
            raise Wrong(f"{about or 'a condition'}: {got!r:.200}")
        self.checks += 1

    @contextmanager
    def refused(self, *kinds: type[BaseException]) -> Iterator[list[Any]]:
        """The statements inside must raise one of ``kinds``; the list then holds the exception."""
        caught: list[Any] = []
        try:
            yield caught
        except kinds as error:
            caught.append(error)
            self.checks += 1
        else:
            raise Wrong(f"no {kinds[0].__name__} was raised")


def hash_of(text: str) -> int:
    """The same number in every process (Python's own hash() is salted)."""
    value = 7
    for letter in text:
        value = (value * 31 + ord(letter)) % 1_000_003
    return value


def until(probe: Callable[[], Any], seconds: float = 8) -> Any:
    """Call ``probe`` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Wrong(f"not within {seconds} s: {getattr(probe, '__doc__', None) or probe}")
        time.sleep(0.01)


async def until_async(probe: Callable[[], Awaitable[Any]], seconds: float = 8) -> Any:
    """``until`` for coroutines."""
    deadline = time.monotonic() + seconds
    while True:
        found = await probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Wrong(f"not within {seconds} s: {getattr(probe, '__doc__', None) or probe}")
        await asyncio.sleep(0.01)


class _Program:
    """Features by name, in the order they were written."""

    client_class: type[Client] = Client

    def __init__(
        self, connect: Callable[[], Any] | None = None, plain: Callable[[Any, int], Any] | None = None
    ) -> None:
        self.connect = connect
        #: ``plain(client, k)`` runs a query without side effects and tells whether the answer was right.
        self.plain = plain
        self.features: dict[str, Callable[[Any], Any]] = {}

    def feature(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        self.features[function.__name__] = function
        return function

    def _begin(self) -> list[Any]:
        self.clients = [self.client_class(self, number) for number in range(CLIENTS)]
        self.turns_left = CLIENTS
        self.failures: list[str] = []
        #: Set at the first failure: the turns of the others are left out.
        self.broken = False
        return self.clients

    def _fail(self, client: Client, error: BaseException) -> None:
        self.broken = True
        here = Path(__file__).parent
        lines = [
            f"{Path(frame.filename).name}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).parent == here and Path(frame.filename).name != Path(__file__).name
        ]
        kind = "" if isinstance(error, Wrong) else f"{type(error).__module__}.{type(error).__name__}: "
        text = " ".join(str(error).split())
        self.failures.append(f"client {client.number} at {' '.join(lines)}: {kind}{text}")

    def _tell(self, name: str, seconds: float) -> None:
        if self.failures:
            more = f" (and {len(self.failures) - 1} clients more)" if len(self.failures) > 1 else ""
            print(f"not ok {name} {self.failures[0][:1500]}{more}", flush=True)
        else:
            print(f"ok {name} {sum(client.checks for client in self.clients)}", flush=True)
        if os.environ.get("TIMES"):
            print(f"# {name} {seconds:.2f} s", flush=True)


class ThreadClient(Client):
    program: Threads

    def in_turn(self, part: Callable[[], None]) -> None:
        """Run ``part`` for one client after the other, while all others run plain queries; one check more.

        For what keeps a server to itself from one transaction to the next.
        """
        program = self.program
        waiting, queries = True, 0
        while program.turns_left and not program.broken:
            if waiting and program.turn.acquire(timeout=PAUSE):
                try:
                    if not program.broken:
                        part()
                except BaseException:
                    program.broken = True
                    raise
                finally:
                    waiting = False
                    program.turns_left -= 1
                    if not program.turns_left:
                        program.over.set()
                    program.turn.release()
            else:
                queries += 1
                if not waiting:
                    program.over.wait(PAUSE)
                if not program.plain(self, queries):
                    raise Wrong("a plain query of another client was answered wrongly")
        self.checks += 1


class Threads(_Program):
    """A program whose connections block: each has its thread."""

    client_class = ThreadClient

    def run(self) -> None:
        faulthandler.dump_traceback_later(DEADLINE, exit=True)
        for name, function in self.features.items():
            started = time.monotonic()
            clients = self._begin()
            self.turn = threading.Lock()
            self.over = threading.Event()
            self.start = threading.Barrier(CLIENTS)
            threads = [threading.Thread(target=self._one, args=(function, client)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._tell(name, time.monotonic() - started)
        print("done")

    def _one(self, function: Callable[[Any], None], client: Client) -> None:
        try:
            if self.connect is not None:
                client.connection = self.connect()
            try:
                self.start.wait()
                function(client)
            finally:
                if client.connection is not None:
                    client.connection.close()
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            self._fail(client, error)
            self.start.abort()


class TaskClient(Client):
    program: Tasks

    async def in_turn(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run ``part`` for one client after the other, while all others run plain queries; one check more."""
        program = self.program
        waiting, queries = True, 0
        while program.turns_left and not program.broken:
            if waiting and not program.turn.locked():
                async with program.turn:
                    try:
                        if not program.broken:
                            await part()
                    except BaseException:
                        program.broken = True
                        raise
                    finally:
                        waiting = False
                        program.turns_left -= 1
            else:
                queries += 1
                await asyncio.sleep(PAUSE)
                if not await program.plain(self, queries):
                    raise Wrong("a plain query of another client was answered wrongly")
        self.checks += 1


class Tasks(_Program):
    """A program of coroutines on one event loop."""

    client_class = TaskClient

    async def run(self) -> None:
        faulthandler.dump_traceback_later(DEADLINE, exit=True)
        for name, function in self.features.items():
            started = time.monotonic()
            clients = self._begin()
            self.turn = asyncio.Lock()
            if self.connect is not None:
                for client, connection in zip(
                    clients, await asyncio.gather(*(self.connect() for _ in clients)), strict=True
                ):
                    client.connection = connection
            await asyncio.gather(*(self._one(function, client) for client in clients))
            self._tell(name, time.monotonic() - started)
        print("done")

    async def _one(self, function: Callable[[Any], Awaitable[None]], client: Client) -> None:
        try:
            try:
                await function(client)
            finally:
                if client.connection is not None:
                    await client.connection.close()
        except Exception as error:
            self._fail(client, error)
