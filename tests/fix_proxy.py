"""Proxies that spoil traffic, closed when their test has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fault_proxy import Proxy
from pace import patience

MakeProxy = Callable[[tuple[str, int]], Proxy]


@pytest.fixture
def make_proxy() -> Iterator[MakeProxy]:
    """``make_proxy((host, port))`` gives a Proxy to there."""
    proxies: list[Proxy] = []

    def make(target: tuple[str, int]) -> Proxy:
        proxies.append(Proxy(target, patience(10)))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
