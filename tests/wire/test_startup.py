"""The first packet: whole, cut at every byte, with bytes too many, and garbage; and the options in it."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.errors import DoormanError, ProtocolViolation, UnsupportedFeature
from pgdoorman_lib.wire.consts import PROTOCOL_3_0, PROTOCOL_3_2
from pgdoorman_lib.wire.startup import (
    LOGICAL,
    PHYSICAL,
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    parse_options,
    parse_replication,
    parse_startup,
)

PAIRS = b"user\0app\0database\0testdb\0options\0\0_pq_.b\0on\0_pq_.a\0\0"
WHOLE = struct.pack("!I", PROTOCOL_3_0) + PAIRS + b"\0"


def test_a_startup_message() -> None:
    found = parse_startup(WHOLE)
    expected = {"user": "app", "database": "testdb", "options": ""}
    assert found == StartupMessage(PROTOCOL_3_0, expected, ["_pq_.b", "_pq_.a"])


def test_any_minor_version_is_taken_as_asked() -> None:
    for minor in (0, 1, 2, 3, 9999, 65535):
        found = parse_startup(struct.pack("!HH", 3, minor) + b"user\0x\0\0")
        assert isinstance(found, StartupMessage)
        assert (found.protocol, found.minor) == (PROTOCOL_3_0 + minor, minor)


def test_nothing_named_and_the_last_of_two_counts() -> None:
    assert parse_startup(struct.pack("!I", PROTOCOL_3_2) + b"\0") == StartupMessage(PROTOCOL_3_2, {}, [])
    found = parse_startup(struct.pack("!I", PROTOCOL_3_0) + b"user\0a\0user\0b\0\0")
    assert isinstance(found, StartupMessage)
    assert found.parameters == {"user": "b"}


def test_cut_at_any_byte_it_is_refused() -> None:
    for cut in range(len(WHOLE)):
        with pytest.raises(ProtocolViolation) as caught:
            parse_startup(WHOLE[:cut])
        assert caught.value.sqlstate == "08P01"


@given(trailing=st.binary(min_size=1))
def test_trailing_bytes_are_refused(trailing: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse_startup(WHOLE + trailing)


@pytest.mark.parametrize("major", [0, 1, 2, 4, 255, 1234, 65535])
def test_another_major_version_is_refused(major: int) -> None:
    for minor in (0, 1, 5681):
        with pytest.raises(UnsupportedFeature, match=f"unsupported frontend protocol {major}.{minor}") as caught:
            parse_startup(struct.pack("!HH", major, minor) + b"user\0x\0\0")
        assert caught.value.sqlstate == "0A000"


def test_requests_for_encryption() -> None:
    assert parse_startup(struct.pack("!I", 80877103)) == SSLRequest()
    assert parse_startup(struct.pack("!I", 80877104)) == GSSENCRequest()
    for code in (80877103, 80877104):
        with pytest.raises(ProtocolViolation):
            parse_startup(struct.pack("!I", code) + b"\0")


@pytest.mark.parametrize("size", [1, 4, 32, 256])
def test_a_cancel_request_with_a_short_or_a_long_key(size: int) -> None:
    found = parse_startup(struct.pack("!Ii", 80877102, -7) + b"k" * size)
    assert found == CancelRequest(-7, b"k" * size)
    assert "kkk" not in repr(found)


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\0\0\x01", b"\0\0\0\x01" + b"k" * 257])
def test_a_malformed_cancel_request(rest: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse_startup(struct.pack("!I", 80877102) + rest)


@pytest.mark.parametrize("text", ["true", "t", "TRU", "yes", "Y", "on", "ON", "1"])
def test_physical_replication(text: str) -> None:
    assert parse_replication(text) == PHYSICAL


def test_logical_replication() -> None:
    assert parse_replication("database") == LOGICAL


@pytest.mark.parametrize("text", ["false", "F", "no", "n", "off", "of", "OFF", "0", ""])
def test_no_replication(text: str) -> None:
    assert parse_replication(text) == ""


@pytest.mark.parametrize("text", ["o", "maybe", "2", "10", "truest", "DATABASE", "data", " true", "\u0130"])
def test_replication_that_is_no_boolean(text: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        parse_replication(text)
    assert caught.value.sqlstate == "22023"


def test_bytes_that_are_no_utf_8_do_no_harm() -> None:
    found = parse_startup(struct.pack("!I", PROTOCOL_3_0) + b"user\0a\xff\xfeb\0\0")
    assert isinstance(found, StartupMessage)
    assert found.parameters["user"].encode().decode() == "a��b"


@given(
    packet=st.binary(max_size=200)
    | st.builds(
        lambda code, parts: struct.pack("!I", code) + b"\0".join(parts),
        st.sampled_from([PROTOCOL_3_0, PROTOCOL_3_2, 80877102, 80877103, 80877104]),
        st.lists(st.sampled_from([b"user", b"database", b"", b"_pq_.x", b"\xff", b"x"])),
    )
)
def test_garbage_is_refused_and_nothing_else(packet: bytes) -> None:
    try:
        parse_startup(packet)
    except DoormanError as exc:
        assert exc.sqlstate in ("08P01", "0A000")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        (" \t\n", {}),
        ("-c geqo=off", {"geqo": "off"}),
        ("-cgeqo=off", {"geqo": "off"}),
        ("--geqo=off", {"geqo": "off"}),
        ("--search-path=a", {"search_path": "a"}),
        ("-c default-text-search-config=x-y", {"default_text_search_config": "x-y"}),
        (r"-c search_path=a,\ b", {"search_path": "a, b"}),
        (r"-c x=\\", {"x": "\\"}),
        ("-c x=\\", {"x": ""}),
        ("-c x=", {"x": ""}),
        ("-c x=a=b", {"x": "a=b"}),
        ("-c a=1 --b=2\t-cc=3 -c a=4", {"a": "4", "b": "2", "c": "3"}),
        ("-c custom.name=v", {"custom.name": "v"}),
    ],
)
def test_options(text: str, settings: dict[str, str]) -> None:
    assert parse_options(text) == settings


@pytest.mark.parametrize(
    "text",
    ["-c", "-c x", "-cx", "--x", "--", "-", "x", "x=1", "-e", "-d 5", "-c =1", "--=1", "-c -c x=1", "-B 10", "\\"],
)
def test_options_that_are_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        parse_options(text)
    assert caught.value.sqlstate == "42601"


@given(text=st.text(st.sampled_from("-c=ab \\\t.é")) | st.text())
def test_any_options_are_settings_or_refused(text: str) -> None:
    with suppress(ProtocolViolation):
        parse_options(text)


@given(settings=st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.text(max_size=20), max_size=5))
def test_what_is_escaped_as_libpq_s_documentation_says_comes_back(settings: dict[str, str]) -> None:
    def escaped(value: str) -> str:
        return "".join("\\" + c if c in "\\ \t\n\v\f\r" else c for c in value)

    assert parse_options(" ".join(f"-c {k}={escaped(v)}" for k, v in settings.items())) == settings
