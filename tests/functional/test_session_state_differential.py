"""The same random mix of session state to PostgreSQL and through a pool of one or two servers: each client must see the same.

Three clients set parameters, prepare, lock, listen, make temporary tables and cursors, in transactions and out of
them, in one message or many; some vanish. Directly each has a connection of its own, in the pooler they share.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from fix_doorman import Doorman, app_pool, until_idle
from fix_postgres import Postgres
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pace import patience
from wire_client import (
    SYNC,
    Message,
    WireClient,
    bind,
    close_statement,
    describe_statement,
    execute,
    normal,
    parse,
    query,
)

#: More for a search through the night: PGDOORMAN_TEST_EXAMPLES=20000.
EXAMPLES = int(os.environ.get("PGDOORMAN_TEST_EXAMPLES", "0"))

CLIENTS = 3
#: One for each side, since channels and advisory locks are a database's.
POOLED, DIRECT = "state_pooled", "state_direct"

SETUP = """
    CREATE SCHEMA sa; CREATE SCHEMA sb;
    CREATE TABLE sa.t AS SELECT 'of sa' AS n;
    CREATE TABLE sb.t AS SELECT 'of sb' AS n;
    CREATE TABLE sa.only AS SELECT 1 AS a;
    CREATE TABLE sb.u AS SELECT 2.5 AS n;
    CREATE TABLE sa.u AS SELECT 7 AS n;
    CREATE TABLE public.tally (who int, n int);
    GRANT ALL ON SCHEMA sa, sb, public TO PUBLIC;
    GRANT ALL ON ALL TABLES IN SCHEMA sa, sb, public TO PUBLIC;
