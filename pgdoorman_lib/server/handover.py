"""A server connection as it goes to another process, and as it comes from one: as plain values, without its socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgdoorman_lib.config.effective import SERVER_TLS
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import handover as statements
from pgdoorman_lib.wire.baseline import UNKNOWN, Base
from pgdoorman_lib.wire.handover import Book, Plain
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.settings import Settings

#: ``Server.drawn_by`` when there may be values of sequences of whoever the other process has numbered.
_SOMEBODYS = -1


def pack(server: Server) -> Plain:
    """What is known of a server on which nothing is under way. Times are monotonic: both are on one machine.

    CanNotMove when its connection can't go, as with an older version of TLS.
    """
    return {
        "stream": server.stream.export(),
        "pid": server.pid,
        "secret": server.secret,
        "reported": pack_reported(server.reported),
        "created_at": server.created_at,
        "expires_at": server.expires_at,
        "applied": server.applied.values,
        "base": pack_base(server.base),
        "backend": server.backend,
        "loaded": server.loaded,
        "dirty": server.dirty,
        "unasked": server.unasked,
        "drawn": bool(server.drawn_by),
        "option_names": None if server.option_names is None else sorted(server.option_names),
        "condemned": server.condemned,
        "statements": statements.pack_server(server.statements),
        "address": address(server.settings),
        "mode": _mode(server.settings),
        "login": _login(server.settings),
    }


def unpack(state: Mapping[str, Any], stream: Stream, settings: Any, book: Book) -> Server:
    """The server that ``pack`` has made ``state`` of, at the other end of ``stream``; it is in no pool yet."""
    host, port, *_ = state["address"]
    server = Server(
        stream,
        settings.at(host, port),
        state["pid"],
        state["secret"],
        {},
        float(state["created_at"]),
        float(state["expires_at"]),
    )
    for name, value in state["reported"]:
        server.report(name, value)
    server.applied = Settings.of(state["applied"])
    server.base = unpack_base(state["base"])
    server.backend = state["backend"]
    server.loaded = state["loaded"]
    server.dirty = state["dirty"]
    server.unasked = state["unasked"]
    server.drawn_by = _SOMEBODYS if state["drawn"] else 0
    server.option_names = None if state["option_names"] is None else set(state["option_names"])
    server.condemned = state["condemned"]
    statements.unpack_server(server.statements, state["statements"], book)
    return server


def suits(state: Mapping[str, Any], settings: Any) -> bool:
    """Whether a pool with these ``settings`` would have opened the same server."""
    return suits_its_client(state, settings) and bool(state["login"] == _login(settings))


def suits_its_client(state: Mapping[str, Any], settings: Any) -> bool:
    """Whether in such a pool a client could keep this server, which nobody else is to have then."""
    host, port, *who = state["address"]
    # By Patroni's word it may be at any host of the cluster.
    there = (host, port) in settings.servers or bool(settings.patroni_api_urls)
    return bool(there and who == _who(settings) and state["mode"] == _mode(settings))


def address(settings: Any) -> list[Any]:
    """Which server, database and user a pool with these ``settings`` connects to."""
    return [settings.server_host, settings.server_port, *_who(settings)]


def _who(settings: Any) -> list[Any]:
    return [settings.server_database, settings.server_username]


def _mode(settings: Any) -> list[Any]:
    """By what clients keep a server of such a pool, and what is done for the next."""
    return [settings.pool_mode, settings.session_state]


def _login(settings: Any) -> list[Any]:
    """With what such a pool logs in."""
    parameters = [[name, value] for name, value in settings.startup_parameters]
    return [settings.application_name, _tls(settings), parameters]


def _tls(settings: Any) -> list[Any]:
    """By what such a pool knows its servers, and is known to them."""
    if settings.server_tls_mode == "disable":
        return [settings.server_tls_mode]
    return [*(getattr(settings, name) for name in SERVER_TLS), settings.server_tls_fingerprint]


def pack_base(base: Base) -> Plain | None:
    """What a session began with, None where that is not known."""
    return None if base is UNKNOWN else {"values": base.values, "owned": sorted(base.owned)}


def unpack_base(state: Mapping[str, Any] | None) -> Base:
    """The one object for what ``pack_base`` has made ``state`` of."""
    return UNKNOWN if state is None else Base.of(dict(state["values"]), state["owned"])


def pack_reported(reported: Reported) -> list[list[str]]:
    """Reported parameters, in their order."""
    return [[name, value] for name, value in reported.values.items()]


def unpack_reported(state: list[list[str]]) -> Reported:
    """The one object for what ``pack_reported`` has made ``state`` of."""
    return Reported.of({name: value for name, value in state})
