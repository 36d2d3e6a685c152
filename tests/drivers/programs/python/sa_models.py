"""Tables for the programs of SQLAlchemy; all clients share them, each with rows of its own."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import uuid
from typing import Any

from features import PREFIX
from sqlalchemy import URL, DateTime, ForeignKey, Index, Integer, Numeric, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY, INT4RANGE, JSONB, Range
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    sad = 1
    glad = 2


class Author(Base):
    __tablename__ = f"{PREFIX}author"
    __table_args__ = (UniqueConstraint("client", "name", name=f"{PREFIX}author_name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client: Mapped[int]
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = f"{PREFIX}book"
    __table_args__ = (Index(f"{PREFIX}book_title", "title"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey(f"{PREFIX}author.id", ondelete="CASCADE"))
    author: Mapped[Author] = relationship(back_populates="books")


class Thing(Base):
    """A column of each kind."""

    __tablename__ = f"{PREFIX}thing"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    client: Mapped[int]
    made: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(12, 4))
    document: Mapped[dict[str, Any]] = mapped_column(JSONB)
    numbers: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    span: Mapped[Range[int]] = mapped_column(INT4RANGE)
    data: Mapped[bytes]
    lasts: Mapped[datetime.timedelta]
    mood: Mapped[Mood]


# The type of the enumeration is named as the tables are.
Thing.__table__.c.mood.type.name = f"{PREFIX}mood"  # type: ignore[attr-defined]


def url(driver: str) -> URL:
    return URL.create(
        f"postgresql+{driver}",
        os.environ["PGUSER"],
        os.environ["PGPASSWORD"],
        os.environ["PGHOST"],
        int(os.environ["PGPORT"]),
        os.environ["PGDATABASE"],
    )
