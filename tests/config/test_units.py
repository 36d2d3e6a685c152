"""Durations and sizes: every way to write them, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.config import units

MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "": 1}
BYTES = {"B": 1, "K": 2**10, "KB": 2**10, "M": 2**20, "MB": 2**20, "G": 2**30, "GB": 2**30, "": 1}


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [(0, 0), (5000, 5.0), ("5000", 5.0), ("5s", 5.0), ("100ms", 0.1), ("2M", 120), (" 1h ", 3600), ("1 d", 86400)],
)
def test_duration_in_milliseconds(raw, seconds):
    assert units.parse_duration(raw) == seconds


@pytest.mark.parametrize(("raw", "seconds"), [(5, 5), ("5", 5), ("5s", 5), ("1m", 60), ("3000ms", 3)])
def test_duration_in_seconds(raw, seconds):
    assert units.parse_seconds(raw) == seconds
    assert type(units.parse_seconds(raw)) is int


@pytest.mark.parametrize("raw", ["", "x", "5x", "1.5s", "5 5", "s", "+5", "0x10", "1_000", "٣s", "5s\n5s"])
def test_what_is_no_duration(raw):
    with pytest.raises(ValueError, match="invalid duration format"):
        units.parse_duration(raw)


@pytest.mark.parametrize("raw", [-1, "-5s", " -1"])
def test_a_duration_is_not_negative(raw):
    with pytest.raises(ValueError, match="cannot be negative"):
        units.parse_duration(raw)


@pytest.mark.parametrize("raw", [2**63, "9999999999999999999d"])
def test_a_duration_has_an_end(raw):
    with pytest.raises(ValueError, match="hundred years"):
        units.parse_duration(raw)


def test_the_kernel_takes_whole_seconds():
    with pytest.raises(ValueError, match="whole number of seconds"):
        units.parse_seconds("1500ms")


@pytest.mark.parametrize(
    ("raw", "size"), [(0, 0), (17, 17), ("17", 17), ("17b", 17), ("1kb", 1024), ("2K", 2048), ("1MB", 2**20)]
)
def test_size(raw, size):
    assert units.parse_size(raw) == size


@pytest.mark.parametrize(("raw", "text"), [("1TB", "invalid byte size"), (-1, "negative"), (2**63, "64 bits")])
def test_what_is_no_size(raw, text):
    with pytest.raises(ValueError, match=text):
        units.parse_size(raw)


@given(st.integers(0, 30_000), st.sampled_from(sorted(MS)), st.booleans())
def test_any_duration(number, unit, upper):
    text = f"{number}{unit.upper() if upper else unit}"
    assert units.parse_duration(text) == number * MS[unit] / 1000


@given(st.integers(0, 2**30), st.sampled_from(sorted(BYTES)), st.booleans())
def test_any_size(number, unit, lower):
    assert units.parse_size(f"{number}{unit.lower() if lower else unit}") == number * BYTES[unit]


@given(st.integers(0, units.MAX_SECONDS * 1000))
def test_a_written_duration_reads_back(milliseconds):
    assert units.parse_milliseconds(units.format_duration(milliseconds / 1000)) == milliseconds


@given(st.integers(0, units.MAX_INTEGER))
def test_a_written_size_reads_back(size):
    assert units.parse_size(units.format_size(size)) == size


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text):
    for parse in (units.parse_duration, units.parse_seconds, units.parse_size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
