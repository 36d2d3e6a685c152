"""What two processes of one pooler say to each other: the kinds of their parcels, and what stands in each.

In an upgrade, from the old program to the new, in this order: LISTENER (``name``, a listening socket) for each,
PID_FILE (``path``, the open file) of a daemon, LISTENERS; HEIR (``number``, a socket) for each old process that serves;
BEGIN when the new one is the pooler (``clients``: the ``last`` number given, those ``used``; ``ordered``), MAIN when
systemd knows that. From the new one: READY. HEIR comes later, too, when the process that had the other end has died.

By that socket, from an old process that serves to a new one: BEGIN (``pools``, ``ordered``), then, in any order, SERVER
(one socket), CLIENT (its socket, and its server if it keeps one) and HELD (``pools``: database, user, servers left
there). From either: CANCEL (``ask``, a number for the answer) and DONE (``ask``).

From the supervisor to a worker: LISTENER for each, LISTENERS; BEGIN once it may serve (``clients``, ``ordered``: of the
workers before, or None); PEER (``number``, a socket to that worker); HEIR (as above); SUCCESSOR (the socket to who
takes over from it). From a worker: READY. From either: QUESTION (``number``, ``about``, ``state``) and ANSWER
(``number`` and ``state``, or what has gone wrong).

Between two workers: SERVER, CLIENT; KNOWN (what a pool has learnt from servers and clients); CANCEL (with ``ask``, a
number for the answer), DONE (``ask``, ``done``: there was such a client) and NUMBERS of clients (``held`` by the
sender, ``released``), see ``worker_cancels``.
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
HEIR = "heir"
SUCCESSOR = "successor"
QUESTION = "question"
ANSWER = "answer"
DONE = "done"
KNOWN = "known"
NUMBERS = "numbers"
