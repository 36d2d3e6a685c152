"""The start of a client's connection: from its first byte until it is known who it is and what it wants.

Rules:
1. Blocking style over Stream: every read may switch greenlets, nothing here is shared between clients. Only a client
   like an earlier one is waited for without a greenlet (``recognise``, ``proceed``), as long as its words are whole.
2. What is asked of the client, and what it is told, depends on nothing but its address, its words and the rules, until
   it has proven who it is.

PostgreSQL docs, "Protocol Flow: Start-up", "SSL Session Encryption", "Canceling Requests in Progress"; the order of
checks and the texts are those of its backend_startup.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pgdoorman_lib.abc import Judge, LoginPolicy
from pgdoorman_lib.auth.bearer import authenticate_bearer
from pgdoorman_lib.auth.clear_text import authenticate_told, authenticate_visitor
from pgdoorman_lib.auth.demand import MD5, NOT_BY_OUR_SECRET, SCRAM_SHA_256, WITHOUT_SECRET, Demand
from pgdoorman_lib.auth.identity import require_certificate
from pgdoorman_lib.auth.lookup import Finding
from pgdoorman_lib.auth.oauth import OAUTH
from pgdoorman_lib.auth.talos import Visitor
from pgdoorman_lib.auth.tokens import JWT
from pgdoorman_lib.auth.verify import (
    Candidate,
    Proof,
    advance,
    authenticate,
    console_method_for,
    identify,
    method_for,
    proof_by,
)
from pgdoorman_lib.client.encryption import first_packet
from pgdoorman_lib.client.login_cache import KnownLogin
from pgdoorman_lib.config.tokens import TALOS_USER
from pgdoorman_lib.errors import NotPermitted, ProtocolViolation, TlsRequired, UnsupportedFeature
from pgdoorman_lib.net.pollable import Pollable
from pgdoorman_lib.net.stream import NOTHING, Stream
from pgdoorman_lib.net.syscalls import cut
from pgdoorman_lib.record import record
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.messages import negotiate_protocol_version
from pgdoorman_lib.wire.startup import (
    PHYSICAL,
    CancelRequest,
    StartupMessage,
    parse_options,
    parse_replication,
    parse_startup,
)

_int = int
_Texts = dict[str, str]
_Pairs = tuple[tuple[str, str], ...]
_Chosen = dict[str, tuple[str, str]]

#: The longest message, length word included, that is waited for without a greenlet: it fits a stream's block.
_MAX_POLLED = 1024

_NEWEST_MINOR = consts.PROTOCOL_3_2 & 0xFFFF
_TLS_REQUIRED = ("require", "verify-full")
#: Startup parameters that are for the pooler and not settings of the session.
_OURS = frozenset(("user", "database", "options", "replication"))
#: What rules say who leave it to the user how he proves to know his password.
_BY_SECRET = (None, MD5, SCRAM_SHA_256)
_NO_SECRET = "has no password here, and this method goes by that"
# What a name begins with, ASCII letters, _ and all beyond ASCII, is said by what is none: that compiles in a moment.
_is_setting_name = re.compile(r"[^\0-@\[-^`{-\x7f][\w$]*(?:\.[^\0-@\[-^`{-\x7f][\w$]*)*").fullmatch


@record(frozen=True)
class CancelRequested:
    """Not a login: the statement of the client with this key is to be cancelled. An empty ``secret`` is nobody's."""

    pid: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True)  # compiled it is a cdef class, whose methods Cython makes
class Accepted:
    """A client that has proven who it is.

    ``parameters`` are the settings it asked for, name and value, one spelling of each; ``protocol`` is the version
    spoken as an int32; ``admin``: it wants the console; ``credentials``: the SCRAM ClientKey (32 bytes) it has proven
    to know, or the password that it has told, if it has; ``replication``: it wants a WAL sender, PHYSICAL or LOGICAL;
    ``secret``: what was looked up of it, empty for one who is configured.
    """

    user: str
    database: str
    parameters: tuple[tuple[str, str], ...]
    protocol: int
    admin: bool
    credentials: bytes | str | None = field(default=None, repr=False)
    replication: str = ""
    secret: str = field(default="", repr=False)


