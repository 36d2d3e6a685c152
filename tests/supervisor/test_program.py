"""Starting this program once more."""

from __future__ import annotations

import subprocess
import sys

from pace import patience

#: A process as the pooler's, which has started a successor: whose children does it take to waiting for?
CODE = """
from gevent import monkey
monkey.patch_all()
import os, socket, sys
import gevent
from gevent.threadpool import ThreadPool
from pgdoorman_lib.supervisor.program import Program

spawn, waitpid = monkey.get_original("os", "posix_spawn"), monkey.get_original("os", "waitpid")
pause = monkey.get_original("time", "sleep")

def as_modules_do():
    pid = spawn("/bin/true", ["true"], os.environ)
    pause(0.1)
    return os.waitstatus_to_exitcode(waitpid(pid, 0)[1])

def turn():
    while True:
        gevent.sleep(0.001)

gevent.spawn(turn)
ours, theirs = socket.socketpair()
program = Program([sys.executable, "-c", "raise SystemExit(7)"], "/")
waits = Program(["/bin/sleep", "60"], "/")
for _ in range(2):
    successor = waits.start_successor(theirs)
    print(successor.wait(0), ThreadPool(1).spawn(as_modules_do).get())
    print(program.start_successor(theirs).end(), ThreadPool(1).spawn(as_modules_do).get())
    print(successor.end(), successor.wait(0))
"""


def test_children_of_others_are_left_to_them() -> None:
    """Modules of PAM start processes in threads, and wait for them."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=patience(60))
    assert (done.stdout, done.stderr) == ("None 0\n7 0\nNone -15\n" * 2, "")
