"""The workers as their supervisor sees them: it starts them, has others in the place of those that end, asks all."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import gevent
import gevent.event

from pgdoorman_lib.config.model import Config
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.net.parcel import Parcel, ParcelError, Receiver
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.roll import Roll
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.before import Before
from pgdoorman_lib.supervisor.control import Answerers, Line, Unanswered
from pgdoorman_lib.supervisor.nursery import Birth, Ended, Nursery
from pgdoorman_lib.together.chair import Chair
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: Seconds for a worker to be ready.
READY_SECONDS = 30.0
#: Seconds before a worker is started in the place of one that has ended: none for the first that lived for SOUND_LIFE,
#: else from the first on doubled to the last.
PAUSE_FIRST = 0.1
PAUSE_LAST = 10.0
SOUND_LIFE = 10.0
#: Seconds for another worker to see that a dead one's servers have ended (``orphans``), and for them if it could not.
ORPHAN_SECONDS = 0.7
PARTING_SECONDS = 0.05
#: Seconds for a worker to end that was killed.
DEATH_SECONDS = 5.0


def _how(code: int | None) -> str:
    """How a worker has ended, in words; see ``Ended``."""
    if code is None:
        return "has ended (nobody has seen how)"
    return f"was ended by signal {-code}" if code < 0 else f"has ended (exit code {code})"


class Worker(Receiver):
    """One worker process, from before it is started to its end."""

    def __init__(self, number: int, answers: Answerers) -> None:
        self.number = number
        self.pid = 0
        self.began_at = clock()
        #: it serves, or is just told to; or is not to any more
        self.admitted = False
        self.dismissed = False
        self.ready = gevent.event.Event()
        self.ended = gevent.event.Event()
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.line = Line(ours, f"worker {number}", answers, self)

    @property
    def serves(self) -> bool:
        """Whether it can be asked."""
        return self.ready.is_set() and not self.line.channel.ended.is_set()

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind != kinds.READY:
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        self.ready.set()


class Team:
    """The workers of one supervisor; ``rolls`` has that of each, by its number.

    ``config`` is what one begins with, ``listening`` gives the listening sockets by their names, ``answers`` has who
    answers what workers ask, ``chair`` gives who knows what was ordered of them.
    """

    def __init__(
        self,
        nursery: Nursery,
        ledger: Ledger,
        rolls: Mapping[int, Roll],
        config: Callable[[], Config],
        listening: Callable[[], Iterable[tuple[str, Any]]],
        activated: Callable[[], bool],
        answers: Answerers,
        chair: Callable[[], Chair],
    ) -> None:
        self._nursery = nursery
        self._ledger = ledger
        self._rolls = rolls
        self._config = config
        self._listening = listening
        self._activated = activated
        self._answers = answers
        self._chair = chair
        #: what counts for workers of the program before this one
        self.before = Before(ledger)
        self._workers: dict[int, Worker] = {}
        self._pauses: dict[int, float] = {}
        self._serving = False
        #: no worker is started any more
        self.stopping = False
        #: none can be
        self.barren = False
        #: nor while they hand over to those of another supervisor
        self.retiring = False
        #: the numbers of clients that others have given, for workers that are started later
        self._clients: Plain | None = None
        #: set when there is none left, and none will be
        self.ended = gevent.event.Event()
        self._hearing = gevent.spawn(self._hear)

    # Starting.

    def start(self) -> None:
        """Start all; they wait until ``begin``. ConfigError when one of them can't; may switch."""
        for number in range(1, self._ledger.count + 1):
            self._start(number)
        for worker in self._all():
            self._await(worker)

    def begin(self, clients: Plain | None, ordered: Plain | None) -> None:
        """Have them take clients in; may switch.

        There were ``clients`` before (see ``host.Serving``), and the console had ``ordered``; None: we are the first.
        """
        self._serving = True
        self._clients = clients
        admitted: list[Worker] = []
        for worker in self._all():
            self._admit(worker, ordered, admitted)
            admitted.append(worker)
        self.fill_up()

    def fill_up(self) -> None:
        """Start those that have ended and were not to be replaced then; returns at once."""
        for number in range(1, self.count + 1):
            if number not in self._workers:
                gevent.spawn(self._replace, number, 0.0)

    def _start(self, number: int) -> Worker:
        """Begin to start a worker; may switch. ConfigError: nobody can."""
        worker = self._workers[number] = Worker(number, self._answers)
        try:
            self._nursery.bear(Birth(number, worker.theirs.fileno(), self._config()))
        except OSError as exc:
            raise ConfigError(f"worker {number} could not be started: {exc.strerror or exc}") from exc
        finally:
            worker.theirs.close()
        gevent.spawn(self._introduce, worker)
        return worker

    def _introduce(self, worker: Worker) -> None:
        """Hand a new worker what it listens with; may switch."""
        channel = worker.line.channel
        try:
            channel.start(READY_SECONDS)
            for name, sock in self._listening():
                worker.line.tell(kinds.LISTENER, {"name": name}, (sock.fileno(),))
            worker.line.tell(kinds.LISTENERS, {"activated": self._activated()})
        except (ParcelError, Unanswered) as exc:
            log.debug("worker %d could not be told where to listen: %s", worker.number, exc)

    def _await(self, worker: Worker) -> None:
        gevent.wait((worker.ready, worker.ended), timeout=READY_SECONDS, count=1)
        if not worker.ready.is_set():
            ended = worker.ended.is_set()
            raise ConfigError(f"worker {worker.number} {'has ended' if ended else 'was not ready'}; the log says more")

    def _admit(self, worker: Worker, ordered: Plain | None, others: Iterable[Worker]) -> None:
        """Have a worker that is ready serve, and know the others, unless none is to come any more; may switch.

        One that is ready too late for an upgrade would take clients in whom nobody has it hand over.
        """
        if self.stopping or self.retiring:
            worker.dismissed = True
            self._kill(worker)
            return
        worker.admitted = True  # no switch since: ``Crew.numbers`` has it, or it is dismissed
        try:
            worker.line.tell(kinds.BEGIN, {"clients": self._clients, "ordered": ordered})
        except Unanswered as exc:
            log.debug("%s", exc.message)
            return
        for other in others:
            if other.serves:
                self._acquaint(worker, other)

    @staticmethod
    def _acquaint(one: Worker, other: Worker) -> None:
        """Give two workers a channel between them; may switch."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            for worker, peer, end in ((one, other, ends[0]), (other, one, ends[1])):
                worker.line.tell(kinds.PEER, {"number": peer.number}, (end.fileno(),))
        except Unanswered as exc:
            log.debug("%s", exc.message)
        finally:
            for end in ends:
                end.close()

    # Their end.

    def _hear(self) -> None:
        """The greenlet that learns of births and deaths."""
        self._nursery.hear(self._born, self._died)
        log.critical(
            "the process that workers are started from has ended: no other can take the place of one that ends"
        )
        self.barren = True
        for worker in self._all():
            gevent.spawn(self._await_death, worker)
        self._look_whether_ended()

    def _await_death(self, worker: Worker) -> None:
        """Where nobody tells of a worker's end: a process that dies closes its sockets; may switch."""
        worker.line.channel.ended.wait()
        self._died(Ended(worker.pid, None))

    def _born(self, number: int, pid: int) -> None:
        self._workers[number].pid = pid
        log.debug("worker %d is process %d", number, pid)

    def _died(self, ended: Ended) -> None:
        worker = next((one for one in self._all() if one.pid == ended.pid), None)
        if worker is None:
            log.warning("process %d, which is no worker, has ended", ended.pid)
            return
        del self._workers[worker.number]
        self._chair().gone(worker.number)
        self.before.died(worker.number)
        worker.ended.set()
        if self.stopping or (self.retiring and not ended.code):
            log.debug("worker %d has ended", worker.number)
        else:
            if not worker.dismissed:
                how = _how(ended.code)
                log.error("worker %d (pid %d) %s: its clients are disconnected", worker.number, worker.pid, how)
            gevent.spawn(self._bury, worker)
        gevent.spawn(worker.line.channel.close, 0.0)
        self._look_whether_ended()

    def _bury(self, worker: Worker) -> None:
        """Have others take the places of its servers, and of itself; may switch."""
        lived = clock() - worker.began_at
        self._end_orphans(worker)
        self.before.bury(worker.number)
        if self._serving and not (self.barren or self.retiring):
            self._replace(worker.number, lived)

    def _end_orphans(self, worker: Worker) -> None:
        """Have the servers of one that has died end, before others take their places; may switch."""
        roll = self._rolls[worker.number]
        orphans = [list(one) for one in roll.read()]
        roll.clear()
        other = next((one for one in self._all() if one.serves), None)
        ended = not orphans
        if orphans and other is not None:
            try:
                ended = bool(other.line.ask("end_orphans", {"servers": orphans}, ORPHAN_SECONDS)["ended"])
            except DoormanError as exc:
                log.warning("statements of worker %d may go on for a while: %s", worker.number, exc.message)
        if not ended:
            gevent.sleep(PARTING_SECONDS)

    def _replace(self, number: int, lived: float) -> None:
        """Start a worker in the place of one that has ended after so many seconds; may switch."""
        pause = 0.0 if lived >= SOUND_LIFE else min(PAUSE_LAST, self._pauses.get(number, PAUSE_FIRST / 2) * 2)
        self._pauses[number] = pause or PAUSE_FIRST / 2
        gevent.sleep(pause if lived < SOUND_LIFE else 0)
        if self.stopping or self.retiring or number in self._workers:
            return
        with self._chair().still() as ordered:  # switch: whatever is ordered from here on comes to it, too
            try:
                worker = self._start(number)
                self._await(worker)
            except ConfigError as exc:
                log.error("%s", exc.message)
                if number in self._workers:
                    self._kill(self._workers[number])
                return
            self._admit(worker, ordered, [other for other in self._all() if other is not worker])
        if worker.admitted:
            log.info("worker %d (pid %d) serves", number, worker.pid)

    def _look_whether_ended(self) -> None:
        if (self.stopping or self.retiring or self.barren) and not self._workers:
            self.ended.set()

    @staticmethod
    def _kill(worker: Worker) -> None:
        if worker.pid:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End those that are left; may switch."""
        for worker in self._all():
            if worker.pid:
                log.error("worker %d does not end: it is killed", worker.number)
                self._kill(worker)
        self.ended.wait(DEATH_SECONDS)

    def close(self) -> None:
        """Have no nursery any more; may switch."""
        self.stopping = True
        self._hearing.kill()
        self._nursery.close()

    # Asking.

    @property
    def count(self) -> int:
        """How many there are to be."""
        return int(self._ledger.count)

    def find(self, number: int) -> Worker | None:
        """A worker that can be asked."""
        worker = self._workers.get(number)
        return worker if worker is not None and worker.serves else None

    def serving(self) -> list[Worker]:
        """All that can be asked."""
        return [worker for worker in self._all() if worker.serves]

    def _all(self) -> list[Worker]:
        return list(self._workers.values())

    def ask_all(self, about: str, state: Plain, timeout: float | None) -> dict[int, Plain | DoormanError]:
        """What each worker answers, or why it has not, by number; may switch."""
        workers = self._all()
        asking = [gevent.spawn(self._ask, worker, about, state, timeout) for worker in workers]
        gevent.joinall(asking)
        answers = {worker.number: greenlet.get() for worker, greenlet in zip(workers, asking, strict=True)}
        for number in range(1, self._ledger.count + 1):
            answers.setdefault(number, Unanswered(f"worker {number} does not run", gone=True))
        return answers

    def tell_all(self, about: str, state: Plain) -> list[gevent.Greenlet[..., None]]:
        """Ask all, those that are being started once they can be asked; no switch. What ends with their answers."""
        return [gevent.spawn(self._tell, worker, about, state) for worker in self._all()]

    def _tell(self, worker: Worker, about: str, state: Plain) -> None:
        gevent.wait((worker.ready, worker.ended), count=1)
        told = self._ask(worker, about, state, None)
        if isinstance(told, DoormanError):
            log.debug("%s", told.message)

    @staticmethod
    def _ask(worker: Worker, about: str, state: Plain, timeout: float | None) -> Plain | DoormanError:
        try:
            return worker.line.ask(about, state, timeout)
        except DoormanError as exc:
            return exc