class Guest(Pollable):
    """Whose login it is."""

    __slots__ = ()

    def asks(self, user: str, database: str) -> None:
        """A client wants to be ``user`` of ``database``; nothing is proven yet."""
        raise NotImplementedError

    def admit(self, console: bool) -> None:
        """Let it in, of whom nothing is proven yet: TooManyClients, ShuttingDown."""
        raise NotImplementedError


def login(stream: Stream, policy: LoginPolicy, guest: Guest) -> Accepted | CancelRequested:
    """Agree on encryption, read the startup packet, authenticate; may switch.

    ``guest`` is told who wants to log in where, and lets it in or not (TooManyClients, ShuttingDown), each once.
    Nothing of the welcome is sent but NegotiateProtocolVersion and the exchange itself, whose end may still be queued.
    DoormanError: to be told to the client, and the connection closed; of AuthenticationFailed the cause is for the log.
    PeerGone: there is nobody to tell. The caller sets the time limit.
    """
    packet = first_packet(stream, policy)
    tls = stream.tls is not None
    cache = policy.cache  # a reload meanwhile makes another: what was decided by then is not for that one
    known = cache.find(stream.peer_host, tls, packet)
    if known is not None:
        return finish(stream, _begin_known(stream, policy, guest, known))

    request = _parse(packet)
    if isinstance(request, CancelRequested):
        return request
    _negotiate(stream, request)
    user = request.parameters.get("user", "")
    if not user:
        raise NotPermitted("no PostgreSQL user name specified in startup packet")
    database = request.parameters.get("database") or user
    guest.asks(user, database)
    replication = parse_replication(request.parameters.get("replication", ""))
    general = policy.general
    if general.tls_mode in _TLS_REQUIRED and not tls and not stream.is_unix:
        raise TlsRequired("Connection without SSL is not allowed by tls_mode.")
    demand: Demand = policy.hba.admit(
        is_unix=bool(stream.is_unix),
        tls=tls,
        address=stream.peer_host,
        database=database,
        user=user,
        physical=replication == PHYSICAL,
    )
    if demand.certificate:
        require_certificate(stream)
    rule = demand.method
    admin = policy.is_admin_database(database)
    guest.admit(admin)
    if replication:
        if admin:
            raise UnsupportedFeature("the console has no replication")
        if replication == PHYSICAL and policy.find_user(database, user) is None:
            # It is of no database, and need not name one: any pool of the user leads to its server.
            database = policy.database_of(user) or database
    protocol = min(request.protocol, consts.PROTOCOL_3_2)
    settings = _settings(request.parameters)
    if user == TALOS_USER and not admin and policy.keyring.talos:
        visitor = authenticate_visitor(stream, policy.keyring.talos, database, policy.find_user)
        identify(stream, user, demand, JWT)
        return Accepted(visitor.role, database, _named(settings, visitor), protocol, admin, None, replication)
    if admin:
        candidate = _console_candidate(user, policy, demand)
        method = console_method_for(candidate.secret, rule)
    else:
        candidate = _pool_candidate(user, database, policy, demand)
        method = method_for(candidate.secret, rule)
    secret = "" if candidate.finding is None else candidate.finding.secret
    # Who has to show a certificate shows it each time.
    usual = not (admin or replication or demand.certificate or _asks_for_more(request))
    if usual and method not in WITHOUT_SECRET and candidate.judge is None:
        accepted = Accepted(user, database, settings, protocol, False, secret=secret)
        cache.meet(stream.peer_host, tls, packet, (candidate, method, accepted))
        accepted = _proven(accepted, authenticate(stream, candidate, method, policy.mock_secret))
        cache.remember(stream.peer_host, tls, packet, (candidate, method, accepted))
        return accepted
    credentials: bytes | str | None
    if candidate.judge is not None:
        method = candidate.judge.method or method
        told = authenticate_bearer if method == OAUTH else authenticate_told
        credentials = told(stream, candidate, candidate.judge, policy.judges, database, method)
    else:
        credentials = authenticate(stream, candidate, method, policy.mock_secret)
    identify(stream, user, demand, method)
    return Accepted(user, database, settings, protocol, admin, credentials, replication, secret)


