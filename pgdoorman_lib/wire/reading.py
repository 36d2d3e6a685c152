"""How a session's texts are to be read: whether backslashes escape, and what its encoding makes of bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pgdoorman_lib.wire.scan import BACKSLASHES, MULTIBYTE


class Reading(NamedTuple):
    """How a session's texts are to be read: ``flags`` for ``scan``, and the Python codec of its encoding.

    The codec is empty for UTF-8 (and where bytes are just bytes), and None when there is none.
    """

    flags: int
    codec: str | None


AS_USUAL = Reading(0, "")

#: PostgreSQL's client encodings that are not ASCII's superset byte by byte, or are spelt otherwise by Python.
_CODECS = {
    "UTF8": "",
    "SQL_ASCII": "",
    "UNICODE": "",
    "SJIS": "cp932",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "BIG5": "cp950",
    "GBK": "gbk",
    "UHC": "cp949",
    "GB18030": "gb18030",
    "JOHAB": "johab",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
    **{f"LATIN{number}": f"iso8859-{part}" for number, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)},
    **{f"ISO_8859_{part}": f"iso8859-{part}" for part in (5, 6, 7, 8)},
    **{f"WIN{page}": f"cp{page}" for page in (866, 874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)},
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
}


@lru_cache(maxsize=64)
def reading_of(conforming: str, encoding: str) -> Reading:
    """The reading under these values of standard_conforming_strings and client_encoding."""
    codec = _CODECS.get(encoding)
    return Reading((BACKSLASHES if conforming == "off" else 0) | (0 if codec == "" else MULTIBYTE), codec)


def converted(text: bytes, codec: str) -> tuple[bytes, bytes] | None:
    """A text in UTF-8, and as long as it is with letters that are no tokens' ends; None if it can't be read."""
    meant = bytearray()
    seen = bytearray()
    try:
        for letter in text.decode(codec):
            data = letter.encode(codec)
            # What is a byte of ASCII is ASCII for PostgreSQL, whatever a codec makes of it (0x5C a currency's sign).
            is_ascii = len(data) == 1 and data.isascii()
            meant += data if is_ascii else letter.encode()
            seen += data if is_ascii else b"\x80" * len(data)
    except UnicodeError:
        return None
    return (bytes(meant), bytes(seen)) if len(seen) == len(text) else None
