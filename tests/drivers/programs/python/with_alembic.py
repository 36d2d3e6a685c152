"""Alembic: the migrations of a folder up and down, in a schema of each client's own, and its operations by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from features import CLIENTS, TIDY, ThreadClient, Threads
from sa_models import url
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, inspect, literal, select, text

engine = create_engine(url("psycopg"), pool_size=CLIENTS, max_overflow=CLIENTS)


def plain(client: ThreadClient, k: int) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(select(literal(k) + 1, literal(client.number))).one() == (k + 1, client.number))


program = Threads(None, plain)
feature = program.feature


def config_of(connection: Any, schema: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes.update(connection=connection, schema=schema, metadata=MetaData())
    return config


@feature
def migrations(client: ThreadClient) -> None:
    """The schema to work in is set by options of the connection; the commands run one after the other."""
    schema = client.name("schema")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    own = create_engine(url("psycopg"), connect_args={"options": f"-c search_path={schema}"})

    def tables() -> list[str]:
        with own.connect() as connection:
            return sorted(inspect(connection).get_table_names(schema))

    def part() -> None:
        with own.connect() as connection:
            config = config_of(connection, schema)
            command.upgrade(config, "head")
            connection.commit()
            found = connection.execute(text("SELECT full_name, email FROM person ORDER BY id LIMIT 1")).one()
            client.equal(tuple(found), ("person 0", "person.0@example.org"))
            client.equal(connection.scalar(text("SELECT version_num FROM alembic_version")), "second")
            connection.rollback()
            client.equal(tables(), ["address", "alembic_version", "person"])
            command.downgrade(config, "first")
            connection.commit()
            columns = [c["name"] for c in inspect(connection).get_columns("person", schema)]
            client.equal(columns, ["id", "name", "mood"])
            connection.rollback()
            command.downgrade(config, "base")
            connection.commit()
            client.equal(tables(), ["alembic_version"])

    client.in_turn(part)
    own.dispose()
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


@feature
def migrations_after_set(client: ThreadClient) -> None:
    """The schema to work in is set by SET search_path, which is committed and must last for what follows."""
    schema = client.name("tenant")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    own = create_engine(url("psycopg"), pool_size=1)
    with own.connect() as connection:
        connection.execute(text(f"SET search_path TO {schema}"))
        connection.commit()
        connection.dialect.default_schema_name = schema
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        operations = Operations(context)
        for i in range(4):
            with context.begin_transaction():
                operations.create_table(f"part{i}", Column("id", Integer, primary_key=True))
        client.equal(sorted(inspect(connection).get_table_names(schema)), [f"part{i}" for i in range(4)])
        connection.rollback()
    own.dispose()
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


@feature
def operations(client: ThreadClient) -> None:
    table = client.name("operated")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        operations = Operations(context)
        with context.begin_transaction():
            operations.create_table(table, Column("id", Integer, primary_key=True), Column("name", String(20)))
            operations.create_index(f"{table}_name", table, ["name"])
        with context.begin_transaction():
            operations.add_column(table, Column("size", Integer, server_default="3"))
            operations.execute(f"INSERT INTO {table} (name) VALUES ('one')")
        client.equal(connection.execute(text(f"SELECT name, size FROM {table}")).all(), [("one", 3)])
        connection.rollback()
        with client.refused(KeyError), context.begin_transaction():
            operations.drop_column(table, "size")
            raise KeyError
        columns = [c["name"] for c in inspect(connection).get_columns(table)]
        client.equal(columns, ["id", "name", "size"])
        connection.rollback()
        with context.begin_transaction():
            operations.drop_table(table)


@feature
def comparison(client: ThreadClient) -> None:
    """What the database and the models differ in, as --autogenerate finds it."""
    schema = client.name("compared")
    metadata = MetaData()
    Table("thing", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), nullable=False))
    own = create_engine(url("psycopg"), connect_args={"options": f"-c search_path={schema}"})
    with own.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        client.equal([change[0] for change in compare_metadata(context, metadata)], ["add_table"])
        connection.execute(text("CREATE TABLE thing (id serial PRIMARY KEY, name varchar(10) NOT NULL, more int)"))
        connection.commit()
        found = compare_metadata(context, metadata)
        kinds = sorted(change[0][0] if isinstance(change, list) else change[0] for change in found)
        client.equal(kinds, ["modify_type", "remove_column"])
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        connection.commit()
    own.dispose()


if __name__ == "__main__":
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tidying:
        tidying.execute(text(TIDY))
        program.run()
        tidying.execute(text(TIDY))
    engine.dispose()