"""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    postgres.sql("CREATE ROLE app_alias; GRANT app_alias TO app")
    for database in (POOLED, DIRECT):
        postgres.sql(f"CREATE DATABASE {database} OWNER app")
        postgres.sql(SETUP, database=database)

    def pool(size: int, **more: Any) -> Mapping[str, Any]:
        return app_pool(postgres, size, server_database=POOLED, max_pinned_servers=size, **more)

    return {
        "pools": {
            "one": pool(1),
            "two": pool(2),
            "tinyone": pool(1, prepared_statements_cache_size=2),
            "tinytwo": pool(2, prepared_statements_cache_size=2),
        }
    }


# -- what is said; <c> stands for the client's number, <lock> for a number of its own among all that ever lived

# A customized option that was never set and one whose setting was rolled back differ by the server's past: NULL or ''.
LOOK = "SELECT coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.user', true), '')"

#: Parameters.
SETTING = (
    "SET work_mem = '<c>1MB'",
    "SET SESSION lock_timeout TO '<c>2s'",
    "SET LOCAL work_mem = '9MB'",
    "SET LOCAL search_path = sb",
    "SET search_path = sa",
    "SET search_path = sb, public",
    'SET search_path TO "sa", sb',
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET LOCAL timezone = 'America/Lima'",
    "SET datestyle = German",
    "SET app.tenant = 'tenant <c>'",
    "SET LOCAL app.tenant = 'local <c>'",
    "SELECT set_config('app.user', 'user <c>', false)",
    "SELECT set_config('app.user', 'it''s \\ local', true)",
    "SELECT set_config('work_mem', '<c>3MB', false)",
    "SELECT set_config('search_path', 'sb', true)",
    "SELECT \"pg_catalog\".\"set_config\"('app.user', 'quoted <c>', false)",
    "DO $$ BEGIN PERFORM set_config('app.tenant', 'done <c>', false); END $$",
    "SELECT set_config(name, 'rows <c>', false) FROM (VALUES ('app.tenant'), ('app.user')) AS names (name)",
    "/* first a comment */ SET work_mem = '<c>4MB'",
    "SET application_name = 'name <c>'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET default_transaction_read_only = off",
    "SET TRANSACTION READ ONLY",
    "SET work_mem = 'a lot'",
    "SET no_such_parameter = 1",
    "SET ROLE app_alias",
    "SET ROLE none",
    "RESET ROLE",
)
RESETTING = (
    "RESET work_mem",
    "RESET search_path",
    "RESET app.tenant",
    "RESET timezone",
    "SET datestyle TO DEFAULT",
    "RESET ALL",
)
SHOWING = (
    LOOK,
    LOOK,
    "SHOW work_mem",
    "SHOW search_path",
    "SELECT n FROM t",
    "SELECT n FROM u",
    "SELECT a FROM only",
    "SELECT current_user::text, session_user::text",
    "SELECT '2026-02-03 04:05'::timestamptz::text",
    "SELECT date '2026-11-12'::text",
    "SELECT current_setting('lock_timeout'), current_setting('transaction_read_only')",
    "SHOW application_name",
)
TRANSACTION = (
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SELECT 1/0",
    "INSERT INTO public.tally VALUES (<c>, 1)",
    "SELECT coalesce(sum(n), 0) FROM public.tally WHERE who = <c>",
)
PREPARED = (
    "PREPARE p AS SELECT n FROM t",
    "PREPARE p AS SELECT 'p of <c>'",
    "PREPARE q (int) AS SELECT $1 + <c>",
    "PREPARE r (text, text) AS SELECT set_config($1, $2, false)",
    "PREPARE q (int) AS SELECT $1, pg_advisory_lock(<lock>)",
    "EXECUTE p",
    "EXECUTE p",
    'EXECUTE "p"',
    "EXECUTE q(5)",
    "EXECUTE q (2 + 4)",
    "EXECUTE r('app.tenant', 'by r <c>')",
    "EXPLAIN (COSTS OFF) EXECUTE p",
    "CREATE TEMP TABLE mine AS EXECUTE p",
    "DEALLOCATE p",
    "DEALLOCATE PREPARE q",
    "DEALLOCATE ALL",
    "DISCARD ALL",
)
KEPT = (
    "LISTEN news",
    "LISTEN other",
    "UNLISTEN news",
    "UNLISTEN *",
    "NOTIFY news, 'from <c>'",
    "SELECT pg_notify('other', 'by <c>')",
    "SELECT * FROM pg_listening_channels() AS c ORDER BY c",
    "CREATE TEMP TABLE mine AS SELECT <c> AS n",
    "CREATE TEMPORARY TABLE mine (n int) ON COMMIT DELETE ROWS",
    "CREATE TEMP TABLE mine (n int) ON COMMIT DROP",
    'CREATE TABLE "pg_temp".mine AS SELECT 100 + <c> AS n',
    "CREATE TEMP TABLE u AS SELECT 'hidden' AS n",
    "SELECT 1 AS n INTO TEMP mine",
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) CREATE TEMP TABLE mine AS SELECT 1 AS n",
    "INSERT INTO mine VALUES (3)",
    "SELECT n FROM mine ORDER BY n",
    "DROP TABLE mine",
    "DISCARD TEMP",
    "DECLARE c CURSOR WITH HOLD FOR SELECT <c> * 10 + generate_series(1, 5)",
    "DECLARE c CURSOR FOR SELECT <c> * 100 + generate_series(1, 5)",
    "FETCH 2 FROM c",
    "CLOSE c",
    "CLOSE ALL",
    "SELECT pg_advisory_lock(<lock>)",
    "SELECT pg_try_advisory_lock(<lock>)",
    'SELECT "pg_advisory_lock"(<lock>)',
    "SELECT pg_advisory_unlock(<lock>)",
    "SELECT pg_advisory_xact_lock(<lock>)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
)
#: With parameters, and values for them.
BOUND: Mapping[str, tuple[bytes | None, ...]] = {
    "SELECT set_config($1, $2, false)": (b"app.user", b"bound <c>"),
    "SELECT set_config($1, $2, true)": (b"app.user", b"bound local <c>"),
    "SELECT set_config($1, $2, $3)": (b"search_path", b"sa", b"f"),
    "SELECT $1::text || <c>": (b"text ",),
    "SELECT n FROM t WHERE n <> $1": (b"nothing",),
    "SELECT pg_advisory_lock($1)": (b"<lock>",),
    "SELECT pg_notify('news', $1)": (b"bound <c>",),
}
#: What one may say and vanish before it is known whether it was heard: nobody else could tell.
UNHEARD = (*SETTING, *PREPARED, *KEPT[7:14])

_MAY_PIN = re.compile(r"\bLISTEN|TEMP|HOLD|advisory_lock|set_config\(name", re.IGNORECASE)
_RESETS = re.compile(r"\bRESET\b|DEFAULT|DISCARD ALL", re.IGNORECASE)
_MAY_USE = re.compile(r"EXECUTE", re.IGNORECASE)

texts = st.one_of(
    st.sampled_from(SETTING),
    st.sampled_from(RESETTING),
    st.sampled_from(SHOWING),
    st.sampled_from(SHOWING),
    st.sampled_from(TRANSACTION),
    st.sampled_from(TRANSACTION),
    st.sampled_from(PREPARED),
    st.sampled_from(KEPT),
)
names = st.sampled_from(["", "", "p", "q", "s"])


@dataclass(frozen=True)
class Item:
    """One extended-protocol exchange, or part of one: ``kind`` has letters P B E D C in the order they are sent."""

    kinds: str
    name: str
    text: str = ""
    values: tuple[bytes | None, ...] = ()

    def __str__(self) -> str:
        return f"{self.kinds}({self.name!r}, {self.text!r}{f', {self.values}' if self.values else ''})"


#: What goes out up to a ReadyForQuery: a simple query, or a batch that ends with Sync.
Unit = str | tuple[Item, ...]

whole = st.builds(
    lambda kinds, name, text: Item(kinds, name_for(text, name), text),
    st.sampled_from(["PBE", "PBE", "PBE", "PDBE", "P"]),
    names,
    texts,
)
bound = st.builds(
    lambda kinds, name, text: Item(kinds, name, text, BOUND[text]),
    st.sampled_from(["PBE", "PBE", "PDBE", "P"]),
    names,
    st.sampled_from(list(BOUND)),
)
again = st.builds(
    lambda kinds, name, values: Item(kinds, name, "", values),
    st.sampled_from(["BE", "BE", "BE", "DBE", "D", "C"]),
    names,
    st.sampled_from([(), (), (b"3",), (b"app.user", b"again <c>")]),
)
items = st.one_of(whole, whole, bound, again)


def name_for(text: str, name: str) -> str:
    """A name that a statement with this text may have."""
    if "EXECUTE" in text or text in TRANSACTION:
        # EXECUTE of one that executes itself exhausts PostgreSQL's stack, of a SAVEPOINT it ends the session (FATAL).
        return name and "s"
    if "timestamptz" in text or "FROM u" in text:
        # Constants are settled when a statement is parsed, and PostgreSQL refuses one whose result has changed since.
        # Under settings that changed in between, a client's own copy is parsed instead.
        return ""
    return name


units: st.SearchStrategy[Unit] = st.one_of(
    texts,
    texts,
    st.lists(texts, min_size=2, max_size=3).map("; ".join),
    items.map(lambda item: (item,)),
    items.map(lambda item: (item,)),
    st.lists(items, min_size=2, max_size=3).map(tuple),
)


@dataclass(frozen=True)
class Step:
    """What a client sends in one go and waits for the answers to.

    ``letting_go`` is how others that hold a server let it go before, if they must. ``vanishes``: the client closes its
    connection and comes back on a new one, 1 having read the answers, 2 without.
    """

    client: int
    units: tuple[Unit, ...]
    letting_go: int = 0
    vanishes: int = 0


#: As most programs speak: one query after the other.
turns = st.builds(lambda c, u, how: Step(c, (u,), how), st.integers(0, CLIENTS - 1), units, st.integers(0, 3))
pipelines = st.builds(
    lambda c, u, how: Step(c, tuple(u), how),
    st.integers(0, CLIENTS - 1),
    st.lists(units, min_size=2, max_size=3),
    st.integers(0, 3),
)
departures = st.builds(
    lambda c, u, how, vanishes: Step(c, (u,), how, vanishes),
    st.integers(0, CLIENTS - 1),
    st.sampled_from(UNHEARD),
    st.integers(0, 3),
    st.sampled_from([1, 2]),
)
steps = st.one_of(turns, turns, turns, turns, turns, pipelines, pipelines, departures)
plans = st.lists(steps, min_size=2, max_size=14)

#: What clients ask for when they connect.
STARTUPS: tuple[Mapping[str, str], ...] = (
    {},
    {"options": "-c work_mem=3MB -c app.tenant=begin"},
    {"datestyle": "SQL, DMY", "options": "-c search_path=sb"},
    {"timezone": "Europe/Paris", "options": "-c lock_timeout=5s"},
)
startups = st.lists(st.sampled_from(STARTUPS), min_size=CLIENTS, max_size=CLIENTS)


# -- saying it


def messages_of(unit: Unit) -> bytes:
    if isinstance(unit, str):
        return query(unit)
    data = b""
    for item in unit:
        for kind in item.kinds:
            data += {
                "P": lambda i: parse(i.name, i.text),
                "B": lambda i: bind("", i.name, i.values),
                "E": lambda i: execute(""),
                "D": lambda i: describe_statement(i.name),
                "C": lambda i: close_statement(i.name),
            }[kind](item)
    return data + SYNC


@dataclass
class Side:
    """One client's connection on one side."""

    wire: WireClient
    heard: list[tuple[str, str]] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)

    def ask(self, data: bytes, ready: int) -> list[tuple[str, object]]:
        """The answers in the form in which both sides must agree."""
        got = self.wire.ask(data, ready)
        for m in got:
            if m.kind == "S":
                name, value, _ = m.body.decode().split("\0")
                self.wire.parameters[name] = value
            elif m.kind == "A":
                channel, payload, _ = m.body[4:].decode().split("\0")
                self.heard.append((channel, payload))  # without the process id
        return normal(plain(m) for m in got if m.kind not in "SA")


