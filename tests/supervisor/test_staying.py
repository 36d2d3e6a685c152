"""How many servers of a pool are kept in an upgrade for those who stay, over all old processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pgdoorman_lib.supervisor.staying import Staying


@pytest.mark.parametrize("size", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_half_of_them_over_all_workers(size: int, workers: int) -> None:
    pool: Any = SimpleNamespace(settings=SimpleNamespace(pool_size=size))
    kept = [Staying(worker, workers).most_kept(pool) for worker in range(1, workers + 1)]
    assert sum(kept) == size // 2
    assert max(kept) - min(kept) <= 1
