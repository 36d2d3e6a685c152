"""A cancel request that is passed on reaches whoever has the client, wherever it is by then."""

from __future__ import annotations

from typing import Any

import pytest

from pgdoorman_lib.net.parcel import ChannelClosed, Parcel, Refused
from pgdoorman_lib.supervisor import cancels, kinds
from pgdoorman_lib.supervisor.cancels import pass_on, wanted

KEY = (100_017, b"abcd")


class Other:
    """The channel to another process, which answers in turn as it is told; None: it takes the request."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    def send(self, parcel: Parcel, timeout: float) -> None:
        assert (parcel.kind, parcel.state) == (kinds.CANCEL, {"number": KEY[0], "secret": KEY[1]})
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer


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
    pass_on([channel], here.cancel, *KEY)
    return other.asked, here.looks


def test_who_has_it_takes_it() -> None:
    assert passed(Other(None), Here()) == (1, 0)


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
