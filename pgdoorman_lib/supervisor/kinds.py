"""What two processes of one pooler say to each other: the kinds of their parcels, and what stands in each.

In an upgrade, from the old one to the new, in this order: LISTENER (``name``, a listening socket) for each, PID_FILE
(``path``, the open file) of a daemon, LISTENERS; BEGIN when the new one is the pooler (``clients``: the number given
last, ``numbers``: those in use), MAIN when systemd knows that; then, in any order, SERVER (one socket), CLIENT (its
socket, and its server if it keeps one) and HELD (``pools``: database, user, servers left there). From the new one:
READY. From either: CANCEL.

From the supervisor to a worker: LISTENER for each, LISTENERS; BEGIN once it may serve; PEER (``number``, a socket to
that worker). From a worker: READY. From either: QUESTION (``number``, ``about``, ``state``) and ANSWER (``number`` and
``state``, or what has gone wrong). Between two workers: SERVER, CLIENT, CANCEL.
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
PEER = "peer"
QUESTION = "question"
ANSWER = "answer"
