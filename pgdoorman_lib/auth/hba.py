"""Who may come from where: the rules of ``pg_hba``, and the address list ``hba``.

Rules:
1. The syntax is that of PostgreSQL's pg_hba.conf, quoting and lists included. What is not understood or not supported
   refuses the whole text: an access rule half understood is worse than none.
2. The first rule that matches decides; when none does, the connection is refused.
3. Names are only compared, never looked up: an answer tells nothing about which users and databases exist.

PostgreSQL docs, "The pg_hba.conf File"; its hba.c for what the page leaves open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

from pgdoorman_lib.abc import AccessRules, HbaText, JudgeSettings
from pgdoorman_lib.auth.demand import METHODS, OTHER_METHODS, REJECT, Demand, demand_of
from pgdoorman_lib.auth.hba_text import Token, fields, lines, single
from pgdoorman_lib.auth.identity import NO_MAPS, IdentMaps
from pgdoorman_lib.auth.interfaces import Interface, local_interfaces
from pgdoorman_lib.config.names import near
from pgdoorman_lib.errors import ConfigError, NotPermitted, Refusal
from pgdoorman_lib.record import record

_CONNECTIONS = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
_INCLUDES = ("include", "include_if_exists", "include_dir")
_BITS = {4: 32, 6: 128}


#: Of clients that no rule is about.
BY_SECRET = Demand(None)


def gate(
    hba: Sequence[str],
    pg_hba: HbaText | None,
    pg_ident: HbaText | None = None,
    judges: JudgeSettings | None = None,
) -> AccessRules:
    """The gate for ``general.hba``, ``general.pg_hba`` and ``general.pg_ident``; ConfigError if they can't be used.

    ``judges`` has what the methods pam and ldap go by beside their options.
    """
    maps = IdentMaps.parse(pg_ident.text, pg_ident.name) if pg_ident is not None else NO_MAPS
    return parse(pg_hba.text, pg_hba.name, maps=maps, judges=judges) if pg_hba is not None else AddressList(hba)


@record(frozen=True)
class Network:
    """A range of addresses as numbers; the mask may have holes, as PostgreSQL's may."""

    version: int
    address: int
    mask: int

    @classmethod
    def of(cls, address: str, mask: str | None = None) -> Network:
        """``address`` with ``/bits``, or with ``mask`` as an address, or alone; ValueError otherwise."""
        host, slash, bits = address.partition("/")
        base = ipaddress.ip_address(host)
        width = _BITS[base.version]
        if slash:
            if mask is not None or not (bits.isascii() and bits.isdigit()) or int(bits) > width:
                raise ValueError(f'invalid CIDR mask in address "{address}"')
            number = ((1 << width) - 1) ^ ((1 << (width - int(bits))) - 1)
        elif mask is not None:
            masking = ipaddress.ip_address(mask)
            if masking.version != base.version:
                raise ValueError("IP address and mask do not match")
            number = int(masking)
        else:
            number = (1 << width) - 1
        return cls(base.version, int(base), number)

    def __contains__(self, address: tuple[int, int]) -> bool:
        version, number = address
        return version == self.version and (number ^ self.address) & self.mask == 0


def _numeric(address: str) -> tuple[int, int]:
    """IP version and number of a peer's address; an IPv4 address in IPv6's clothes counts as IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.version, int(found)


class Networks:
    """The networks of a list in the configuration; ConfigError, which names its ``key``, for what is none."""

    def __init__(self, networks: Sequence[str], key: str) -> None:
        try:
            self._networks = [Network.of(text) for text in networks]
        except ValueError as exc:
            raise ConfigError(f"{key}: {exc}") from exc

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Whether a numeric address is in one of them."""
        numeric = _numeric(address)
        return any(numeric in network for network in self._networks)


