"""SQLAlchemy on psycopg: one engine with a pool, as many threads as clients."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import features
from features import CLIENTS, TIDY, ThreadClient, Threads
from sa_models import Author, Base, Book, Mood, Thing, url
from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy.pool import NullPool

engine = create_engine(url("psycopg"), pool_size=CLIENTS, max_overflow=CLIENTS, pool_pre_ping=True)


def plain(client: ThreadClient, k: int) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(select(literal(k) + 1, literal(client.number))).one() == (k + 1, client.number))


program = Threads(None, plain)
feature = program.feature


@feature
def core(client: ThreadClient) -> None:
    mine = Author.client == client.number + 100
    with engine.begin() as connection:
        connection.execute(delete(Author).where(mine))
        ids = connection.scalars(
            insert(Author).returning(Author.id, sort_by_parameter_order=True),
            [{"client": client.number + 100, "name": f"n{i}"} for i in range(60)],
        ).all()
        client.equal(len(set(ids)), 60)
    with engine.connect() as connection:
        client.equal(connection.scalar(select(func.count()).select_from(Author).where(mine)), 60)
        for i in range(0, 60, 10):
            client.equal(connection.scalar(select(Author.id).where(mine, Author.name == f"n{i}")), ids[i])
        connection.rollback()
        statement = upsert(Author).values(client=client.number + 100, name="n1")
        statement = statement.on_conflict_do_update(constraint=f"{features.PREFIX}author_name", set_={"name": "N1"})
        client.equal(connection.scalar(statement.returning(Author.name)), "N1")
        connection.rollback()
        client.equal(
            connection.execute(update(Author).where(mine, Author.id > ids[49]).values(name=Author.name + "x")).rowcount,
            10,
        )
        connection.commit()
        client.equal(connection.scalar(select(func.count(Author.id)).where(mine, Author.name.like("%x"))), 10)
    with engine.begin() as connection:
        client.equal(connection.execute(delete(Author).where(mine)).rowcount, 60)


@feature
def orm(client: ThreadClient) -> None:
    number = client.number
    with Session(engine) as session:
        session.add_all(
            Author(client=number, name=f"a{i}", books=[Book(title=f"b{i}.{j}") for j in range(3)]) for i in range(6)
        )
        session.commit()
        query = select(Author).where(Author.client == number).order_by(Author.name)
        for option in (selectinload(Author.books), joinedload(Author.books)):
            session.expire_all()
            authors = session.scalars(query.options(option)).unique().all()
            client.equal([len(author.books) for author in authors], [3] * 6)
        authors[0].books.pop()
        authors[1].name = "renamed"
        session.commit()
        client.equal(authors[1].name, "renamed")
        session.add(Author(client=number, name="renamed"))
        with client.refused(IntegrityError):
            session.flush()
        session.rollback()
        session.delete(authors[2])
        session.commit()
        titles = select(func.count(Book.id)).join(Author).where(Author.client == number)
        client.equal(session.scalar(titles), 14)
        client.equal(session.get(Author, authors[1].id).name, "renamed")  # type: ignore[union-attr]
        session.execute(delete(Author).where(Author.client == number))
        session.commit()
        client.equal(session.scalar(titles), 0)


@feature
def nested(client: ThreadClient) -> None:
    number = client.number + 200
    names = select(Author.name).where(Author.client == number).order_by(Author.name)
    with Session(engine) as session, session.begin():
        with session.begin_nested():
            session.add(Author(client=number, name="kept"))
        with client.refused(IntegrityError), session.begin_nested():
            session.add(Author(client=number, name="kept"))
        inner = session.begin_nested()
        session.add(Author(client=number, name="undone"))
        session.flush()
        inner.rollback()
        client.equal(session.scalars(names).all(), ["kept"])
    with client.refused(KeyError), Session(engine) as session, session.begin():
        session.add(Author(client=number, name="lost"))
        session.flush()
        raise KeyError
    with engine.connect() as connection:
        transaction = connection.begin()
        savepoint = connection.begin_nested()
        with client.refused(ProgrammingError):
            connection.execute(text("SELECT nothing"))
        savepoint.rollback()
        client.equal(connection.scalars(names).all(), ["kept"])
        connection.execute(delete(Author).where(Author.client == number))
        transaction.commit()
        client.equal(connection.scalars(names).all(), [])


@feature
def isolation(client: ThreadClient) -> None:
    for level in ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            client.equal(connection.scalar(text("SHOW transaction_isolation")), level.lower())
            client.equal(connection.get_isolation_level(), level)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        ids = {connection.scalar(text("SELECT pg_current_xact_id()::text")) for _ in range(3)}
        client.equal(len(ids), 3)
    options = {"isolation_level": "SERIALIZABLE", "postgresql_readonly": True, "postgresql_deferrable": True}
    with engine.connect().execution_options(**options) as connection:
        client.equal(connection.scalar(text("SHOW transaction_read_only")), "on")
        with client.refused(DBAPIError):
            connection.execute(insert(Author).values(client=-1, name="never"))
    for _ in range(2):
        with engine.connect() as connection:
            client.equal(connection.scalar(text("SHOW transaction_isolation")), "read committed")
            client.equal(connection.scalar(text("SHOW transaction_read_only")), "off")


@feature
def reflection(client: ThreadClient) -> None:
    schema = client.name("schema")
    metadata = MetaData(schema=schema)
    Table("parent", metadata, Column("id", Integer, primary_key=True), Column("name", String(40), unique=True))
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", ForeignKey(f"{schema}.parent.id"), nullable=False, comment="whose it is"),
    )
    Index("child_parent", child.c.parent_id)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        metadata.create_all(connection)
        connection.execute(text(f"CREATE VIEW {schema}.names AS SELECT name FROM {schema}.parent"))
    inspector = inspect(engine)
    client.equal(sorted(inspector.get_table_names(schema)), ["child", "parent"])
    client.equal(inspector.get_view_names(schema), ["names"])
    client.equal([key["referred_table"] for key in inspector.get_foreign_keys("child", schema)], ["parent"])
    client.equal([index["name"] for index in inspector.get_indexes("child", schema)], ["child_parent"])
    client.equal([c["comment"] for c in inspector.get_columns("child", schema)], [None, "whose it is"])
    client.equal(inspector.get_pk_constraint("parent", schema)["constrained_columns"], ["id"])
    reflected = MetaData()
    reflected.reflect(engine, schema=schema, views=True)
    client.equal(sorted(reflected.tables), [f"{schema}.child", f"{schema}.names", f"{schema}.parent"])
    with engine.begin() as connection:
        reflected.drop_all(connection, tables=[reflected.tables[f"{schema}.child"]])
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    client.equal(inspect(engine).has_table("parent", schema), False)


@feature
def streaming(client: ThreadClient) -> None:
    query = text("SELECT i, repeat('x', 50) FROM generate_series(1, 800) i")
    with engine.connect() as connection:
        streamed = connection.execution_options(stream_results=True, max_row_buffer=100)
        client.equal(sum(1 for _ in streamed.execute(query)), 800)
        client.equal([len(part) for part in streamed.execute(query).partitions(300)], [300, 300, 200])
        with streamed.execution_options(yield_per=50).execute(query) as result:
            client.equal(result.fetchone()[0], 1)  # type: ignore[index]
        client.equal(connection.scalar(text("SELECT 1")), 1)
    with Session(engine) as session:
        found = session.execute(
            select(literal(1)).select_from(func.generate_series(1, 300)).execution_options(yield_per=40)
        )
        client.equal(sum(1 for _ in found), 300)


@feature
def its_pool(client: ThreadClient) -> None:
    """What comes back to SQLAlchemy's pool is rolled back; what is lent is tried first."""
    table = client.name("pool")
    own = create_engine(
        url("psycopg"), pool_size=1, max_overflow=0, pool_pre_ping=True, pool_reset_on_return="rollback"
    )
    with own.connect() as connection:
        connection.execute(text(f"CREATE TABLE {table} (a int)"))
    with own.begin() as connection:
        client.equal(connection.scalar(text(f"SELECT to_regclass('{table}')")), None)
    for i in range(6):
        with own.connect() as connection:
            client.equal(connection.scalar(select(literal(i))), i)
    client.equal(own.pool.checkedin(), 1)  # type: ignore[attr-defined]
    own.dispose()
    single = create_engine(url("psycopg"), poolclass=NullPool)
    for i in range(3):
        with single.connect() as connection:
            client.equal(connection.scalar(select(literal(i))), i)