def in_failed(answers: list[tuple[str, object]], failed: bool) -> list[tuple[str, object]]:
    """Responses in which every error of a failed transaction is the same.

    PostgreSQL counts a Bind's values before it sees that the transaction has failed; a statement that would have to be
    made on this server first can't be, and is refused for the transaction's sake.
    """
    out: list[tuple[str, object]] = []
    for kind, body in answers:
        if kind == "Z":
            failed = body == b"E"
        out.append((kind, "in a failed transaction") if kind == "E" and failed else (kind, body))
    return out


def plain(m: Message) -> Message:
    """A RowDescription without the OIDs of tables, which differ by nature."""
    if m.kind != "T":
        return m
    body, offset = bytearray(m.body), 2
    for _ in range(int.from_bytes(m.body[:2], "big")):
        offset = m.body.index(b"\0", offset) + 1
        body[offset : offset + 6] = bytes(6)
        offset += 18
    return Message("T", bytes(body))


@dataclass
class Person:
    """A client on both sides, and what it may be holding."""

    direct: Side
    pooled: Side
    lock: int
    may_be_pinned: bool = False
    #: it has a statement whose use may pin it
    keeps_one: bool = False
    #: it may have set options whose names can't be told from its words
    set_by_name: bool = False
    in_transaction: bool = False
    failed: bool = False


