"""What the two processes of an upgrade say to each other: the kinds of their parcels, and what stands in each.

From the old one to the new, in this order: LISTENER (``name``, a listening socket) for each, PID_FILE (``path``, the
open file) of a daemon, LISTENERS; BEGIN when the new one is the pooler, MAIN when systemd knows that; then, in any
order, SERVER (one socket), CLIENT (its socket, and its server's if it keeps one) and HELD (``pools``: database, user,
servers left there). From the new one: READY. From either: CANCEL.
"""

from __future__ import annotations

LISTENER = "listener"
LISTENERS = "listeners"
PID_FILE = "pid_file"
READY = "ready"
BEGIN = "begin"
MAIN = "main"
SERVER = "server"
CLIENT = "client"
HELD = "held"
CANCEL = "cancel"
