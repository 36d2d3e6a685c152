"""This process's sockets by state, from Linux's /proc (man 5 proc_pid_net)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import gevent

from pgdoorman_lib.errors import UnsupportedFeature

_PROC = "/proc/self"
#: Beyond so many descriptors or lines the walk stops: the table is an overview, and must not cost seconds.
_LIMIT = 200_000
#: The walk lets the other greenlets run after so many entries (a few milliseconds' work).
_PAUSE_EVERY = 1000

# The kernel's numbers begin at 1 (include/net/tcp_states.h).
_TCP_STATES = (
    *("established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close", "close_wait"),
    *("last_ack", "listen", "closing", "new_syn_recv", "bound_inactive"),
)
# From 0 (include/uapi/linux/net.h, socket_state).
_UNIX_STATES = ("free", "unconnected", "connecting", "connected", "disconnecting")
_UNIX_TYPES = {1: "stream", 2: "dgram", 5: "seq_packet"}

#: The states, in the order of ``counts``.
NAMES: tuple[str, ...] = (
    *(f"tcp_{state}" for state in _TCP_STATES),
    *(f"tcp6_{state}" for state in _TCP_STATES),
    *(f"unix_{state}" for state in _UNIX_STATES),
    "unix_dgram",
    "unix_seq_packet",
    "unknown",
)


def by_state(proc: str = _PROC) -> dict[str, list[int]]:
    """Return the inodes of this process's sockets in each state of NAMES; may switch.

    Raises UnsupportedFeature where there is no /proc/self/fd (other systems than Linux).
    """
    found: dict[str, list[int]] = {name: [] for name in NAMES}
    inodes = _own_inodes(proc)
    for family in ("tcp", "tcp6"):
        for words in _lines(f"{proc}/net/{family}"):
            # "sl local remote st tx:rx tr:when retrnsmt uid timeout inode …"
            if len(words) > 9 and words[9] in inodes:
                state = int(words[3], 16) - 1
                if 0 <= state < len(_TCP_STATES):
                    inodes.discard(words[9])
                    found[f"{family}_{_TCP_STATES[state]}"].append(int(words[9]))
    for words in _lines(f"{proc}/net/unix"):
        # "Num RefCount Protocol Flags Type St Inode [Path]"
        if len(words) > 6 and words[6] in inodes:
            kind, state = _UNIX_TYPES.get(int(words[4], 16)), int(words[5], 16)
            name = f"unix_{_UNIX_STATES[state] if kind == 'stream' and state < len(_UNIX_STATES) else kind}"
            if name in found:
                inodes.discard(words[6])
                found[name].append(int(words[6]))
    found["unknown"] = [int(inode) for inode in inodes]
    return found


def counts(found: Mapping[str, Sequence[int]]) -> list[int]:
    """Return how many there are in each state of NAMES."""
    return [len(found.get(name, ())) for name in NAMES]


def _own_inodes(proc: str) -> set[str]:
    inodes = set()
    try:
        descriptors = islice(os.listdir(f"{proc}/fd"), _LIMIT)
    except FileNotFoundError as exc:
        raise UnsupportedFeature("SHOW SOCKETS needs /proc, which this system does not have") from exc
    for count, descriptor in enumerate(descriptors, 1):
        try:
            target = os.readlink(f"{proc}/fd/{descriptor}")
        except FileNotFoundError:
            continue  # closed since it was listed
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
        _pause(count)
    return inodes


def _lines(path: str) -> Iterator[list[str]]:
    """Yield the lines of a /proc/net table split at blanks, without the heading; none when the family is disabled."""
    try:
        with open(path, encoding="ascii", errors="replace") as table:
            for count, line in enumerate(islice(table, 1, _LIMIT), 1):
                yield line.split()
                _pause(count)
    except FileNotFoundError:
        return


def _pause(count: int) -> None:
    if count % _PAUSE_EVERY == 0:
        gevent.sleep(0)