class Difference(AssertionError):
    """PostgreSQL and the pooler did not say the same."""


class World:
    def __init__(
        self, doorman: Doorman, postgres: Postgres, database: str, servers: int, begin: list[Mapping[str, str]]
    ) -> None:
        self.doorman = doorman
        self.postgres = postgres
        self.database = database
        self.servers = servers
        self.begin = begin
        self.locks = 0
        self.said: list[str] = []
        self.people = [self.arrive(number) for number in range(CLIENTS)]

    def arrive(self, number: int) -> Person:
        self.locks += 1
        wanted = {"application_name": f"client {number}", **self.begin[number]}
        direct = self.postgres.wire(DIRECT, **wanted)
        pooled = self.doorman.wire(self.database, **wanted)
        pooled.timeout = patience(8)
        return Person(Side(direct), Side(pooled), self.locks)

    def do(self, number: int, *given: Unit, vanishes: int = 0) -> None:
        person = self.people[number]
        sent = [self.spell(unit, number, person) for unit in given]
        self.said.append(f"{number}: " + " | ".join(u if isinstance(u, str) else " ".join(map(str, u)) for u in sent))
        for text in texts_of(sent):
            if _MAY_PIN.search(text):
                person.may_be_pinned = person.keeps_one = True
                person.set_by_name |= "set_config(name" in text
        if person.keeps_one and any(not isinstance(u, str) or _MAY_USE.search(u) for u in sent):
            person.may_be_pinned = True
        data = b"".join(messages_of(unit) for unit in sent)
        if vanishes == 2:
            for side in (person.direct, person.pooled):
                side.wire.send(data)
        else:
            failed = person.failed
            expected = person.direct.ask(data, len(sent))
            person.in_transaction = expected[-1] != ("Z", b"I")
            person.failed = expected[-1] == ("Z", b"E")
            self.compare(in_failed(expected, failed), lambda: in_failed(person.pooled.ask(data, len(sent)), failed))
        if vanishes:
            self.said.append(f"{number} vanishes")
            self.leave(person)
            self.people[number] = self.arrive(number)

    def spell(self, unit: Unit, number: int, person: Person) -> Unit:
        def put(text: str) -> str:
            return text.replace("<c>", str(number)).replace("<lock>", str(person.lock))

        if isinstance(unit, str):
            return put(unit)
        return tuple(
            Item(i.kinds, i.name, put(i.text), tuple(None if v is None else put(v.decode()).encode() for v in i.values))
            for i in unit
        )

    def compare(self, expected: Any, ask: Any) -> None:
        try:
            got = ask()
        except (OSError, AssertionError) as exc:
            raise self.difference(expected, f"{exc!r}\n{self.situation()}") from exc
        if got != expected:
            raise self.difference(expected, got)

    def difference(self, expected: Any, got: Any) -> Difference:
        """The exception that tells the whole story."""
        return Difference(
            "\n".join(
                ["", f"startup {self.begin}", *self.said, f"expected {brief(expected)}", f"got      {brief(got)}"]
            )
        )

    def situation(self) -> str:
        """Who has what, when somebody waits in vain."""
        rows = [*self.doorman.admin("SHOW CLIENTS"), *self.doorman.admin("SHOW SERVERS")]
        return "\n".join(str(row) for row in [*rows, *self.postgres.backends(database=POOLED)])

    def leave(self, person: Person) -> None:
        person.direct.wire.close()
        person.pooled.wire.close()

    def make_way(self, number: int, letting_go: int) -> None:
        """See to it that a server is free for this client."""
        others = [n for n in range(CLIENTS) if n != number and self.holds(n)]
        while len(others) >= self.servers:
            self.let_go(others.pop(), letting_go)

    def holds(self, number: int) -> bool:
        return self.people[number].in_transaction or self.people[number].may_be_pinned

    def let_go(self, number: int, how: int) -> None:
        person = self.people[number]
        if person.in_transaction:
            self.do(number, "COMMIT" if how & 1 else "ROLLBACK")
        if person.may_be_pinned:
            if how & 2 or person.set_by_name:
                self.do(number, "DISCARD ALL")
                person.keeps_one = person.set_by_name = False
            else:
                self.do(number, "UNLISTEN *; CLOSE ALL; DISCARD TEMP; SELECT pg_advisory_unlock_all()")
            person.may_be_pinned = False
            # Whether anything is left is asked behind the answer; this one comes when that is known.
            self.do(number, "SELECT 1")

    def agree(self) -> None:
        """Both sides report the same parameters and have heard the same."""
        for number, person in enumerate(self.people):
            self.make_way(number, 0)
            for _ in range(2):  # what RESET brings back is reported behind its own answer, hence with the next
                self.do(number, *SHOWING[1:3])
            if not person.in_transaction:
                self.do(number, LOOK)
            self.compare(person.direct.wire.parameters, lambda p=person: p.pooled.wire.parameters)
            self.compare(sorted(person.direct.heard), lambda p=person: sorted(p.pooled.heard))

    def clean(self) -> None:
        """With all clients gone, nothing of them is on a server."""
        for person in self.people:
            self.leave(person)
        with ExitStack() as stack:
            fresh = [stack.enter_context(self.doorman.wire(self.database)) for _ in range(self.servers)]
            for wire in fresh:
                wire.timeout = patience(8)
                wire.ask_query("BEGIN")
            for wire in fresh:
                found = [wire.ask_query(sql) for sql in LEFT_BEHIND]
                rows = [m.columns for answer in found for m in answer if m.kind == "D"]
                errors = [m.fields for answer in found for m in answer if m.kind == "E"]
                wire.ask_query("ROLLBACK")
                if rows or errors:
                    raise self.difference([], [*rows, *errors])
        for database in (POOLED, DIRECT):
            self.postgres.sql("TRUNCATE public.tally", database=database)


