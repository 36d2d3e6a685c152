"""What is found under which path: metrics, health, and the console's tables as JSON.

/metrics, /health and /ready are for whoever gets to the port; the tables tell who is connected from where, and want
the console's user and password.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import islice

import gevent
import gevent.lock

from pgdoorman_lib.auth.verify import knows_password
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.log import Limited
from pgdoorman_lib.views import MetricsPage, RunningPooler, Table
from pgdoorman_lib.web.server import Request, Response, text

#: Anybody can be refused, as often as he likes.
refused = Limited(logging.getLogger(__name__))

#: Rows encoded in one piece.
ROWS_IN_A_PIECE = 50
#: Seconds before somebody who has given a wrong password is told so.
FAILED_LOGIN_PAUSE = 0.5

#: The header with the numbers of workers that are not in a table, since they did not answer.
MISSING_WORKERS = "X-Missing-Workers"

_JSON = "application/json"
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="pgdoorman", charset="UTF-8"')
_PATHS = "/metrics /health /ready /api"


class Pages:
    """Answers requests about ``pooler``.

    ``metrics`` writes the page for Prometheus, of the type ``metrics_type``; ``tables`` are the console's, by the names
    that SHOW has for them.
    """

    def __init__(
        self,
        pooler: RunningPooler,
        tables: Mapping[str, Table],
        metrics: Callable[[], MetricsPage],
        metrics_type: str,
    ) -> None:
        self._pooler = pooler
        self._tables = {name.lower(): table for name, table in tables.items()}
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._checking = gevent.lock.RLock()
        self._pages: dict[str, Callable[[Request], Response]] = {
            "/": lambda request: text(HTTPStatus.OK, f"pgdoorman: {_PATHS}"),
            "/metrics": self._metrics_page,
            "/health": lambda request: text(HTTPStatus.OK, "ok"),
            "/ready": self._ready,
            "/api": self._api,
            "/api/": self._api,
        }

    def answer(self, request: Request) -> Response:
        """The answer to ``request``; may switch."""
        page = self._pages.get(request.path)
        if page is not None:
            return page(request)
        if request.path.startswith("/api/"):
            return self._table(request)
        return text(HTTPStatus.NOT_FOUND, f"no such page; there are {_PATHS}")

    def _metrics_page(self, request: Request) -> Response:
        if request.method == "HEAD":  # what is not sent need not be written
            return Response(HTTPStatus.OK, self._metrics_type, (), compressible=True)
        page = self._metrics()
        return Response(HTTPStatus.OK, self._metrics_type, _pieces(page), len(page), compressible=True)

    def _ready(self, request: Request) -> Response:
        if self._pooler.draining:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down")
        return text(HTTPStatus.OK, "ready")

    # JSON.

    def _api(self, request: Request) -> Response:
        return self._refusal(request) or _json(HTTPStatus.OK, [f"/api/{name}" for name in self._tables])

    def _table(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        table = self._tables.get(request.path.removeprefix("/api/"))
        if table is None:
            return _json(HTTPStatus.NOT_FOUND, {"error": "no such table; /api lists them"})
        try:
            pooler = self._pooler.everyone(table.parts)
            rows = table.rows(pooler)
        except DoormanError as exc:
            return _json(HTTPStatus.NOT_IMPLEMENTED, {"error": exc.message, "sqlstate": exc.sqlstate})
        names = [column.name for column in table.described(pooler)]
        missing = ", ".join(map(str, sorted(pooler.missing)))
        headers = ((MISSING_WORKERS, missing),) if missing else ()
        return Response(HTTPStatus.OK, _JSON, _rows(names, rows), headers=headers, compressible=True)

    def _refusal(self, request: Request) -> Response | None:
        """What somebody is told who is not the console's user; may switch."""
        general = self._pooler.config.general
        if not general.admin_password:
            return text(HTTPStatus.FORBIDDEN, "set general.admin_password to read the tables")
        given = request.headers.get("Authorization")
        if given is not None:
            user, password = _credentials(given)
            if user == general.admin_username and self._knows(user, general.admin_password, password):
                return None
            refused.warning("[%s] wrong user or password for %s by HTTP", request.peer, request.path)
        asked = text(HTTPStatus.UNAUTHORIZED, "the console's user and password are asked for", _CHALLENGE)
        return asked if given is None else dataclasses.replace(asked, pause=FAILED_LOGIN_PAUSE)

    def _knows(self, user: str, secret: str, password: str) -> bool:
        """As ``knows_password``, in a thread and one at a time: anybody may ask, and SCRAM takes long; may switch."""
        with self._checking:
            return bool(gevent.get_hub().threadpool.apply(knows_password, (user, secret, password)))


def _credentials(header: str) -> tuple[str, str]:
    """User and password out of an Authorization header; both empty if that is none by a password."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, password


def _pieces(page: MetricsPage) -> Iterator[bytes]:
    """The page's pieces; it lives, and is shared, until the last is taken."""
    yield from page.pieces


def _json(status: HTTPStatus, value: object) -> Response:
    body = json.dumps(value).encode() + b"\n"
    return Response(status, _JSON, (body,), len(body))


def _rows(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[bytes]:
    """A list of objects, one for each row."""
    separator = "[\n"
    rest = iter(rows)
    while batch := list(islice(rest, ROWS_IN_A_PIECE)):
        encoded = (json.dumps(dict(zip(names, row, strict=True)), default=str) for row in batch)
        yield (separator + ",\n".join(encoded)).encode()
        separator = ",\n"
    yield b"[]\n" if separator == "[\n" else b"\n]\n"
