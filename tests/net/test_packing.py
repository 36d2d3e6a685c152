"""Values packed into bytes: the same come back, and nothing else is made of any bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.net.packing import MAX_DEPTH, Malformed, pack, unpack

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES)
def test_what_was_packed_comes_back(value: Any) -> None:
    again = unpack(pack(value))
    assert again == value and repr(again) == repr(value)  # True is not 1, 1.0 is not 1


def test_tuples_and_bytearrays() -> None:
    assert unpack(pack((1, bytearray(b"x")))) == [1, b"x"]


@pytest.mark.parametrize("value", [object(), {1: 2}, 1 << 63, -(1 << 63) - 1, {"a": {b"b": 1}}, {1}, 1j])
def test_what_can_not_be_packed(value: Any) -> None:
    with pytest.raises(Malformed):
        pack(value)


def test_depth() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert unpack(pack(value)) == value
    with pytest.raises(Malformed, match="deep"):
        pack([value])
    with pytest.raises(Malformed, match="deep"):
        unpack(b"l\0\0\0\1" * (MAX_DEPTH + 1) + b"N")


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    try:
        value = unpack(data)
    except Malformed:
        return
    assert unpack(pack(value)) == value or value != value


@given(VALUES, st.data())
def test_each_change_is_noticed_or_gives_a_value(value: Any, data: st.DataObject) -> None:
    packed = bytearray(pack(value))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    test_any_bytes.hypothesis.inner_test(bytes(packed))  # type: ignore[attr-defined]


@given(VALUES, st.integers(0, 1 << 20))
def test_what_is_cut_off(value: Any, where: int) -> None:
    packed = pack(value)
    with pytest.raises(Malformed):
        unpack(packed[: where % len(packed)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NN",
        b"x",
        b"l\xff\xff\xff\xff",
        b"m\0\0\0\1",
        b"s\0\0\0\1\xff",
        b"b\xff\xff\xff\xffabc",
        b"i123",
        b"m\0\0\0\2\0\0\0\1aN\0\0\0\1aN",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data)
