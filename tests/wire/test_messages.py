"""Messages as they stand in PostgreSQL's documentation, byte by byte; and what a server might send instead."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.errors import AuthenticationFailed, ServerGone, ServerProtocolViolation, ServerRefused
from pgdoorman_lib.wire import consts, messages

ERROR = b"SFATAL\0VFATAL\0C28P01\0Mno\0\0"


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (messages.authentication_ok(), b"R\0\0\0\x08\0\0\0\0"),
        (messages.authentication_cleartext(), b"R\0\0\0\x08\0\0\0\x03"),
        (messages.authentication_md5(b"\x01\0\xff\x7f"), b"R\0\0\0\x0c\0\0\0\x05\x01\0\xff\x7f"),
        (messages.authentication_sasl(["SCRAM-SHA-256"]), b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"),
        (messages.authentication_sasl_continue(b"r=x"), b"R\0\0\0\x0b\0\0\0\x0br=x"),
        (messages.authentication_sasl_final(b"v=x"), b"R\0\0\0\x0b\0\0\0\x0cv=x"),
        (messages.parameter_status("TimeZone", "UTC"), b"S\0\0\0\x11TimeZone\0UTC\0"),
        (messages.backend_key_data(-2, b"key!"), b"K\0\0\0\x0c\xff\xff\xff\xfekey!"),
        (messages.ready_for_query(), b"Z\0\0\0\x05I"),
        (messages.ready_for_query(b"T"), b"Z\0\0\0\x05T"),
        (
            messages.row_description([("a", 25, -1), ("", 20, 8)]),
            b"T\0\0\0\x2d\0\x02a\0"
            + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
            + b"\0"
            + struct.pack("!ihihih", 0, 0, 20, 8, -1, 0),
        ),
        (messages.data_row([b"x", None, b""]), b"D\0\0\0\x13\0\x03\0\0\0\x01x\xff\xff\xff\xff\0\0\0\0"),
        (messages.command_complete("SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
        (messages.negotiate_protocol_version(2, []), b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"),
        (messages.negotiate_protocol_version(0, ["_pq_.a"]), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.a\0"),
        (messages.parameter_description([23, 4294967295]), b"t\0\0\0\x0e\0\x02\0\0\0\x17\xff\xff\xff\xff"),
        (messages.PARSE_COMPLETE_MESSAGE, b"1\0\0\0\x04"),
        (messages.BIND_COMPLETE_MESSAGE, b"2\0\0\0\x04"),
        (messages.CLOSE_COMPLETE_MESSAGE, b"3\0\0\0\x04"),
        (messages.NO_DATA_MESSAGE, b"n\0\0\0\x04"),
        (messages.EMPTY_QUERY_MESSAGE, b"I\0\0\0\x04"),
        (messages.PORTAL_SUSPENDED_MESSAGE, b"s\0\0\0\x04"),
        (messages.error_response("FATAL", "28P01", "no"), b"E" + struct.pack("!I", len(ERROR) + 4) + ERROR),
        (
            messages.notice_response("NOTICE", "00000", "m", detail="d", hint="h"),
            b"N\0\0\0\x25SNOTICE\0VNOTICE\0C00000\0Mm\0Dd\0Hh\0\0",
        ),
        (messages.startup_message({"user": "u"}), b"\0\0\0\x10\0\x03\0\0user\0u\0\0"),
        (messages.startup_message({}, consts.PROTOCOL_3_2), b"\0\0\0\x09\0\x03\0\x02\0"),
        (messages.ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (messages.cancel_request(-1, b"abcd"), b"\0\0\0\x10\x04\xd2\x16\x2e\xff\xff\xff\xffabcd"),
        (messages.password_message(b"secret"), b"p\0\0\0\x0bsecret\0"),
        (messages.sasl_initial_response("M", b"xy"), b"p\0\0\0\x0cM\0\0\0\0\x02xy"),
        (messages.sasl_initial_response("M", None), b"p\0\0\0\x0aM\0\xff\xff\xff\xff"),
        (messages.sasl_response(b"xy"), b"p\0\0\0\x06xy"),
        (messages.query("SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0"),
        (messages.query(b";"), b"Q\0\0\0\x06;\0"),
        (messages.parse(b"s", b"SELECT $1", [23]), b"P\0\0\0\x16s\0SELECT $1\0\0\x01\0\0\0\x17"),
        (messages.bind(b"", b"s", [b"1", None]), b"B\0\0\0\x16\0s\0\0\0\0\x02\0\0\0\x011\xff\xff\xff\xff\0\0"),
        (messages.describe_statement(b"s"), b"D\0\0\0\x07Ss\0"),
        (messages.execute(), b"E\0\0\0\x09\0\0\0\0\0"),
        (messages.close_statement(b"s"), b"C\0\0\0\x07Ss\0"),
        (messages.sync(), b"S\0\0\0\x04"),
        (messages.flush(), b"H\0\0\0\x04"),
        (messages.terminate(), b"X\0\0\0\x04"),
    ],
)
def test_bytes_of_messages(built: bytes, expected: bytes) -> None:
    assert built == expected


@pytest.mark.parametrize(
    "build",
    [
        lambda: messages.parameter_status("a\0b", ""),
        lambda: messages.command_complete("a\0"),
        lambda: messages.query(b"SELECT 1\0; DROP"),
        lambda: messages.parse(b"\0", b""),
        lambda: messages.startup_message({"user": "a\0database\0b"}),
        lambda: messages.password_message(b"\0"),
        lambda: messages.authentication_sasl(["\0"]),
        lambda: messages.authentication_md5(b"abc"),
    ],
)
def test_nothing_goes_out_that_would_be_read_as_something_else(build: object) -> None:
    with pytest.raises(ValueError):
        build()  # type: ignore[operator]


def test_an_error_is_told_whatever_its_text_is() -> None:
    data = messages.error_response("ERROR", "XX000", "a\0b\ud800é", hint="")
    fields = messages.parse_fields(data[5:])
    assert fields == {"S": "ERROR", "V": "ERROR", "C": "XX000", "M": "ab?é", "H": ""}


def test_error_from_an_exception() -> None:
    fields = messages.parse_fields(messages.error_from(AuthenticationFailed("no", detail="d", hint="h"))[5:])
    assert fields == {"S": "FATAL", "V": "FATAL", "C": "28P01", "M": "no", "D": "d", "H": "h"}


def test_fields_and_parameters_of_a_server() -> None:
    assert messages.parse_fields(b"SERROR\0C42P01\0Mrel\xff\0Fparse.c\0L12\0\0") == {
        "S": "ERROR",
        "C": "42P01",
        "M": "rel�",
        "F": "parse.c",
        "L": "12",
    }
    assert messages.parse_fields(b"\0") == {}
    assert messages.parse_parameter_status(b"DateStyle\0ISO, MDY\0") == ("DateStyle", "ISO, MDY")
    assert messages.parse_parameter_status(b"application_name\0\0") == ("application_name", "")


def test_fields_cut_at_any_byte_are_refused() -> None:
    for cut in range(len(ERROR)):
        with pytest.raises(ServerProtocolViolation):
            messages.parse_fields(ERROR[:cut])


def test_cut_or_trailing_parameter_status_is_refused() -> None:
    whole = b"TimeZone\0UTC\0"
    for body in [*(whole[:cut] for cut in range(len(whole))), whole + b"c", whole + b"\0", b"\0b\0", b"\0\0"]:
        with pytest.raises(ServerProtocolViolation):
            messages.parse_parameter_status(body)


@given(trailing=st.binary(min_size=1))
def test_trailing_bytes_behind_fields_are_refused(trailing: bytes) -> None:
    with pytest.raises(ServerProtocolViolation):
        messages.parse_fields(ERROR + trailing)


@given(body=st.binary(max_size=100) | st.lists(st.sampled_from([b"S", b"M", b"\0", b"\xff", b"x"])).map(b"".join))
def test_garbage_from_a_server_is_a_violation_and_nothing_else(body: bytes) -> None:
    for parse in (messages.parse_fields, messages.parse_parameter_status):
        with suppress(ServerProtocolViolation):
            parse(body)


@given(
    fields=st.dictionaries(
        st.sampled_from("SVCMDHPqWsFLR"), st.text(st.characters(exclude_characters="\0", codec="utf-8"))
    )
)
def test_fields_come_back_as_they_were(fields: dict[str, str]) -> None:
    body = b"".join(f"{k}{v}".encode() + b"\0" for k, v in fields.items()) + b"\0"
    assert messages.parse_fields(body) == fields


def test_an_error_there_and_back() -> None:
    told = ServerRefused("no", detail="d", hint="h", sqlstate="53300")
    for kind in (ServerRefused, ServerGone):
        found = messages.exception_from(messages.error_from(told)[5:], kind)
        assert type(found) is kind
        assert (found.message, found.detail, found.hint, found.sqlstate) == ("no", "d", "h", "53300")


def test_an_error_that_says_nothing() -> None:
    found = messages.exception_from(b"\0", ServerRefused)
    assert (found.message, found.detail, found.hint, found.sqlstate) == ("unknown error", None, None, "XX000")
    found = messages.exception_from(b"M\0C\0\0", ServerRefused, "it refused", "08006")
    assert (found.message, found.sqlstate) == ("it refused", "08006")
    with pytest.raises(ServerProtocolViolation):
        messages.exception_from(b"garbage", ServerRefused)


@pytest.mark.parametrize(
    ("severity", "last"), [("ERROR", False), ("FATAL", True), ("PANIC", True), ("WARNING", False), ("fatal", False)]
)
def test_the_last_that_a_server_says(severity: str, last: bool) -> None:
    message = messages.error_response(severity, "57P01", "text with FATAL in it")
    assert messages.is_fatal(message) == last
    assert messages.is_fatal(message[5:]) == last


def test_another_body() -> None:
    assert messages.reframed(b"E\0\0\0\x04", b"xyz") == b"E\0\0\0\x07xyz"
    assert messages.parse_message(b"name", b"select 1\0\0\0") == messages.parse(b"name", b"select 1")
