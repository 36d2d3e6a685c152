"""The same words to PostgreSQL and through a pool over a twin database, and everything a session then shows of itself.

For tests of what one client leaves behind: a pool's next client must look like one on a fresh connection, and its
first like one that has had a connection of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, app_pool
from fix_postgres import Postgres
from pace import patience
from wire_client import SYNC, Message, WireClient, bind, execute, normal, parse, query

#: One database for each side, since channels, advisory locks and rows are a database's.
POOLED, DIRECT = "twin_pooled", "twin_direct"

#: Trusted by PostgreSQL (a login costs no hashing), and may see every setting, also those only superusers see.
USER = "app_trust"

#: Of roles that a test makes.
OTHERS_PASSWORD = "of the test's role"

#: Options that tests set; a session shows them only to who knows their names.
LONG = "x" * 80
OPTIONS = (
    "app.x",
    "app.y",
    "app.z",
    "app.tenant",
    "app.schlüssel",
    "äpp.x",
    "app.中文",
    "ключ.значение",
    "app.ソ",
    "app.功",
    "app.誠",
    f"app.{LONG[:63]}",
    f"app.{LONG}",
    f"{LONG[:63]}.x",
    f"{LONG}.x",
    f"app.{'y' * 63}",
    f"app.{'y' * 150}",
    "app.x$1",
    "app._9",
    "a.b.c",
)

#: Libraries that a function's call loads, and PostgreSQL unloads never: their settings' names may be there.
LOADED_BY_CALLS = ("plpgsql", "pg_trgm", "orafce")


def ascii_only(text: str) -> str:
    """An expression of that value, which any encoding can say and no setting changes."""
    return f"convert_from(decode('{text.encode().hex()}', 'hex'), 'UTF8')"


def look(options: Iterable[str] = OPTIONS) -> str:
    """One statement that shows what a session has set and made, as rows (what, name, value), all in ASCII."""
    names = ", ".join(ascii_only(name) for name in options)
    libraries = ", ".join(f"'{name}'" for name in LOADED_BY_CALLS)
    return f"""
        SELECT what, encode(convert_to(name, 'UTF8'), 'escape'), encode(convert_to(value, 'UTF8'), 'escape') FROM (
        SELECT 'setting', name, setting FROM pg_catalog.pg_settings
            WHERE setting IS DISTINCT FROM boot_val OR split_part(name, '.', 1) NOT IN ({libraries})
        UNION ALL SELECT 'option', n, current_setting(n, true) FROM unnest(ARRAY[{names}]) AS n
            WHERE current_setting(n, true) <> ''
        UNION ALL SELECT 'user', current_user::text, session_user::text
        UNION ALL SELECT 'statement', name, statement FROM pg_catalog.pg_prepared_statements
            WHERE left(name, 10) <> 'pgdoorman_'
        UNION ALL SELECT 'cursor', name, statement FROM pg_catalog.pg_cursors WHERE is_holdable
        UNION ALL SELECT 'channel', c, '' FROM pg_catalog.pg_listening_channels() AS c
        UNION ALL SELECT 'temporary', relname::text, relkind::text FROM pg_catalog.pg_class
            WHERE relnamespace = pg_my_temp_schema()
        UNION ALL SELECT 'temporary', proname::text, 'function' FROM pg_catalog.pg_proc
            WHERE pronamespace = pg_my_temp_schema()
        UNION ALL SELECT 'lock', concat_ws(' ', classid, objid, objsubid), mode FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND pid = pg_backend_pid()
        UNION ALL SELECT 'slot', replace(slot_name::text, current_database(), ''), '' FROM pg_catalog.pg_replication_slots
            WHERE temporary AND active_pid = pg_backend_pid()
        UNION ALL SELECT 'path', regexp_replace(current_schemas(false)::text, 'pg_temp_[0-9]+', 'pg_temp'), n.nspname::text FROM pg_catalog.pg_class AS c
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('whose')
        ) AS seen (what, name, value)
    """


LOOK = look()

Seen = frozenset[tuple[bytes | None, ...]]


def rows(messages: Iterable[Message]) -> list[tuple[bytes | None, ...]]:
    """The rows of an answer; an ErrorResponse fails the test."""
    messages = list(messages)
    errors = [m.fields for m in messages if m.kind == "E"]
    assert not errors, errors
    return [tuple(m.columns) for m in messages if m.kind == "D"]


def visible(client: WireClient, text: str = LOOK) -> Seen:
    """Everything a client's session shows of itself."""
    return frozenset(rows(client.ask(query(text))))