class Familiar:
    """The login of a client like an earlier one, which needs no greenlet while it waits."""

    __slots__ = ("accepted", "proof")

    def __init__(self, accepted: Accepted, proof: Proof) -> None:
        #: what it is accepted as at the end of ``proof``
        self.accepted = accepted
        self.proof = proof


def recognise(stream: Stream, policy: LoginPolicy, guest: Guest) -> Familiar | None:
    """Begin the login of a client in clear whose first packet is there as a whole, and like an earlier one's.

    None, with nothing consumed, if it is not. No switch; raises what ``guest`` does.
    """
    if _is_whole(stream, 0) != 1:
        return None
    block: Any = stream.block
    end = stream.start + _length(stream, 0)
    cache = policy.cache
    known = cache.find(stream.peer_host, False, cut(block, stream.start + 4, end))
    if known is None:
        return None
    stream.start = end
    stream.release()
    return _begin_known(stream, policy, guest, known)


def proceed(stream: Stream, familiar: Familiar) -> bool:
    """Go on as far as no waiting is needed: whether the client's next words must be waited for. Raises as ``login``."""
    proof = familiar.proof
    while not proof.done:
        whole = _is_whole(stream, 1)
        if whole != 1:
            return whole == 0
        advance(stream, proof)
    return False


def _is_whole(stream: Stream, lead: _int) -> _int:
    """Receive what has come: 1 if the next message is there as a whole, 0 if it is on its way. No switch.

    -1 if that does not come, or not here: at the end of the stream, or of a length that is impossible or too long. Its
    length word is behind ``lead`` bytes and does not count them.
    """
    size = lead + 4
    while True:
        if stream.end - stream.start >= size:
            length = _length(stream, lead)
            if length < 4 or length > _MAX_POLLED:
                return -1
            size = lead + length
            if stream.end - stream.start >= size:
                return 1
        received = stream.fill()
        if received <= 0:
            return 0 if received == NOTHING else -1


def _length(stream: Stream, lead: _int) -> _int:
    """What the length word says that is there, behind ``lead`` bytes."""
    block: Any = stream.block
    at = stream.start + lead
    return block[at] << 24 | block[at + 1] << 16 | block[at + 2] << 8 | block[at + 3]  # type: ignore[no-any-return]


def finish(stream: Stream, familiar: Familiar) -> Accepted:
    """The rest of the login; may switch. Raises as ``login``."""
    proof = familiar.proof
    while not proof.done:
        advance(stream, proof)
    accepted = familiar.accepted
    return accepted if proof.client_key == accepted.credentials else _proven(accepted, proof.client_key)


def _begin_known(stream: Stream, policy: LoginPolicy, guest: Guest, known: KnownLogin) -> Familiar:
    candidate, method, accepted = known
    guest.asks(accepted.user, accepted.database)
    guest.admit(False)
    proof = proof_by(method, candidate, policy.mock_secret, stream.end_point)
    stream.write(proof.request)
    return Familiar(accepted, proof)


def _parse(packet: bytes) -> StartupMessage | CancelRequested:
    """What the client wants, once it does not ask for encryption any more."""
    try:
        request = parse_startup(packet)
    except ProtocolViolation:
        if int32(packet, 0) == consts.CANCEL_REQUEST:
            return CancelRequested(0, b"")  # a cancel is never answered, not even a malformed one
        raise
    if isinstance(request, CancelRequest):
        return CancelRequested(request.pid, request.secret)
    assert isinstance(request, StartupMessage)
    return request


def _negotiate(stream: Stream, request: StartupMessage) -> None:
    """Tell a client that asked for more than we speak what we speak; it is sent with the next flush."""
    if _asks_for_more(request):
        stream.write(negotiate_protocol_version(min(request.minor, _NEWEST_MINOR), request.unknown_options))


