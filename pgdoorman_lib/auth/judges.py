"""Asking those who judge passwords and keep one waiting: how many at once, how long, and nobody else waits.

Rules:
1. Each line (a PAM service, a set of LDAP servers) has so many asked at once; who comes then waits behind them, within
   the same time. A line that stands holds up no other, nor any client that is in none.
2. Nobody gets in when time is over, or when who is asked fails.
3. A client that goes away leaves at once. What has begun in a thread can't be ended: until it does by itself it keeps
   its place, so that there are never more threads than places.
"""

from __future__ import annotations

import logging
from typing import Any

import gevent
from gevent.lock import Semaphore
from gevent.threadpool import ThreadPool

from pgdoorman_lib.abc import Account, Judge, JudgeSettings
from pgdoorman_lib.auth.keyring import Keyring
from pgdoorman_lib.auth.pam import pam_service
from pgdoorman_lib.errors import NoVerdict, PeerGone
from pgdoorman_lib.log import Limited, label
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.pollable import PENDING, Pollable
from pgdoorman_lib.net.stream import EOF, Stream
from pgdoorman_lib.net.syscalls import clock

log = logging.getLogger(__name__)

_int = int

#: Seconds after which a thread that nobody needs is ended.
_IDLE_THREAD = 60
#: What ``_Wait.poll`` comes to.
_JUDGED = 1


def configured_judge(account: Account, settings: JudgeSettings | None, keyring: Keyring | None = None) -> Judge | None:
    """Who judges what a configured user tells, None: nobody, his secret counts. ConfigError.

    Without a ``keyring`` nobody is known who judges tokens.
    """
    if account.auth_pam_service:
        return pam_service(account.auth_pam_service, settings)
    return keyring.judge_of(account) if keyring is not None else None


class Judges:
    """Asks them; ``use`` before."""

    def __init__(self) -> None:
        self._places = 0
        self._seconds = 0.0
        self._lines: dict[str, _Line] = {}
        self._hearings: set[gevent.Greenlet[..., Exception | None]] = set()
        self._failing = Limited(log)

    def use(self, settings: JudgeSettings) -> None:
        """Go by ``settings`` from now on; who waits already goes by those before."""
        if settings.max_concurrent_auths != self._places:
            self._places = settings.max_concurrent_auths
            self._lines = {}
        self._seconds = settings.auth_timeout

    def ask(self, stream: Stream, judge: Judge, claim: Any) -> None:
        """Return if ``judge`` finds the client of ``stream`` to be who it says; may switch.

        Refusal if it does not, or does not say so in time. PeerGone when the client does not wait for that.
        """
        until = clock() + self._seconds
        if not judge.line:
            judge.judge(claim, until)
            return
        try:
            verdict = self._hear(stream, judge, claim, until)
            if verdict is not None:
                raise verdict
        except NoVerdict as exc:
            self._failing.warning("%s %s: nobody gets in by that", label(database=claim.database), exc)
            raise

    def close(self) -> None:
        """Ask nobody any more; may switch."""
        gevent.killall(list(self._hearings))

    def _hear(self, stream: Stream, judge: Judge, claim: Any, until: float) -> Exception | None:
        """What ``judge`` says: None, or the error to raise; may switch."""
        line = self._lines.get(judge.line)
        if line is None:
            line = self._lines[judge.line] = _Line(self._places)
        hearing = gevent.spawn(line.hear, judge, claim, until)
        self._hearings.add(hearing)
        timer = gevent.Timeout.start_new(self._seconds)
        try:
            wait_for(stream, hearing)
            return hearing.get(block=False)
        except gevent.Timeout as exc:
            if exc is not timer:
                raise
            what = "has not answered" if hearing in line.heard else "has others to answer who came before"
            return NoVerdict(f"{judge.line} {what} within auth_timeout ({self._seconds:g} s)")
        finally:
            timer.close()
            self._hearings.discard(hearing)
            hearing.kill(block=False)


class _Line:
    """``places`` are asked at once, the others wait in the order they came in."""

    def __init__(self, places: int) -> None:
        self._places = Semaphore(places)
        self._size = places
        self._threads: ThreadPool | None = None
        #: the greenlets whose turn has come
        self.heard: set[Any] = set()

    def hear(self, judge: Judge, claim: Any, until: float) -> Exception | None:
        """What ``judge`` says; may switch. Runs in a greenlet of its own."""
        self._places.acquire()  # switch
        me = gevent.getcurrent()
        self.heard.add(me)
        try:
            if judge.blocks:
                return self._in_thread(judge, claim, until)
            try:
                return _verdict(judge, claim, until)
            finally:
                self._places.release()
        finally:
            self.heard.discard(me)

    def _in_thread(self, judge: Judge, claim: Any, until: float) -> Exception | None:
        try:
            if self._threads is None:
                self._threads = ThreadPool(self._size, idle_task_timeout=_IDLE_THREAD)
            result = self._threads.spawn(_verdict, judge, claim, until)
        except BaseException:
            self._places.release()
            raise
        # Not when this greenlet ends: the thread may go on.
        result.rawlink(lambda _: self._places.release())
        verdict: Exception | None = result.get()
        return verdict


def _verdict(judge: Judge, claim: Any, until: float) -> Exception | None:
    """None, or what ``judge`` raises: that is raised again where the client waits, and not printed here."""
    try:
        judge.judge(claim, until)
    except Exception as exc:
        return exc
    return None


def wait_for(stream: Stream, greenlet: gevent.Greenlet[..., Any]) -> None:
    """Wait until ``greenlet`` ends; may switch. PeerGone once the peer of ``stream`` has gone."""
    task = stream.task or Task(stream.engine)
    before = stream.task
    stream.task = task
    greenlet.rawlink(lambda _: task.wake())
    try:
        task.wait(_Wait(stream, greenlet))
    finally:
        stream.task = before


class _Wait(Pollable):
    __slots__ = ("_greenlet", "_stream")

    def __init__(self, stream: Stream, greenlet: gevent.Greenlet[..., Any]) -> None:
        self._stream = stream
        self._greenlet = greenlet

    def poll(self) -> _int:
        if self._greenlet.ready():
            return _JUDGED
        stream = self._stream
        while (received := stream.fill()) > 0:
            pass
        if received == EOF:
            raise PeerGone("connection closed by the other side")
        stream.release()
        return PENDING