#: PostgreSQL's names of encodings, where Python's differ.
CODECS: Mapping[str, str] = {
    "SJIS": "cp932",
    "UHC": "cp949",
    "JOHAB": "johab",
    "LATIN1": "latin-1",
    "WIN1251": "cp1251",
    "GBK": "gbk",
    "BIG5": "big5",
}


def same(messages: Iterable[Message]) -> list[tuple[str, object]]:
    """Responses in the form in which both sides must agree: ``normal``, without the OIDs of tables."""
    return normal(without_oids(m) if m.kind == "T" else m for m in messages)


def without_oids(description: Message) -> Message:
    """A RowDescription without tables' OIDs, which differ by nature."""
    body, offset = bytearray(description.body), 2
    for _ in range(int.from_bytes(body[:2], "big")):
        offset = body.index(b"\0", offset) + 1
        body[offset : offset + 6] = bytes(6)
        offset += 18
    return Message("T", bytes(body))


def run(sql: str | bytes, *values: bytes | None, name: str = "") -> bytes:
    """Parse, Bind, Execute; no Sync."""
    text = sql if isinstance(sql, str) else sql.decode("latin-1")
    made = parse(name, text)
    if isinstance(sql, bytes):
        body = name.encode() + b"\0" + sql + b"\0\0\0"
        made = b"P" + (len(body) + 4).to_bytes(4, "big") + body
    return made + bind("", name, values) + execute()


def extended(*steps: bytes) -> bytes:
    return b"".join(steps) + SYNC


def said(*steps: str | bytes) -> list[bytes]:
    """Texts as simple queries, bytes as they are."""
    return [query(step) if isinstance(step, str) else step for step in steps]


def ready_count(data: bytes) -> int:
    """How many ReadyForQuery answer these messages."""
    count, offset = 0, 0
    while offset < len(data):
        count += data[offset] in b"QSF"
        offset += 1 + int.from_bytes(data[offset + 1 : offset + 5], "big")
    return count


def ask(client: WireClient, data: bytes) -> list[Message]:
    return client.ask(data, ready_count(data))


def populate(postgres: Postgres, more: str = "") -> None:
    """Make both databases, with a table for a path to find, and whatever else."""
    postgres.sql(f"GRANT pg_read_all_settings TO {USER}; ALTER ROLE {USER} REPLICATION")
    for database in (POOLED, DIRECT):
        postgres.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        postgres.sql(f"CREATE DATABASE {database} OWNER {USER}")
        postgres.sql(
            "GRANT ALL ON SCHEMA public TO PUBLIC; CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA elsewhere TO PUBLIC;"
            " CREATE TABLE public.whose (n text); CREATE TABLE elsewhere.whose (n text);"
            " INSERT INTO public.whose VALUES ('public'); INSERT INTO elsewhere.whose VALUES ('elsewhere');"
            " GRANT ALL ON public.whose, elsewhere.whose TO PUBLIC",
            database=database,
        )
        if more:
            postgres.sql(more, database=database)


def password_of(user: str) -> str:
    return Postgres.PASSWORDS.get(user) or OTHERS_PASSWORD


def pool(postgres: Postgres, size: int, user: str = USER, **more: Any) -> Mapping[str, Any]:
    """A pool over the twin, in which every server may be kept."""
    password = password_of(user)
    users = [
        {
            "username": user,
            "password": password,
            "pool_size": size,
            "server_username": user,
            "server_password": password,
        }
    ]
    more = {"server_database": POOLED, "max_pinned_servers": size, "application_name": "", **more}
    return app_pool(postgres, size, users=users, **more)


