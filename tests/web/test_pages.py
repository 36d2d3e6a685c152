"""Tables as JSON: what can't be had is an answer, too."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from decimal import Decimal
from email.message import Message
from typing import Any

from admin.fakes import FakePooler

from pgdoorman_lib.errors import UnsupportedFeature
from pgdoorman_lib.metrics.prometheus import Page
from pgdoorman_lib.web.pages import ROWS_IN_A_PIECE, Pages
from pgdoorman_lib.web.server import Request


@dataclass
class FakeColumn:
    name: str


@dataclass
class FakeTable:
    """Its rows, or why there are none."""

    found: Any
    columns: list[FakeColumn] = field(default_factory=lambda: [FakeColumn("a"), FakeColumn("b")])
    parts: tuple[str, ...] = ()

    def described(self, pooler: object) -> list[FakeColumn]:
        return self.columns

    def rows(self, pooler: object) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def ask(table: FakeTable) -> tuple[int, Any]:
    pages = Pages(FakePooler(), {"THINGS": table}, Page, "text/plain")
    headers = Message()
    headers["Authorization"] = "Basic " + base64.b64encode(b"admin:top secret").decode()
    response = pages.answer(Request("GET", "/api/things", headers, "192.0.2.7:4711"))
    return response.status, json.loads(b"".join(response.body))


def test_missing_workers_are_named() -> None:
    pooler = FakePooler()
    pages = Pages(pooler, {"THINGS": FakeTable([])}, Page, "text/plain")
    headers = Message()
    headers["Authorization"] = "Basic " + base64.b64encode(b"admin:top secret").decode()
    request = Request("GET", "/api/things", headers, "192.0.2.7:4711")
    assert pages.answer(request).headers == ()
    pooler.missing = {3: "it says nothing", 2: "it has ended"}
    assert pages.answer(request).headers == (("X-Missing-Workers", "2, 3"),)


def test_what_this_system_does_not_have() -> None:
    assert ask(FakeTable(UnsupportedFeature("no /proc"))) == (501, {"error": "no /proc", "sqlstate": "0A000"})


def test_values_of_every_type_and_many_rows() -> None:
    assert ask(FakeTable([])) == (200, [])
    assert ask(FakeTable([(None, Decimal("1.5")), ('"\n', 2)])) == (
        200,
        [{"a": None, "b": "1.5"}, {"a": '"\n', "b": 2}],
    )
    many = [(n, "x") for n in range(2 * ROWS_IN_A_PIECE + 1)]
    assert ask(FakeTable(many)) == (200, [{"a": a, "b": b} for a, b in many])