@feature
def settings(client: ThreadClient) -> None:
    """Settings made in the event that tells of a new connection hold for as long as its pool keeps it."""
    own = create_engine(url("psycopg"), pool_size=1, max_overflow=0)

    @event.listens_for(own, "connect")
    def connected(connection: Any, record: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET search_path TO {client.name('nowhere')}, public")
        connection.execute(f"SET TIME ZONE 'Etc/GMT+{client.number}'")
        connection.execute(f"SET myapp.tenant = 'tenant {client.number}'")
        connection.autocommit = before

    for _ in range(5):
        with own.connect() as connection:
            client.equal(connection.scalar(text("SHOW search_path")), f"{client.name('nowhere')}, public")
            client.equal(connection.scalar(text("SHOW TimeZone")), f"Etc/GMT+{client.number}")
            client.equal(connection.scalar(text("SHOW myapp.tenant")), f"tenant {client.number}")
    own.dispose()


@feature
def schema_translation(client: ThreadClient) -> None:
    schema = client.name("tenant")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        connection = connection.execution_options(schema_translate_map={None: schema})
        Author.__table__.create(connection)  # type: ignore[attr-defined]
        connection.execute(insert(Author).values(client=client.number, name="of the tenant"))
        client.equal(connection.scalars(select(Author.name)).all(), ["of the tenant"])
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


@feature
def row_locks(client: ThreadClient) -> None:
    with engine.begin() as connection:
        connection.execute(upsert(Author).values(id=10_000_000, client=-2, name="0").on_conflict_do_nothing())
    for _ in range(4):
        with Session(engine) as session, session.begin():
            author = session.get(Author, 10_000_000, with_for_update=True)
            before = int(author.name)  # type: ignore[union-attr]
            author.name = str(before + 1)  # type: ignore[union-attr]
        with engine.connect() as connection:
            client.true(int(connection.scalar(select(Author.name).where(Author.id == 10_000_000)) or 0) > before)

    own = 10_000_001 + client.number
    with engine.begin() as connection:
        connection.execute(insert(Author).values(id=own, client=-3, name=str(own)))

    def part() -> None:
        with Session(engine) as session, engine.connect() as other:
            session.get(Author, own, with_for_update=True)
            with client.refused(OperationalError):
                other.execute(select(Author).where(Author.id == own).with_for_update(nowait=True))
            other.rollback()
            skipped = select(Author.id).where(Author.id == own).with_for_update(skip_locked=True)
            client.equal(other.scalars(skipped).all(), [])

    client.in_turn(part)


@feature
def advisory_locks(client: ThreadClient) -> None:
    key = client.key(6)

    def part() -> None:
        with engine.connect() as connection, engine.connect() as other:
            client.equal(connection.scalar(select(func.pg_try_advisory_lock(key))), True)
            connection.commit()
            for _ in range(2):
                client.equal(other.scalar(select(func.pg_try_advisory_xact_lock(key))), False)
                other.commit()
            client.equal(connection.scalar(select(func.pg_advisory_unlock(key))), True)
            connection.commit()

    client.in_turn(part)


@feature
def types(client: ThreadClient) -> None:
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=datetime.timezone.utc)
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "client": client.number,
        "made": moment,
        "price": decimal.Decimal("1234.5600"),
        "document": {"a": [1, None, {"b": "ü"}]},
        "numbers": [3, 1, 2],
        "span": Range(1, 10),
        "data": b"\x00\xff",
        "lasts": datetime.timedelta(days=2, seconds=3),
        "mood": Mood.glad,
    }
    with Session(engine) as session:
        session.add(Thing(**values))
        session.commit()
        thing = session.get(Thing, values["id"])
        client.equal({name: getattr(thing, name) for name in values}, values)
        client.equal(session.scalar(select(Thing.document["a"][2]["b"].astext).where(Thing.id == values["id"])), "ü")
        client.equal(
            session.scalar(select(Thing.id).where(Thing.id == values["id"], Thing.numbers.contains([1, 2]))),
            values["id"],
        )
        session.delete(thing)
        session.commit()


