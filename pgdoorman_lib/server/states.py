"""The states of a server connection: whose it is, and what may follow what."""

from __future__ import annotations

#: nobody's yet
LOGIN = 0
#: the pool's
IDLE = 1
#: a borrower's
ACTIVE = 2
#: the janitor's
CLEANING = 3
#: nobody's any more
CLOSED = 4