class AddressList:
    """``general.hba``: networks that clients may come from by TCP; no network: from everywhere."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = Networks(networks, "general.hba")
        self.wants_certificates = False

    def admit(
        self, *, is_unix: bool, tls: bool, address: str, database: str, user: str, physical: bool = False
    ) -> Demand:
        """See ``AccessRules``; always by the user's secret."""
        if self._networks and not is_unix and address not in self._networks:
            raise NotPermitted(f"Connection from IP address {address} is not allowed by HBA configuration.")
        return BY_SECRET


@record(frozen=True)
class Rule:
    """One line. ``where`` is a network, ``samehost`` or ``samenet``, or None: ``local``, or the address ``all``."""

    line: int
    connection: str
    databases: tuple[Token, ...]
    users: tuple[Token, ...]
    where: Network | str | None
    demand: Demand

    def is_for(self, is_unix: bool, tls: bool) -> bool:
        """Whether the first column takes such a connection; none is ever encrypted by GSSAPI."""
        if is_unix or self.connection == "local":
            return is_unix and self.connection == "local"
        if self.connection == "hostssl":
            return tls
        if self.connection == "hostnossl":
            return not tls
        return self.connection != "hostgssenc"

    def is_for_names(self, database: str, user: str, physical: bool) -> bool:
        """Whether the database and user columns match: ``replication`` those of physical replication, and only it."""
        if physical:
            named = any(token.is_keyword("replication") for token in self.databases)
        else:
            named = any(_is_database(token, database, user) for token in self.databases)
        if not named:
            return False
        return any(token.is_keyword("all") or token.text == user for token in self.users)


def _is_database(token: Token, database: str, user: str) -> bool:
    if token.is_keyword("all"):
        return True
    if token.is_keyword("sameuser"):
        return database == user
    return token.text == database and not token.is_keyword("replication")


class Rules:
    """All rules of one text, in order; made by ``parse``."""

    def __init__(self, rules: Sequence[Rule], interfaces: Callable[[], Sequence[Interface]]) -> None:
        self.rules = tuple(rules)
        self._interfaces = interfaces
        #: whether TLS must ask clients for certificates
        self.wants_certificates = any(rule.demand.certificate for rule in self.rules)

    def match(
        self, *, is_unix: bool, tls: bool, address: str, database: str, user: str, physical: bool = False
    ) -> Rule | None:
        """The first rule that matches, those that reject included; None when there is none."""
        numeric = None if is_unix else _numeric(address)
        for rule in self.rules:
            if (
                rule.is_for(is_unix, tls)
                and rule.is_for_names(database, user, physical)
                and (numeric is None or self._is_in(rule, numeric))
            ):
                return rule
        return None

    def admit(
        self, *, is_unix: bool, tls: bool, address: str, database: str, user: str, physical: bool = False
    ) -> Demand:
        """See ``AccessRules``."""
        rule = self.match(is_unix=is_unix, tls=tls, address=address, database=database, user=user, physical=physical)
        if rule is not None and rule.demand.method != REJECT:
            return rule.demand
        whence = f'host "{"[local]" if is_unix else address}", user "{user}", '
        if not physical:
            whence += f'database "{database}", '
        whence += "SSL encryption" if tls else "no encryption"
        if rule is None:
            raise NotPermitted(f"no pg_hba.conf entry for {'replication connection from ' if physical else ''}{whence}")
        text = f"pg_hba.conf rejects {'replication ' if physical else ''}connection for {whence}"
        raise NotPermitted(text) from Refusal(f"line {rule.line}")

    def _is_in(self, rule: Rule, address: tuple[int, int]) -> bool:
        if rule.where is None:
            return True
        if isinstance(rule.where, Network):
            return address in rule.where
        # Asked anew each time, as PostgreSQL does: interfaces come and go.
        for version, number, mask in self._interfaces():
            if rule.where == "samehost":
                mask = (1 << _BITS[version]) - 1
            if address in Network(version, number, mask):
                return True
        return False


