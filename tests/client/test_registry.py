"""Numbers of clients: nobody's twice, whatever process has whom, and a word on whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from pgdoorman_lib.client import registry
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.errors import TooManyClients
from pgdoorman_lib.wire.cancel_keys import MAX_PEER_ID, PEER_SPACE, WHOLE_SPACE
from pgdoorman_lib.wire.consts import PROCESS_BASE, PROTOCOL_3_0, PROTOCOL_3_2


class Session:
    database = "shop"
    user = "alice"

    def __init__(self, number: int, secret: bytes = b"abcd") -> None:
        self.id = number
        self.secret = secret


def join(clients: Clients, count: int = 1) -> list[int]:
    """Have so many clients come; their numbers."""
    numbers = []
    for _ in range(count):
        number, secret = clients.new_key(PROTOCOL_3_0)
        session: Any = Session(number, secret)
        clients.add(session)
        numbers.append(number)
    return numbers


def leave(clients: Clients, number: int) -> None:
    session: Any = clients.by_key(PROCESS_BASE + number, clients._sessions[number].secret)
    clients.remove(session)


def small(monkeypatch: pytest.MonkeyPatch, space: int) -> None:
    """Have few numbers, as many clients come to have over time."""
    monkeypatch.setattr(registry, "space_of", lambda peer: space)


def test_one_process_counts_from_one() -> None:
    clients = Clients()
    assert join(clients, 3) == [1, 2, 3]
    assert clients.last == 3
    assert clients.owner_of(PROCESS_BASE + 2) == (0, 0)


@pytest.mark.parametrize(("protocol", "size"), [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)])
def test_secrets_are_whole_with_peers_and_workers(protocol: int, size: int) -> None:
    """Each bit of a secret is 1 about as often as 0: none was taken for anything else."""
    clients = Clients(3, 4)
    clients.use_peer(1234)
    ones = [0] * (8 * size)
    secrets = [clients.new_key(protocol)[1] for _ in range(400)]
    for secret in secrets:
        assert len(secret) == size
        value = int.from_bytes(secret, "big")
        for bit in range(8 * size):
            ones[bit] += value >> bit & 1
    # Further off than this happens once in 10^14.
    assert all(120 < count < 280 for count in ones)


def test_numbers_of_workers_never_meet() -> None:
    workers = [Clients(number, 5) for number in range(1, 6)]
    seen: set[int] = set()
    for clients in workers:
        clients.use_peer(7)
    for clients in workers:
        for number in join(clients, 200):
            assert 7 * PEER_SPACE <= number < 8 * PEER_SPACE
            assert number not in seen
            seen.add(number)
            assert all(other.owner_of(PROCESS_BASE + number) == (7, clients.worker) for other in workers)


def test_owners_that_were_invented() -> None:
    clients = Clients(1, 64)
    clients.use_peer(5)
    for process in (-(1 << 31), -1, 0, 1, PROCESS_BASE, PROCESS_BASE + 1, 0x7FFFFFFF):
        peer, worker = clients.owner_of(process)
        assert 0 <= peer <= 2043
        assert 0 <= worker <= 64


@pytest.mark.parametrize("peer", [1, MAX_PEER_ID])
def test_the_last_numbers(peer: int) -> None:
    clients = Clients()
    clients.use_peer(peer)
    clients.go_on_behind(PEER_SPACE - 3, 0)
    first = peer * PEER_SPACE
    assert join(clients, 4) == [first + PEER_SPACE - 2, first + PEER_SPACE - 1, first + 1, first + 2]
    assert PROCESS_BASE + first + PEER_SPACE - 1 <= 0x7FFFFFFF


def test_the_last_number_without_peers() -> None:
    clients = Clients()
    clients.go_on_behind(WHOLE_SPACE - 2, 0)
    assert join(clients, 2) == [0x7FFFFFFF - PROCESS_BASE, 1]


@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (1, 3), (2, 3), (3, 3)])
def test_no_number_in_use_is_given_again(monkeypatch: pytest.MonkeyPatch, worker: int, workers: int) -> None:
    small(monkeypatch, 30)
    clients = Clients(worker, workers)
    kept = join(clients, 3)
    elsewhere = join(clients, 2)
    for number in elsewhere:  # they go to another process
        clients.reserve([number])
        leave(clients, number)
    for _ in range(100):
        (number,) = join(clients)
        assert number not in kept
        assert number not in elsewhere
        leave(clients, number)
    assert sorted(clients.numbers()) == sorted(kept + elsewhere)
    clients.release(elsewhere)
    given = {join(clients)[0] for _ in range(30 // workers - 1 - len(kept))}
    assert set(elsewhere) <= given


@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (2, 4)])
def test_all_numbers_are_in_use(monkeypatch: pytest.MonkeyPatch, worker: int, workers: int) -> None:
    small(monkeypatch, 40)
    clients = Clients(worker, workers)
    numbers = join(clients, 40 // workers - 1)
    with pytest.raises(TooManyClients):
        clients.new_key(PROTOCOL_3_0)
    leave(clients, numbers[4])
    assert join(clients) == [numbers[4]]


@pytest.mark.parametrize("peer", [0, 3])
@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (1, 4), (3, 4), (64, 64)])
def test_a_new_process_goes_on(peer: int, worker: int, workers: int) -> None:
    """Those who come over keep their numbers; the old process may give some more out until its clients are gone."""
    old = Clients()
    old.use_peer(peer)
    moved = join(old, 500)
    new = Clients(worker, workers)
    new.use_peer(peer)
    new.go_on_behind(old.last, 1000)
    new.reserve(old.numbers())
    late = join(old, 1000)
    own = join(new, 100)
    assert not set(own) & {*moved, *late}
    assert all(new.owner_of(PROCESS_BASE + number)[1] == worker for number in own)
    for number in moved:
        session: Any = Session(number)
        new.add(session)
    assert sorted(new.numbers()) == sorted([*moved, *own])
    assert new.by_key(PROCESS_BASE + moved[0], b"abcd") is not None


def test_a_round_of_numbers_and_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of long ago has a number far behind the last one given: the new process comes to it, and passes it."""
    small(monkeypatch, 100)
    old = Clients()
    (oldest,) = join(old)
    for _ in range(60):
        leave(old, join(old)[0])
    new = Clients()
    new.go_on_behind(old.last, 100_000)
    new.reserve(old.numbers())
    assert oldest not in join(new, 90)


def test_another_id_from_now_on() -> None:
    clients = Clients()
    before = join(clients, 2)
    clients.use_peer(4)
    after = join(clients, 2)
    clients.use_peer(0)
    assert [clients.owner_of(PROCESS_BASE + number)[0] for number in before + after] == [0] * 4
    clients.use_peer(4)
    assert [clients.owner_of(PROCESS_BASE + number)[0] for number in after] == [4, 4]
    for number in before + after:
        assert number in clients
