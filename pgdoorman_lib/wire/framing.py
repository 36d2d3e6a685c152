"""Splitting a byte stream into messages: headers, lengths and names, each checked before it is used.

A message is a type byte and an int32 length that counts itself (PostgreSQL docs, "Message Formats").
"""

from __future__ import annotations

_int = int

#: no whole header there yet
INCOMPLETE = -1
#: the length word can't be
INVALID = -2

_MAX_MESSAGE = 0x3FFFFFFF


def frame_size(data: bytearray, start: _int, end: _int) -> _int:
    """Bytes of the message that begins at ``data[start]``, type byte included; INCOMPLETE, or INVALID.

    Only ``data[start:end]`` is looked at; the message may well be longer than that.
    """
    if end - start < 5:
        return -1
    length = (data[start + 1] << 24) | (data[start + 2] << 16) | (data[start + 3] << 8) | data[start + 4]
    if length < 4 or length > _MAX_MESSAGE:
        return -2
    return length + 1


def int32(data: bytes, at: _int) -> _int:
    """The signed number in ``data[at:at + 4]``; ValueError when so many bytes are not there."""
    if at < 0 or at + 4 > len(data):
        raise ValueError("no number there")
    high = data[at]
    if high >= 128:
        high -= 256
    return high * 0x1000000 + (data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3])


def find_nul(data: bytearray, start: _int, end: _int) -> _int:
    """The position of the first NUL in ``data[start:end]``, or -1."""
    position = start
    while position < end:
        if data[position] == 0:
            return position
        position += 1
    return -1


def put_header(data: bytearray, kind: _int, size: _int) -> None:
    """Write the header of a message of ``size`` bytes in all into ``data[0:5]``."""
    length = size - 1
    data[0] = kind
    data[1] = (length >> 24) & 255
    data[2] = (length >> 16) & 255
    data[3] = (length >> 8) & 255
    data[4] = length & 255


def split(data: bytes, limit: _int = _MAX_MESSAGE) -> tuple[list[tuple[_int, bytes]], bytes]:
    """All whole messages of ``data`` as (type, body), and what is left; ValueError on an impossible length."""
    buffer = bytearray(data)
    frames: list[tuple[int, bytes]] = []
    position = 0
    while True:
        size = frame_size(buffer, position, len(buffer))
        if size == -2 or size > limit + 1:
            raise ValueError("invalid message length")
        if size < 0 or position + size > len(buffer):
            return frames, bytes(buffer[position:])
        frames.append((buffer[position], bytes(buffer[position + 5 : position + size])))
        position += size
