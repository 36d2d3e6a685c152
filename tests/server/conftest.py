"""A scripted PostgreSQL, and both engines."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from gevent import socket as gsocket
from scripted_postgres import FakePostgres

from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose


@pytest.fixture
def fake() -> Iterator[FakePostgres]:
    listener = gsocket.socket(gsocket.AF_INET, gsocket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(8)
    server = FakePostgres(listener)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(params=["gevent", "epoll"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    try:
        made = choose(request.param)
    except OSError:
        pytest.skip(f"no {request.param} here")
    yield made
    gevent.sleep(0)  # a turn that was asked for has its chance
    made.close()
