"""How long a refused login takes, by why it is refused: whoever measures that must not learn who there is.

python -m bench.refusals                            # a thousand tries of each, in turns; µs
python -m bench.refusals --tries 200 --only scram auth_query

Each try has a connection of its own, made before the clock starts, and goes from the startup packet to the
ErrorResponse. Who is there has logged in once, by the same packet. Proofs are wrong but well formed, which costs the
client nothing and the pooler the same as any.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import os
import random
import shlex
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from throwaway_postgres import ThrowawayPostgres

from bench.report import table
from bench.targets import (
    DATABASE,
    PASSWORD,
    PGDOORMAN_CONFIG,
    PGDOORMAN_POOL,
    SCRAM_USER,
    USER,
    Started,
    md5_secret,
    scram_secret,
    start_postgres,
)

ROOT = Path(__file__).resolve().parent.parent
TRIES = 1000
#: Who runs the auth_query.
LOOKS = "looks"

LOOKED_UP_POOL = """\
[pools.{name}]
server_database = "{database}"
server_host = "{server_host}"
server_port = {server_port}

[pools.{name}.auth_query]
query = "SELECT passwd FROM pg_shadow WHERE usename = $1"
user = "{looks}"
password = "{password}"
database = "{database}"

"""

#: AuthenticationOk, an MD5 challenge, SASL's mechanisms, its challenge and its end (AuthenticationXXX messages).
OK, MD5, SASL, SASL_CONTINUE, SASL_FINAL = 0, 5, 10, 11, 12

#: Makes the user and the database of the next try.
Names = Callable[[], tuple[str, str]]


class Doorman(Started):
    """pgdoorman with users of one kind, or who are looked up: one stands for all who are not there, and looks alike."""

    def __init__(self, method: str, command: Sequence[str], directory: Path, server: ThrowawayPostgres) -> None:
        super().__init__(method, directory)
        path = self.directory / "pg_doorman.toml"
        self.commands = ([*command, str(path)],)
        user, secret = (USER, md5_secret()) if method == "md5" else (SCRAM_USER, scram_secret())
        names = {
            "name": DATABASE,
            "database": DATABASE,
            "server_host": server.host,
            "server_port": server.port,
            "user": user,
            "secret": PASSWORD if method == "plain secret" else secret,
            "pool_mode": "transaction",
            "pool_size": 2,
            "server_user": USER,
            "password": PASSWORD,
            "looks": LOOKS,
        }
        pool = LOOKED_UP_POOL if method == "auth_query" else PGDOORMAN_POOL
        general = PGDOORMAN_CONFIG.format(port=self.port, workers=1, max_clients=1000, tls="")
        path.write_text(general + pool.format_map(names))
        self.user = user


#: By what: PostgreSQL's stored MD5 hash or SCRAM secret, a plain one (which SCRAM is done for), and one looked up.
METHODS = ("md5", "scram", "plain secret", "auth_query")


def kinds(method: str, user: str) -> Mapping[str, Names]:
    """Why a login is refused, and who comes then."""
    fresh = count()
    found: dict[str, Names] = {
        "wrong password": lambda: (user, DATABASE),
        "unknown user": lambda: ("nobody", DATABASE),
        "unknown database": lambda: (user, "nowhere"),
    }
    if method == "auth_query":
        found["unknown user, first time"] = lambda: (f"nobody{next(fresh)}", DATABASE)
    return found


class Login:
    """One try, by the right password or by none at all."""

    def __init__(self, port: int, right: bool = False) -> None:
        self._right = right
        self._first = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def take(self, user: str, database: str) -> float:
        """Seconds until it is refused, or let in."""
        self._user = user
        options = b"".join(part.encode() + b"\0" for part in ("user", user, "database", database)) + b"\0"
        began = time.perf_counter()
        self.socket.sendall(struct.pack("!ii", len(options) + 8, 196608) + options)
        for kind, body in self._messages():
            if kind == (b"Z" if self._right else b"E"):
                took = time.perf_counter() - began
                if not self._right and b"C28P01\0" not in body:
                    raise RuntimeError(f"not refused as expected: {body!r}")
                return took
            answer = self._answer(body) if kind == b"R" else b""
            if answer:
                self.socket.sendall(b"p" + struct.pack("!i", len(answer) + 4) + answer)
        raise RuntimeError("closed without a word")

    def _answer(self, body: bytes) -> bytes:
        (method,) = struct.unpack_from("!i", body)
        if method == MD5:
            inner = hashlib.md5((PASSWORD + self._user).encode()).hexdigest().encode()
            digest = hashlib.md5(inner + body[4:8]).hexdigest().encode() if self._right else b"0" * 32
            return b"md5" + digest + b"\0"
        if method == SASL:
            self._first = b"n=,r=" + base64.b64encode(random.randbytes(18))
            return b"SCRAM-SHA-256\0" + struct.pack("!i", len(self._first) + 3) + b"n,," + self._first
        if method == SASL_CONTINUE:
            without_proof = b"c=biws," + body[4:].split(b",")[0]
            proof = self._proof(body[4:], without_proof) if self._right else random.randbytes(32)
            return without_proof + b",p=" + base64.b64encode(proof)
        if method in (OK, SASL_FINAL):
            return b""
        raise RuntimeError(f"authentication request {method}")

    def _proof(self, challenge: bytes, without_proof: bytes) -> bytes:
        """SCRAM's (RFC 5802 section 3)."""
        _, salt, iterations = challenge.split(b",")
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(salt[2:]), int(iterations[2:]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        message = b",".join((self._first, challenge, without_proof))
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        return bytes(a ^ b for a, b in zip(key, signature, strict=True))

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            while len(self._buffer) < 5 or len(self._buffer) < 1 + int.from_bytes(self._buffer[1:5], "big"):
                piece = self.socket.recv(8192)
                if not piece:
                    return
                self._buffer += piece
            end = 1 + int.from_bytes(self._buffer[1:5], "big")
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            yield message[:1], message[5:]


def measure(doormen: Mapping[str, Doorman], tries: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by (method, why), in turns whose order is drawn anew."""
    everybody = []
    found: dict[tuple[str, str], list[float]] = {}
    for method, doorman in doormen.items():
        for why, names in kinds(method, doorman.user).items():
            everybody.append((method, why, names))
            found[method, why] = []
    for doorman in doormen.values():
        attempt = Login(doorman.port, right=True)
        with attempt.socket:
            attempt.take(doorman.user, DATABASE)
    for turn in range(tries + 1):
        random.shuffle(everybody)
        for method, why, names in everybody:
            attempt = Login(doormen[method].port)
            with attempt.socket:
                took = attempt.take(*names())
            if turn:  # the first one finds nothing remembered
                found[method, why].append(took)
    return found


def rows(found: Mapping[tuple[str, str], Sequence[float]]) -> list[list[str]]:
    lines = []
    for (method, why), all_seconds in found.items():
        micros = [seconds * 1e6 for seconds in all_seconds]
        figures = statistics.mean(micros), statistics.stdev(micros), statistics.median(micros), min(micros)
        lines.append([f"{method}: {why}", *(f"{figure:.0f}" for figure in figures)])
    return lines


def main() -> None:
    options = argparse.ArgumentParser(prog="bench.refusals", description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--tries", type=int, default=TRIES)
    options.add_argument("--only", nargs="*", choices=METHODS, default=METHODS)
    options.add_argument("--pgdoorman", default=f"{sys.executable} {ROOT / 'pgdoorman.py'}", help="its command")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="refusals-") as home, ExitStack() as stack:
        os.chmod(home, 0o755)
        postgres = start_postgres(Path(home))
        stack.callback(postgres.remove)
        # By that go the looks of who is not there.
        postgres.configure(password_encryption="scram-sha-256")
        postgres.restart()
        postgres.sql(
            f"CREATE ROLE {LOOKS} LOGIN SUPERUSER PASSWORD '{PASSWORD}';"
            f" CREATE ROLE {SCRAM_USER} LOGIN PASSWORD '{PASSWORD}'"
        )
        doormen = {}
        for method in chosen.only:
            doorman = doormen[method] = Doorman(method, shlex.split(chosen.pgdoorman), Path(home), postgres)
            stack.callback(doorman.stop)
            doorman.start()
        found = measure(doormen, chosen.tries)
    header = [f"µs, {chosen.tries} tries of each in turns", "mean", "deviation", "median", "least"]
    print(table(header, rows(found)))


if __name__ == "__main__":
    main()
