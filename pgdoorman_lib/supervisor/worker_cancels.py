"""Cancel requests among the workers of one pooler, whichever of them they come to, and the numbers clients take along.

Rules:
1. The worker in the number (``Clients.owner_of``) is asked first, then all others at once: a client may have moved, and
   keeps its number. A key that nobody has costs one question to each, however wrong it is.
2. A client on its way is missed by nobody. Who hands it over says MOVING while it does, and for REMEMBERED seconds
   behind that, to whoever shows its secret; then all are asked again, for ON_ITS_WAY seconds.
3. The one asked carries the request out and says DONE, and only then the client's connection for it is closed: a cancel
   that comes late would hit the client's next statement.
4. A number that goes along stays its owner's to give, who gives it to nobody else until whoever has the client says
   that it has ended (NUMBERS). A worker that is begun anew is told of its numbers that others have (``greet``).
"""

from __future__ import annotations

import hmac
import logging
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping

import gevent

from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.cancels import DONE_SECONDS, LOOK_INTERVAL, ON_ITS_WAY, Questions, wanted
from pgdoorman_lib.wire.consts import PROCESS_BASE

log = logging.getLogger(__name__)

#: Seconds for another worker to be told something.
ANSWER_SECONDS = 2.0
#: Seconds for which it is known that a client has left: longer than the way takes, and than a round of questions.
REMEMBERED = 6.0

_MOVING = "the client is on its way to another worker"

#: What came of asking one worker: it was carried out, it has no such client, the client moves.
DONE, NOBODY, MOVING = range(3)


