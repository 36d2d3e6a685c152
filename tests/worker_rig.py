"""Two or more worker processes with one ledger and channels between each two, without a supervisor's other work.

``python worker_rig.py PORT… CONFIG``: a worker for each PORT, which listens there alone. A worker that dies is taken out
of the ledger, and not replaced; SIGTERM ends all.
"""

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import os  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

from pgdoorman_lib import log as logs  # noqa: E402
from pgdoorman_lib.app import App  # noqa: E402
from pgdoorman_lib.config.loader import load  # noqa: E402
from pgdoorman_lib.listener import Inherited  # noqa: E402
from pgdoorman_lib.net.parcel import Channel  # noqa: E402
from pgdoorman_lib.pool.ledger import Ledger  # noqa: E402
from pgdoorman_lib.supervisor.neighbours import Neighbours  # noqa: E402
from pgdoorman_lib.supervisor.program import Program  # noqa: E402
from pgdoorman_lib.supervisor.succession import Alone  # noqa: E402
from pgdoorman_lib.supervisor.systemd import Systemd  # noqa: E402

Ends = dict[int, socket.socket]


def main(path: str, ports: list[int]) -> int:
    ledger = Ledger.create(len(ports))
    numbers = range(1, len(ports) + 1)
    ends: dict[int, Ends] = {number: {} for number in numbers}
    for one in numbers:
        for other in range(one + 1, len(ports) + 1):
            ends[one][other], ends[other][one] = socket.socketpair()
    listening = [socket.create_server(("127.0.0.1", port)) for port in ports]
    children = {}
    for number, sock in zip(numbers, listening, strict=True):
        pid = os.fork()
        if not pid:
            be_worker(path, ledger, number, ends, sock)
        children[pid] = number
    for sock in [*listening, *(sock for own in ends.values() for sock in own.values())]:
        sock.close()

    def forward(number: int, _frame: object) -> None:
        for pid in children:
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    code = 0
    while children:
        pid, status = os.wait()
        worker = children.pop(pid)
        killed = os.WIFSIGNALED(status)
        ledger.reclaim(worker)
        print(f"worker {worker} ({pid}) has ended{' by a signal' if killed else ''}", flush=True)
        code = code or (0 if killed else os.waitstatus_to_exitcode(status))
    print(f"rows left: {ledger.rows_in_use()}", flush=True)
    return code


def be_worker(path: str, ledger: Ledger, number: int, ends: dict[int, Ends], sock: socket.socket) -> NoReturn:
    code = 1
    try:
        mine = ends.pop(number)
        for own in ends.values():
            for end in own.values():
                end.close()
        logs.setup("debug" if os.environ.get("RIG_DEBUG") else "info", "text", False)
        peers: dict[int, Channel] = {}
        app = App(
            load(path),
            Systemd.of({}),
            [Inherited(sock.detach())],
            lambda app: Member(app, ledger, number, peers),
        )
        for other, end in mine.items():
            gevent.spawn(meet, app, peers, other, end)
        app.run(lambda: print(f"worker {number} ({os.getpid()}) serves", flush=True))
        code = 0
        assert app.neighbours is not None
        print(f"worker {number} has sent {app.neighbours.sent} servers", flush=True)
    finally:
        sys.stdout.flush()
        os._exit(code)


class Member(Alone):
    """One of several, who nobody looks after."""

    def __init__(self, app: App, ledger: Ledger, number: int, peers: dict[int, Channel]) -> None:
        super().__init__(app, Program.running())
        app.clients.be_one_of_several(number, ledger.count)
        self.neighbours = Neighbours(app, ledger.joined(number), peers)


def meet(app: App, peers: dict[int, Channel], other: int, end: socket.socket) -> None:
    assert app.neighbours is not None
    channel = Channel(end, app.neighbours.receiver(other))
    channel.start(30.0)
    peers[other] = channel
    channel.ended.wait()
    del peers[other]


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1], [int(port) for port in sys.argv[1:-1]]))