def parse(
    text: str,
    source: str,
    interfaces: Callable[[], Sequence[Interface]] = local_interfaces,
    maps: IdentMaps = NO_MAPS,
    judges: JudgeSettings | None = None,
) -> Rules:
    """The rules of a text; ConfigError, naming ``source`` and line, if one of its lines can't be used.

    ``interfaces`` tells this machine's addresses, for ``samehost`` and ``samenet``; ``maps`` are those of the option
    ``map``, ``judges`` as for ``gate``.
    """
    rules = []
    number = 0
    try:
        for number, line in lines(text):
            found = list(fields(line))
            if not found:
                continue
            rules.append(_rule(number, found, maps, judges))
            if isinstance(rules[-1].where, str):
                interfaces()  # where it can't be known, the operator hears it now, not a client later
    except (ValueError, ConfigError) as exc:
        raise ConfigError(f"{source}, line {number}: {exc}") from exc
    if not rules:
        raise ConfigError(f"{source}: contains no rules, so nobody could connect")
    return Rules(rules, interfaces)


def _rule(line: int, found: list[tuple[Token, ...]], maps: IdentMaps, judges: JudgeSettings | None) -> Rule:
    """One rule from its columns; ValueError says what is wrong."""
    columns = iter(found)
    connection = single(next(columns), "connection type")
    if connection in _INCLUDES or connection.startswith("@"):
        raise ValueError("including other files is not supported")
    if connection not in _CONNECTIONS:
        raise ValueError(f'invalid connection type "{connection}"')
    databases = next(columns, None)
    if databases is None:
        raise ValueError("end-of-line before database specification")
    users = next(columns, None)
    if users is None:
        raise ValueError("end-of-line before role specification")
    _check_names(databases, "database", ("samerole", "samegroup"))
    _check_names(users, "user", ())
    where = None if connection == "local" else _where(columns)
    method = next(columns, None)
    if method is None:
        raise ValueError("end-of-line before authentication method")
    name = single(method, "authentication method")
    if name in OTHER_METHODS:
        raise ValueError(f'authentication method "{name}" is not supported, use one of {", ".join(METHODS)}')
    if name not in METHODS:
        meant = near(name.lower(), METHODS)
        raise ValueError(f'invalid authentication method "{name}", expected one of {", ".join(METHODS)}{meant}')
    return Rule(line, connection, databases, users, where, demand_of(connection, name, columns, maps, judges))


def _check_names(column: tuple[Token, ...], what: str, roles: tuple[str, ...]) -> None:
    """Refuse what would need PostgreSQL's catalogs, other files or regular expressions."""
    for token in column:
        if token.text.startswith("/"):
            raise ValueError(f'regular expressions are not supported in the {what} column: "{token.text}"')
        if token.quoted:
            continue
        if token.text.startswith("+") or token.text in roles:
            raise ValueError(f'membership in roles is not known here: "{token.text}" in the {what} column')
        if token.text.startswith("@"):
            raise ValueError(f'including other files is not supported: "{token.text}" in the {what} column')


def _where(columns: Iterator[tuple[Token, ...]]) -> Network | str | None:
    """The address column, and the netmask's if there is one."""
    column = next(columns, None)
    if column is None:
        raise ValueError("end-of-line before IP address specification")
    text = single(column, "host address")
    (token,) = column
    if token.is_keyword("all"):
        return None
    if token.is_keyword("samehost") or token.is_keyword("samenet"):
        return text
    try:
        ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise ValueError(f'invalid IP address "{text}" (host names are not supported)') from None
    if "/" in text:
        return Network.of(text)
    mask = next(columns, None)
    if mask is None:
        raise ValueError(
            "end-of-line before netmask specification (an address range is written in CIDR notation, or with a netmask)"
        )
    mask_text = single(mask, "netmask")
    try:
        return Network.of(text, mask_text)
    except ValueError as exc:
        reason = exc if "match" in str(exc) else f'invalid IP mask "{mask_text}"'
        raise ValueError(f"{reason}") from None