def brief(answers: Any) -> str:
    """Responses as one reads them in a report."""
    if not isinstance(answers, list):
        return str(answers)
    words = []
    for one in answers:
        kind, body = one if isinstance(one, tuple) else ("", one)
        if kind == "D":
            body = body[2:]
        words.append(kind if kind in tuple("T12n3t") else f"{kind} {body!r}")
    return " ".join(words)


def apart(units: Iterable[Unit]) -> Iterator[Unit]:
    """Every statement by itself."""
    for unit in units:
        if isinstance(unit, str):
            yield from unit.split("; ") if "$$" not in unit else [unit]
        else:
            yield from ((item,) for item in unit)


def texts_of(sent: Iterable[Unit]) -> Iterator[str]:
    for unit in sent:
        if isinstance(unit, str):
            yield unit
        else:
            yield from (item.text for item in unit)


#: Each has a row for everything that may not be there for a client that has set nothing.
LEFT_BEHIND = (
    "SELECT name, setting FROM pg_settings WHERE source IN ('session', 'client') AND name <> 'application_name'"
    " AND name NOT LIKE 'transaction\\_%'",
    "SELECT 'application_name', s FROM current_setting('application_name') AS s WHERE s LIKE '%client%'",
    "SELECT n, current_setting(n, true) FROM unnest(ARRAY['app.tenant', 'app.user']) AS n"
    " WHERE current_setting(n, true) <> ''",
    "SELECT current_user::text, session_user::text WHERE current_user <> 'app' OR session_user <> 'app'",
    "SELECT name FROM pg_prepared_statements WHERE name NOT LIKE 'pgdoorman\\_%'",
    "SELECT name FROM pg_cursors WHERE is_holdable",
    "SELECT c FROM pg_listening_channels() AS c",
    "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
)


