"""pg_hba rules read and matched as PostgreSQL does, the address list, and texts that must be refused."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.auth.demand import LDAP, MD5, METHODS, PEER, REJECT, SCRAM_SHA_256, TRUST
from pgdoorman_lib.auth.hba import (
    BY_SECRET,
    AddressList,
    Rules,
    gate,
    parse,
)
from pgdoorman_lib.auth.interfaces import Interface, local_interfaces
from pgdoorman_lib.auth.oauth import OAUTH
from pgdoorman_lib.errors import ConfigError, NotPermitted


def interface(text: str) -> Interface:
    found = ipaddress.ip_interface(text)
    return found.version, int(found.ip), int(found.netmask)


INTERFACES = [interface(text) for text in ("127.0.0.1/8", "10.1.2.3/16", "::1/128", "fd00::5/64")]


@dataclass
class Settings:
    """What the methods go by beside their options."""

    auth_pam_confdir: str | None = None
    auth_ldap_ca_cert: str | None = None
    oauth_validator_command: tuple[str, ...] = ("/bin/true",)
    max_concurrent_auths: int = 1
    auth_timeout: float = 1.0


def rules(text: str) -> Rules:
    return parse(text, "test", lambda: INTERFACES, judges=Settings())


def match(text: str, **over: Any) -> str | None:
    connection = {"is_unix": False, "tls": False, "address": "10.0.0.1", "database": "db", "user": "app", **over}
    if connection["is_unix"]:
        connection["address"] = ""
    found = rules(text).match(**connection)
    return None if found is None else found.demand.method


# -- columns


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str) -> None:
    if method == LDAP:
        assert match("host all all all ldap ldapserver=x ldapprefix=uid=") == method
    elif method == OAUTH:
        assert match("host all all all oauth issuer=https://i scope=s") == method
    elif method == PEER:
        assert match(f"local all all {method}", is_unix=True) == method
    else:
        assert match(f"hostssl all all all {method}", tls=True) == method


@pytest.mark.parametrize(
    ("kind", "unix", "clear", "tls"),
    [
        ("host", False, True, True),
        ("hostssl", False, False, True),
        ("hostnossl", False, True, False),
        ("hostgssenc", False, False, False),
        ("hostnogssenc", False, True, True),
    ],
)
def test_connection_types(kind: str, unix: bool, clear: bool, tls: bool) -> None:
    line = f"{kind} all all all trust"
    assert (match(line, is_unix=True) == TRUST) is unix
    assert (match(line) == TRUST) is clear
    assert (match(line, tls=True) == TRUST) is tls


def test_local_is_for_unix_sockets_alone() -> None:
    assert match("local all all md5", is_unix=True) == MD5
    assert match("local all all md5") is None


@pytest.mark.parametrize(
    ("column", "database", "user", "matches"),
    [
        ("all", "db", "app", True),
        ('"all"', "db", "app", False),
        ('"all"', "all", "app", True),
        ("sameuser", "app", "app", True),
        ("sameuser", "sameuser", "app", False),
        ("sameuser", "db", "app", False),
        ('"sameuser"', "sameuser", "app", True),
        ('"sameuser"', "app", "app", False),
        ("replication", "replication", "app", False),
        ('"replication"', "replication", "app", True),
        ("db", "db", "app", True),
        ("db", "DB", "app", False),
        ("other,db", "db", "app", True),
        ("other, db", "db", "app", True),
        ("other,\tdb,", "db", "app", True),
        ('"a b","d""b"', 'd"b', "app", True),
        ('"a b"', "a b", "app", True),
        ('"a,b"', "a,b", "app", True),
        ('"a#b"', "a#b", "app", True),
        ('d"b"', "db", "app", True),
        ('"samerole"', "samerole", "app", True),
        ('"+x"', "+x", "app", True),
    ],
)
def test_databases(column: str, database: str, user: str, matches: bool) -> None:
    # The last comma of a line's list needs a word behind it, which "all" is here, in the next column.
    line = f"host {column} all all trust" if not column.endswith(",") else f"host {column}x all all trust"
    assert (match(line, database=database, user=user) == TRUST) is matches


@pytest.mark.parametrize(
    ("column", "user", "matches"),
    [
        ("all", "app", True),
        ('"all"', "app", False),
        ('"all"', "all", True),
        ("app", "app", True),
        ("x,app", "app", True),
        ("x,y", "app", False),
        ('"sameuser"', "app", False),
        ("sameuser", "sameuser", True),  # no keyword in this column
        ("App", "app", False),
    ],
)
def test_users(column: str, user: str, matches: bool) -> None:
    assert (match(f"host all {column} all trust", user=user) == TRUST) is matches


@pytest.mark.parametrize(
    ("column", "inside", "outside"),
    [
        ("all", ["1.2.3.4", "::1", "fe80::1%eth0"], []),
        ("0.0.0.0/0", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1"]),
        ("::/0", ["::1", "fe80::1%eth0"], ["1.2.3.4"]),
        ("127.0.0.1/32", ["127.0.0.1"], ["127.0.0.2"]),
        ("10.0.0.0/8", ["10.255.0.1"], ["11.0.0.1"]),
        ("10.9.9.9/8", ["10.255.0.1"], ["11.0.0.1"]),  # bits behind the mask don't count
        ("10.0.0.0 255.0.0.0", ["10.255.0.1"], ["11.0.0.1"]),
        ("10.0.0.1 255.0.0.255", ["10.7.8.1"], ["10.7.8.2"]),  # a mask with a hole
        ("192.168.1.1 255.255.255.255", ["192.168.1.1"], ["192.168.1.2"]),
        ("fd00::/8", ["fd12::1"], ["fe00::1", "253.0.0.1"]),
        ("fd00:: ff00::", ["fd12::1"], ["fe00::1"]),
        ("samehost", ["127.0.0.1", "10.1.2.3", "::1", "fd00::5"], ["127.0.0.2", "10.1.2.4", "fd00::6"]),
        ("samenet", ["127.9.9.9", "10.1.255.255", "::1", "fd00::99"], ["10.2.0.1", "fd00:1::5", "::2"]),
    ],
)
def test_addresses(column: str, inside: list[str], outside: list[str]) -> None:
    for address in inside:
        assert match(f"host all all {column} trust", address=address) == TRUST, address
    for address in outside:
        assert match(f"host all all {column} trust", address=address) is None, address


# -- lines


def test_the_first_rule_that_matches_decides() -> None:
    text = """
    # comment
    host   all  app  10.0.0.0/8  reject   # the end of a line

    host   all  app  all         trust
    host   db   all  all         md5#no blank before
    local  all  all              scram-sha-256
    """
    assert match(text) == REJECT
    assert match(text, address="11.0.0.1") == TRUST
    assert match(text, user="other") == MD5
    assert match(text, user="other", database="x") is None
    assert match(text, is_unix=True) == SCRAM_SHA_256


def test_line_ends_continuations_and_blanks() -> None:
    assert match("host\tall all\\\n  all  trust\r\n") == TRUST
    assert match("host all all all trust\r\n# x\r\n") == TRUST
    assert match("host all all all tru\\\nst") == TRUST
    # Blanks before a comma end the column, as in PostgreSQL.
    assert match("host db ,app 10.0.0.0/8 trust") == TRUST


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("hots all all all trust", "invalid connection type"),
        ("host,hostssl all all all trust", "multiple values"),
        ("host", "before database"),
        ("host all", "before role"),
        ("host all all", "before IP address"),
        ("local all all", "before authentication method"),
        ("host all all 10.0.0.1", "before netmask"),
        ("host all all 10.0.0.0/8", "before authentication method"),
        ("host all all all", "before authentication method"),
        ("host all all 10.0.0.1 trust", "invalid IP mask"),
        ("host all all 10.0.0.1 ff00:: trust", "do not match"),
        ("host all all 10.0.0.1/33 trust", "invalid CIDR mask"),
        ("host all all 10.0.0.1/ trust", "invalid CIDR mask"),
        ("host all all 10.0.0.1/-1 trust", "invalid CIDR mask"),
        ("host all all 10.0.0.1/x trust", "invalid CIDR mask"),
        ("host all all ::1/129 trust", "invalid CIDR mask"),
        ("host all all 10.0.0 trust", "invalid IP address"),
        ("host all all db.example.com trust", "host names are not supported"),
        ("host all all .example.com trust", "host names are not supported"),
        ('host all all "all" trust', "host names are not supported"),
        ('host all all "samehost" trust', "host names are not supported"),
        ("host all all 10.0.0.0/8,11.0.0.0/8 trust", "multiple values"),
        ("host all all all trust,md5", "multiple values"),
        ("host all all all TRUST", "invalid authentication method"),
        ("host all all all pasword", "invalid authentication method"),
        (
            "host all all all scram-sha-265",
            'sha-256, cert, peer, jwt, oauth, pam, ldap, reject; did you mean "scram-sha-256"?',
        ),
        ("host all all all password", "not supported"),
        ("host all all all radius radiusservers=x", "not supported"),
        ("host all all all cert", "cert authentication is only supported on hostssl connections"),
        ("local all all cert", "cert authentication is only supported on hostssl connections"),
        ("hostssl all all all peer", "peer authentication is only supported on local sockets"),
        ("hostssl all all all cert clientcert=verify-ca", 'clientcert only accepts "verify-full" when using "cert"'),
        ("hostssl all all all cert clientcert=", 'invalid value for clientcert: ""'),
        ("hostssl all all all md5 clientcert=1", 'invalid value for clientcert: "1"'),
        ("hostssl all all all cert clientname=OU", 'invalid value for clientname: "OU"'),
        ("host all all all md5 clientcert=verify-ca", 'clientcert can only be configured for "hostssl" rows'),
        ("local all all peer clientname=CN", 'clientname can only be configured for "hostssl" rows'),
        (
            "hostssl all all all md5 map=x",
            'option "map" is only valid for authentication methods peer and cert and oauth',
        ),
        ("host all all all oauth", 'authentication method "oauth" requires argument "issuer" to be set'),
        ("host all all all oauth issuer=https://i", 'method "oauth" requires argument "scope" to be set'),
        ("host all all all oauth issuer=https://i scope=", 'method "oauth" requires argument "scope" to be set'),
        ("host all all all oauth issuer=https://i scope=s validator=v", 'option "validator" is not supported'),
        ("host all all all jwt issuer=https://i", 'option "issuer" is only valid for authentication methods oauth'),
        ("hostssl all all all cert map=x", 'no map "x" in general.pg_ident'),
        ("local all all pam pamservise=x", 'has pamservice, pam_use_hostname; did you mean "pamservice"?'),
        ("host all all all md5 x=y", 'option "x" is not supported, md5 has none'),
        ("hostssl all all all md5 clientcer=verify-ca", 'clientname; did you mean "clientcert"?'),
        ("hostssl all all all md5 clientcert=verify", 'expected verify-ca or verify-full; did you mean "verify-'),
        ("hostssl all all all cert map", "authentication option not in name=value format: map"),
        ("hostssl all all all cert ldapserver=x", 'option "ldapserver" is only valid for authentication methods ldap'),
        ("hostssl all all all cert radiusservers=x", 'option "radiusservers" is not supported'),
        ("local all all 10.0.0.0/8 trust", "invalid authentication method"),
        ("host all +admins all trust", "membership"),
        ("host samerole all all trust", "membership"),
        ("host samegroup all all trust", "membership"),
        ("host all /^app all trust", "regular expressions"),
        ("host /^db all all trust", "regular expressions"),
        ('host all "/^app" all trust', "regular expressions"),
        ("host @file all all trust", "including"),
        ("host all @file all trust", "including"),
        ("include other.conf", "including"),
        ("include_dir x", "including"),
        ('host "all all all trust', "unterminated"),
    ],
)
def test_a_line_that_can_not_be_used_refuses_the_whole_text(line: str, phrase: str) -> None:
    with pytest.raises(ConfigError, match=phrase) as caught:
        parse(f"host all all all trust\n# two\n{line}\nhost all all all md5", "rules.conf", lambda: INTERFACES)
    assert "rules.conf, line 3:" in caught.value.message


def test_a_joined_line_has_the_number_of_its_first() -> None:
    with pytest.raises(ConfigError, match="line 2:"):
        rules("host all all all trust\nhost \\\n all \\\n all all nonsense\nhost all all all md5")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "\\", "  ,,, "])
def test_a_text_without_rules_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"rules\.conf"):
        parse(text, "rules.conf")


def test_addresses_that_can_not_be_known_refuse_the_text() -> None:
    def unknown() -> list[Interface]:
        raise ConfigError("not on this system")

    parse("host all all 10.0.0.0/8 trust", "x", unknown)
    for word in ("samehost", "samenet"):
        with pytest.raises(ConfigError, match="line 1"):
            parse(f"host all all {word} trust", "x", unknown)


words = st.sampled_from(
    [
        "host",
        "local",
        "hostssl",
        "all",
        '"',
        ",",
        "#",
        "\\",
        "\n",
        " ",
        "\t",
        "10.0.0.0/8",
        "255.0.0.0",
        "trust",
        "md5",
        "/",
        "+x",
        "cert",
        "peer",
        "scram-sha-256",
        "reject",
        "map=",
        "map=m",
        "clientcert=verify-ca",
        "clientname=DN",
        "=",
        "ldapurl=ldap://",
        "pamservice=",
        "samenet",
        "::/0",
        "1.2.3.4/" + "9" * 5000,
        "include",
        "@x",
        "\0",
    ]
)


@given(text=st.lists(words).map("".join) | st.lists(words).map(" ".join) | st.text())
def test_any_text_is_rules_or_refused(text: str) -> None:
    try:
        found = rules(text)
    except ConfigError as exc:
        assert exc.message.startswith("test")
    else:
        assert found.rules
        assert match(text) in (None, *METHODS)


@given(names=st.lists(st.text(st.characters(exclude_characters="\0\n", codec="utf-8"), min_size=1), min_size=1))
def test_any_name_can_be_quoted(names: list[str]) -> None:
    column = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    if any(name.startswith("/") for name in names):
        return
    text = f"host {column} all all trust"
    for name in names:
        assert match(text, database=name) == TRUST


# -- the gate


def admit(text: str, **over: Any) -> str | None:
    connection = {"is_unix": False, "tls": False, "address": "10.0.0.1", "database": "db", "user": "app", **over}
    return rules(text).admit(**connection).method


def test_refusals_speak_as_postgresql_does() -> None:
    with pytest.raises(NotPermitted) as caught:
        admit("host all x all trust")
    assert caught.value.sqlstate == "28000"
    assert caught.value.message == 'no pg_hba.conf entry for host "10.0.0.1", user "app", database "db", no encryption'
    with pytest.raises(NotPermitted) as caught:
        admit("host all all all reject", tls=True)
    assert caught.value.message.startswith('pg_hba.conf rejects connection for host "10.0.0.1", user "app"')
    assert caught.value.message.endswith("SSL encryption")
    with pytest.raises(NotPermitted, match=r'host "\[local\]"'):
        admit("host all all all trust", is_unix=True, address="")
    assert admit("host all all all md5") == MD5


@pytest.mark.parametrize(
    ("column", "physical", "logical"),
    [
        ("replication", True, False),
        ('"replication"', False, False),
        ("db,replication", True, True),
        ("all", False, True),
        ("db", False, True),
        ("sameuser", False, False),
        ('replication,"all"', True, False),
    ],
)
def test_replication(column: str, physical: bool, logical: bool) -> None:
    """Physical replication is of no database: the keyword alone matches it. With ``database`` it is of that one."""
    for name in ("db", "replication", "app"):
        assert (match(f"host {column} all all trust", database=name, physical=True) == TRUST) is physical, name
    assert (match(f"host {column} all all trust") == TRUST) is logical


def test_the_first_rule_for_replication_decides() -> None:
    text = """
    host all         all  all  md5
    host replication repl all  scram-sha-256
    host replication all  all  reject
    """
    assert match(text, user="repl", physical=True) == SCRAM_SHA_256
    assert match(text, user="app", physical=True) == REJECT
    assert match(text, user="repl") == MD5


def test_refusals_of_replication() -> None:
    with pytest.raises(NotPermitted) as caught:
        admit("host all all all trust", physical=True)
    assert caught.value.message == (
        'no pg_hba.conf entry for replication connection from host "10.0.0.1", user "app", no encryption'
    )
    with pytest.raises(NotPermitted) as caught:
        admit("host replication all all reject", physical=True, tls=True)
    assert caught.value.message == (
        'pg_hba.conf rejects replication connection for host "10.0.0.1", user "app", SSL encryption'
    )
    assert admit("host replication all all md5", physical=True) == MD5


def test_the_address_list() -> None:
    somewhere = {"tls": False, "database": "db", "user": "app"}
    limited = AddressList(["10.0.0.0/8", "::1"])
    for address in ("10.1.1.1", "::1", "::ffff:10.1.1.1"):
        assert limited.admit(is_unix=False, address=address, **somewhere) == BY_SECRET  # type: ignore[arg-type]
    assert limited.admit(is_unix=True, address="", **somewhere) == BY_SECRET  # type: ignore[arg-type]
    assert limited.admit(is_unix=False, address="10.1.1.1", physical=True, **somewhere) == BY_SECRET  # type: ignore[arg-type]
    for address in ("11.1.1.1", "::2"):
        with pytest.raises(NotPermitted, match=address) as caught:
            limited.admit(is_unix=False, address=address, **somewhere)  # type: ignore[arg-type]
        assert caught.value.sqlstate == "28000"
    assert AddressList([]).admit(is_unix=False, address="8.8.8.8", **somewhere) == BY_SECRET  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        AddressList(["nonsense"])


def test_which_gate_the_configuration_asks_for() -> None:
    class Source:
        name, text = "general.pg_hba", "host all all all trust"

    assert isinstance(gate([], None), AddressList)
    assert isinstance(gate([], Source()), Rules)


def test_this_machine_has_a_loopback() -> None:
    assert interface("127.0.0.1/8") in local_interfaces()
    found = parse("host all all samehost trust", "x")
    assert found.admit(is_unix=False, tls=False, address="127.0.0.1", database="d", user="u").method == TRUST
    assert found.match(is_unix=False, tls=False, address="192.0.2.77", database="d", user="u") is None
