"""Two applications in one process as workers 1 and 2 of one pooler, each with a port of its own.

Everything between them goes by packed bytes, as between processes. Arguments: the configuration; the second one's port
is in the environment, and the name of a file: worker 2 does not answer while there is one.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from functools import partial
from typing import Any

import gevent
from gevent.signal import signal as set_signal

import pgdoorman  # patches everything
from pgdoorman_lib import log as logs
from pgdoorman_lib.app import App
from pgdoorman_lib.config.loader import load
from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.net.parcel_terms import TimedOut
from pgdoorman_lib.supervisor.program import Program
from pgdoorman_lib.supervisor.succession import Alone
from pgdoorman_lib.supervisor.systemd import Systemd
from pgdoorman_lib.together.chair import Chair
from pgdoorman_lib.together.failures import Answers, pack_answers, unpack_answers
from pgdoorman_lib.together.onlooker import Onlooker
from pgdoorman_lib.together.telling import Telling

SECOND_PORT = "TEST_SECOND_PORT"
SILENCE = "TEST_SILENCE"
assert pgdoorman

apps: list[App] = []
handlers: list[dict[str, Any]] = []


def ask_workers(kind: str, state: Any, timeout: float | None) -> Answers:
    """All at once."""
    question = pack(state)

    def ask(number: int) -> Any:
        if number == 2 and os.path.exists(os.environ[SILENCE]):
            return TimedOut("worker 2: it says nothing")
        return unpack(pack(handlers[number - 1][kind](unpack(question))))

    greenlets = {number: gevent.spawn(ask, number) for number in (1, 2)}
    gevent.joinall(list(greenlets.values()), timeout=timeout)
    return {
        number: greenlet.value if greenlet.successful() else TimedOut(str(greenlet.exception))
        for number, greenlet in greenlets.items()
    }


def ask_through(kind: str, state: Any, timeout: float | None) -> Answers:
    """By way of the supervisor."""
    return unpack_answers(unpack(pack(pack_answers(chair.ask(kind, unpack(pack(state)), timeout)))))


def end(mode: str) -> None:
    for app in apps:
        app.shutdown(mode)


logs.setup("info", "text", False)
config = load(sys.argv[-1])
ports = (config.general.port, int(os.environ[SECOND_PORT]))
onlooker: Any = Onlooker(config, {"version": "0", "build": "x", "engine": "x"}, dict)
chair = Chair(ask_workers, Telling(onlooker), {}, {"shutdown": end})
for number, port in enumerate(ports, 1):
    own = dataclasses.replace(config, general=dataclasses.replace(config.general, port=port))
    app = App(own, Systemd.of({}), (), partial(Alone, program=Program.running()))
    app.clients.be_one_of_several(number, len(ports))
    apps.append(app)
    handlers.append(app.be_one_of_several(number, 2, ask_through))
ready: list[int] = []


def on_ready() -> None:
    """One signal ends both."""
    ready.append(1)
    if len(ready) == len(apps):
        set_signal(signal.SIGTERM, lambda *_: end("drain"))


gevent.spawn(chair.run)
gevent.joinall([gevent.spawn(app.run, on_ready) for app in apps], raise_error=True)
