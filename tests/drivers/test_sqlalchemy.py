"""SQLAlchemy on psycopg: core, ORM, its pool, server-side cursors, savepoints."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fix_doorman import Doorman, until_idle
from fix_postgres import Postgres
from pace import patience
from sqlalchemy import ForeignKey, create_engine, func, inspect, select, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "sa_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "sa_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("sa_author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture
def engine(doorman: Doorman, database: str) -> Iterator[Engine]:
    url = URL.create(
        "postgresql+psycopg",
        "app",
        Postgres.PASSWORDS["app"],
        doorman.host,
        doorman.port,
        database,
        {"sslmode": "disable"},
    )
    made = create_engine(url, pool_size=5, max_overflow=5, pool_pre_ping=True, connect_args={"prepare_threshold": 2})
    Base.metadata.drop_all(made)
    Base.metadata.create_all(made)
    yield made
    Base.metadata.drop_all(made)
    made.dispose()


def test_core(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(Author.__table__.insert(), [{"name": f"author {i}"} for i in range(50)])  # type: ignore[attr-defined]
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Author)) == 50
        for i in range(10):
            assert connection.scalar(select(Author.name).where(Author.name == f"author {i}")) == f"author {i}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == "serializable"
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
    assert set(inspect(engine).get_table_names()) >= {"sa_author", "sa_book"}


def test_orm(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all([Author(name=f"a{i}", books=[Book(title=f"b{i}.{j}") for j in range(3)]) for i in range(10)])
        session.commit()
        assert session.scalar(select(func.count(Book.id))) == 30
        author = session.scalars(select(Author).where(Author.name == "a3")).one()
        assert sorted(b.title for b in author.books) == ["b3.0", "b3.1", "b3.2"]
        author.books.pop()
        author.name = "renamed"
        session.commit()
        assert session.scalar(select(func.count(Book.id))) == 29
        with pytest.raises(IntegrityError):
            session.add(Author(name="renamed"))
            session.commit()
        session.rollback()
        with session.begin_nested():
            session.add(Author(name="kept"))
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Author(name="kept"))
        session.commit()
        assert session.scalar(select(func.count(Author.id))) == 11
        session.delete(session.scalars(select(Author).where(Author.name == "a1")).one())
        session.commit()
        assert session.scalar(select(func.count(Book.id))) == 26


def test_streamed_results(engine: Engine) -> None:
    with engine.connect() as connection:
        result = connection.execution_options(stream_results=True, yield_per=100).execute(
            text("SELECT generate_series(1, 3000)")
        )
        assert sum(1 for _ in result) == 3000


def test_many_threads(engine: Engine, doorman: Doorman, database: str) -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        try:
            for step in range(15):
                with Session(engine) as session:
                    session.add(Author(name=f"{seed}/{step}"))
                    session.commit()
                    assert session.scalar(select(Author.name).where(Author.name == f"{seed}/{step}"))
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(40))
    assert not failures
    with Session(engine) as session:
        assert session.scalar(select(func.count(Author.id))) == 150
    if database == "few":
        until_idle(doorman, "few")


def test_a_lost_connection_is_replaced_by_its_pool(engine: Engine, postgres: Postgres) -> None:
    """SQLAlchemy knows a disconnect when it sees one: the error we make must be recognised as such."""
    with engine.connect() as connection:
        connection.scalar(text("SELECT 1"))
        postgres.terminate(int(connection.scalar(text("SELECT pg_backend_pid()")) or 0))
        with pytest.raises((OperationalError, DBAPIError)) as caught:
            connection.scalar(text("SELECT 1"))
        assert caught.value.connection_invalidated
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
