"""The simulation of several workers keeps to what holds for any pooler, and shows what the exchange is for."""

from __future__ import annotations

from dataclasses import replace

import bench_package
import pytest

bench_package.make_importable()

from bench.simulation import Costs, Setup, evenly, main, simulate  # noqa: E402

FEW = 1500
ELSEWHERE = 1000
SETUPS = [
    Setup(evenly(clients, workers), servers, cores, others, transactions=FEW)
    for workers in (1, 2, 5)
    for clients, servers, cores, others in (
        (1, 1, 2, None),
        (40, 4, 2, None),
        (120, 40, 2, None),
        (90, 7, 16, ELSEWHERE),
    )
]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: f"{setup.spread}-{setup.servers}-{setup.cores}")
def test_nothing_is_faster_than_what_does_it(setup: Setup) -> None:
    outcome = simulate(setup)
    costs, workers = setup.costs, len(setup.spread)
    per_core = costs.relay if setup.other_cores else costs.relay + costs.service + costs.generator
    alone = costs.relay + costs.service + costs.generator + 2 * costs.network
    limits = (setup.cores / per_core, workers / costs.relay, setup.servers / costs.service, sum(setup.spread) / alone)
    # Times vary about their means.
    assert outcome.tps <= 1.05 * min(limits) * 1e6
    assert outcome.most_busy_servers <= setup.servers
    assert outcome.mean <= outcome.p99 <= outcome.worst
    assert outcome.busiest <= 1.0
    assert 0.95 * costs.relay <= outcome.cpu


def test_one_worker_moves_nothing() -> None:
    assert simulate(Setup((40,), 4, transactions=FEW)).moves == 0


def test_who_need_not_wait_does_not() -> None:
    assert simulate(Setup((8,), 8, transactions=FEW)).worst == 0


def test_the_same_comes_to_the_same() -> None:
    setup = Setup((30, 3), 4, transactions=FEW)
    assert simulate(setup) == simulate(setup) != simulate(replace(setup, seed=2))


@pytest.mark.parametrize("servers", [2, 3])
def test_nobody_starves(servers: int) -> None:
    """40 clients at one worker and one at the other: no wait of more than three times the mean."""
    setup = Setup((40, 1), servers, transactions=8_000)
    fair = simulate(setup)
    assert fair.worst <= 3 * fair.mean
    assert fair.moves > 0
    own = simulate(replace(setup, policy="own"))
    assert own.worst > 3 * own.mean


def test_servers_at_rest_are_not_kept_from_others() -> None:
    """All clients at one worker: it gets the other's servers, where workers apart would leave them at rest."""
    setup = Setup((40, 0), 8, 16, ELSEWHERE, costs=Costs(relay=1), transactions=FEW)
    together, apart = simulate(setup), simulate(replace(setup, policy="apart"))
    assert together.tps > 1.8 * apart.tps
    assert (together.most_busy_servers, apart.most_busy_servers) == (8, 4)


def test_two_workers_do_twice_the_work_where_there_are_cores() -> None:
    one, two = (simulate(Setup(evenly(400, n), 80, 16, ELSEWHERE, transactions=8_000)) for n in (1, 2))
    assert 1.9 < two.tps / one.tps < 2.1
    assert two.cpu < 1.05 * one.cpu


def test_pools_that_can_not_be_parted() -> None:
    with pytest.raises(ValueError, match="2 servers can't be parted among 3 workers"):
        simulate(Setup((1, 1, 1), 2, policy="apart"))


def test_the_command_line_has_every_cost(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--spread", "5", "1", "--servers", "1", "--transactions", "500", "--move-in", "10", "--relay", "12"]
    assert main(arguments) == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| workers | tps") and row.startswith("| 2 ")