class WorkerCancels:
    """This worker's part: it asks the others, and answers them.

    ``peers`` are the channels to the others, by their numbers, as they are at the moment. ``carry_out`` cancels for a
    client of this worker, and says whether there is one; ``commands`` are the keys of console sessions that wait here.
    """

    def __init__(
        self,
        clients: Clients,
        peers: Mapping[int, Channel],
        carry_out: Callable[[int, bytes], bool],
        commands: Container[tuple[int, bytes]] = (),
    ) -> None:
        self._clients = clients
        self._peers = peers
        self._carry_out = carry_out
        self._commands = commands
        #: those that have left, by number: their secrets, and when
        self._left: OrderedDict[int, tuple[bytes, float]] = OrderedDict()
        self._questions = Questions()

    # Asking.

    def pass_on(self, process: int, secret: bytes) -> bool:
        """Have the worker that has this client carry its cancel request out; may switch. Whether one has done so.

        It has been looked for here already.
        """
        deadline = clock() + ON_ITS_WAY
        while True:
            found = self._ask_all(process, secret)
            if found == DONE or self._carry_out(process, secret):
                return True
            if (found == NOBODY and not self._moves(process, secret)) or clock() >= deadline:
                return False
            gevent.sleep(LOOK_INTERVAL)  # switch: it comes to somebody

    def _ask_all(self, process: int, secret: bytes) -> int:
        _, first = self._clients.owner_of(process)
        found = [self._ask(first, process, secret)] if first in self._peers else [NOBODY]
        if found == [DONE]:
            return DONE
        asking = [gevent.spawn(self._ask, worker, process, secret) for worker in list(self._peers) if worker != first]
        try:
            found += [greenlet.get() for greenlet in asking]
        finally:
            gevent.killall(asking, block=False)
        return DONE if DONE in found else MOVING if MOVING in found else NOBODY

    def _ask(self, worker: int, process: int, secret: bytes) -> int:
        channel = self._peers.get(worker)
        if channel is None or channel.ended.is_set():
            return NOBODY
        try:
            done = self._questions.ask(channel, process, secret, DONE_SECONDS)
            if done is not None:
                return DONE if done else MOVING
            if channel.ended.is_set():
                return MOVING
            log.warning("worker %d has taken a cancel request and not carried it out in %g s", worker, DONE_SECONDS)
            return DONE
        except Refused as exc:
            return MOVING if str(exc) == _MOVING else NOBODY
        except ParcelError as exc:
            log.debug("worker %d could not be asked for a client to cancel: %s", worker, exc)
            # What it had sent off before its end may still be on its way.
            return MOVING if channel.ended.is_set() else NOBODY

    # Being asked; in a channel's greenlet, which must not wait.

    def prepare(self, parcel: Parcel) -> None:
        """Of CANCEL, DONE and NUMBERS: as in Receiver. Refused for a client that is not here, or on its way."""
        if parcel.kind == kinds.DONE:
            parcel.prepared = int(parcel.state["ask"]), bool(parcel.state["done"])
        elif parcel.kind == kinds.NUMBERS:
            parcel.prepared = [[int(each) for each in parcel.state[name]] for name in ("held", "released")]
        else:
            key = int(parcel.state["number"]), bytes(parcel.state["secret"])
            try:
                if key not in self._commands:
                    wanted(parcel, self._clients)
            except Refused:
                raise (Refused(_MOVING) if self._moves(*key) else Refused("no client with this key is here")) from None
            parcel.prepared = (*key, int(parcel.state["ask"]))

    def take(self, parcel: Parcel, worker: int) -> None:
        """Of the same, from another ``worker``: as in Receiver."""
        if parcel.kind == kinds.DONE:
            self._questions.answered(*parcel.prepared)
        elif parcel.kind == kinds.NUMBERS:
            held, released = parcel.prepared
            self._clients.reserve(held)
            self._clients.release(released)
        else:
            gevent.spawn(self._carry_out_for, worker, *parcel.prepared)

    def _carry_out_for(self, worker: int, process: int, secret: bytes, ask: int) -> None:
        # Who begins to leave meanwhile is waited for, and then is not here: the other one asks again.
        done = self._carry_out(process, secret)  # switch
        self._say(worker, Parcel(kinds.DONE, {"ask": ask, "done": done}))

    def _say(self, worker: int, parcel: Parcel) -> None:
        channel = self._peers.get(worker)
        try:
            if channel is not None:
                channel.send(parcel, ANSWER_SECONDS)  # switch
        except ParcelError as exc:
            log.debug("worker %d was not told (%s): %s", worker, parcel.kind, exc)

    def _moves(self, process: int, secret: bytes) -> bool:
        """Whether the client with this key is just being handed over by this worker, or was lately."""
        session = self._clients.by_key(process, secret)
        known, when = self._left.get(process - PROCESS_BASE, (b"", 0.0))
        gone = bool(known) and hmac.compare_digest(known, secret) and clock() < when + REMEMBERED
        return session is not None or gone

    # Clients that come and go.

    def departed(self, number: int, secret: bytes) -> None:
        """Another worker has this client: to be called as soon as its parcel has gone, before anything switches."""
        now = clock()
        while self._left and next(iter(self._left.values()))[1] + REMEMBERED < now:
            self._left.popitem(last=False)
        self._left.pop(number, None)
        self._left[number] = secret, now
        if self._is_mine(number):
            self._clients.reserve((number,))

    def ended(self, number: int) -> None:
        """A client has ended here, and not moved: whoever has given its number out may do so again. May switch."""
        if not self._is_mine(number):
            _, worker = self._clients.owner_of(PROCESS_BASE + number)
            self._say(worker, Parcel(kinds.NUMBERS, {"held": [], "released": [number]}))

    def end_noticed(self, number: int) -> None:
        """A client is here no more, wherever it is; returns at once."""
        if number not in self._left and not self._is_mine(number):
            gevent.spawn(self.ended, number)

    def greet(self, worker: int) -> None:
        """Tell a worker which of its numbers clients here have; may switch. For one whose channel is new."""
        owner = self._clients.owner_of
        held = [session.id for session in self._clients if owner(PROCESS_BASE + session.id)[1] == worker]
        self._say(worker, Parcel(kinds.NUMBERS, {"held": held, "released": []}))

    def _is_mine(self, number: int) -> bool:
        return self._clients.owner_of(PROCESS_BASE + number)[1] == self._clients.worker