def run(
    doorman: Doorman,
    postgres: Postgres,
    database: str,
    servers: int,
    begin: list[Mapping[str, str]],
    plan: list[Step],
) -> None:
    world = World(doorman, postgres, database, servers, begin)
    try:
        for step in plan:
            world.make_way(step.client, step.letting_go)
            units = step.units
            if any(_RESETS.search(text) for text in texts_of(units)):
                # What RESET goes back to on the server is the pool's beginning; the client's own is back for the next
                # message, but not within the same text or batch.
                units = tuple(apart(units))
            world.do(step.client, *units, vanishes=step.vanishes)
        world.agree()
        world.clean()
    except Difference:
        # What was left behind must not be found by the next.
        for person in world.people:
            world.leave(person)
        until_idle(doorman, database)
        for backend in postgres.backends(database=POOLED):
            postgres.terminate(backend["pid"])
        for name in (POOLED, DIRECT):
            postgres.sql("TRUNCATE public.tally", database=name)
        raise
    finally:
        for person in world.people:
            world.leave(person)


PROFILE: dict[str, Any] = {
    "max_examples": EXAMPLES or 40,
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "print_blob": True,
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
}


@pytest.mark.timeout(36000 if EXAMPLES else 120)
@pytest.mark.parametrize(("database", "servers"), [("one", 1), ("two", 2), ("tinyone", 1), ("tinytwo", 2)])
def test_each_client_sees_what_it_would_alone(
    doorman: Doorman, postgres: Postgres, database: str, servers: int
) -> None:
    @settings(**PROFILE)
    @given(begin=startups, plan=plans)
    def compare(begin: list[Mapping[str, str]], plan: list[Step]) -> None:
        run(doorman, postgres, database, servers, begin, plan)

    compare()
    until_idle(doorman, database)
    assert [row["pinned"] for row in doorman.admin("SHOW SERVERS") if row["pinned"]] == []


def test_the_comparison_sees_a_difference(doorman: Doorman, postgres: Postgres) -> None:
    """A client that gets another's parameter makes the test above fail."""
    world = World(doorman, postgres, "one", 1, [{}, {}, {}])
    world.do(0, "SHOW work_mem")
    world.people[0].direct.ask(query("SET work_mem = '33MB'"), 1)
    with pytest.raises(Difference):
        world.do(0, "SHOW work_mem")
    for person in world.people:
        world.leave(person)
