#!/usr/bin/env bash
# pg8000 1.31.6: without a password, before a server that asks for one by SCRAM, connect() raises an AttributeError of
# Python's instead of an error of the DB-API, so that `except pg8000.Error` does not see it. (Seen with Python 3.11:
# AttributeError: 'NoneType' object has no attribute 'decode'.) libpq says "fe_sendauth: no password supplied" there.
# What helps: pass an empty password, and the server refuses it in words.
#
# The server here is a socket that answers the startup packet with AuthenticationSASL, as PostgreSQL does
# (PostgreSQL docs, "Message Formats").
#
# Exits 0 while that is so, 1 when it is not, 2 when nothing can be said.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q 'pg8000==1.31.6' || exit 2
"$work/venv/bin/python" - <<'PY'
import socket
import struct
import sys
import threading

import pg8000

listener = socket.create_server(("127.0.0.1", 0))


def serve():
    client, _ = listener.accept()
    with client:
        while True:
            (size,) = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))
            packet = client.recv(size - 4, socket.MSG_WAITALL)
            if packet != struct.pack("!i", 80877103):  # SSLRequest
                break
            client.sendall(b"N")
        body = struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"
        client.sendall(b"R" + struct.pack("!i", len(body) + 4) + body)
        client.recv(65536)


threading.Thread(target=serve, daemon=True).start()
try:
    pg8000.connect(user="app", database="app", host="127.0.0.1", port=listener.getsockname()[1], timeout=10)
except pg8000.Error as exc:
    sys.exit(f"an error of the DB-API now: {exc!r}")
except AttributeError as exc:
    print(f"AttributeError: {exc}")
else:
    sys.exit("no error now")
PY