def _proven(accepted: Accepted, client_key: bytes | None) -> Accepted:
    """``accepted`` with the ClientKey that it has proven to know."""
    return Accepted(
        accepted.user,
        accepted.database,
        accepted.parameters,
        accepted.protocol,
        accepted.admin,
        client_key,
        accepted.replication,
        accepted.secret,
    )


def _asks_for_more(request: StartupMessage) -> bool:
    """Whether the client must be told by NegotiateProtocolVersion what we speak."""
    return request.minor > _NEWEST_MINOR or bool(request.unknown_options)


def _console_candidate(user: str, policy: LoginPolicy, demand: Demand) -> Candidate:
    secret = policy.console_secret(user)
    refusal = None
    if secret is None:
        refusal = "not a user of the console"
    elif not secret and demand.method not in NOT_BY_OUR_SECRET:
        refusal = _NO_SECRET
    # Who is none goes by the look of the one whom every console has.
    judge = policy.keyring.stand_in if demand.method == JWT else demand.judge
    return Candidate(user, policy.general.admin_password if secret is None else secret, refusal, None, judge)


def _pool_candidate(user: str, database: str, policy: LoginPolicy, demand: Demand) -> Candidate:
    account = policy.find_user(database, user)
    if account is None and policy.looks_up(database):
        found = policy.look_up(database, user)  # switch
        judge = _judge(user, database, policy, demand, found)
        stand_in = _stand_in(user, policy, judge, found)
        return Candidate(user, found.secret or stand_in, found.why or None, found, judge)
    judge = _judge(user, database, policy, demand)
    stand_in = _stand_in(user, policy, judge)
    secret = account.password if account is not None else ""
    refusal = None
    if account is None:
        refusal = "no such user in a pool of that name"
    elif not secret and judge is None and demand.method not in WITHOUT_SECRET:
        refusal = _NO_SECRET
    return Candidate(user, secret or stand_in, refusal, None, judge)


def _stand_in(user: str, policy: LoginPolicy, judge: Judge | None, found: Finding | None = None) -> str:
    """The secret that would stand in, also where there is one: how long that takes must not tell.

    Nobody goes by a secret whose words somebody judges.
    """
    return policy.stand_in(user, found) if judge is None else ""


def _judge(user: str, database: str, policy: LoginPolicy, demand: Demand, found: Finding | None = None) -> Judge | None:
    """Who judges the user's password, None if nobody does: a rule's judge first, else the user's own.

    As in pg_doorman, rules that ask for a password at all leave it to a user's ``auth_pam_service``.
    """
    if demand.method == JWT:
        return policy.keyring.judge_by_rule(policy.find_user(database, user))
    if demand.judge is None and demand.method in _BY_SECRET:
        return policy.judge(database, user, found)
    return demand.judge


def _settings(parameters: _Texts) -> _Pairs:
    """The session's settings: those in ``options``, then the startup packet's own, which win."""
    chosen: dict[str, tuple[str, str]] = {}
    options = parameters.get("options")
    if options:
        for name, value in parse_options(options).items():
            _choose(chosen, name, value)
    for name, value in parameters.items():
        if name not in _OURS:
            _choose(chosen, name, value)
    return tuple(chosen.values())


def _named(settings: _Pairs, visitor: Visitor) -> _Pairs:
    """``settings`` with what a visitor calls himself as application_name, if he does."""
    if not visitor.client_id:
        return settings
    others = tuple(pair for pair in settings if pair[0].lower() != "application_name")
    return (*others, ("application_name", visitor.client_id))


def _choose(chosen: _Chosen, name: str, value: str) -> None:
    if not (name.isascii() and name.isidentifier()) and _is_setting_name(name) is None:
        raise ProtocolViolation(f'unrecognized configuration parameter "{name}"', sqlstate="42704")
    # Names of settings know no case.
    chosen[name.lower()] = (name, value)
