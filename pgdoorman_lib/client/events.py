"""What polling for a client comes to: why it ends, and what became of a client's message."""

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

# Of ``Connection.poll``.
#: the client has begun to speak
SPEAKS = 14

# Of a step that handles a message of the client's.
#: it goes to the server as it came
AS_IT_CAME = 0
#: it is not whole yet
MORE = 8
#: it depends on answers still owed; or it has been dealt with, and no server is needed
HELD = 9
#: it was sent in another form, and everything before it
REPLACED = 11
#: everything before it was sent, and it waits for an answer
STALLED = 12
#: it was refused: what is still to come of it is dropped
REFUSED = 13
