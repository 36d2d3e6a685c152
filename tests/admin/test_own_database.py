"""pg_database at the console: its own database, for queries that are understood to their end."""

from __future__ import annotations

import pytest
from admin.fakes import FakePooler, FakeStream, answers, query

from pgdoorman_lib.admin import console

TEXT, BOOL, INT4, OID = 25, 16, 23, 26


def rows(sql: str, dialect: str = "pgdoorman") -> tuple[list[tuple[str, int]], list[list[bytes | None]]]:
    """Names and types of the columns, and the rows."""
    stream = FakeStream(query(sql))
    console.serve(stream, FakePooler(), "admin", {}, dialect, 77)
    found = answers(stream.outgoing)
    assert not [answer.value for answer in found if answer.kind == "E"]
    (described,) = [answer.value for answer in found if answer.kind == "T"]
    return [column[:2] for column in described], [answer.value for answer in found if answer.kind == "D"]


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
def test_what_a_gui_asks_of_the_database_it_is_in(dialect: str) -> None:
    columns, found = rows(
        "SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS enc,"
        " has_database_privilege(db.oid, 'CREATE') as may, datistemplate"
        " FROM pg_catalog.pg_database db WHERE db.datname = current_database()",
        dialect,
    )
    names_and_types = [("did", OID), ("datname", TEXT), ("datallowconn", BOOL), ("enc", TEXT), ("may", BOOL)]
    assert columns == [*names_and_types, ("datistemplate", BOOL)]
    assert found == [[b"16384", dialect.encode(), b"t", b"UTF8", b"f", b"f"]]


def test_what_its_tree_lists() -> None:
    columns, found = rows(
        "SELECT db.oid AS did, datname n, ta.spcname AS place, ta.oid, spcname, d.description, datdba AS owner, '' AS acl,"
        " db.datconnlimit, has_database_privilege(db.oid, 'CONNECT') c, (SELECT current_setting('x')) AS set"
        " FROM pg_database AS db LEFT OUTER JOIN pg_tablespace ta ON db.dattablespace = ta.oid"
        " LEFT JOIN pg_shdescription d ON (db.oid = d.objoid AND d.classoid = 'pg_database'::regclass)"
        " WHERE db.oid > 16383::OID OR db.datname IN ('postgres', 'x') ORDER BY datname"
    )
    names_of = ["did", "n", "place", "oid", "spcname", "description", "owner", "acl", "datconnlimit", "c", "set"]
    assert [name for name, _ in columns] == names_of
    assert found == [[b"16384", b"pgdoorman", None, None, None, None, None, b"", b"-1", b"t", None]]


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "WHERE datname = 'pgdoorman'",
        "WHERE 'pgdoorman' = pg_database.datname::text",
        "WHERE datallowconn AND NOT datistemplate",
        "WHERE oid = '16384'::oid",
        "WHERE encoding <> 5 AND oid >= 16384 AND oid <= 16384 AND oid != 1 AND oid < 20000",
        "WHERE (datname = 'x' OR datname IN ('y', 'pgdoorman')) AND datallowconn = true LIMIT 1",
        "WHERE datname = pg_catalog.current_database() ORDER BY 1",
        f"WHERE {'(' * 20}datallowconn{')' * 20} AND {'(oid > 0) AND ' * 50} NOT NOT true",
    ],
)
def test_conditions_that_hold(condition: str) -> None:
    assert rows(f"SELECT datname FROM pg_database {condition}")[1] == [[b"pgdoorman"]]


@pytest.mark.parametrize(("condition", "count"), [("", b"1"), ("WHERE oid = 1", b"0"), ("WHERE oid > 1", b"1")])
def test_it_is_counted(condition: str, count: bytes) -> None:
    assert rows(f"SELECT count(*), max(oid) AS m FROM pg_database {condition}")[1] == [[count, None]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM pg_database WHERE datname = 'mine'",
        "SELECT 1 FROM pg_database WHERE datname = 'it''s'",
        "SELECT 1 FROM pg_database WHERE datistemplate",
        "SELECT 1 FROM pg_database WHERE oid < 16384",
        "SELECT 1 FROM pg_database WHERE oid IN (1, 2)",
        "SELECT 1 FROM pg_database WHERE NOT (oid > 1 AND datallowconn)",
        # Not understood, or more than one table:
        "SELECT 1 FROM pg_database WHERE datname LIKE 'p%'",
        "SELECT 1 FROM pg_database WHERE datname ~ 'p'",
        "SELECT 1 FROM pg_database WHERE datname = 1",
        "SELECT 1 FROM pg_database WHERE oid => 1",
        "SELECT 1 FROM pg_database WHERE oid",
        "SELECT 1 FROM pg_database WHERE oid =",
        "SELECT 1 FROM pg_database WHERE oid = 16384 or",
        "SELECT 1 FROM pg_database WHERE (oid = 16384",
        "SELECT 1 FROM pg_database WHERE oid = 16384)",
        "SELECT 1 FROM pg_database WHERE oid = 16384::regclass",
        "SELECT 1 FROM pg_database WHERE oid = 16384:oid",
        "SELECT 1 FROM pg_database WHERE x.oid = 16384",
        "SELECT 1 FROM pg_database WHERE datname IN 'pgdoorman'",
        "SELECT 1 FROM pg_database WHERE EXISTS (SELECT FROM pg_class)",
        pytest.param("SELECT 1 FROM pg_database WHERE " + "(" * 30_000, id="deep parentheses"),
        pytest.param("SELECT 1 FROM pg_database WHERE " + "NOT " * 10_000 + "datallowconn", id="deep NOT"),
        "SELECT 1 FROM pg_database, pg_class",
        "SELECT 1 FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace",
        "SELECT 1 FROM pg_class LEFT JOIN pg_database ON true",
        "SELECT 1 FROM (SELECT FROM pg_database) d",
        "SELECT 1 FROM pg_database GROUP BY 1",
        "SELECT count(*) OVER (), 1 FROM pg_database",
        "SELECT d.oid, d.* FROM pg_database d",
        "WITH d AS (SELECT 1) SELECT 1 FROM pg_database",
    ],
)
def test_no_row_otherwise(sql: str) -> None:
    assert rows(sql)[1] == []


@pytest.mark.parametrize("sql", ["SELECT , FROM pg_database", "SELECT FROM pg_database", "SELECT ( FROM pg_database"])
def test_what_is_no_query_breaks_nothing(sql: str) -> None:
    rows(sql)
