"""Questions and answers between the supervisor and a worker: each a parcel on the channel between the two."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import AsyncResult

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.parcel import Channel, ChannelClosed, Parcel, ParcelError, Receiver, Refused, TimedOut
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: What a question to all workers is about, which the supervisor passes on.
ALL = "all"

#: Seconds for an answer, unless the asker says otherwise.
ANSWER_SECONDS = 5.0

#: By what a question is about: who answers it, in a greenlet of its own.
Answerers = Mapping[str, Callable[[Plain], Plain]]


class Unanswered(DoormanError):
    """The other process has not answered in time, or has ``gone``."""

    sqlstate = "58000"

    def __init__(self, message: str, *, gone: bool) -> None:
        super().__init__(message)
        self.gone = gone

    def as_parcel_error(self) -> ParcelError:
        """The same for whoever knows only of parcels."""
        return (ChannelClosed if self.gone else TimedOut)(self.message)


class Line(Receiver):
    """One end of the line over ``sock`` to another process, which is called ``name`` in errors.

    ``answers`` has who answers what; ``others`` is given all other parcels.
    """

    def __init__(self, sock: Any, name: str, answers: Answerers, others: Receiver) -> None:
        self.name = name
        self._answers = answers
        self._others = others
        self._asked: dict[int, AsyncResult[Plain]] = {}
        self._number = 0
        self.channel = Channel(sock, self)

    def ask(self, about: str, state: Plain, timeout: float | None = ANSWER_SECONDS) -> Plain:
        """The other process's answer, which it may take ``timeout`` seconds for (None: any time); may switch.

        Taking the question is a part of these: a process that does not run does not even do that. Unanswered;
        DoormanError as it was raised there.
        """
        self._number += 1
        number = self._number
        answer = self._asked[number] = AsyncResult()
        question = {"number": number, "about": about, "state": state}
        began_at = clock()
        taking = ANSWER_SECONDS if timeout is None else min(ANSWER_SECONDS, timeout)
        try:
            self.channel.send(Parcel(kinds.QUESTION, question), taking)
            left = None if timeout is None else max(0.0, began_at + timeout - clock())
            gevent.wait((answer, self.channel.ended), timeout=left, count=1)
            if not answer.ready():
                why = "it has gone" if self.channel.ended.is_set() else f"it said nothing for {timeout:g} s"
                raise Unanswered(f"{self.name} has not answered: {why}", gone=self.channel.ended.is_set())
        except ParcelError as exc:
            raise Unanswered(f"{self.name} was not asked: {exc}", gone=isinstance(exc, ChannelClosed)) from exc
        finally:
            del self._asked[number]
        told: Any = answer.get()
        if "error" in told:
            raise DoormanError(told["error"], sqlstate=told["sqlstate"], hint=told["hint"], detail=told["detail"])
        return told["state"]  # type: ignore[no-any-return]

    def tell(self, kind: str, state: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Send something that needs no answer; may switch. Unanswered: it has not come there."""
        try:
            self.channel.send(Parcel(kind, state, descriptors), ANSWER_SECONDS)
        except ParcelError as exc:
            gone = isinstance(exc, ChannelClosed)
            raise Unanswered(f"{self.name} was not told of {kind}: {exc}", gone=gone) from exc

    # As Receiver; in the channel's greenlet, which must not wait.

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.QUESTION:
            if parcel.state["about"] not in self._answers:
                raise Refused(f"nobody here knows about {parcel.state['about']}")
        elif parcel.kind != kinds.ANSWER:
            self._others.prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.QUESTION:
            gevent.spawn(self._answer, parcel.state)
        elif parcel.kind == kinds.ANSWER:
            waiting = self._asked.get(parcel.state["number"])
            if waiting is not None:  # else it has waited long enough
                waiting.set(parcel.state)
        else:
            self._others.take(parcel)

    def drop(self, parcel: Parcel) -> None:
        if parcel.kind not in (kinds.QUESTION, kinds.ANSWER):
            self._others.drop(parcel)

    def _answer(self, question: dict[str, Any]) -> None:
        """Find the answer and send it; may switch."""
        number = question["number"]
        try:
            answer = {"number": number, "state": self._answers[question["about"]](question["state"])}
        except DoormanError as exc:
            told = {"error": exc.message, "sqlstate": exc.sqlstate, "hint": exc.hint, "detail": exc.detail}
            answer = {"number": number, **told}
        try:
            self.channel.send(Parcel(kinds.ANSWER, answer), ANSWER_SECONDS)
        except ChannelClosed as exc:
            log.debug("%s has gone before it was answered: %s", self.name, exc)
        except ParcelError as exc:
            log.warning("%s did not take an answer: %s", self.name, exc)
