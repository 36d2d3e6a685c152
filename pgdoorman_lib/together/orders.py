"""What the console orders of pools, clients and settings, carried to every process of the pooler, and done there.

Rules:
1. An order is a verb and plain arguments; each process does it as it would do its own console's.
2. What holds until it is taken back (PAUSE, DISABLE, SET) comes back with each answer as ``ordered``, so that whoever
   starts workers knows what a new one has to obey.
3. Numbers are added up. A worker that says nothing may have what is counted, so whoever waits for 0 goes on waiting;
   one that is gone has nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgdoorman_lib.errors import DoormanError, UnsupportedFeature
from pgdoorman_lib.net.parcel_terms import ChannelClosed
from pgdoorman_lib.pool.holding import Target
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.failures import Answers, pack_error, results, unpack_error
from pgdoorman_lib.views import Operations
from pgdoorman_lib.wire.handover import Plain

#: Seconds for an order to be carried out, for one that reads files, and for a count.
ORDER_SECONDS = 10.0
RELOAD_SECONDS = 30.0
COUNT_SECONDS = 2.0
#: Seconds between two looks at what a command waits for, which asks every process.
LOOK_INTERVAL = 0.1

AskAll = Callable[[str, Plain, "float | None"], Answers]


def _on(verb: str) -> Callable[..., Any]:
    """One of ``Operations`` on a target."""
    return lambda pooler, target: getattr(pooler.operations, verb)(Target(*target))


ORDERS: dict[str, Callable[..., Any]] = {
    **{verb: _on(verb) for verb in ("pause", "resume", "unpause", "disable", "enable", "reconnect", "kill")},
    "kill_client": lambda pooler, number: pooler.operations.kill_client(number),
    "fail_waiters": lambda pooler, error: pooler.operations.fail_waiters(unpack_error(error)),
    "reload": lambda pooler: list(pooler.reload()),
    "set_key": lambda pooler, section, name, raw: pooler.set_key(section, name, raw),
    "reset_key": lambda pooler, section, name: pooler.reset_key(section, name),
    "set_log_level": lambda pooler, text: pooler.set_log_level(text),
}
COUNTS: dict[str, Callable[..., Any]] = {
    "open_servers": _on("open_servers"),
    "condemned_servers": _on("condemned_servers"),
    "clients": lambda pooler, target: len(pooler.operations.clients(Target(*target))),
    "cancel_commands": lambda pooler, number, user: list(pooler.cancel_commands(number, user)),
}


def carry_out(pooler: Any, order: Mapping[str, Any]) -> Plain:
    """The answer to ORDER: what it came to, and what is ``ordered`` now; or the error. May switch."""
    return _do(ORDERS, pooler, order) | {"ordered": pooler.ordered()}


def count(pooler: Any, question: Mapping[str, Any]) -> Plain:
    """The answer to COUNT; may switch."""
    return _do(COUNTS, pooler, question)


def _do(verbs: Mapping[str, Callable[..., Any]], pooler: Any, order: Mapping[str, Any]) -> Plain:
    verb = order["verb"]
    try:
        if verb not in verbs:
            raise UnsupportedFeature(f"a worker of another version does not know {verb}")
        return {"result": verbs[verb](pooler, *order["arguments"])}
    except DoormanError as exc:
        return {"error": pack_error(exc)}


class Orders:
    """Gives orders to all processes by ``ask_all``."""

    def __init__(self, ask_all: AskAll) -> None:
        self._ask_all = ask_all

    def order(self, verb: str, *arguments: Any, seconds: float = ORDER_SECONDS) -> dict[int, Any]:
        """Have it done everywhere; what it came to, by process. May switch; raises as ``failures.results``."""
        what = verb.upper().replace("SET_KEY", "SET").replace("RESET_KEY", "RESET")
        return results(what, self._ask_all(kinds.ORDER, {"verb": verb, "arguments": list(arguments)}, seconds))

    def lead(self, verb: str, *arguments: Any) -> None:
        """Have the supervisor do what is its business alone; may switch."""
        results(verb.upper(), self._ask_all(kinds.LEAD, {"verb": verb, "arguments": list(arguments)}, None))

    def counts(self, verb: str, *arguments: Any) -> list[Any]:
        """What each worker counts, None for one that says nothing; may switch."""
        found = self._ask_all(kinds.COUNT, {"verb": verb, "arguments": list(arguments)}, COUNT_SECONDS)
        return [
            None if isinstance(answer, Exception) else results(verb, {number: answer})[number]
            for number, answer in found.items()
            if not isinstance(answer, ChannelClosed)
        ]


class JoinedOperations:
    """As ``operations.Operations``, on all processes: each call may switch. ``mine`` are this process's."""

    look_interval = LOOK_INTERVAL

    def __init__(self, orders: Orders, mine: Operations) -> None:
        self._orders = orders
        self._mine = mine

    # All have the same configuration and the same orders.

    def knows(self, target: Target) -> bool:
        """As there."""
        return self._mine.knows(target)

    def is_paused(self, target: Target) -> bool:
        """As there."""
        return self._mine.is_paused(target)

    def _each(self, verb: str, target: Target) -> list[Any]:
        return list(self._orders.order(verb, list(target)).values())

    def pause(self, target: Target) -> None:
        """As there."""
        self._each("pause", target)

    def resume(self, target: Target) -> bool:
        """As there."""
        return any(self._each("resume", target))

    def unpause(self, target: Target) -> None:
        """As there."""
        self._each("unpause", target)

    def disable(self, target: Target) -> None:
        """As there."""
        self._each("disable", target)

    def enable(self, target: Target) -> bool:
        """As there."""
        return any(self._each("enable", target))

    def reconnect(self, target: Target) -> None:
        """As there."""
        self._each("reconnect", target)

    def kill(self, target: Target) -> None:
        """As there."""
        self._each("kill", target)

    def kill_client(self, number: int) -> bool:
        """As there."""
        return any(self._orders.order("kill_client", number).values())

    def fail_waiters(self, error: DoormanError) -> None:
        """As there."""
        self._orders.order("fail_waiters", pack_error(error))

    def _sum(self, verb: str, target: Target) -> int:
        """A worker that says nothing counts for one."""
        return sum(1 if number is None else number for number in self._orders.counts(verb, list(target)))

    def open_servers(self, target: Target) -> int:
        """As there."""
        return self._sum("open_servers", target)

    def condemned_servers(self, target: Target) -> int:
        """As there."""
        return self._sum("condemned_servers", target)

    def clients(self, target: Target) -> Sequence[object]:
        """As many as there are."""
        return range(self._sum("clients", target))
