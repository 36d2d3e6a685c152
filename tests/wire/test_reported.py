"""What was reported: one object for equal reports, and the messages that tell the difference."""

from __future__ import annotations

import gc

from pgdoorman_lib.wire.messages import parameter_status
from pgdoorman_lib.wire.reported import NOTHING_REPORTED, Reported


def test_equal_ones_are_one_object() -> None:
    one = Reported.of({"a": "1", "b": "2"})
    assert Reported.of({"a": "1", "b": "2"}) is one
    assert one.changed("a", "1") is one
    other = one.changed("a", "3")
    assert other.values == {"a": "3", "b": "2"} and other is not one
    assert other.changed("a", "1") is one


def test_nobody_keeps_them_alive() -> None:
    Reported.of({"only": "here"})
    gc.collect()
    assert (("only", "here"),) not in Reported._known


def test_messages() -> None:
    one = Reported.of({"a": "1", "b": "2"})
    assert one.messages() == parameter_status("a", "1") + parameter_status("b", "2")
    assert one.changed("b", "3").changed("c", "4").news_for(one) == parameter_status("b", "3") + parameter_status(
        "c", "4"
    )
    assert one.news_for(one) == b"" and NOTHING_REPORTED.news_for(one) == b""


def test_bytes_of_any_encoding() -> None:
    value = b"\xe9".decode(errors="surrogateescape")
    assert Reported.of({"search_path": value}).messages() == parameter_status("search_path", b"\xe9")
