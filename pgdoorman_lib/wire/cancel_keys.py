"""What the process id in a client's cancel key tells: which pooler has given it out, which of its workers, and the hop.

A key is an int32 called process id, and a secret (4 bytes in protocol 3.0, 32 here in 3.2). Rules:

1. The secret is random in all of its bits, with peers and workers as without: with protocol 3.0 there are 32 of them
   and none to spare. Who is asked stands in the process id, which clients are told anyway and which is no secret; so
   both protocols are alike, and nobody's key is easier to guess for it.
2. A process id is ``PROCESS_BASE + number``, and positive: programs take it for a pid_t. A pooler without ``peer_id``
   has all numbers there are (2^31 - 2^22). One with it has those from ``peer_id * PEER_SPACE`` on, 2^20 of them: ten
   times the clients that one can have, and enough ids that each pod and process of a large site has one of its own.
3. Within these, worker ``w`` of ``n`` gives out those that leave ``w - 1`` when divided by ``n``: no two workers ever
   give out the same, and each has its part of all there are (a million alone, 16,384 of 64), where fixed bits would
   leave 16,384 to each of two. One that moves keeps its number, and so may be elsewhere than that says.
4. A number in use is given to nobody else, here or elsewhere (``client.registry``), and the secret of whoever has it
   later is another: a late request for who had it before meets a wrong secret.
5. The sign bit, which no key has, marks a request that a pooler has passed on: that one is passed on no more, so that
   none goes in circles, however the addresses in [peers] are mixed up. Who sets it himself does without peers.
"""

from __future__ import annotations

from pgdoorman_lib.wire.consts import PROCESS_BASE

#: Numbers of clients that a pooler with an id has.
PEER_SPACE = 1 << 20
#: Numbers of clients that one without has.
WHOLE_SPACE = 0x80000000 - PROCESS_BASE
#: The largest id: those beyond, up to 2042, are left for what we don't know of yet.
MAX_PEER_ID = 2000
#: Workers a pooler may have.
MAX_WORKERS = 64

_SIGN = 0x80000000


def first_of(peer: int) -> int:
    """Where the numbers of the pooler with this id begin; ``peer`` 0: it has none."""
    return peer * PEER_SPACE


def space_of(peer: int) -> int:
    """How many numbers it has."""
    return PEER_SPACE if peer else WHOLE_SPACE


def peer_of(process: int) -> int:
    """The id of the pooler that has given this process id out, 0: none with an id; for those that have one."""
    return max(0, process - PROCESS_BASE) // PEER_SPACE


def passed_on(process: int) -> int:
    """``process``, a positive int32, as it stands in a request that is passed on: a negative one."""
    return process - _SIGN


def as_given(process: int) -> tuple[int, bool]:
    """The process id as it was given out, and whether the request was passed on by a pooler."""
    return (process + _SIGN, True) if process < 0 else (process, False)
