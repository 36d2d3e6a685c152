"""Maps of names, and what certificates and the system say of clients."""

from __future__ import annotations

import os
import pwd
import re
import socket
from contextlib import suppress
from typing import Any

import pytest
from fakes import FakeStream
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.auth.demand import CERT, MD5, PEER, SCRAM_SHA_256, Demand
from pgdoorman_lib.auth.identity import IdentMaps, require_certificate
from pgdoorman_lib.auth.verify import identify
from pgdoorman_lib.errors import AuthenticationFailed, ConfigError, NotPermitted
from pgdoorman_lib.net.certificates import PeerCertificate

MAPS = r"""
# MAPNAME  SYSTEM-USERNAME                 PG-USERNAME
plain      alice                           app
plain      alice                           "two words"   # and another
plain      "a b"                           app
every      root                            all
every      toor                            "all"
mail       /^(.*)@example\.com$            \1
mail       /^(.*)@guests\.example\.com$    guest
mail       /^ops-                          admin
back       "/^x(\d*)y"                     a\1b\1
"""


def maps(text: str = MAPS) -> IdentMaps:
    return IdentMaps.parse(text, "pg_ident.conf")


@pytest.mark.parametrize(
    ("name", "system", "user", "allowed"),
    [
        ("plain", "alice", "app", True),
        ("plain", "alice", "two words", True),
        ("plain", "alice", "alice", False),  # with a map the same name is not enough
        ("plain", "Alice", "app", False),
        ("plain", "a b", "app", True),
        ("plain", "", "", False),
        ("every", "root", "anybody", True),
        ("every", "toor", "anybody", False),
        ("every", "toor", "all", True),
        ("mail", "bob@example.com", "bob", True),
        ("mail", "bob@example.com", "alice", False),
        ("mail", "bob@example.com.evil", "bob", False),
        ("mail", "bob@guests.example.com", "guest", True),
        ("mail", "ops-7", "admin", True),
        ("mail", "dev-ops-7", "admin", False),
        ("back", "x12y", r"a12b\1", True),  # the first one alone, as PostgreSQL has it
        ("back", "xy", r"ab\1", True),
        ("back", "y", r"ab\1", False),
    ],
)
def test_maps(name: str, system: str, user: str, allowed: bool) -> None:
    assert maps().named(name).allows(system, user) is allowed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("m a", "line 1: expected a map's name, a name elsewhere and a user, found 2 columns"),
        ("\nm a b c", "line 2: expected a map's name, a name elsewhere and a user, found 4 columns"),
        ("m a,b c", "multiple values"),
        ("m,n a c", "multiple values"),
        ("m /( c", "invalid regular expression"),
        (r"m /x \1", "has no subexpressions as requested by backreference"),
        ("m a +group", "membership in roles"),
        ("m a /x", "regular expressions"),
        ('m a "x', "unterminated quoted string"),
        ("include other.conf", "including other files"),
        ("@other.conf a b", "including other files"),
    ],
)
def test_maps_that_are_none(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"pg_ident\.conf, ") as caught:
        maps(text)
    assert why in caught.value.message


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["m", " ", "/", "(", ")", "\\1", '"', "\n", "*", "all"])).map("".join)
)
def test_garbage_is_refused_and_nothing_else(text: str) -> None:
    with suppress(ConfigError):
        IdentMaps.parse(text, "x")


def stream(**more: Any) -> FakeStream:
    found = FakeStream()
    found.peer_certificate = PeerCertificate(**{"common_name": "app", "distinguished_name": "CN=app,O=x", **more})
    return found


@pytest.mark.parametrize(
    ("demand", "shown", "user", "why"),
    [
        (Demand(CERT, "verify-full"), {}, "app", None),
        (Demand(CERT, "verify-full"), {}, "App", r"provided user name \(App\) and authenticated user name \(app\)"),
        (Demand(CERT, "verify-full"), {"common_name": None}, "app", "contains no user name"),
        (Demand(CERT, "verify-full"), {"common_name": ""}, "", "contains no user name"),
        (Demand(CERT, "verify-full", "DN"), {}, "app", "do not match"),
        (Demand(CERT, "verify-full", "DN"), {}, "CN=app,O=x", None),
        (Demand(CERT, "verify-full", "DN"), {"distinguished_name": None}, "app", "contains no user name"),
        (Demand(CERT, "verify-full", "CN", maps().named("plain")), {"common_name": "alice"}, "app", None),
        (
            Demand(CERT, "verify-full", "CN", maps().named("plain")),
            {},
            "app",
            'no match in usermap "plain" for user "app"',
        ),
        (Demand(SCRAM_SHA_256, "verify-full"), {}, "other", "do not match"),
        (Demand(MD5, "verify-ca"), {}, "other", None),
        (Demand(SCRAM_SHA_256), {}, "other", None),
    ],
)
def test_certificates(demand: Demand, shown: dict[str, str | None], user: str, why: str | None) -> None:
    assert demand.method is not None
    if why is None:
        identify(stream(**shown), user, demand, demand.method)
        return
    with pytest.raises(AuthenticationFailed) as caught:
        identify(stream(**shown), user, demand, demand.method)
    words = "certificate" if demand.method == CERT else "password"
    assert caught.value.message == f'{words} authentication failed for user "{user}"'
    assert caught.value.sqlstate == ("28000" if demand.method == CERT else "28P01")
    assert re.search(why, str(caught.value.__cause__))


def test_no_certificate() -> None:
    require_certificate(stream())
    with pytest.raises(NotPermitted, match="connection requires a valid client certificate") as caught:
        require_certificate(FakeStream())
    assert caught.value.sqlstate == "28000"


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell")
def test_the_other_end_of_a_unix_socket() -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        found = FakeStream(is_unix=True)
        found.sock = one
        identify(found, me, Demand(PEER), PEER)
        identify(found, "app", Demand(PEER, idents=IdentMaps.parse(f"m {me} app", "x").named("m")), PEER)
        for user, idents in ((me + "x", None), (me, maps().named("plain"))):
            with pytest.raises(AuthenticationFailed) as caught:
                identify(found, user, Demand(PEER, idents=idents), PEER)
            assert caught.value.message == f'Peer authentication failed for user "{user}"'
            assert caught.value.sqlstate == "28000"
