"""Values ↔ bytes for messages between processes of ours, of which one may be older than the other.

What goes through: None, bool, int (64 bits), float, str, bytes, lists, and dictionaries with str keys. A tuple arrives
as a list, a bytearray as bytes. Reading makes nothing but these, whatever the bytes are: no pickle, no names of
classes, no lengths believed before they are checked.
"""

from __future__ import annotations

import struct
from typing import Any

#: Containers within containers; deeper ones are refused both ways, so that no message ends the interpreter's stack.
MAX_DEPTH = 32

_LENGTH = struct.Struct(">I")
_INT = struct.Struct(">q")
_FLOAT = struct.Struct(">d")
_NONE, _TRUE, _FALSE, _IS_INT, _IS_FLOAT, _IS_STR, _IS_BYTES, _IS_LIST, _IS_DICT = (bytes([b]) for b in b"NTFidsblm")
#: Names of users and databases are bytes on the wire, and may stand in a str as surrogates.
_ERRORS = "surrogatepass"


class Malformed(ValueError):
    """The bytes are no packed value, or the value is none that can be packed."""


def pack(value: Any) -> bytes:
    """The bytes that ``unpack`` makes an equal value of; Malformed names what can't be packed."""
    out = bytearray()
    _pack(value, out, 0)
    return bytes(out)


def _pack(value: Any, out: bytearray, depth: int) -> None:
    if value is None:
        out += _NONE
    elif value is True:
        out += _TRUE
    elif value is False:
        out += _FALSE
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise Malformed("an integer of more than 64 bits")
        out += _IS_INT + _INT.pack(value)
    elif isinstance(value, float):
        out += _IS_FLOAT + _FLOAT.pack(value)
    elif isinstance(value, str):
        text = value.encode("utf-8", _ERRORS)
        out += _IS_STR + _LENGTH.pack(len(text)) + text
    elif isinstance(value, (bytes, bytearray)):
        out += _IS_BYTES + _LENGTH.pack(len(value))
        out += value
    elif depth >= MAX_DEPTH:
        raise Malformed(f"containers more than {MAX_DEPTH} deep")
    elif isinstance(value, (list, tuple)):
        out += _IS_LIST + _LENGTH.pack(len(value))
        for item in value:
            _pack(item, out, depth + 1)
    elif isinstance(value, dict):
        out += _IS_DICT + _LENGTH.pack(len(value))
        for key, item in value.items():
            if not isinstance(key, str):
                raise Malformed(f"a key of type {type(key).__name__}, only str is accepted")
            text = key.encode("utf-8", _ERRORS)
            out += _LENGTH.pack(len(text)) + text
            _pack(item, out, depth + 1)
    else:
        raise Malformed(f"a value of type {type(value).__name__}")


def unpack(data: bytes | bytearray) -> Any:
    """The value packed in ``data``, all of it; Malformed if it is anything else."""
    reader = _Reader(bytes(data))
    value = reader.value(0)
    if reader.position != len(reader.data):
        raise Malformed(f"{len(reader.data) - reader.position} bytes behind the value")
    return value


class _Reader:
    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def cut(self, size: int) -> bytes:
        start = self.position
        end = start + size
        if end > len(self.data):
            raise Malformed(f"{size} bytes announced, {len(self.data) - start} are there")
        self.position = end
        return self.data[start:end]

    def length(self) -> int:
        return int(_LENGTH.unpack(self.cut(4))[0])

    def text(self) -> str:
        try:
            return self.cut(self.length()).decode("utf-8", _ERRORS)
        except UnicodeDecodeError as exc:
            raise Malformed("a text that is not UTF-8") from exc

    def value(self, depth: int) -> Any:
        tag = self.cut(1)
        if tag == _IS_STR:
            return self.text()
        if tag == _IS_BYTES:
            return self.cut(self.length())
        if tag == _IS_INT:
            return _INT.unpack(self.cut(8))[0]
        if tag == _NONE:
            return None
        if tag == _TRUE:
            return True
        if tag == _FALSE:
            return False
        if tag == _IS_FLOAT:
            return _FLOAT.unpack(self.cut(8))[0]
        if tag not in (_IS_LIST, _IS_DICT):
            raise Malformed(f"no kind of value is {tag!r}")
        if depth >= MAX_DEPTH:
            raise Malformed(f"containers more than {MAX_DEPTH} deep")
        # A count is not believed: what it says comes item by item, each of at least one byte.
        count = self.length()
        if tag == _IS_LIST:
            return [self.value(depth + 1) for _ in range(count)]
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.text()
            if key in found:
                raise Malformed(f"the key {key!r} twice")
            found[key] = self.value(depth + 1)
        return found
