"""What is noted of a transaction, what is asked at its end, and the values of a Bind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.client.tracking import (
    MAX_OPTIONS,
    Tracker,
    bound_values,
    constants,
    found_settings,
    known_settings,
    option_names,
)
from pgdoorman_lib.wire.reading import AS_USUAL, reading_of
from pgdoorman_lib.wire.session_state import DIRTY_LOCKS, DIRTY_PARAMETERS, DIRTY_TEMPORARY
from pgdoorman_lib.wire.settings import BASE, Settings
from pgdoorman_lib.wire.sqltext import analyse
from pgdoorman_lib.wire.text import Text
from pgdoorman_lib.wire.traces import EVERYTHING, LISTED, POSSIBLE, UNLIKELY, UNREADABLE, Traces

STARTUP = Settings.of({"application_name": "app", "work_mem": "9MB"})


def ran(*texts: str, alone: bool = True) -> Tracker:
    tracker = Tracker()
    for index, text in enumerate(texts):
        tracker.ran(analyse(text.encode()), alone and index == 0)
    return tracker


def test_names_are_asked_for() -> None:
    tracker = Tracker()
    assert tracker.ran(analyse(b"SET app.x = 1"), True) == DIRTY_PARAMETERS
    assert tracker.ran(analyse(b"SELECT pg_advisory_lock(1), set_config('b', '', false)"), False) == (
        DIRTY_PARAMETERS | DIRTY_LOCKS
    )
    assert tracker.to_ask(BASE) == (["app.x", "b"], False)
    assert (tracker.listed, tracker.unnamed, tracker.texts) == (False, 0, 2)
    tracker.clear()
    assert (tracker.options, tracker.resets, tracker.listed, tracker.unnamed, tracker.texts) == ({}, {}, False, 0, 0)


def test_where_no_name_is_known_all_are_asked_for() -> None:
    """And the customized ones that the client has, which no view lists."""
    mine = Settings.of({"app.x": "1", "work_mem": "2MB"})
    everything = (["session_authorization", "role", "app.x"], True)
    assert Tracker().to_ask(mine) == everything
    tracker = ran("RESET ALL")
    assert tracker.listed and not tracker.unnamed and tracker.to_ask(mine) == everything
    tracker = Tracker()
    tracker.may(UNREADABLE)
    assert tracker.listed and tracker.unnamed == UNLIKELY and tracker.to_ask(mine) == everything
    tracker.may(EVERYTHING)
    tracker.may(UNREADABLE)
    assert tracker.unnamed == POSSIBLE
    tracker.named(["b", LISTED])
    assert tracker.to_ask(mine) == (["b", "session_authorization", "role", "app.x"], True)
    tracker = Tracker()
    tracker.untold()
    assert tracker.to_ask(BASE) == (["session_authorization", "role"], True)


def test_too_many_names() -> None:
    tracker = Tracker()
    tracker.named(f"a.b{number}" for number in range(MAX_OPTIONS))
    tracker.named(["a.b0"])
    assert not tracker.unnamed and not tracker.listed
    tracker.named(["one.more"])
    assert tracker.unnamed == POSSIBLE and tracker.listed and len(tracker.options) == MAX_OPTIONS


@pytest.mark.parametrize("text", ["SET work_mem = '1MB'", "RESET ALL", "DISCARD ALL", "RESET work_mem", "UNLISTEN *"])
def test_a_text_that_tells_all(text: str) -> None:
    assert ran(text).known == analyse(text.encode())
    assert ran(text, alone=False).known is None
    assert ran(text, "SELECT 1").known is None
    assert ran("SELECT 1", text).known is None


@pytest.mark.parametrize(
    "text", ["SELECT 1", "SET LOCAL work_mem = '1MB'", "SET a = 1; SET b = 2", "SET search_path = a"]
)
def test_a_text_that_does_not(text: str) -> None:
    assert ran(text).known is None


def test_reported_parameters() -> None:
    assert ran("SET TimeZone = 'UTC'").reported("timezone")
    assert not ran("SET TimeZone = 'UTC'").reported("datestyle")
    assert ran("RESET ALL").reported("datestyle"), "whatever it is"
    assert not ran("SELECT 1").reported("timezone")
    assert ran("SET TimeZone = 'UTC'", "SELECT 1").reported("timezone")


# Resets.


def test_what_was_reset_is_restored_from_the_startup() -> None:
    def restoring(*texts: str) -> str:
        return ran(*texts).restoring(STARTUP, {})

    assert restoring("RESET work_mem").startswith("SELECT pg_catalog.set_config('work_mem', '9MB', false) FROM")
    assert "'9MB', true)" in restoring("SET LOCAL work_mem = DEFAULT")
    assert restoring("RESET enable_seqscan") == "" == restoring("SET work_mem = '1MB'")
    assert restoring("RESET ALL").count("set_config") == len(STARTUP.values)
    assert restoring("DO $$ BEGIN RESET ALL; END $$") == restoring("RESET ALL")
    both = restoring("RESET application_name", "SET LOCAL work_mem = DEFAULT")
    assert both.count("set_config") == 2 and both.count("true)") == both.count("false)") == 1


@pytest.mark.parametrize(
    ("text", "after", "applied"),
    [
        ("SET work_mem = '1MB'", {"work_mem": "1MB", "a.b": "1", "role": "x", "application_name": "app"}, None),
        ("DISCARD ALL", {"work_mem": "9MB", "application_name": "app"}, {}),
        ("RESET ALL", {"work_mem": "9MB", "application_name": "app", "role": "x"}, {"role": "x"}),
        (
            "RESET work_mem",
            {"work_mem": "9MB", "application_name": "app", "role": "x", "a.b": "1"},
            {"application_name": "app", "role": "x", "a.b": "1"},
        ),
        ("RESET a.b", {"work_mem": "9MB", "application_name": "app", "role": "x"}, None),
        ("UNLISTEN *; CLOSE ALL", {"work_mem": "9MB", "application_name": "app", "role": "x", "a.b": "1"}, None),
    ],
)
def test_settings_behind_a_text_that_tells_all(
    text: str, after: dict[str, str], applied: dict[str, str] | None
) -> None:
    present = STARTUP.joined(Settings.of({"a.b": "1", "role": "x"}))
    found = known_settings(analyse(text.encode()), present, STARTUP)
    assert found is not None
    assert found[0].values == after and found[1].values == (after if applied is None else applied)


@pytest.mark.parametrize("text", ["RESET ROLE", "RESET SESSION AUTHORIZATION"])
def test_who_one_is_must_be_asked(text: str) -> None:
    assert known_settings(analyse(text.encode()), STARTUP, STARTUP) is None


def test_settings_that_were_found() -> None:
    applied = Settings.of({"a": "1", "b": "2"})
    found = {"b": None, "c": "3", "role": "weak", "session_authorization": "app"}
    defaults = {"role": "weak", "session_authorization": "app"}
    assert found_settings(found, defaults, applied).values == {"a": "1", "c": "3"}
    assert found_settings(found, defaults, None).values == {"c": "3"}
    # None by default, as after ALTER ROLE … SET role: "none" is another one.
    assert found_settings({"role": "none"}, defaults, BASE).values == {"role": "none"}


def test_ones_own_settings() -> None:
    tracker = ran("RESET work_mem")
    bare = Settings.of({"application_name": "app"})
    assert tracker.own_settings(bare, {"work_mem": None}, STARTUP, STARTUP, {}) is STARTUP
    assert tracker.own_settings(bare, {}, STARTUP, STARTUP, {}) is bare
    # It was set to what others have by default.
    assert tracker.own_settings(bare, {"work_mem": "4MB"}, STARTUP, STARTUP, {}).values["work_mem"] == "4MB"
    assert Tracker().own_settings(bare, {}, BASE, BASE, {}) is bare


def test_a_customized_option_that_is_empty() -> None:
    began = Settings.of({"app.a": "begin"})
    empty = Settings.of({"app.a": ""})
    for text, before, expected in (
        ("RESET app.a", began, "begin"),
        ("DO $$ BEGIN RESET app.a; END $$", began, "begin"),
        ("SET app.a = ''", began, ""),
        ("DO $$ BEGIN PERFORM 1; END $$", empty, ""),
        ("RESET app.a", empty, "begin"),
    ):
        own = ran(text).own_settings(BASE, {"app.a": ""}, began, before, {})
        assert own.values["app.a"] == expected, text
    role = ran("RESET app.a").own_settings(BASE, {"app.a": "role's"}, began, began, {"app.a": "role's"})
    assert role is began


# Values of parameters.


def bind(formats: list[int], values: list[bytes | None], results: list[int] | None = None) -> bytes:
    """The body of a Bind behind its names."""
    body = len(formats).to_bytes(2, "big") + b"".join(code.to_bytes(2, "big") for code in formats)
    body += len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    codes = results or []
    return body + len(codes).to_bytes(2, "big") + b"".join(code.to_bytes(2, "big") for code in codes)


formats = st.lists(st.integers(0, 1), max_size=4)
values = st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=8)


@given(formats, values, formats, st.sets(st.integers(1, 8)))
def test_values_are_found(codes: list[int], bound: list[bytes | None], results: list[int], numbers: set[int]) -> None:
    found = bound_values(bind(codes, bound, results), numbers)
    if numbers and max(numbers) > len(bound):
        assert found == [], "PostgreSQL refuses it"
    else:
        assert found == [bound[number - 1] for number in sorted(numbers)]


@given(formats, values, st.sets(st.integers(1, 8), min_size=1), st.data())
def test_values_that_are_not_all_there(
    codes: list[int], bound: list[bytes | None], numbers: set[int], data: st.DataObject
) -> None:
    """Never another value, nor a part of one."""
    whole = bind(codes, bound)
    cut = data.draw(st.integers(0, len(whole)))
    found = bound_values(whole[:cut], numbers)
    assert found is None or found == bound_values(whole, numbers)


def test_what_is_behind_the_values_does_not_matter() -> None:
    data = bind([], [b"app.x", b"x" * 20000])
    assert bound_values(data[:100], [1]) == [b"app.x"]
    assert bound_values(data[:100], [1, 2]) is None
    assert bound_values(data, [2]) == [b"x" * 20000]


@given(st.binary(max_size=80), st.sets(st.integers(1, 70000), max_size=4))
def test_garbage_raises_nothing(data: bytes, numbers: set[int]) -> None:
    found = bound_values(data, numbers)
    assert found is None or all(value is None or value in data for value in found)


def test_names_of_options() -> None:
    assert option_names([b"App.X", None, "app.schlüssel".encode()], AS_USUAL) == ["app.x", "app.schlüssel"]
    assert option_names([b"app.\xff"], AS_USUAL) == ["app.\udcff"]
    assert option_names(["App.Schlüssel".encode("latin-1")], reading_of("on", "LATIN1")) == ["app.schlüssel"]
    assert option_names(["app.表".encode("cp932")], reading_of("on", "SJIS")) == ["app.表"]
    assert option_names([b"app.\x81"], reading_of("on", "SJIS")) is None
    assert option_names([b"app.\xe4"], reading_of("on", "MULE_INTERNAL")) is None
    assert option_names([b"app.x"], reading_of("on", "MULE_INTERNAL")) == ["app.x"]
    assert option_names([], AS_USUAL) == []


def test_constants() -> None:
    assert constants(b"SELECT 'a', E'b\\'', $$c$$, x, \"d\", U&'\\00e4'", False) == [b"a", b"b'", b"c", "ä".encode()]
    assert constants(b"('a\\'', 'b')", True) == [b"a'", b"b"]


def test_a_text_of_which_nothing_is_known() -> None:
    tracker = Tracker()
    assert tracker.ran(Text(Traces(DIRTY_TEMPORARY)), True) == DIRTY_TEMPORARY
    assert tracker.known is None and not tracker.options
