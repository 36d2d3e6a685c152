"""LDAP says whether a password is right: by a bind as the user, whose name is made of his, or searched for.

Rules:
1. No name changes what is asked: what means something in a filter or a distinguished name is escaped, and where a name
   is put together in another way, refused.
2. An empty password is never tried, nor is one for an empty name: both would be "success" (RFC 4513 section 5.1.2).
3. Exactly one entry has to be found. Referrals are not followed.
4. Servers are asked in turn until one answers; that it says no is an answer.

PostgreSQL docs, "LDAP Authentication"; most errors are in the words of its hba.c. RFC 4514 and RFC 4515 for escaping.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import unquote, urlsplit

import gevent
from gevent.ssl import SSLContext

from pgdoorman_lib.abc import JudgeSettings
from pgdoorman_lib.auth.ldap_client import (
    INVALID_CREDENTIALS,
    NO_SUCH_OBJECT,
    SIZE_LIMIT_EXCEEDED,
    SUCCESS,
    UNAVAILABLE,
    Conversation,
    LdapFault,
    Result,
    check_filter,
    connect,
    load,
)
from pgdoorman_lib.errors import ConfigError, NoVerdict, Refusal
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.record import record

#: The options of pg_hba's method ldap.
OPTIONS = (
    "ldapserver",
    "ldapport",
    "ldapscheme",
    "ldaptls",
    "ldapprefix",
    "ldapsuffix",
    "ldapbasedn",
    "ldapbinddn",
    "ldapbindpasswd",
    "ldapsearchattribute",
    "ldapsearchfilter",
    "ldapurl",
)
_OF_SEARCH = ("ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl")

_PORTS = {"ldap": 389, "ldaps": 636}
_SCOPES = {"": 0, "base": 0, "one": 1, "sub": 2}
_SUBTREE = 2
_USERNAME = "$username"
_ATTRIBUTE = "uid"

_IN_FILTERS = {char: f"\\{ord(char):02x}" for char in "*()\\\0"}
_IN_NAMES = ',+"\\<>;=#'
#: What means something in one form of a name or another.
_SPECIAL = frozenset(_IN_NAMES + "*()/@&|!\0\r\n")


@record(frozen=True)
class Directory:
    """LDAP servers, and how a user is found there.

    A simple bind is as ``prefix`` + his name + ``suffix``; where there is a ``template``, a filter, that is searched
    for, below ``base``, as ``bind_name`` (empty: as nobody), and bound as. ``tls`` is ``ldaps``, ``starttls`` or empty.
    """

    servers: tuple[tuple[str, int], ...]
    tls: str = ""
    context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    prefix: str = ""
    suffix: str = ""
    base: str = ""
    scope: int = _SUBTREE
    template: str = ""
    bind_name: str = ""
    bind_password: str = field(default="", repr=False)
    blocks = False
    passes_on = True
    method = None

    @property
    def line(self) -> str:
        return "LDAP server " + " ".join(f"{host}:{port}" for host, port in self.servers)

    def judge(self, claim: Any, until: float) -> None:
        """As in abc.Judge; may switch."""
        if not claim.password:
            raise Refusal("an empty password")
        bound = self._bound(claim.user)
        faults = []
        for number, (host, port) in enumerate(self.servers):
            # One that does not answer has its share of the time, and leaves the others theirs.
            seconds = max(0.0, until - clock()) / (len(self.servers) - number)
            timer = gevent.Timeout.start_new(seconds)
            try:
                self._ask(host, port, seconds, claim, bound)
                return
            except (LdapFault, OSError) as exc:
                faults.append(f"{host}:{port}: {exc}")
            except gevent.Timeout as exc:
                if exc is not timer:
                    raise
                faults.append(f"{host}:{port}: no answer within {seconds:.3g} s")
            finally:
                timer.close()
        raise NoVerdict(f"LDAP server {'; '.join(faults)}")

    def _bound(self, user: str) -> bytes:
        """The name to bind as, if it is known without a search; Refusal."""
        if self.template:
            return b""
        if self.prefix.rstrip().endswith("="):
            user = escape_in_name(user)
        elif not _SPECIAL.isdisjoint(user):
            raise Refusal("a name with characters that LDAP might take for something else")
        return f"{self.prefix}{user}{self.suffix}".encode(errors="replace")

    def _ask(self, host: str, port: int, seconds: float, claim: Any, bound: bytes) -> None:
        """Return if this server lets the user bind; Refusal, LdapFault, OSError."""
        sock = connect(host, port, seconds)
        try:
            conversation = Conversation(sock)
            if self.tls == "starttls":
                assert self.context is not None
                sock = conversation.start_tls(self.context, host)
            elif self.tls:
                assert self.context is not None
                sock = self.context.wrap_socket(sock, server_hostname=host)
                conversation = Conversation(sock)
            name, refusal = self._search(conversation, claim.user) if self.template else (bound, None)
            # Also as one who is not there: how long this takes must not tell.
            result = conversation.bind(name, claim.password)
            if refusal is not None:
                raise refusal
            _check(result, "the bind as the user")
            conversation.unbind()
        finally:
            sock.close()

    def _search(self, conversation: Conversation, user: str) -> tuple[bytes, Refusal | None]:
        """The name of the user's entry; one of nobody's, and the refusal, if there is none, or more than one."""
        result = conversation.bind(self.bind_name.encode(), self.bind_password.encode())
        if result.code != SUCCESS:
            raise LdapFault(f"the bind for the search fails: {result}")
        text = self.template.replace(_USERNAME, escape_in_filter(user))
        result, names = conversation.search(self.base, self.scope, text)
        if result.code not in (SUCCESS, SIZE_LIMIT_EXCEEDED, NO_SUCH_OBJECT):
            raise LdapFault(f"the search fails: {result}")
        if len(names) != 1 or result.code != SUCCESS:
            return self._nobody, Refusal(f"LDAP finds {len(names) or 'no'} entries of this name")
        if not names[0]:
            return self._nobody, Refusal("LDAP finds an entry without a name")
        return names[0], None

    @property
    def _nobody(self) -> bytes:
        return f"cn=nobody,{self.base}".encode()


def _check(result: Result, what: str) -> None:
    if result.code in UNAVAILABLE:
        raise LdapFault(f"{what} fails: {result}")
    if result.code == INVALID_CREDENTIALS:
        raise Refusal("wrong password, says LDAP")
    if result.code != SUCCESS:
        raise Refusal(f"{what} fails: {result}")


def escape_in_filter(text: str) -> str:
    """``text`` as a value in a filter (RFC 4515 section 3)."""
    return "".join(_IN_FILTERS.get(char, char) for char in text)


def escape_in_name(text: str) -> str:
    """``text`` as a value in a distinguished name (RFC 4514 section 2.4)."""
    escaped = "".join(f"\\{char}" if char in _IN_NAMES else char for char in text).replace("\0", "\\00")
    if escaped.endswith(" "):
        escaped = f"{escaped[:-1]}\\ "
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def directory(options: Mapping[str, str], settings: JudgeSettings | None) -> Directory:
    """What a rule's options say; ValueError or ConfigError if that is nothing to go by."""
    load()
    search = [name for name in _OF_SEARCH if name in options]
    if ("ldapprefix" in options or "ldapsuffix" in options) and search:
        raise ValueError("cannot mix options for simple bind and search+bind modes")
    url = _parse_url(options["ldapurl"]) if "ldapurl" in options else {}
    options = {**options, **url}
    if not any(name in options for name in ("ldapbasedn", "ldapprefix", "ldapsuffix")):
        raise ValueError(
            'authentication method "ldap" requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix" to be set'
        )
    if "ldapsearchattribute" in options and "ldapsearchfilter" in options:
        raise ValueError("cannot use ldapsearchattribute together with ldapsearchfilter")
    scheme = options.get("ldapscheme", "ldap")
    if scheme not in _PORTS:
        raise ValueError(f'invalid ldapscheme value: "{scheme}"')
    tls = "ldaps" if scheme == "ldaps" else "starttls" if options.get("ldaptls") == "1" else ""
    if tls == "ldaps" and options.get("ldaptls") == "1":
        raise ValueError('ldaptls has no place with ldapscheme "ldaps", which is TLS already')
    if bool(options.get("ldapbinddn")) != bool(options.get("ldapbindpasswd")):
        raise ValueError("ldapbinddn and ldapbindpasswd need each other: a name alone would be nobody's")
    template = ""
    if "ldapbasedn" in options:
        template = (
            options.get("ldapsearchfilter") or f"({options.get('ldapsearchattribute') or _ATTRIBUTE}={_USERNAME})"
        )
        if _USERNAME not in template:
            raise ValueError(f"expected {_USERNAME} in ldapsearchfilter, which stands for the user's name")
        check_filter(template.replace(_USERNAME, "x"))
    return Directory(
        _servers(options.get("ldapserver", ""), _port(options.get("ldapport"), _PORTS[scheme])),
        tls,
        _context(settings) if tls else None,
        options.get("ldapprefix", ""),
        options.get("ldapsuffix", ""),
        options.get("ldapbasedn", ""),
        int(options.get("scope", _SUBTREE)),
        template,
        options.get("ldapbinddn", ""),
        options.get("ldapbindpasswd", ""),
    )


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise ValueError(f'invalid LDAP port number: "{text}"')
    return int(text)


