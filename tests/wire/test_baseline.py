"""What sessions begin with: rows read, differences, one object for equal ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.baseline import UNKNOWN, Base, baseline_sql, read_baseline
from pgdoorman_lib.wire.messages import data_row


def row(kind: str, name: str, value: str | None) -> bytes:
    data = None if value is None else value.encode(errors="surrogateescape").hex().encode()
    return data_row([kind.encode(), name.encode(), data])[5:]


def test_rows() -> None:
    base, process, loaded = read_baseline(
        [
            row("v", "DateStyle", "ISO, MDY"),
            row("v", "no_such_setting", None),
            row("v", "role", "weak"),
            row("o", "work_mem", "9216"),
            row("o", "DateStyle", "never seen"),
            row("o", "app.tenant", "é"),
            row("o", "log_statement", None),
            row("p", "4711", "0a"),
        ]
    )
    assert process == 4711 and bytes.fromhex(loaded) == b"0a"
    assert base.values == {"datestyle": "ISO, MDY", "role": "weak", "work_mem": "9216", "app.tenant": "é"}
    assert base.owned == {"work_mem", "datestyle", "app.tenant", "log_statement"}
    assert base.role == "weak" and base.value("DATESTYLE") == "ISO, MDY" and base.value("x") is None
    assert UNKNOWN.role == "none"


@pytest.mark.parametrize(
    "rows", [[b""], [row("x", "a", None)], [data_row([b"v", None, None])[5:]], [row("p", "a", None)]]
)
def test_what_is_no_answer(rows: list[bytes]) -> None:
    with pytest.raises(ValueError):
        read_baseline(rows)


def test_equal_ones_are_one_object() -> None:
    assert Base.of({"a": "1", "b": "2"}, ["a"]) is Base.of({"b": "2", "a": "1"}, ("a",))
    assert Base.of({"a": "1"}, ["a"]) is not Base.of({"a": "1"})


def test_what_makes_a_difference() -> None:
    old = Base.of({"work_mem": "4MB", "timezone": "UTC", "app.old": "x"}, ["app.old"])
    new = Base.of({"work_mem": "9MB", "timezone": "Asia/Tokyo", "app.new": "y"}, ["work_mem", "app.new"])
    # The time zone is the configuration's: a reload changes it for those who are there, too.
    assert old.difference(new) == {"work_mem": "4MB", "app.new": "", "app.old": "x"}
    assert new.difference(old) == {"work_mem": "9MB", "app.new": "y", "app.old": ""}
    assert not old.difference(old) and not old.difference(UNKNOWN) and not UNKNOWN.difference(old)


def test_what_rests_badly() -> None:
    assert Base.of({"idle_session_timeout": "5s"}).rests_badly
    assert not Base.of({"idle_session_timeout": "0"}).rests_badly and not UNKNOWN.rests_badly


def test_temporary() -> None:
    assert Base.of({"search_path": "pg_temp"}).temporary and not Base.of({"search_path": "public"}).temporary


def test_the_query_names_no_function_of_others() -> None:
    sql = baseline_sql()
    assert "current_setting(" in sql and " current_setting(" not in sql and " unnest(" not in sql


names = st.sampled_from(["work_mem", "timezone", "app.a", "app.b"])
bases = st.builds(
    lambda values, owned: Base.of(values, owned & values.keys()),
    st.dictionaries(names, st.text(max_size=2)),
    st.sets(names),
)


@given(bases, bases)
def test_a_difference_brings_back_what_was_there(mine: Base, theirs: Base) -> None:
    """Of what the role or the database has a say in, on either side."""
    if UNKNOWN in (mine, theirs):
        return
    there = {**theirs.values, **mine.difference(theirs)}
    for name in mine.owned | theirs.owned:
        if name in mine.values:
            assert there[name] == mine.values[name]
