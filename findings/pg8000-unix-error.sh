#!/usr/bin/env bash
# pg8000 1.31.6 on a unix socket, refused at its login: the error that the server has told (a wrong password, say) is lost,
# and "network error" raised in its place. Behind an ErrorResponse the constructor says goodbye to who is gone already
# (Terminate, in close()), and what goes wrong with that hides the error it is about to raise. By TCP the goodbye goes into
# the kernel's buffer, and nobody notices; on a unix socket it fails at once. With PostgreSQL 15, 37 of 60 wrong passwords.
# What helps: connect by TCP, or look into the server's log.
#
# The server here is a socket that refuses as PostgreSQL does and closes (PostgreSQL docs, "Message Formats").
#
# Exits 0 while that is so, 1 when it is not, 2 when nothing can be said.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" || exit 2
"$work/venv/bin/pip" install -q 'pg8000==1.31.6' || exit 2
cd "$work" && "$work/venv/bin/python" - <<'PY'
import socket
import struct
import sys
import threading

import pg8000.native

PATH = "server"
fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0"

listening = socket.socket(socket.AF_UNIX)
listening.bind(PATH)
listening.listen()

def serve():
    peer, _ = listening.accept()
    peer.recv(1000)
    peer.shutdown(socket.SHUT_RD)  # as closed for what comes, whoever is faster
    peer.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)
    peer.close()


thread = threading.Thread(target=serve)
thread.start()
try:
    pg8000.native.Connection("somebody", password="wrong", unix_sock=PATH)
except pg8000.native.DatabaseError as exc:
    print("told:", exc)
    sys.exit(1)
except pg8000.native.InterfaceError as exc:
    print("told:", exc)
    sys.exit(0 if "network error" in str(exc) else 1)
finally:
    thread.join()
sys.exit(2)
PY
