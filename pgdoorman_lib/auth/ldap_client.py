"""A conversation with one LDAP server: bind, search, StartTLS (RFC 4511).

Rules:
1. Blocking style over gevent's sockets; who calls limits the time.
2. Messages are read whole, no byte more, and of limited size: what follows an answer to StartTLS is TLS's.
3. What is no answer to what was asked is a fault, and no answer. Referrals are not followed.

The messages are those of ldap3 and pyasn1, the connection is ours: theirs waits for a server as long as that pleases,
and takes as much as it sends.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any

import gevent
from gevent import socket
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.record import record

#: Bytes of the longest message taken, which nobody else waits long for (3 µs a byte), and how many of them an answer to
#: a search may have: an entry or two, and some references.
_MAX_MESSAGE = 1 << 13
_MAX_MESSAGES = 20

#: Blocks.
_getaddrinfo: Any = get_original("socket", "getaddrinfo")
_RESOLVER_THREADS = 4
#: Seconds after which one that nobody needs is ended.
_IDLE_THREAD = 60

#: BER: a SEQUENCE, and the bit of a length that is followed by its bytes.
_SEQUENCE = 0x30
_LONG = 0x80

_START_TLS = b"1.3.6.1.4.1.1466.20037"
#: A search's attributes: none.
_NO_ATTRIBUTES = "1.1"
_NEVER_DEREFERENCE = 0
#: One more than who is looked for: several are none.
_ENTRIES = 2

#: Result codes (RFC 4511 section 4.1.9).
SUCCESS = 0
SIZE_LIMIT_EXCEEDED = 4
NO_SUCH_OBJECT = 32
INVALID_CREDENTIALS = 49
#: Another server may know better.
UNAVAILABLE = frozenset((51, 52))


class LdapFault(Exception):
    """A server does not answer as LDAP's do; the text says what it does."""


@record(frozen=True)
class Result:
    """What a server says of a request: a result code, and its words."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.text} ({self.code})"


@record(frozen=True)
class Messages:
    """What is used of ldap3 and pyasn1."""

    types: Any
    search: Any
    encode: Any
    decode: Any
    #: what both raise for what can't be read, or written
    faults: tuple[type[Exception], ...]


@lru_cache(maxsize=1)
def load() -> Messages:
    """The packages; ConfigError where they are not installed."""
    try:
        from ldap3.core.exceptions import LDAPException
        from ldap3.operation.search import search_operation
        from ldap3.protocol import rfc4511
        from ldap3.utils.asn1 import encode
        from pyasn1.codec.ber.decoder import decode
        from pyasn1.error import PyAsn1Error
    except ModuleNotFoundError as exc:
        raise ConfigError("LDAP needs the package ldap3: pip install 'pgdoorman[ldap]'") from exc
    return Messages(rfc4511, search_operation, encode, decode, (PyAsn1Error, LDAPException, RecursionError))


def check_filter(text: str) -> None:
    """ValueError unless it is a search's filter."""
    messages = load()
    try:
        _search_request("", 0, text)
    except messages.faults as exc:
        raise ValueError(f'invalid filter "{text}": {exc}') from None


def _search_request(base: str, scope: int, text: str) -> Any:
    return load().search(base, text, scope, _NEVER_DEREFERENCE, [_NO_ATTRIBUTES], _ENTRIES, 0, True, False, False)


