"""Asking who judges passwords: in turn, in time, and without keeping anybody else waiting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.event
import pytest
from gevent.monkey import get_original
from pace import patience

from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.judges import Judges
from pgdoorman_lib.errors import NoVerdict, PeerGone, Refusal
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.stream import Stream

CLAIM = Claim("alice", "shop", b"told", "192.0.2.1")

_Event = get_original("threading", "Event")


@dataclass
class Settings:
    max_concurrent_auths: int = 2
    auth_timeout: float = 30.0
    auth_pam_confdir: str | None = None
    auth_ldap_ca_cert: str | None = None


@dataclass(eq=False)
class FakeJudge:
    """Says ``verdict`` once ``gate`` is open; ``asked`` has whom it was asked about so far."""

    verdict: Exception | None = None
    line: str = "the judge"
    blocks: bool = False
    passes_on: bool = True
    method: str | None = None
    asked: list[Any] = field(default_factory=list)
    open_at_once: bool = True

    def __post_init__(self) -> None:
        self.gate: Any = _Event() if self.blocks else gevent.event.Event()
        if self.open_at_once:
            self.gate.set()
        self.at_work = 0
        self.most_at_work = 0
        self._lock = threading.Lock()

    def judge(self, claim: Claim, until: float) -> None:
        with self._lock:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            self.asked.append(claim.user)
        try:
            self.gate.wait()
        finally:
            with self._lock:
                self.at_work -= 1
        if self.verdict is not None:
            raise self.verdict


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = choose("gevent")
    yield made
    gevent.sleep(0)
    made.close()


@dataclass
class Client:
    """One who waits for what a judge says: ``outcome`` is None once it is in, or the error."""

    judges: Judges
    judge: FakeJudge
    stream: Stream
    peer: socket.socket
    claim: Claim = CLAIM

    def __post_init__(self) -> None:
        self.greenlet = gevent.spawn(self._run)

    def _run(self) -> BaseException | None:
        try:
            self.judges.ask(self.stream, self.judge, self.claim)
        except (Refusal, PeerGone, ValueError) as exc:
            return exc
        finally:
            self.stream.close()
        return None

    @property
    def outcome(self) -> BaseException | None:
        with gevent.Timeout(patience(10)):
            found: BaseException | None = self.greenlet.get()
        self.peer.close()
        return found


@pytest.fixture
def clients(engine: Engine) -> Iterator[Any]:
    judges = Judges()
    judges.use(Settings())
    made: list[Client] = []

    def make(judge: FakeJudge, user: str = "alice", settings: Settings | None = None) -> Client:
        if settings is not None:
            judges.use(settings)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        claim = Claim(user, "shop", b"told", "")
        made.append(Client(judges, judge, Stream(ours, engine), theirs, claim))
        return made[-1]

    yield make
    for client in made:
        client.judge.gate.set()
        client.greenlet.kill()
        client.stream.close()
        client.peer.close()
    judges.close()


def until(condition: Any) -> None:
    with gevent.Timeout(patience(10)):
        while not condition():
            gevent.sleep(0.01)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("line", ["", "the judge"])
def test_what_the_judge_says_holds(clients: Any, blocks: bool, line: str) -> None:
    assert clients(FakeJudge(blocks=blocks, line=line)).outcome is None
    refusal = Refusal("wrong")
    assert clients(FakeJudge(refusal, blocks=blocks, line=line)).outcome is refusal
    bug = ValueError("a bug")
    assert clients(FakeJudge(bug, blocks=blocks, line=line)).outcome is bug


@pytest.mark.parametrize("blocks", [False, True])
def test_so_many_at_once_and_the_others_in_turn(clients: Any, blocks: bool) -> None:
    judge = FakeJudge(blocks=blocks, open_at_once=False)
    waiting = [clients(judge, f"user {number}") for number in range(5)]
    until(lambda: len(judge.asked) == 2)
    gevent.sleep(0.05)
    assert judge.asked == ["user 0", "user 1"]
    judge.gate.set()
    assert [client.outcome for client in waiting] == [None] * 5
    assert sorted(judge.asked) == [f"user {number}" for number in range(5)]
    assert judge.most_at_work == 2


@pytest.mark.parametrize("blocks", [False, True])
def test_nobody_waits_for_another_judge(clients: Any, blocks: bool) -> None:
    slow = FakeJudge(blocks=blocks, open_at_once=False, line="slow")
    waiting = [clients(slow) for _ in range(4)]
    until(lambda: len(slow.asked) == 2)
    assert clients(FakeJudge(blocks=blocks, line="quick")).outcome is None
    assert not any(client.greenlet.ready() for client in waiting)


@pytest.mark.parametrize("blocks", [False, True])
def test_who_goes_away_leaves_nothing_behind(clients: Any, blocks: bool) -> None:
    judge = FakeJudge(blocks=blocks, open_at_once=False)
    asked = [clients(judge, "asked") for _ in range(2)]
    until(lambda: len(judge.asked) == 2)
    gone, stays = clients(judge, "gone"), clients(judge, "stays")
    gevent.sleep(0)
    gone.peer.close()
    assert isinstance(gone.outcome, PeerGone)
    asked[0].peer.close()
    assert isinstance(asked[0].outcome, PeerGone)
    judge.gate.set()
    assert stays.outcome is None and asked[1].outcome is None
    assert judge.asked == ["asked", "asked", "stays"]


def test_one_who_is_heard_beside_threads_gives_his_place_up_when_he_goes(clients: Any) -> None:
    judge = FakeJudge(open_at_once=False)
    asked = [clients(judge, "asked") for _ in range(2)]
    until(lambda: len(judge.asked) == 2)
    stays = clients(judge, "stays")
    asked[0].peer.close()
    until(lambda: judge.asked[2:] == ["stays"])
    assert not stays.greenlet.ready()


def test_a_thread_keeps_its_place_until_it_ends(clients: Any) -> None:
    judge = FakeJudge(blocks=True, open_at_once=False)
    asked = [clients(judge, "asked") for _ in range(2)]
    until(lambda: len(judge.asked) == 2)
    for client in asked:
        client.peer.close()
    assert all(isinstance(client.outcome, PeerGone) for client in asked)
    late = clients(judge, "late", Settings(auth_timeout=0.2))
    assert "has others to answer who came before within auth_timeout (0.2 s)" in str(late.outcome)
    judge.gate.set()
    until(lambda: judge.at_work == 0)
    assert clients(judge, "next").outcome is None
    assert judge.most_at_work == 2


@pytest.mark.parametrize("blocks", [False, True])
def test_time_is_limited(clients: Any, blocks: bool, caplog: pytest.LogCaptureFixture) -> None:
    judge = FakeJudge(blocks=blocks, open_at_once=False)
    outcome = clients(judge, settings=Settings(auth_timeout=0.1)).outcome
    assert isinstance(outcome, NoVerdict)
    assert str(outcome) == "the judge has not answered within auth_timeout (0.1 s)"
    assert "the judge has not answered within auth_timeout (0.1 s): nobody gets in by that" in caplog.text


def test_what_a_client_says_meanwhile_is_kept(clients: Any) -> None:
    judge = FakeJudge(open_at_once=False)
    client = clients(judge)
    client.peer.sendall(b"x" * 100_000)
    until(lambda: judge.asked)
    gevent.sleep(0.05)
    judge.gate.set()
    assert client.outcome is None


def test_another_number_of_places_holds_from_the_next_on(clients: Any) -> None:
    judge = FakeJudge(open_at_once=False)
    clients(judge), clients(judge), clients(judge)
    until(lambda: len(judge.asked) == 2)
    clients(judge, settings=Settings(max_concurrent_auths=1))
    until(lambda: len(judge.asked) == 3)