CATALOGUE_READ = r"^(\S+) .* catalogue read in (\d+) ms"


def begun(line: str) -> datetime:
    """When the reading began whose end the log tells."""
    found = re.search(CATALOGUE_READ, line)
    assert found is not None, line
    return datetime.fromisoformat(found[1].replace("Z", "+00:00")) - timedelta(milliseconds=int(found[2]) + 2)


class Twins:
    """Clients on both sides, told the same."""

    def __init__(self, doorman: Doorman, postgres: Postgres, database: str = "one", user: str = USER) -> None:
        self.doorman = doorman
        self.postgres = postgres
        self.database = database
        self.user = user
        self._console: psycopg.Connection[dict[str, Any]] | None = None
        self._expected: dict[tuple[tuple[str, ...], str], Seen] = {}

    def close(self) -> None:
        if self._console is not None:
            self._console.close()

    def __enter__(self) -> Twins:
        self._console = self.doorman.admin_connect()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def pooled(self, **parameters: str) -> WireClient:
        return self.doorman.wire(self.database, self.user, password_of(self.user), **parameters)

    def direct(self, **parameters: str) -> WireClient:
        return self.login(DIRECT, **parameters)

    def login(self, database: str, **parameters: str) -> WireClient:
        """A direct client, in either database."""
        client = WireClient((self.postgres.host, self.postgres.port))
        return client.login(self.user, database, password_of(self.user), **parameters)

    def pinned(self) -> bool:
        """Whether a client of the pool keeps a server."""
        assert self._console is not None
        shown = self._console.execute("SHOW CLIENTS").fetchall()
        return any(row["pinned"] for row in shown if row["database"] == self.database)

    def expected(self, steps: tuple[str, ...], text: str = LOOK) -> Seen:
        """What a session shows that has said only that."""
        if (steps, text) not in self._expected:
            with self.direct() as direct:
                say(direct, said(*steps))
                self._expected[steps, text] = visible(direct, text)
        return self._expected[steps, text]

    def make_elsewhere(self, sql: str) -> None:
        """Have somebody whom the pooler does not see do it in both databases; returns when it has been noticed."""
        with self.pooled() as client:  # only of a database in use the catalogue is looked at
            client.value("SELECT 1")
            before = len(self.doorman.log_lines)
            for database in (POOLED, DIRECT):
                self.postgres.sql(sql, database=database)
            made = datetime.now(timezone.utc)
            read = self.doorman.wait_log(CATALOGUE_READ, after=before, timeout=30)
            if begun(read) <= made:  # that may have been for the sake of what the last test has made
                before = len(self.doorman.log_lines)
                self.postgres.sql("CREATE OR REPLACE FUNCTION touch() RETURNS int LANGUAGE sql AS 'SELECT 1'", POOLED)
                self.doorman.wait_log(CATALOGUE_READ, after=before, timeout=30)
            client.terminate()

    def renew(self) -> None:
        """Close the pool's servers: what one test found must not be found by the next."""
        old = {backend["pid"] for backend in self.postgres.backends(self.user, POOLED)}
        for pid in old:
            self.postgres.terminate(pid)
        eventually(lambda: old.isdisjoint(b["pid"] for b in self.postgres.backends(self.user, POOLED)))

    def wait_until_alone(self) -> None:
        """Wait until no direct client of before is at work any more: its locks would show."""
        eventually(lambda: not self.postgres.backends(self.user, DIRECT), message="the end of those of before")

    def answered_or_pinned(self, client: WireClient, timeout: float = 15.0) -> bool:
        """Whether a client that has sent something gets an answer; False when another keeps the server."""
        deadline = time.monotonic() + patience(timeout)
        while client.is_quiet(0.01):
            if self.pinned():
                return not client.is_quiet(0.05)
            assert time.monotonic() < deadline, "no answer, and nobody keeps the server"
        return True


