"""A worker's place among the workers: what it has from the supervisor, and the way to the others."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from pgdoorman_lib import log as logs
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.roll import Orphan, Roll
from pgdoorman_lib.supervisor import kinds, orphans
from pgdoorman_lib.supervisor.cancels import LOOK_INTERVAL, ON_ITS_WAY
from pgdoorman_lib.supervisor.control import ALL, Answerers, Line, Unanswered
from pgdoorman_lib.supervisor.heirs import obey
from pgdoorman_lib.supervisor.host import UpgradeFailed
from pgdoorman_lib.supervisor.itself import Itself
from pgdoorman_lib.supervisor.neighbours import Neighbours
from pgdoorman_lib.supervisor.nursery import Birth
from pgdoorman_lib.together.failures import Answers, unpack_answers
from pgdoorman_lib.wire.handover import Plain

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: Seconds that the supervisor takes, beyond what it gives the workers, to ask all of them.
MARGIN_SECONDS = 1.0
#: Seconds for the supervisor to say what comes next.
STEP_SECONDS = 30.0

#: What it says.
_TAKEN = (kinds.LISTENER, kinds.LISTENERS, kinds.BEGIN, kinds.PEER, kinds.HEIR, kinds.SUCCESSOR)


class Membership(Receiver):
    """``app``'s place among ``ledger.count`` workers."""

    def __init__(self, app: App, birth: Birth, ledger: Ledger, roll: Roll) -> None:
        self.worker = birth.number
        self.ledger = ledger
        #: the channels to the other workers, by their numbers
        self.peers: dict[int, Channel] = {}
        self._app = app
        self._itself = Itself(app, self._find_another, birth.number, ledger.count, self._has_counted)
        #: the socket to who takes over from this worker, until it is said what for
        self._successor: socket.socket | None = None
        app.configuration.quiet = True
        app.clients.be_one_of_several(birth.number, ledger.count)
        self.neighbours = Neighbours(app, ledger, self.peers, roll)
        self._answers: dict[str, Callable[[Plain], Plain]] = {}
        self._line = Line(socket.socket(fileno=birth.control), "the supervisor", self._answers, self)
        self._sockets: dict[str, socket.socket] = {}
        self._activated = False
        self._listening = gevent.event.Event()
        self._begun = gevent.event.Event()

    def _all_answers(self) -> Answerers:
        return {
            "stop": self._stop,
            "part": self._part,
            "pass": self._pass,
            "hand_over": self._hand_over,
            "resume": self._resume,
            "wait_for_heirs": self._wait_for_heirs,
            "cancel_beyond": lambda state: self._itself.cancel_beyond(state["number"], state["secret"]),
            "load": lambda state: self.neighbours.transfers.load(),
            "move": self._move,
            "hurry": self._hurry,
            **self._app.be_one_of_several(self.worker, self.ledger.count, self._ask_all),
            "end_orphans": self._end_orphans,
            "reopen": lambda state: {"reopened": logs.reopen()},
        }

    # As Kin.

    def come(self) -> list[Inherited]:
        """Have the supervisor's listening sockets."""
        self._answers.update(self._all_answers())
        try:
            self._line.channel.start(STEP_SECONDS)
        except ParcelError as exc:
            raise ConfigError(f"worker {self.worker}: the supervisor has gone: {exc}") from exc
        self._await(self._listening)
        if not self._activated:
            return []
        sockets, self._sockets = self._sockets, {}
        return [Inherited(sock.detach(), name.partition(" ")[0]) for name, sock in sockets.items()]

    def inherit(self, name: str) -> Any:
        """The supervisor's socket that listens at ``name``."""
        return self._sockets.pop(name, None)

    def begin(self) -> None:
        """Tell the supervisor that this worker is ready, and wait until it may serve."""
        self._app.listeners.handed_over = True  # files of unix sockets are the supervisor's
        self._app.load_ciphers()
        try:
            self._line.tell(kinds.READY, {})
        except Unanswered as exc:
            raise ConfigError(exc.message) from exc
        self._await(self._begun)
        gevent.spawn(self._end_with_supervisor)

    def wait_until_main(self) -> None:
        """Nobody watches a worker but its supervisor."""

    def upgrade(self) -> None:
        """Ask the supervisor for it."""
        self.ask("upgrade", {}, None)

    def upgrade_logged(self) -> None:
        """Signals are the supervisor's."""

    def end(self) -> None:
        """The supervisor learns of it from its own."""

    def pass_cancel_on(self, process: int, secret: bytes) -> None:
        """See ``Kin``."""
        deadline = clock() + ON_ITS_WAY
        while not self.neighbours.cancels.pass_on(process, secret):
            try:
                beyond: Any = self.ask("cancel_beyond", {"number": process, "secret": secret}, ON_ITS_WAY)
            except DoormanError as exc:
                log.debug("nobody else is asked for a client to cancel: %s", exc.message)
                return
            if beyond["found"] or not beyond["any"] or clock() >= deadline:
                return
            gevent.sleep(LOOK_INTERVAL)  # switch: it comes from there, or goes there

    def _ask_all(self, kind: str, state: Plain, timeout: float | None) -> Answers:
        """As for ``Whole``: by the supervisor."""
        question = {"kind": kind, "state": state, "timeout": timeout}
        try:
            answers = self.ask(ALL, question, None if timeout is None else timeout + MARGIN_SECONDS)
        except Unanswered as exc:
            raise exc.as_parcel_error() from exc
        return unpack_answers(answers)

    def ask(self, about: str, state: Plain, timeout: float | None) -> Plain:
        """Ask the supervisor; may switch. Unanswered; DoormanError as it was raised there."""
        return self._line.ask(about, state, timeout)

    def _await(self, event: gevent.event.Event) -> None:
        gevent.wait((event, self._line.channel.ended), timeout=STEP_SECONDS, count=1)
        if not event.is_set():
            raise ConfigError(f"worker {self.worker}: the supervisor has said nothing more")

    def _end_with_supervisor(self) -> None:
        self._line.channel.ended.wait()
        if self._app.draining:
            return
        if self._itself.hands_over:
            log.warning("the supervisor has gone: this worker hands over, and ends")
            self._itself.hand_over()
        else:
            log.error("the supervisor has gone: this worker ends, too")
            self._app.shutdown()

    # What the supervisor wants.

    def _stop(self, state: Plain) -> Plain:
        self._app.shutdown(state["mode"])
        self._begun.set()  # one that was not to serve yet need not wait for that
        return {}

    def _hurry(self, state: Plain) -> Plain:
        self._app.hurry()
        return {}

    def _end_orphans(self, state: Plain) -> Plain:
        return {"ended": orphans.end(self._app, [Orphan(*server) for server in state["servers"]])}

    def _move(self, state: Plain) -> Plain:
        if not self._itself.hands_over:
            self.neighbours.transfers.move(state["target"], state["clients"], state["working"])
        return {}

    # An upgrade.

    def _taken(self) -> socket.socket:
        """The way to who takes over, as it was given last."""
        found, self._successor = self._successor, None
        if found is None:
            raise UpgradeFailed(f"worker {self.worker} was not told who takes over from it")
        return found

    def _part(self, state: Plain) -> Plain:
        self.neighbours.transfers.stop()
        self.neighbours.retire(True)
        try:
            return self._itself.part(self.worker, self._taken())
        except BaseException:
            self.neighbours.retire(False)
            raise

    def _pass(self, state: Plain) -> Plain:
        self._itself.pass_to(self.worker, self._taken())
        return {}

    def _hand_over(self, state: Plain) -> Plain:
        self._itself.hand_over()
        return {}

    def _resume(self, state: Plain) -> Plain:
        self._itself.resume()
        self.neighbours.retire(False)
        return {}

    def _wait_for_heirs(self, state: Plain) -> Plain:
        self._itself.wait_for_all()
        return {}

    def _find_another(self) -> bool:
        """As for ``HandOver``: the supervisor finds one. Without a supervisor this worker ends."""
        try:
            return bool(self.ask("another", {"number": self.worker}, None)["found"])
        except DoormanError as exc:
            log.error("upgrade: nobody takes over from this worker any more: %s", exc.message)
            self._app.shutdown()
            return False

    def _has_counted(self, number: int) -> None:
        """As for ``Itself``: the supervisor need not count for that one, even if another has died that did."""
        try:
            self.ask("counted", {"number": number, "worker": self.worker}, STEP_SECONDS)
        except DoormanError as exc:
            log.debug("upgrade: the supervisor does not know who counts for worker %d before: %s", number, exc.message)

    # As Receiver; in the channel's greenlet, which must not wait.

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind not in _TAKEN:
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        state = parcel.state
        if parcel.kind == kinds.LISTENER:
            (fd,) = parcel.detach()
            self._sockets[state["name"]] = socket.socket(fileno=fd)
        elif parcel.kind == kinds.LISTENERS:
            self._activated = bool(state["activated"])
            self._listening.set()
        elif parcel.kind == kinds.PEER:
            (fd,) = parcel.detach()
            gevent.spawn(self._meet, state["number"], socket.socket(fileno=fd))
        elif parcel.kind == kinds.HEIR:
            (fd,) = parcel.detach()
            self._itself.take(state["number"], socket.socket(fileno=fd))
        elif parcel.kind == kinds.SUCCESSOR:
            (fd,) = parcel.detach()
            if self._successor is not None:  # nobody has asked for what it was for
                self._successor.close()
            self._successor = socket.socket(fileno=fd)
        elif parcel.kind == kinds.BEGIN:
            if state["clients"] is not None:
                self._itself.go_on_behind(state["clients"], state["ordered"])
            elif state["ordered"] is not None:
                obey(self._app, state["ordered"])
            self._begun.set()

    def _meet(self, number: int, sock: socket.socket) -> None:
        """Have a channel to another worker, in the place of one to the process before that; may switch."""
        channel = Channel(sock, self.receiver_for(number))
        before = self.peers.pop(number, None)
        if before is not None:
            before.close(0.0)
        try:
            channel.start(STEP_SECONDS)
        except ParcelError as exc:
            log.warning("worker %d is out of reach: %s", number, exc)
            return
        self.peers[number] = channel
        self.neighbours.greet(number)
        channel.ended.wait()
        if self.peers.get(number) is channel:
            del self.peers[number]

    def receiver_for(self, number: int) -> Receiver:
        """Who takes what comes from another worker."""
        return self.neighbours.receiver(number)