@feature
def two_phase(client: ThreadClient) -> None:
    number = client.number + 300
    with engine.connect() as connection:
        allowed = int(connection.scalar(text("SHOW max_prepared_transactions")) or 0) >= CLIENTS
    for i, end in enumerate(("commit", "rollback")):
        with engine.connect() as connection:
            transaction = connection.begin_twophase(xid=client.name(f"xid{i}"))
            connection.execute(insert(Author).values(client=number, name=end))
            if allowed:
                transaction.prepare()
                getattr(transaction, end)()
            else:
                with client.refused(DBAPIError):
                    transaction.prepare()
    with engine.begin() as connection:
        names = connection.scalars(delete(Author).where(Author.client == number).returning(Author.name)).all()
    client.equal(names, ["commit"] if allowed else [])


@feature
def lost_connections(client: ThreadClient) -> None:
    """A connection that broke is told by its error; its pool replaces it."""

    def part() -> None:
        own = create_engine(url("psycopg"), pool_size=1, max_overflow=0, pool_pre_ping=True)
        with own.connect() as connection:
            with client.refused(DBAPIError) as caught:
                connection.scalar(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            client.equal(caught[0].connection_invalidated, True)
        with own.connect() as connection:
            client.equal(connection.scalar(text("SELECT 1")), 1)
        own.dispose()

    client.in_turn(part)


if __name__ == "__main__":
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tidying:
        tidying.execute(text(TIDY))
        Base.metadata.create_all(tidying)
        program.run()
        Base.metadata.drop_all(tidying)
        tidying.execute(text(TIDY))
    engine.dispose()
