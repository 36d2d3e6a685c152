"""What the two processes of an upgrade say to each other: the kinds of their parcels, and what stands in each.

From the old one to the new, in this order: LISTENER (``name``, a listening socket) for each, LISTENERS; BEGIN when the
new one is the pooler; then, in any order, SERVER (one socket), CLIENT (its socket, and its server's if it keeps one)
and HELD (``pools``: database, user, servers left there). From the new one: READY. From either: CANCEL.
"""

from __future__ import annotations

LISTENER = "listener"
LISTENERS = "listeners"
READY = "ready"
BEGIN = "begin"
SERVER = "server"
CLIENT = "client"
HELD = "held"
CANCEL = "cancel"
