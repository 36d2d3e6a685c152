"""Building and parsing the messages that the pooler makes or looks into; all others pass through it opaque.

Rules:
1. Bytes in, values out. A message comes back whole: type byte, int32 length that counts itself, body.
2. Text is UTF-8. What goes out may not contain a NUL (ValueError), but for the texts of errors, where it is dropped:
   telling of an error must not fail.
3. What a server sent is believed no further than it was checked: ServerProtocolViolation on garbage.

PostgreSQL docs, "Message Formats" and "Error and Notice Message Fields".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pgdoorman_lib.errors import DoormanError, ServerProtocolViolation
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import int32

_int = int

ErrorT = TypeVar("ErrorT", bound=DoormanError)


#: What messages with a number begin with is put together here: each login is sent some, and struct takes twice as long.
_HEAD = bytearray(9)


def _message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("!BI", kind, len(body) + 4) + body


def _numbered(kind: _int, number: _int, rest: bytes) -> bytes:
    """A message of an int32 and ``rest``."""
    head: Any = _HEAD
    size = len(rest) + 8
    head[0] = kind
    head[1] = size >> 24 & 255
    head[2] = size >> 16 & 255
    head[3] = size >> 8 & 255
    head[4] = size & 255
    head[5] = number >> 24 & 255
    head[6] = number >> 16 & 255
    head[7] = number >> 8 & 255
    head[8] = number & 255
    return b"".join((head[:9], rest))


def _cstring(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    if b"\0" in data:
        raise ValueError("a string in a message contains a null byte")
    return data + b"\0"


# -- backend messages

PARSE_COMPLETE_MESSAGE = _message(consts.PARSE_COMPLETE)
BIND_COMPLETE_MESSAGE = _message(consts.BIND_COMPLETE)
CLOSE_COMPLETE_MESSAGE = _message(consts.CLOSE_COMPLETE)
NO_DATA_MESSAGE = _message(consts.NO_DATA)
EMPTY_QUERY_MESSAGE = _message(consts.EMPTY_QUERY_RESPONSE)
PORTAL_SUSPENDED_MESSAGE = _message(consts.PORTAL_SUSPENDED)

# Those of every login, as far as they are always the same.
_AUTHENTICATION_OK = _message(consts.AUTHENTICATION, struct.pack("!I", consts.AUTH_OK))
_AUTHENTICATION_MD5 = struct.pack("!BII", consts.AUTHENTICATION, 12, consts.AUTH_MD5)
_READY_FOR_QUERY = struct.pack("!BI", consts.READY_FOR_QUERY, 5)


def _report(
    kind: int,
    severity: str,
    sqlstate: str,
    message: str,
    detail: str | None,
    hint: str | None,
    routine: str | None = None,
) -> bytes:
    # V is S untranslated, since PostgreSQL 9.6.
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", message), ("D", detail), ("H", hint)]
    fields.append(("R", routine))
    body = b"".join(
        f"{letter}{text}".replace("\0", "").encode(errors="replace") + b"\0"
        for letter, text in fields
        if text is not None
    )
    return _message(kind, body + b"\0")


def error_response(
    severity: str,
    sqlstate: str,
    message: str,
    *,
    detail: str | None = None,
    hint: str | None = None,
    routine: str | None = None,
) -> bytes:
    """ErrorResponse; ``severity`` is ERROR, FATAL or PANIC, ``sqlstate`` five characters.

    ``routine`` is the function in PostgreSQL's source that some drivers know an error by.
    """
    return _report(consts.ERROR_RESPONSE, severity, sqlstate, message, detail, hint, routine)


def notice_response(
    severity: str, sqlstate: str, message: str, *, detail: str | None = None, hint: str | None = None
) -> bytes:
    """NoticeResponse; ``severity`` is WARNING, NOTICE, DEBUG, INFO or LOG."""
    return _report(consts.NOTICE_RESPONSE, severity, sqlstate, message, detail, hint)


def error_from(exc: DoormanError) -> bytes:
    """The ErrorResponse that tells the peer of ``exc``."""
    return error_response(exc.severity, exc.sqlstate, exc.message, detail=exc.detail, hint=exc.hint)


def authentication_ok() -> bytes:
    """AuthenticationOk."""
    return _AUTHENTICATION_OK


def authentication_cleartext() -> bytes:
    """AuthenticationCleartextPassword."""
    return _message(consts.AUTHENTICATION, struct.pack("!I", consts.AUTH_CLEARTEXT))


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password; ``salt`` is 4 bytes."""
    if len(salt) != 4:
        raise ValueError("the salt of an MD5 challenge has 4 bytes")
    return _AUTHENTICATION_MD5 + salt


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    """AuthenticationSASL: the mechanisms offered, the preferred one first."""
    names = b"".join(_cstring(name) for name in mechanisms)
    return _message(consts.AUTHENTICATION, struct.pack("!I", consts.AUTH_SASL) + names + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue with the mechanism's challenge."""
    return _numbered(consts.AUTHENTICATION, consts.AUTH_SASL_CONTINUE, data)


def authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal with the mechanism's outcome."""
    return _numbered(consts.AUTHENTICATION, consts.AUTH_SASL_FINAL, data)


def negotiate_protocol_version(minor: int, options: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: the minor version of 3 that is spoken, and the ``_pq_.`` options that are not known.

    The version goes out whole, major and minor, as PostgreSQL does and libpq expects.
    """
    names = b"".join(_cstring(name) for name in options)
    version = consts.PROTOCOL_3_0 | minor
    return _message(consts.NEGOTIATE_PROTOCOL_VERSION, struct.pack("!II", version, len(options)) + names)


def parameter_status(name: str | bytes, value: str | bytes) -> bytes:
    """ParameterStatus."""
    return _message(consts.PARAMETER_STATUS, _cstring(name) + _cstring(value))


def backend_key_data(pid: _int, secret: bytes) -> bytes:
    """BackendKeyData; ``pid`` is a signed int32, ``secret`` has 4 bytes (protocol 3.0) or up to 256 (3.2)."""
    return _numbered(consts.BACKEND_KEY_DATA, pid, secret)


def ready_for_query(status: bytes = b"I") -> bytes:
    """ReadyForQuery; ``status`` is I (idle), T (in a transaction) or E (in a failed one)."""
    return _READY_FOR_QUERY + status


def row_description(columns: Sequence[tuple[str, int, int]]) -> bytes:
    """RowDescription for columns (name, type OID, type size in bytes or negative) of no table, in text format."""
    parts = [struct.pack("!H", len(columns))]
    for name, oid, size in columns:
        parts.append(_cstring(name) + struct.pack("!IhIhih", 0, 0, oid, size, -1, 0))
    return _message(consts.ROW_DESCRIPTION, b"".join(parts))


def data_row(values: Sequence[bytes | None]) -> bytes:
    """DataRow; None is NULL."""
    return _message(consts.DATA_ROW, struct.pack("!H", len(values)) + _values(values))


def command_complete(tag: str) -> bytes:
    """CommandComplete, e.g. ``SELECT 3``."""
    return _message(consts.COMMAND_COMPLETE, _cstring(tag))


def parameter_description(oids: Sequence[int]) -> bytes:
    """ParameterDescription: the type of each parameter of a statement."""
    return _message(consts.PARAMETER_DESCRIPTION, struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def _values(values: Sequence[bytes | None]) -> bytes:
    return b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)


# -- frontend messages


def _untyped(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!II", len(body) + 8, code) + body


def startup_message(parameters: Mapping[str, str], protocol: int = consts.PROTOCOL_3_0) -> bytes:
    """StartupMessage; ``parameters`` go in their order and include ``user``."""
    pairs = b"".join(_cstring(name) + _cstring(value) for name, value in parameters.items())
    return _untyped(protocol, pairs + b"\0")


def ssl_request() -> bytes:
    """SSLRequest."""
    return _untyped(consts.SSL_REQUEST)


def cancel_request(pid: int, secret: bytes) -> bytes:
    """CancelRequest with the key that BackendKeyData told; ``pid`` is a signed int32."""
    return _untyped(consts.CANCEL_REQUEST, struct.pack("!i", pid) + secret)


def password_message(password: bytes) -> bytes:
    """PasswordMessage: the password itself, or the answer to an MD5 challenge."""
    return _message(consts.PASSWORD, _cstring(password))


def sasl_initial_response(mechanism: str, data: bytes | None) -> bytes:
    """SASLInitialResponse; None: the mechanism starts without data."""
    size = -1 if data is None else len(data)
    return _message(consts.PASSWORD, _cstring(mechanism) + struct.pack("!i", size) + (data or b""))


def sasl_response(data: bytes) -> bytes:
    """SASLResponse."""
    return _message(consts.PASSWORD, data)


def query(sql: str | bytes) -> bytes:
    """Query (simple protocol)."""
    return _message(consts.QUERY, _cstring(sql))


def parse(name: bytes, sql: bytes, oids: Sequence[int] = ()) -> bytes:
    """Parse; ``name`` empty: the unnamed statement."""
    types = struct.pack(f"!H{len(oids)}I", len(oids), *oids)
    return _message(consts.PARSE, _cstring(name) + _cstring(sql) + types)


def parse_message(name: bytes, body: bytes) -> bytes:
    """Parse whose ``body`` behind the name is whole already: SQL, NUL, and the types."""
    return _message(consts.PARSE, _cstring(name) + body)


def bind(portal: bytes, statement: bytes, values: Sequence[bytes | None] = ()) -> bytes:
    """Bind with all parameters and results in text format."""
    body = _cstring(portal) + _cstring(statement) + struct.pack("!HH", 0, len(values)) + _values(values)
    return _message(consts.BIND, body + struct.pack("!H", 0))


def describe_statement(name: bytes) -> bytes:
    """Describe of a prepared statement."""
    return _message(consts.DESCRIBE, b"S" + _cstring(name))


def execute(portal: bytes = b"", max_rows: int = 0) -> bytes:
    """Execute; ``max_rows`` 0: all."""
    return _message(consts.EXECUTE, _cstring(portal) + struct.pack("!I", max_rows))


def close_statement(name: bytes) -> bytes:
    """Close of a prepared statement."""
    return _message(consts.CLOSE, b"S" + _cstring(name))


def sync() -> bytes:
    """Sync."""
    return _message(consts.SYNC)


def flush() -> bytes:
    """Flush."""
    return _message(consts.FLUSH)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return _message(consts.COPY_FAIL, _cstring(reason.encode()))


def terminate() -> bytes:
    """Terminate."""
    return _message(consts.TERMINATE)


# -- parsers of what a server sends


def is_fatal(message: bytes) -> bool:
    """Whether an ErrorResponse, whole or its body alone, is the last that the server says: FATAL or PANIC."""
    return b"\0VFATAL\0" in message or b"\0VPANIC\0" in message


def exception_from(body: bytes, kind: type[ErrorT], message: str = "unknown error", sqlstate: str = "XX000") -> ErrorT:
    """The exception that carries an ErrorResponse's ``body`` to whom it may concern; the opposite of ``error_from``.

    ``message`` and ``sqlstate`` stand in for what it does not say. ServerProtocolViolation on garbage.
    """
    fields = parse_fields(body)
    return kind(
        fields.get("M") or message,
        detail=fields.get("D"),
        hint=fields.get("H"),
        sqlstate=fields.get("C") or sqlstate,
    )


def reframed(message: bytes, body: bytes) -> bytes:
    """``message`` with another body."""
    return _message(message[0], body)


def parse_data_row(body: bytes) -> list[bytes | None]:
    """The values of a DataRow, None for NULL; ValueError for a body that is none."""
    if len(body) < 2:
        raise ValueError("a row without columns' number")
    values: list[bytes | None] = []
    start = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        size = int32(body, start)
        start += 4
        values.append(None if size < 0 else body[start : start + size])
        start += max(0, size)
    if start != len(body):
        raise ValueError("a row that does not end where it should")
    return values


def parse_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter; ServerProtocolViolation on garbage."""
    fields = {}
    start = 0
    while body[start : start + 1] not in (b"", b"\0"):
        end = body.find(b"\0", start)
        if end < 0:
            break
        fields[chr(body[start])] = body[start + 1 : end].decode(errors="replace")
        start = end + 1
    if body[start:] != b"\0":
        raise ServerProtocolViolation("malformed error or notice from the server")
    return fields


def parse_parameter_status(body: bytes) -> tuple[str, str]:
    """Name and value, what is not UTF-8 in them as surrogates; ServerProtocolViolation on garbage."""
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2] or not parts[0]:
        raise ServerProtocolViolation("malformed ParameterStatus from the server")
    return parts[0].decode(errors="surrogateescape"), parts[1].decode(errors="surrogateescape")