def differences(got: Seen, expected: Seen) -> dict[str, list[str]]:
    """What is there and should not be, and what is not and should; empty when both are the same."""

    def words(lines: Iterable[tuple[bytes | None, ...]]) -> list[str]:
        return sorted(" ".join((c or b"").decode("utf-8", "replace") for c in line) for line in lines)

    found = {"too much": words(got - expected), "missing": words(expected - got)}
    return {kind: lines for kind, lines in found.items() if lines}


#: What a client's own session may show otherwise than it would on a connection of its own.
NOT_COMPARED: Mapping[bytes, str] = {
    b"statement": "what one has prepared has the pool's names on a server, and is on those where it was used",
}


def without_excepted(seen: Seen) -> Seen:
    return frozenset(line for line in seen if line[0] not in NOT_COMPARED)


def check(whose: str, got: Seen, expected: Seen) -> None:
    """Fail with what differs."""
    if found := differences(got, expected):
        pytest.fail(f"the state {whose}: {found}", pytrace=False)


#: What a client that was there before has set: it must find it again, and nothing else.
OWN = ("SET work_mem = '7MB'", "SET app.y = 'of the one before'", "SET search_path = elsewhere, public")


def leaves_nothing(
    twins: Twins,
    steps: Sequence[bytes],
    *,
    startup: Mapping[str, str] | None = None,
    kept: bool = True,
    same_answers: bool = True,
    vanishes: bool = False,
    text: str = LOOK,
) -> None:
    """A client says ``steps``, on both sides; it keeps what PostgreSQL would keep for it, and nobody else sees any of it.

    Others are one that was there before and has settings of its own, and one that comes afterwards. ``kept`` False
    where the pool says that it keeps nothing; ``vanishes``: the client ends without a Terminate.
    """
    try:
        _leaves_nothing(twins, steps, startup or {}, kept, same_answers, vanishes, text)
    except BaseException:
        twins.renew()
        raise


def _leaves_nothing(
    twins: Twins,
    steps: Sequence[bytes],
    startup: Mapping[str, str],
    kept: bool,
    same_answers: bool,
    vanishes: bool,
    text: str,
) -> None:
    alone, own = twins.expected((), text), twins.expected(own_of(kept), text)
    twins.wait_until_alone()
    before = twins.pooled()
    say(before, said(*own_of(kept)))
    first, direct = twins.pooled(**startup), twins.direct(**startup)
    state = b"I"
    for data in steps:
        expected = ask(direct, data)
        state = expected[-1].body
        got = same(ask(first, data))
        if same_answers and (kept or len(steps) == 1):
            assert got == same(expected), f"the answer to {data[:200]!r}"
    answered = False
    if state == b"I":
        before.send(query(text))
        answered = twins.answered_or_pinned(before)
        if answered:
            check("for one that was there before", frozenset(rows(before.read_ready())), own)
        if kept:
            check("of the client itself", *(without_excepted(visible(one, text)) for one in (first, direct)))
    for one in (first, direct):
        if vanishes:
            one.close()
        else:
            one.terminate()
    if state == b"I" and not answered:
        check("for one that has waited", frozenset(rows(before.read_ready())), own)
    with twins.pooled() as other:
        check("for the next", visible(other, text), alone)
    check("for one that was there before", visible(before, text), own)
    before.terminate()


#: The same where a pool keeps only what PostgreSQL reports.
OWN_REPORTED = ("SET timezone = 'Asia/Tokyo'",)


def own_of(kept: bool) -> tuple[str, ...]:
    return OWN if kept else OWN_REPORTED


def say(client: WireClient, steps: Sequence[bytes]) -> list[list[Message]]:
    return [ask(client, data) for data in steps]


#: Characters of an id.
LABEL = 90


def label(step: str | bytes | Sequence[str | bytes]) -> str:
    """A short id for pytest."""
    steps = [step] if isinstance(step, (str, bytes)) else step
    text = " | ".join(one.decode("latin-1") if isinstance(one, bytes) else one for one in steps)
    text = re.sub(r"xx+|yy+|zz+", "~", re.sub(r"[^ -~]+", "", text.replace("\\", "/")))
    return text if len(text) <= LABEL else f"{text[: LABEL - 30]}..{text[-28:]}".strip()
