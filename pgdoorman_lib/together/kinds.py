"""What processes of one pooler ask each other, and what of themselves they tell.

Kinds: TELL (``parts``) and MORE (``rest``) are answered with portions, see ``telling``; COUNT (``verb``, ``arguments``)
is a question with one small value for an answer, and ORDER the same with an effect, see ``orders``; LEAD (``verb``,
``arguments``) is for the supervisor alone.
"""

from __future__ import annotations

#: The number of the supervisor among those that answer; workers have 1, 2, …
SUPERVISOR = 0

TELL = "tell"
MORE = "more"
COUNT = "count"
ORDER = "order"
LEAD = "lead"

# What a process may be asked to tell. A table names the parts that it is made of, and no others are packed.

#: the pools with their settings and how many servers and waiters each has
POOLS = "pools"
#: each pool's totals, with the coarse counts of its histograms; and the histograms whole
STATS = "stats"
BUCKETS = "buckets"
#: each pool's last complete period; and its recent latencies
PERIODS = "periods"
LATENCIES = "latencies"
#: each server of the pools; and each that is in none
SERVERS = "servers"
UNPOOLED = "unpooled"
#: each client, those of the console included; or only those that have a server; or only how many of each kind, with
#: the bytes of their statements if SIZES is asked for, too
CLIENTS = "clients"
LINKED = "linked"
COUNTS = "counts"
SIZES = "sizes"
#: of clients and servers that are told of: addresses, TLS and buffers
STREAMS = "streams"
#: the statements that clients of each pool share
STATEMENTS = "statements"
#: cancel requests on their way to each of the other poolers
PEERS = "peers"
#: each pool's auth_query: what was asked and found, and who has a pool by it
LOOKUPS = "lookups"
#: each address where servers are opened
HOSTS = "hosts"
#: each pool that has a Patroni cluster to fall back on
FALLBACKS = "fallbacks"
#: each database with a limit of servers: this process's part, and what has happened
COORDINATORS = "coordinators"
#: what memory is used for
MEMORY = "memory"
#: the process: its id, memory, connections since its start, the console's counts
PROCESS = "process"
#: its sockets by state
SOCKETS = "sockets"
