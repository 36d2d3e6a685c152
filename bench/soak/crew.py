"""A process of clients with the proxies they go through; started by the soak, told by lines on its standard input.

``rest`` has all clients wait between two operations, and is answered when they do; ``go`` lets them go on; ``end`` has
them leave, and is answered by what they have seen.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

from fault_proxy import Mischief, Proxy, Way

from bench.soak.journal import Gate, Journal
from bench.soak.workers import CHARACTERS, Self

#: How long clients may take until they rest, or have left.
PATIENCE = 60.0
#: Seconds between two acts of mischief on a character's connections, on average.
MISCHIEF: dict[str, tuple[tuple[Way, ...], float]] = {
    "rough": (("cut", "cut", "drop"), 1.5),
    "mute": (("forget", "hold"), 4.0),
}
SLOW_DELAY = 0.002


def main() -> int:
    work = json.loads(sys.argv[1])
    faulthandler.enable()
    journal = Journal()
    mischiefs = []
    with ExitStack() as stack:
        proxies = {name: Proxy(("127.0.0.1", work["port"])) for name in CHARACTERS}
        for name, proxy in proxies.items():
            stack.callback(proxy.close)
            if name in MISCHIEF:
                ways, pause = MISCHIEF[name]
                mischiefs.append(stack.enter_context(Mischief(proxy, work["seed"] + work["crew"], ways, pause)))
        proxies["slow"].delay = SLOW_DELAY
        proxies["crumbs"].piece = 1
        clients = make_clients(work, {name: proxy.port for name, proxy in proxies.items()}, journal)
        gate = clients[0].gate
        threads = [threading.Thread(target=run, args=(work["kind"], group)) for group in grouped(work["kind"], clients)]
        for thread in threads:
            thread.start()
        say({"said": "ready"})
        for line in sys.stdin:
            word = line.strip()
            for mischief in mischiefs:
                mischief.resting = word == "rest"  # connections would go between two looks at how many there are
            if word == "rest":
                gate.closed = True
                say({"said": "resting", "busy": wait_until_rest(gate, clients)})
            elif word == "go":
                gate.closed = False
            else:
                break
        gate.over = True
        deadline = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            for client in clients:
                if client.doing != "the end":
                    journal.is_wrong(f"{client.who} does not come to an end of {client.doing}")
            faulthandler.dump_traceback()
            say(report(journal, clients))
            sys.stdout.flush()
            os._exit(1)  # threads that don't end would keep the process
    say(report(journal, clients))
    return 0


def make_clients(work: dict[str, Any], ports: dict[str, int], journal: Journal) -> list[Self]:
    gate = Gate(work["clients"])
    return [
        Self(
            number=work["crew"] * 100 + number,
            kind=work["kind"],
            character=work["characters"][number % len(work["characters"])],
            database=work["databases"][number % len(work["databases"])],
            seed=work["seed"],
            ports=ports,
            user=work["user"],
            password=work["password"],
            journal=journal,
            gate=gate,
        )
        for number in range(work["clients"])
    ]


def grouped(kind: str, clients: list[Self]) -> list[list[Self]]:
    """The clients of each thread."""
    return [clients] if kind == "asyncpg" else [[client] for client in clients]


def run(kind: str, group: list[Self]) -> None:
    """Import the driver, and be its clients. Only this crew's driver need be installed."""
    if kind == "asyncpg":
        from bench.soak.asyncpg_client import AsyncpgClient

        async def together() -> None:
            await asyncio.gather(*(AsyncpgClient(me).run() for me in group))

        asyncio.run(together())
    elif kind == "psycopg":
        from bench.soak.psycopg_client import PsycopgClient

        PsycopgClient(group[0]).run()
    elif kind == "pg8000":
        from bench.soak.pg8000_client import Pg8000Client

        Pg8000Client(group[0]).run()
    else:
        from bench.soak.pgbench_client import PgbenchClient

        PgbenchClient(group[0]).run()


def wait_until_rest(gate: Gate, clients: list[Self]) -> list[str]:
    """Who does not rest in time, and why."""
    deadline = time.monotonic() + PATIENCE
    while not gate.all_rest:
        if time.monotonic() > deadline:
            now = time.monotonic()
            busy = gate.busy(client.number for client in clients)
            return [f"{c.who}: {c.doing} for {now - c.since:.0f} s" for c in clients if c.number in busy]
        time.sleep(0.02)
    return []


def report(journal: Journal, clients: list[Self]) -> dict[str, Any]:
    data = journal.data()
    for client in clients:
        last, absent, doubtful = data["transactions"].get(client.number, (0, [], []))
        data["transactions"][client.number] = {
            "database": client.database,
            "last": last,
            "absent": absent,
            "doubtful": doubtful,
        }
    return {"said": "report", **data}


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
