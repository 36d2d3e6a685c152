"""What Patroni's REST API says of a cluster's members (GET /cluster); nothing of an answer is believed unseen.

An answer has ``timeout`` seconds in all, however it comes, MAX_BODY bytes and MAX_MEMBERS members. Redirects are not
followed. By https the certificate has to be one that the system trusts.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import gevent
from gevent import socket, ssl

from pgdoorman_lib.errors import DoormanError, LocalResourcesExhausted
from pgdoorman_lib.net.connect import resolve

MAX_BODY = 256 * 1024
MAX_MEMBERS = 100
#: Letters of a host's name, and of what is told of an answer that is none.
_LONGEST_NAME = 255
_SHOWN = 80

PATH = "/cluster"
#: Of which members a server may be opened: in these states, as Patroni calls them.
_SERVING = ("running", "streaming", "in archive recovery")
SYNC_STANDBY = "sync_standby"


class PatroniError(DoormanError):
    """The API did not answer, or not with what a cluster is; the text names the URL: it is for the log alone."""

    sqlstate = "08006"
    fault = "server"


class Member(NamedTuple):
    """One that serves; ``role`` in Patroni's words: leader, replica, sync_standby, ..."""

    host: str
    port: int
    role: str


def ask(url: str, timeout: float) -> list[Member]:
    """The members that serve, as the API at ``url`` tells; may switch. PatroniError, LocalResourcesExhausted."""
    import http.client  # 5 ms, for pools that have a cluster alone

    limit = gevent.Timeout(timeout)
    try:
        with limit:
            body = _get(url, timeout)
    except gevent.Timeout as exc:
        if exc is not limit:
            raise
        raise PatroniError(f"{url}: no answer within {timeout:g} s") from None
    except LocalResourcesExhausted:
        raise
    except DoormanError as exc:
        raise PatroniError(f"{url}: {exc.message}") from exc.__cause__
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise PatroniError(f"{url}: {str(exc)[:_SHOWN] or type(exc).__name__}") from None
    try:
        return members_of(body)
    except ValueError as exc:
        raise PatroniError(f"{url}: {exc}") from None


def _get(url: str, timeout: float) -> bytes:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if encrypted else 80)
    connection = http.client.HTTPConnection(host, port)
    # The socket is made here: http.client's own would hold all greenlets up.
    connection.sock = _connect(host, port, timeout, encrypted)
    try:
        connection.request("GET", parts.path.rstrip("/") + PATH, headers={"Accept": "application/json"})
        with connection.getresponse() as answer:  # it has the socket where it is to be read up to its end
            if answer.status != http.client.OK:
                raise ValueError(f"status {answer.status}")
            body = answer.read(MAX_BODY + 1)
    finally:
        connection.close()
    if len(body) > MAX_BODY:
        raise ValueError(f"an answer of more than {MAX_BODY} bytes")
    return body


def _connect(host: str, port: int, timeout: float, encrypted: bool) -> Any:
    last: OSError = OSError("no address")
    for address in resolve(host, port, timeout):
        try:
            sock = socket.create_connection((address, port), timeout)
        except OSError as exc:
            last = exc
            continue
        if not encrypted:
            return sock
        try:
            return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
    raise last


def members_of(body: bytes) -> list[Member]:
    """The members of an answer that serve; ValueError if it is none. One that makes no sense is left out."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"an answer that is not JSON: {body[:_SHOWN]!r}") from None
    members = answer.get("members") if isinstance(answer, dict) else None
    if not isinstance(members, list):
        raise ValueError("an answer without a list of members")
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"an answer with more than {MAX_MEMBERS} members")
    found = [_member(each) for each in members]
    return list(dict.fromkeys(member for member in found if member is not None))


def _member(raw: object) -> Member | None:
    if not isinstance(raw, dict):
        return None
    host, port, role, state = (raw.get(name) for name in ("host", "port", "role", "state"))
    if not isinstance(host, str) or not isinstance(role, str) or state not in _SERVING:
        return None
    # A directory with a socket is nothing that another machine can tell us to use.
    if not 0 < len(host) <= _LONGEST_NAME or not host.isprintable() or " " in host or "/" in host:
        return None
    if type(port) is not int or not 0 < port <= 65535:
        return None
    return Member(host, port, role)
