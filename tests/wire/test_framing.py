"""Splitting a byte stream: whole, byte by byte, with trailing bytes, garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.consts import MAX_MESSAGE
from pgdoorman_lib.wire.framing import find_nul, frame_size, int32, put_header, split

messages = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=8)


def encode(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body for kind, body in frames)


@given(messages, st.binary(max_size=4))
def test_whole_with_trailing_bytes(frames: list[tuple[int, bytes]], rest: bytes) -> None:
    assert split(encode(frames) + rest) == (frames, rest)


@given(messages)
def test_byte_by_byte(frames: list[tuple[int, bytes]]) -> None:
    found = []
    buffer = b""
    for byte in encode(frames):
        buffer += bytes([byte])
        some, buffer = split(buffer)
        found += some
    assert found == frames
    assert buffer == b""


@given(st.binary(max_size=64))
def test_garbage_is_split_or_refused(data: bytes) -> None:
    try:
        frames, rest = split(data)
    except ValueError:
        return
    assert encode(frames) + rest == data


@given(st.binary(min_size=5, max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_size_looks_only_between_start_and_end(data: bytes, start: int, length: int) -> None:
    start = min(start, len(data))
    end = min(start + length, len(data))
    size = frame_size(bytearray(data), start, end)
    if end - start < 5:
        assert size == -1
        return
    word = int.from_bytes(data[start + 1 : start + 5], "big")
    assert size == (word + 1 if 4 <= word <= MAX_MESSAGE else -2)


@pytest.mark.parametrize("word", [0, 1, 2, 3, MAX_MESSAGE + 1, 1 << 31, (1 << 32) - 1])
def test_impossible_length(word: int) -> None:
    data = b"Q" + word.to_bytes(4, "big") + b"x"
    assert frame_size(bytearray(data), 0, len(data)) == -2
    with pytest.raises(ValueError):
        split(data)


@pytest.mark.parametrize("word", [4, 5, MAX_MESSAGE])
def test_possible_length(word: int) -> None:
    assert frame_size(bytearray(b"Q" + word.to_bytes(4, "big")), 0, 5) == word + 1


def test_limit_of_the_caller() -> None:
    data = encode([(81, b"12345678")])
    assert split(data, 12) == ([(81, b"12345678")], b"")
    with pytest.raises(ValueError):
        split(data, 11)


@given(st.binary(max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_find_nul(data: bytes, start: int, end: int) -> None:
    start = min(start, len(data))
    end = min(end, len(data))
    assert find_nul(bytearray(data), start, end) == (data.find(b"\0", start, end) if start < end else -1)


@given(st.integers(-(2**31), 2**31 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_int32_is_read_where_it_stands(number: int, before: bytes, behind: bytes) -> None:
    data = before + number.to_bytes(4, "big", signed=True) + behind
    assert int32(data, len(before)) == number


@given(st.binary(max_size=6), st.integers(-2, 8))
def test_no_int32_is_read_beyond_the_end(data: bytes, at: int) -> None:
    if 0 <= at <= len(data) - 4:
        assert int32(data, at) == int.from_bytes(data[at : at + 4], "big", signed=True)
    else:
        with pytest.raises(ValueError, match="no number"):
            int32(data, at)


@given(st.integers(0, 255), st.integers(5, MAX_MESSAGE + 1))
def test_header_says_what_was_put(kind: int, size: int) -> None:
    data = bytearray(8)
    put_header(data, kind, size)
    assert data[0] == kind
    assert frame_size(data, 0, 5) == size
    assert data[5:] == b"\0\0\0"
