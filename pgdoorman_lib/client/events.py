"""What the steps of a session come to: why polling ends, and what became of a client's message."""

from __future__ import annotations

# Of ``Relay.step`` and ``Session.poll``.
#: nothing more can be done now (``net.engine.PENDING``)
PENDING = 0
#: the message at the front is for a server, and none is borrowed
NEED_SERVER = 1
#: the server can be given back
RELEASE = 2
CLIENT_GONE = 3
#: the client has ended the session
TERMINATE = 4
SERVER_GONE = 5
CLIENT_FAULT = 6
SERVER_FAULT = 7
TOO_MANY_PINS = 10

# Of a step that handles a message.
#: the one at the front is not whole yet
MORE = 8
#: the one at the front depends on answers still owed, or was dealt with without a server
HELD = 9
