"""Codes of the answers that a server owes, one for each kind of message that brings one, and the flags beside them."""

from __future__ import annotations

QUERY = 1
FUNCTION = 2
SYNC = 3
PARSE = 4
BIND = 5
DESCRIBE = 6
EXECUTE = 7
CLOSE = 8
COPY_END = 9
PLAIN = 10
RUN = 11
#: answered by us when their turn comes
MADE_PARSE = 12
MADE_CLOSE = 13

#: flag: the answer is ours, the client must not see it
SWALLOW = 128
#: flag: an Effect stands in ``effects`` for it
EFFECT = 64
#: the bits of an entry without its flags
CODE = 15

# What becomes of a message of the server's (``Replies.account``): passed on, swallowed; or both sides are out of step.
PASS = 0
DROP = 1
DESYNC = 2
