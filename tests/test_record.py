"""Records against the frozen dataclasses they stand for."""

from __future__ import annotations

import dataclasses

import pytest

from pgdoorman_lib.record import record


@record(frozen=True, kw_only=True)
class Point:
    """Two numbers, and what is neither compared nor shown."""

    x: int
    y: int = 0
    note: str = dataclasses.field(default="", compare=False, repr=False)


@record(frozen=True, slots=True)
class One:
    """Of one field."""

    value: list[int]


@record(frozen=True)
class Nothing:
    """Of none."""


@record(frozen=True)
class Sharp(Point):
    """One that writes its own words."""

    def __repr__(self) -> str:
        return "sharp"


def test_it_is_compared_by_its_fields() -> None:
    assert Point(x=1, y=2) == Point(x=1, y=2, note="other") != Point(x=1, y=3)
    assert Point(x=1) != (1, 0)
    assert Point(x=1) != Sharp(x=1)
    assert One([1]) == One([1]) != One([2])
    assert Nothing() == Nothing()


def test_it_is_hashed_by_its_fields() -> None:
    assert len({Point(x=1), Point(x=1, note="other"), Point(x=2), Nothing(), Nothing()}) == 3
    with pytest.raises(TypeError):
        hash(One([1]))


def test_what_it_shows() -> None:
    assert repr(Point(x=1, note="secret")) == "Point(x=1, y=0)"
    assert repr(One([1])) == "One(value=[1])"
    assert repr(Nothing()) == "Nothing()"
    assert repr(Sharp(x=1)) == "sharp"


def test_it_is_a_dataclass() -> None:
    assert dataclasses.replace(Point(x=1, y=2), x=3) == Point(x=3, y=2)
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "y", "note"]
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        One([1]).more = 1  # type: ignore[attr-defined]