class Conversation:
    """With the server at ``sock``, which stays the caller's to close. All of it may switch; LdapFault, OSError."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._messages = load()
        self._number = 0

    def start_tls(self, context: ssl.SSLContext, host: str) -> Any:
        """Have what follows encrypted, with the server that is called ``host``; the socket of that."""
        request = self._messages.types.ExtendedRequest()
        request["requestName"] = self._messages.types.RequestName(_START_TLS)
        _, answer = self._ask("extendedReq", request, "extendedResp")
        result = _result(answer)
        if result.code != SUCCESS:
            raise LdapFault(f"it refuses StartTLS: {result}")
        self._sock = context.wrap_socket(self._sock, server_hostname=host)
        return self._sock

    def bind(self, name: bytes, password: bytes) -> Result:
        """Prove to be ``name`` by ``password``; both empty: be nobody."""
        if bool(name) != bool(password):
            # A server takes that for a bind as nobody, and says that all is well (RFC 4513 section 5.1.2).
            raise LdapFault("a name without a password, or the reverse, proves nothing")
        types = self._messages.types
        request = types.BindRequest()
        request["version"] = types.Version(3)
        request["name"] = types.LDAPDN(name)
        request["authentication"] = types.AuthenticationChoice().setComponentByName("simple", types.Simple(password))
        return _result(self._ask("bindRequest", request, "bindResponse")[1])

    def search(self, base: str, scope: int, text: str) -> tuple[Result, list[bytes]]:
        """The names of what ``text``, a filter, finds: two at most."""
        names: list[bytes] = []
        kind, answer = self._ask("searchRequest", _search_request(base, scope, text), "")
        for _ in range(_MAX_MESSAGES):
            if kind == "searchResDone":
                return _result(answer), names
            if kind == "searchResEntry":
                names.append(bytes(answer["object"]))
            elif kind != "searchResRef":
                break
            if len(names) > _ENTRIES:
                break
            gevent.sleep(0)  # others' turn: it may all be there already
            kind, answer = self._receive()
        raise LdapFault("it answers a search with something else")

    def unbind(self) -> None:
        """Say that this was all."""
        self._send("unbindRequest", self._messages.types.UnbindRequest(""))

    def _ask(self, kind: str, request: Any, expected: str) -> tuple[str, Any]:
        """The answer's kind and body; ``expected`` empty: of any kind."""
        self._number += 1
        self._send(kind, request)
        found, answer = self._receive()
        if expected and found != expected:
            raise LdapFault(f"it answers {kind} with {found}")
        return found, answer

    def _send(self, kind: str, request: Any) -> None:
        types = self._messages.types
        message = types.LDAPMessage()
        message["messageID"] = types.MessageID(self._number)
        message["protocolOp"] = types.ProtocolOp().setComponentByName(kind, request)
        self._sock.sendall(self._messages.encode(message))

    def _receive(self) -> tuple[str, Any]:
        data = self._read_message()
        try:
            message, rest = self._messages.decode(data, asn1Spec=self._messages.types.LDAPMessage())
            number, operation = int(message["messageID"]), message["protocolOp"]
            kind, body = operation.getName(), operation.getComponent()
        except self._messages.faults as exc:
            raise LdapFault(f"what it sends is not LDAP: {type(exc).__name__}") from exc
        if number == 0 and kind == "extendedResp":
            raise LdapFault(f"it ends the connection: {_result(body)}")
        if rest or number != self._number:
            raise LdapFault("it answers what was not asked")
        return kind, body

    def _read_message(self) -> bytes:
        head = self._read_exact(2)
        length = head[1]
        if length >= _LONG:
            width = length - _LONG
            if not 0 < width <= 4:
                raise LdapFault("what it sends is not LDAP: a length of no length")
            head += self._read_exact(width)
            length = int.from_bytes(head[2:], "big")
        if head[0] != _SEQUENCE:
            raise LdapFault("what it sends is not LDAP")
        if length > _MAX_MESSAGE:
            raise LdapFault(f"it sends a message of {length} bytes")
        return head + self._read_exact(length)

    def _read_exact(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._sock.recv(size - len(data))
            if not piece:
                raise LdapFault("it has closed the connection")
            data += piece
        return data


def connect(host: str, port: int, seconds: float) -> Any:
    """A socket to the first of the host's addresses that answers; may switch. OSError."""
    failure = OSError("it has no address")
    addresses = _resolve(host, port)
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(seconds / len(addresses))
            sock.connect(address)
        except OSError as exc:
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
        else:
            sock.settimeout(None)
            return sock
    raise failure


def _resolve(host: str, port: int) -> list[Any]:
    """The host's addresses, as getaddrinfo has them; may switch. OSError."""
    try:
        return list(_getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        pass  # it is a name
    found: Any = _resolver().spawn(_look_up, host, port).get()  # switch
    if isinstance(found, OSError):
        raise found
    return list(found)


def _look_up(host: str, port: int) -> list[Any] | OSError:
    """Blocks, in a thread, where what is raised would be printed."""
    try:
        return list(_getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except OSError as exc:
        return exc


@lru_cache(maxsize=1)
def _resolver() -> ThreadPool:
    """Threads of our own: where DNS hangs they are busy, and not those by which servers' names are looked up."""
    return ThreadPool(_RESOLVER_THREADS, idle_task_timeout=_IDLE_THREAD)


def _result(body: Any) -> Result:
    """What ends the answer to a request says."""
    code = body["resultCode"]
    text = bytes(body["diagnosticMessage"]).decode(errors="replace") or str(code.prettyPrint())
    return Result(int(code), "".join(char if char.isprintable() else "?" for char in text[:200]))