def _servers(text: str, port: int) -> tuple[tuple[str, int], ...]:
    """The hosts of a list, of which each may have a port of its own."""
    found = []
    for word in text.split():
        host, colon, own = word.rpartition(":")
        # Of several colons none is before a port, unless the address is in brackets.
        has_port = bool(colon) and (host.endswith("]") or ":" not in host)
        found.append((_host(host), _port(own, port)) if has_port else (_host(word), port))
    if not found:
        raise ValueError('authentication method "ldap" requires argument "ldapserver" to be set')
    return tuple(found)


def _host(text: str) -> str:
    host = text.strip("[]")
    try:
        if not host or "\0" in host:
            raise UnicodeError("no name")
        host.encode("idna")  # as it is looked up
    except UnicodeError:
        raise ValueError(f'invalid LDAP server name: "{text}"') from None
    return host


def _parse_url(text: str) -> dict[str, str]:
    """The options that an LDAP URL stands for (RFC 4516)."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as exc:
        raise ValueError(f'could not parse LDAP URL "{text}": {exc}') from None
    if url.scheme not in _PORTS:
        raise ValueError(f"unsupported LDAP URL scheme: {url.scheme}")
    attribute, scope, search, *extensions = [unquote(part) for part in f"{url.query}???".split("?")]
    if scope not in _SCOPES:
        raise ValueError(f'could not parse LDAP URL "{text}": invalid scope "{scope}"')
    if any(extensions):
        raise ValueError(f'could not parse LDAP URL "{text}": extensions are not supported')
    found = {
        "ldapscheme": url.scheme,
        "ldapserver": url.hostname or "",
        "ldapport": str(port) if port is not None else "",
        "ldapbasedn": unquote(url.path[1:]),
        "ldapsearchattribute": attribute,
        "ldapsearchfilter": search,
    }
    return {name: value for name, value in found.items() if value} | {"scope": str(_SCOPES[scope])}


def _context(settings: JudgeSettings | None) -> ssl.SSLContext:
    """For TLS to LDAP servers: their certificates have to be good, and theirs."""
    ca = settings.auth_ldap_ca_cert if settings is not None else None
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
    except OSError as exc:
        raise ConfigError(f"auth_ldap_ca_cert {ca} can't be used: {exc}") from exc
    return context
