"""Names of prepared statements are exchanged where they are names, and nowhere else; strings end where PostgreSQL ends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import CODECS, Twins, ask, extended, leaves_nothing, run, same
from wire_client import WireClient, query

FUNCTIONS = """
    CREATE FUNCTION trf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TABLE triggered (a int); ALTER TABLE triggered OWNER TO app_trust;
    CREATE FUNCTION foo() RETURNS text LANGUAGE sql AS $$ SELECT 'the function' $$;
"""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(postgres, FUNCTIONS)
    return {"pools": {"one": twins.pool(postgres, 1), "two": twins.pool(postgres, 2)}}


#: What a client may have prepared; names that are also words of SQL.
PREPARED = (
    "PREPARE foo AS SELECT 'foo ran' AS a",
    "PREPARE f AS SELECT 'f ran' AS a",
    "PREPARE \"F\" AS SELECT 'F ran' AS a",
    "PREPARE function AS SELECT 'function ran' AS a",
    "PREPARE procedure AS SELECT 'procedure ran' AS a",
    "PREPARE immediate AS SELECT 'immediate ran' AS a",
    "PREPARE \"all\" AS SELECT 'all ran' AS a",
    'PREPARE "a ""b"" c" AS SELECT \'quoted ran\' AS a',
    "PREPARE größe AS SELECT 'größe ran' AS a",
)


def compare(both: Twins, texts: list[bytes], *, elsewhere: bool = False, prepared: bool = True, **startup: str) -> None:
    a, direct = both.pooled(**startup), both.direct(**startup)
    codec = CODECS.get(startup.get("client_encoding", "UTF8"), startup.get("client_encoding", "UTF8"))
    for text in PREPARED if prepared else ():
        try:
            data = query(text.encode(codec))
        except UnicodeEncodeError:
            continue
        assert same(ask(a, data)) == same(ask(direct, data))
    if elsewhere:
        holder = both.pooled()
        holder.ask_query("BEGIN")  # keeps the server that has the statements
    for data in texts:
        assert told(a, data) == told(direct, data), data
    a.terminate()


def told(client: WireClient, data: bytes) -> list[tuple[str, object]]:
    """The answer, without the notice that a name is too long: what PostgreSQL is told is shorter."""
    return same(m for m in ask(client, data) if m.kind != "N" or m.sqlstate != "42622")


OFF = "SET standard_conforming_strings = off; SET escape_string_warning = off"


@pytest.mark.parametrize(
    "texts",
    [
        [OFF, "SELECT 'it\\'s; execute foo ; '"],
        [OFF, "SELECT 'it\\'; execute foo ; SELECT '\\''"],
        [OFF, "SELECT 'a\\\\'; EXECUTE foo"],
        [OFF, "SELECT 'a\\\\'; EXECUTE foo; SELECT 'b\\'; execute foo'"],
        [OFF, "SELECT N'it\\'s; execute foo ; '"],
        [OFF, "SELECT U&'a'"],
        [OFF, "SELECT $$it\\'$$; EXECUTE foo"],
        [OFF, 'SELECT 1 AS "a\\"; EXECUTE foo'],
        [OFF, "SELECT E'it\\'s; execute foo ; '"],
        ["SELECT 'it\\'; EXECUTE foo; SELECT '\\'"],
        ["SET standard_conforming_strings = off; SELECT 'it\\'s; execute foo ; '", "SELECT 'it\\'s; execute foo ; '"],
        [
            "BEGIN; SET LOCAL standard_conforming_strings = off",
            "SELECT 'it\\'s; execute foo ; '",
            "COMMIT",
            "EXECUTE foo",
        ],
        ["DO $$ BEGIN SET standard_conforming_strings = off; END $$", "SELECT 'it\\'s; execute foo ; '"],
        ["SELECT set_config('standard_conforming_strings', 'off', false)", "SELECT 'it\\'s; execute foo ; '"],
        ["SELECT E'a'\n'b\\'c; execute foo ; '"],
        ["SELECT E'a'  -- then\n'b\\'c; execute foo ; '"],
        ["SELECT E'a' /* no newline */ 'b\\'; EXECUTE foo"],
        ["SELECT E'a'\n/* not here */\n'b\\'c; execute foo ; '"],
        ["SELECT 'a'\n'b\\'; EXECUTE foo; SELECT 'c\\'"],
        ["SELECT 'a'\nE'b\\'c; execute foo ; '"],
        ["SELECT e'\\\\'; EXECUTE foo"],
        ["SELECT b'0'\n'1'; EXECUTE foo; SELECT x'A'"],
        ["SELECT U&'d\\0061t'; EXECUTE foo"],
        ["SELECT U&'\\'; EXECUTE foo; SELECT '"],
        ["SELECT U&'!' UESCAPE '!'; EXECUTE foo"],
        ["SELECT $q$; execute foo; $$ $q $Q$ $q$; EXECUTE foo"],
        ["SELECT $größe$; execute foo $größe$; EXECUTE foo"],
        ["SELECT a$$; execute foo; SELECT 1"],
        ["SELECT 1 AS a$b$; EXECUTE foo; SELECT 2 AS c$b$"],
        ["SELECT $1$; EXECUTE foo"],
        ["/* /* nested ; */ execute foo ; */ EXECUTE foo"],
        ["/* 'not a string */ EXECUTE foo /* ' */"],
        ["-- execute foo\nEXECUTE foo"],
        ["-- only a line\rEXECUTE foo"],
        ["SELECT 1 -- execute foo;\n; EXECUTE foo -- foo"],
        ["SELECT '--'; EXECUTE foo"],
        ["SELECT 5 -/**/- 1; EXECUTE foo"],
        ["SELECT 5 */**/ 1; EXECUTE foo"],
        ["SELECT 1 AS execute; SELECT 2 foo"],
        ["SELECT execute FROM (SELECT 1 AS execute) AS foo"],
        ["SELECT foo(), foo(); EXECUTE foo"],
        [
            "CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION trf()",
            "DROP TRIGGER t ON triggered",
        ],
        [
            "CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE PROCEDURE trf()",
            "DROP TRIGGER t ON triggered",
        ],
        ["EXECUTE function", "EXECUTE procedure", "EXECUTE immediate", 'EXECUTE "all"'],
        [
            "CREATE FUNCTION g() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT 'x; execute foo'; SELECT foo(); END",
            "SELECT g()",
            "EXECUTE foo",
            "DROP FUNCTION g()",
        ],
        [
            "CREATE RULE r AS ON INSERT TO triggered DO ALSO (SELECT foo(); SELECT foo()); EXECUTE foo",
            "DROP RULE r ON triggered",
        ],
        [
            'EXECUTE U&"f"',
            'EXECUTE U&"\\0066"',
            "EXECUTE U&\"!0066\" UESCAPE '!'",
            'EXECUTE "F"',
            "EXECUTE F",
            'EXECUTE "f"',
        ],
        ['EXECUTE U&"f\\006f\\006F"', 'DEALLOCATE U&"foo"', "EXECUTE foo"],
        ['PREPARE U&"\\0067" AS SELECT 1', "EXECUTE g", "DEALLOCATE PREPARE g", "EXECUTE g"],
        ['EXECUTE "a ""b"" c"', 'EXPLAIN (COSTS OFF) EXECUTE "a ""b"" c"'],
        ["EXECUTE größe", "EXECUTE GRÖSSE", 'EXECUTE "größe"', 'EXECUTE U&"gr\\00f6\\00dfe"'],
        ["EXECUTE/**/foo", "EXECUTE\n--\nfoo", "execute\tfoo;", ";;EXECUTE foo;;", "EXECUTE foo ()"],
        ["EXPLAIN (COSTS OFF) EXECUTE foo", "CREATE TEMP TABLE t AS EXECUTE foo", "TABLE t", "DROP TABLE t"],
        ["CREATE TEMP TABLE t ON COMMIT PRESERVE ROWS AS EXECUTE foo WITH NO DATA", "TABLE t", "DROP TABLE t"],
        ["DEALLOCATE foo; EXECUTE f", "EXECUTE foo", "DEALLOCATE ALL", "EXECUTE f"],
        ['DEALLOCATE "all"', "EXECUTE f"],
        ["PREPARE " + "n" * 70 + " AS SELECT 1", "EXECUTE " + "n" * 63, "EXECUTE " + "n" * 80],
    ],
    ids=twins.label,
)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_a_name(doorman: Doorman, postgres: Postgres, texts: list[str], protocol: str, elsewhere: bool) -> None:
    with Twins(doorman, postgres, "two" if elsewhere else "one") as both:
        data = [query(text) if protocol == "simple" else extended(run(text)) for text in texts]
        compare(both, data, elsewhere=elsewhere)


#: Per encoding a character whose second byte is 0x5c, where it has one.
SECOND = {
    "SJIS": b"\x83\x5c",
    "SHIFT_JIS_2004": b"\x83\x5c",
    "GBK": b"\xd5\x5c",
    "BIG5": b"\xa5\x5c",
    "GB18030": b"\xd5\x5c",
    "JOHAB": b"\x88\x5c",
    "UHC": b"\xc7\xd1",
    "UTF8": "ソ".encode(),
    "LATIN1": b"\xfc",
}


@pytest.mark.parametrize("encoding", SECOND)
@pytest.mark.parametrize(
    "texts",
    [
        [b"SELECT length(E'<c>'); EXECUTE foo"],
        [b"SELECT length(E'<c>\\'; execute foo')"],
        [b"SELECT length(E'<c><c>'); EXECUTE foo; SELECT length('<c>')"],
        [b"SELECT length('<c>'); EXECUTE foo"],
        [OFF.encode(), b"SELECT length('<c>'); EXECUTE foo"],
        [OFF.encode(), b"SELECT length('<c>\\'; execute foo')"],
        [b'SELECT 1 AS "<c>"; EXECUTE foo'],
        [b"SELECT length($<c>$; execute foo $<c>$); EXECUTE foo"],
        [b'PREPARE "<c>" AS SELECT 2', b'EXECUTE "<c>"', b"EXECUTE <c>", b'DEALLOCATE "<c>"'],
        [b"SELECT '<c>' AS a; EXECUTE foo -- <c>\n; EXECUTE foo"],
    ],
    ids=twins.label,
)
def test_strings_in_any_encoding(doorman: Doorman, postgres: Postgres, encoding: str, texts: list[bytes]) -> None:
    with Twins(doorman, postgres, "one") as both:
        said = [query(text.replace(b"<c>", SECOND[encoding])) for text in texts]
        compare(both, said, client_encoding=encoding)


@pytest.mark.parametrize("encoding", SECOND)
@pytest.mark.parametrize(
    "text",
    [
        b"SELECT length(E'<c>'); SET app.x = 'v'",
        b"SELECT length(E'<c>'), set_config('app.x', 'v', false)",
        b"SELECT length(E'<c>'); SELECT pg_advisory_lock(7)",
        b"SELECT length(E'<c>'); LISTEN ch",
        b"DO E'BEGIN /* <c> */ SET app.x = 1; END'",
    ],
    ids=twins.label,
)
def test_what_stands_behind_a_string_is_seen(doorman: Doorman, postgres: Postgres, encoding: str, text: bytes) -> None:
    with Twins(doorman, postgres, "one") as both:
        leaves_nothing(both, [query(text.replace(b"<c>", SECOND[encoding]))], startup={"client_encoding": encoding})


@pytest.mark.parametrize(
    "texts",
    [
        [OFF, "SELECT 'it\\'s; SET app.x = 1; '"],
        [OFF, "SELECT 'it\\'s'; SET app.x = 1; SELECT 'it\\'s'"],
        [OFF, "SELECT 'a\\\\'; SELECT set_config('app.x', 'v', false)"],
        [OFF, "SELECT set_config('app.\\x78', 'v', false)"],
        [OFF, "SELECT set_config('app\\056x', 'v', false), '\\''"],
        ["SELECT 'it\\'; SET app.x = 1; SELECT '\\'"],
        ["SELECT E'a'\n'b\\''; LISTEN ch; SELECT 'c'"],
        ["BEGIN; SET LOCAL standard_conforming_strings = off; SELECT 'it\\'s'; SET app.x = 1; SELECT '\\''; COMMIT"],
    ],
    ids=twins.label,
)
def test_what_stands_behind_a_backslash_is_seen(doorman: Doorman, postgres: Postgres, texts: list[str]) -> None:
    with Twins(doorman, postgres, "one") as both:
        leaves_nothing(both, twins.said(*texts))
