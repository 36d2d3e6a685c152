"""A cancel request that is passed on reaches whoever has the client, wherever it is by then."""

from __future__ import annotations

from typing import Any

import gevent
import gevent.event
import pytest

from pgdoorman_lib.net.parcel import ChannelClosed, Parcel, Refused
from pgdoorman_lib.supervisor import cancels, kinds
from pgdoorman_lib.supervisor.cancels import Asked, wanted

KEY = (100_017, b"abcd")


class Other:
    """The channel to another process, which answers in turn as it is told; None: it takes the request, and does it.

    ``busy``: not before this is set.
    """

    def __init__(self, *answers: Exception | None, busy: gevent.event.Event | None = None) -> None:
        self.answers = list(answers)
        self.busy = busy
        self.asked = 0
        self.told: list[int] = []
        self.ended = gevent.event.Event()
        self.side = Asked()

    def send(self, parcel: Parcel, timeout: float) -> None:
        if parcel.kind == kinds.DONE:
            self.told.append(parcel.state["ask"])
            return
        self.asked += 1
        assert (parcel.kind, parcel.state) == (
            kinds.CANCEL, {"number": KEY[0], "secret": KEY[1], "ask": self.asked}
        )  # fmt: skip
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        gevent.spawn(self._do, self.asked)

    def _do(self, ask: int) -> None:
        if self.busy is not None:
            self.busy.wait()
        self.side.is_done(Parcel(kinds.DONE, {"ask": ask}))


class Here:
    """This process, where the client has arrived at the ``nth`` look; 0: never."""

    def __init__(self, nth: int = 0) -> None:
        self.nth = nth
        self.looks = 0

    def cancel(self, number: int, secret: bytes) -> bool:
        assert (number, secret) == KEY
        self.looks += 1
        return self.looks == self.nth


def passed(other: Other, here: Here) -> tuple[int, int]:
    channel: Any = other
    other.side.pass_on([channel], here.cancel, *KEY)
    return other.asked, here.looks


def test_who_has_it_takes_it() -> None:
    assert passed(Other(None), Here()) == (1, 0)


def test_it_is_waited_for_until_it_is_done() -> None:
    """A client that is told too early may have a statement by then that was not meant."""
    busy = gevent.event.Event()
    other = Other(None, busy=busy)
    asking = gevent.spawn(passed, other, Here())
    asking.join(0.05)
    assert other.asked == 1 and not asking.ready()
    busy.set()
    assert asking.get() == (1, 0)


def test_a_process_that_ends_is_not_waited_for() -> None:
    busy = gevent.event.Event()
    other = Other(None, busy=busy)
    gevent.spawn_later(0.01, other.ended.set)
    assert passed(other, Here()) == (1, 0)
    busy.set()


def test_what_is_done_is_told() -> None:
    other = Other(None)
    done: list[tuple[int, bytes]] = []
    parcel = Parcel(kinds.CANCEL, {"number": KEY[0], "secret": KEY[1], "ask": 9})
    parcel.prepared = KEY

    def cancel(number: int, secret: bytes) -> None:
        assert not other.told
        done.append((number, secret))

    channel: Any = other
    other.side.carry_out(channel, parcel, cancel)
    assert (done, other.told) == ([KEY], [9])


def test_on_its_way_hither() -> None:
    assert passed(Other(Refused("no")), Here(3)) == (3, 3)


def test_on_its_way_back() -> None:
    assert passed(Other(Refused("no"), Refused("no"), None), Here()) == (3, 2)


def test_the_other_has_ended_with_its_last_client() -> None:
    assert passed(Other(ChannelClosed("gone")), Here(1)) == (1, 1)
    assert passed(Other(ChannelClosed("gone")), Here()) == (1, 1)


def test_nobodys_key_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancels, "ON_ITS_WAY", 0.1)
    asked, looks = passed(Other(Refused("no")), Here())
    assert asked == looks > 1


class Clients:
    def __init__(self, session: Any) -> None:
        self.session = session

    def by_key(self, number: int, secret: bytes) -> Any:
        return self.session if (number, secret) == KEY else None


class Session:
    def __init__(self, leaving: int) -> None:
        self.leaving = leaving


@pytest.mark.parametrize("session", [None, Session(1)])
def test_what_is_not_here_is_refused(session: Session | None) -> None:
    """Who leaves may be the other's before the request is carried out."""
    clients: Any = Clients(session)
    with pytest.raises(Refused):
        wanted(Parcel(kinds.CANCEL, {"number": KEY[0], "secret": KEY[1]}), clients)


def test_what_is_here_is_taken() -> None:
    clients: Any = Clients(Session(0))
    assert wanted(Parcel(kinds.CANCEL, {"number": KEY[0], "secret": KEY[1]}), clients) == KEY
