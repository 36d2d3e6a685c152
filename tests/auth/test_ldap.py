"""LDAP judges passwords: against a server of our own, which may answer anything."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from fix_certs import Certificates
from gevent.monkey import get_original
from hypothesis import given
from hypothesis import strategies as st
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn
from ldap_server import (
    BIND,
    BOUND,
    BUSY,
    DONE,
    EXTENDED,
    EXTENDED_RESPONSE,
    INVALID,
    NO_SUCH_OBJECT,
    REFERRAL,
    SEARCH,
    SIZE_LIMIT,
    SUCCESS,
    UNWILLING,
    LdapServer,
    entry,
    reference,
    result,
)
from pace import patience
from ports import free_port

from pgdoorman_lib.auth import ldap_client
from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.hba import parse
from pgdoorman_lib.auth.ldap import OPTIONS, Directory, directory, escape_in_filter, escape_in_name
from pgdoorman_lib.auth.ldap_client import Conversation, LdapFault
from pgdoorman_lib.errors import ConfigError, NoVerdict, Refusal
from pgdoorman_lib.net.syscalls import clock

ALICE = "uid=alice,ou=people,dc=example,dc=net"
BASE = "ou=people,dc=example,dc=net"


@dataclass
class Settings:
    auth_pam_confdir: str | None = None
    auth_ldap_ca_cert: str | None = None
    max_concurrent_auths: int = 2
    auth_timeout: float = 15.0


@pytest.fixture
def server() -> Iterator[LdapServer]:
    made = LdapServer()
    people(made)
    yield made
    made.close()


def people(server: LdapServer) -> None:
    server.add("alice", ALICE, "secret")
    server.add("twin", f"uid=twin,ou=a,{BASE}", "secret")
    server.add("twin", f"uid=twin,ou=b,{BASE}", "secret")
    server.people["cn=reader,dc=example,dc=net"] = "reads"


def simple(*ports: int, **more: str) -> Directory:
    return directory(
        {
            "ldapserver": " ".join(f"127.0.0.1:{port}" for port in ports),
            "ldapprefix": "uid=",
            "ldapsuffix": f",{BASE}",
            **more,
        },
        Settings(),
    )


def search(*ports: int, **more: str) -> Directory:
    servers = " ".join(f"127.0.0.1:{port}" for port in ports)
    return directory({"ldapserver": servers, "ldapbasedn": BASE, **more}, Settings())


def ask(judge: Directory, user: str = "alice", password: bytes = b"secret", seconds: float | None = None) -> None:
    judge.judge(Claim(user, "shop", password, ""), clock() + (patience(10) if seconds is None else seconds))


def refusal(judge: Directory, user: str = "alice", password: bytes = b"secret") -> str:
    with pytest.raises(Refusal) as refused:
        ask(judge, user, password)
    assert not isinstance(refused.value, NoVerdict)
    return str(refused.value)


def fault(judge: Directory, seconds: float | None = None) -> str:
    with pytest.raises(NoVerdict) as unanswered:
        ask(judge, seconds=seconds)
    return str(unanswered.value)


def test_a_bind_as_the_user(server: LdapServer) -> None:
    ask(simple(server.port))
    assert server.asked[0] == f"bind {ALICE}"
    assert refusal(simple(server.port), password=b"wrong") == "wrong password, says LDAP"
    assert refusal(simple(server.port), user="nobody") == "wrong password, says LDAP"


def test_a_search_and_a_bind(server: LdapServer) -> None:
    ask(search(server.port))
    assert server.asked == ["bind ", f"search {BASE} 2 (uid=alice)", f"bind {ALICE}"] or server.asked[3:] == ["unbind"]
    assert refusal(search(server.port), password=b"wrong") == "wrong password, says LDAP"
    assert refusal(search(server.port), user="nobody") == "LDAP finds no entries of this name"
    assert refusal(search(server.port), user="twin") == "LDAP finds 2 entries of this name"


def test_who_is_not_found_costs_a_bind_too(server: LdapServer) -> None:
    """Or how long it takes would tell who is in the directory; and that this one succeeds changes nothing."""
    server.people[f"cn=nobody,{BASE}"] = "secret"
    for user, found in (("nobody", "no"), ("twin", "2")):
        server.asked.clear()
        assert refusal(search(server.port), user=user) == f"LDAP finds {found} entries of this name"
        assert server.asked == ["bind ", f"search {BASE} 2 (uid={user})", f"bind cn=nobody,{BASE}"]


def test_a_search_by_somebody(server: LdapServer) -> None:
    reader = {"ldapbinddn": "cn=reader,dc=example,dc=net", "ldapbindpasswd": "reads", "ldapsearchattribute": "mail"}
    ask(search(server.port, **reader))
    assert server.asked[:2] == ["bind cn=reader,dc=example,dc=net", f"search {BASE} 2 (mail=alice)"]
    wrong = search(server.port, **{**reader, "ldapbindpasswd": "wrong"})
    assert "the bind for the search fails" in fault(wrong)


def test_a_filter_of_ones_own(server: LdapServer) -> None:
    ask(search(server.port, ldapsearchfilter="(&(uid=$username)(mail=$username))"))
    assert server.asked[1] == f"search {BASE} 2 (&(uid=alice)(mail=alice))"


def test_a_url(server: LdapServer) -> None:
    url = f"ldap://127.0.0.1:{server.port}/{BASE.replace(',', '%2C')}?mail?one"
    ask(directory({"ldapurl": url}, Settings()))
    assert server.asked[1] == f"search {BASE} 1 (mail=alice)"
    whole = directory({"ldapurl": f"ldap://127.0.0.1/{BASE}??sub?(uid=$username)"}, Settings())
    assert (whole.servers, whole.scope, whole.template) == ((("127.0.0.1", 389),), 2, "(uid=$username)")
    assert directory({"ldapurl": "ldaps://[::1]/dc=x"}, Settings()).servers == (("::1", 636),)


@pytest.mark.parametrize("make", [simple, search])
def test_an_empty_password_is_never_tried(server: LdapServer, make: Any) -> None:
    assert refusal(make(server.port), password=b"") == "an empty password"
    assert server.asked == []
    with pytest.raises(LdapFault):
        Conversation(None).bind(b"cn=x", b"")
    with pytest.raises(LdapFault):
        Conversation(None).bind(b"", b"secret")


@pytest.mark.parametrize(
    "user",
    ["*", "alice)(uid=*", "a*", "(alice", "alice\\2a", "alice\\", "ali\\63e", "*)(&", "|", "x\0alice"],
)
def test_no_name_changes_the_filter(server: LdapServer, user: str) -> None:
    assert refusal(search(server.port), user=user) == "LDAP finds no entries of this name"


@pytest.mark.parametrize(
    "user",
    ["alice,ou=people,dc=example,dc=net,uid=x", "x+uid=alice", "alice\\", '"alice"', " alice", "alice ", "#616c"],
)
def test_no_name_changes_whom_is_bound_as(server: LdapServer, user: str) -> None:
    assert refusal(simple(server.port), user=user) == "wrong password, says LDAP"
    assert server.asked[0] == f"bind uid={escape_in_name(user)},{BASE}"


def test_names_put_together_in_other_ways(server: LdapServer) -> None:
    server.people["alice@example.net"] = "secret"
    other = simple(server.port, ldapprefix="", ldapsuffix="@example.net")
    ask(other)
    for user in ("alice@example.net", "EXAMPLE\\alice", "cn=alice", "a,b", "(", "alice@example.net\0"):
        assert "LDAP might take for something else" in refusal(other, user=user)
    assert server.asked[1:] in ([], ["unbind"])


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_escapes_are_taken_back_by_their_readers(text: str) -> None:
    escaped = escape_in_filter(text)
    assert "".join(char for char in escaped if char in "*()") == ""
    assert escape_filter_chars(text) == escaped or not text.isascii()
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    if text.strip() == text:
        ((kind, _, _),) = parse_dn(f"uid={escape_in_name(text)}")
        assert kind == "uid"


# -- servers that answer badly


def done(number: int) -> bytes:
    return result(number, DONE, SUCCESS)


BAD: dict[str, Any] = {
    "nothing": lambda tag, number: b"",
    "garbage": lambda tag, number: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": lambda tag, number: bytes(100),
    "cut": lambda tag, number: result(number, BOUND, SUCCESS)[:-3],
    "a byte": lambda tag, number: b"\x30",
    "no length": lambda tag, number: b"\x30\x80\x02\x01\x01\x00\x00",
    "an enormous length": lambda tag, number: b"\x30\x84\x7f\xff\xff\xff" + bytes(1000),
    "a length of nine bytes": lambda tag, number: b"\x30\x89" + b"\xff" * 100,
    "nested": lambda tag, number: b"\x30\x82\x03\xe8" + b"\x30\x82\x03\xe0" * 250,
    "no operation": lambda tag, number: b"\x30\x03\x02\x01\x01",
    "another number": lambda tag, number: result(number + 1, BOUND, SUCCESS),
    "a notice": lambda tag, number: result(0, EXTENDED_RESPONSE, BUSY, "going away"),
    "another answer": lambda tag, number: done(number) if tag == BIND else b"",
    "busy": lambda tag, number: result(number, BOUND, BUSY) if tag == BIND else b"",
    "a truncated message in a whole one": lambda tag, number: b"\x30\x05\x02\x01\x01\x61\x40",
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("make", [simple, search])
def test_bad_answers_let_nobody_in(server: LdapServer, make: Any, what: str) -> None:
    server.answer = BAD[what]
    assert fault(make(server.port)).startswith(f"LDAP server 127.0.0.1:{server.port}: ")


@pytest.mark.parametrize("what", BAD)
def test_another_server_may_know(server: LdapServer, what: str) -> None:
    bad = LdapServer()
    try:
        bad.answer = BAD[what]
        ask(simple(bad.port, server.port))
        assert refusal(simple(bad.port, server.port), password=b"wrong")
    finally:
        bad.close()


@given(st.binary(max_size=200))
def test_any_bytes_are_no_answer(data: bytes) -> None:
    class Sock:
        def __init__(self) -> None:
            self.left = data

        def sendall(self, sent: bytes) -> None:
            pass

        def recv(self, size: int) -> bytes:
            taken, self.left = self.left[:size], self.left[size:]
            return taken

    with pytest.raises(LdapFault):
        assert Conversation(Sock()).bind(b"cn=x", b"x").code
        raise LdapFault("an answer, and no success")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda number: entry(number, "") + done(number), "an entry without a name"),
        (lambda number: entry(number, ALICE) * 2 + done(number), "2 entries"),
        (lambda number: entry(number, ALICE) * 2 + result(number, DONE, SIZE_LIMIT), "2 entries"),
        (lambda number: entry(number, ALICE) + result(number, DONE, SIZE_LIMIT), "1 entries"),
        (lambda number: result(number, DONE, NO_SUCH_OBJECT), "no entries"),
        (lambda number: reference(number, "ldap://127.0.0.1:1/dc=x") + done(number), "no entries"),
        (lambda number: done(number), "no entries"),
    ],
)
def test_searches_that_find_nobody(server: LdapServer, answer: Any, why: str) -> None:
    server.answer = lambda tag, number: answer(number) if tag == SEARCH else None
    assert why in refusal(search(server.port))


def test_references_are_passed_over(server: LdapServer) -> None:
    found = lambda number: reference(number, "ldap://127.0.0.1:1/") + entry(number, ALICE) + done(number)  # noqa: E731
    server.answer = lambda tag, number: found(number) if tag == SEARCH else None
    ask(search(server.port))


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: entry(number, ALICE) * 1000 + done(number),
        lambda number: reference(number, "ldap://127.0.0.1:1/") * 1000 + done(number),
        lambda number: result(number, DONE, UNWILLING),
        lambda number: result(number, DONE, REFERRAL, referral="ldap://127.0.0.1:1/"),
        lambda number: entry(number, ALICE) + result(number, BOUND, SUCCESS),
    ],
)
def test_searches_that_fail(server: LdapServer, answer: Any) -> None:
    server.answer = lambda tag, number: answer(number) if tag == SEARCH else None
    fault(search(server.port))


@pytest.mark.parametrize("code", [1, 7, 8, REFERRAL, 14, NO_SUCH_OBJECT, 34, INVALID, 50, UNWILLING, 80, 90])
def test_only_success_is_success(server: LdapServer, code: int) -> None:
    referral = "ldap://127.0.0.1:1/" if code == REFERRAL else ""
    server.answer = lambda tag, number: result(number, BOUND, code, "no\nway", referral)
    assert "\n" not in refusal(simple(server.port))


def test_time_is_shared_among_servers(server: LdapServer) -> None:
    silent = LdapServer()
    silent.gate.clear()
    try:
        ask(simple(silent.port, server.port), seconds=1.0)
        assert "no answer within 0.5" in fault(simple(silent.port, silent.port), seconds=1.0)
    finally:
        silent.close()


def test_one_that_sends_a_byte_at_a_time_has_no_more_of_it(server: LdapServer) -> None:
    server.answer = lambda tag, number: b"\x30\x82\x10\x00"
    server.gate.clear()
    assert "no answer within" in fault(simple(server.port), seconds=0.2)


def test_nobody_there() -> None:
    port = free_port()
    assert f"127.0.0.1:{port}: " in fault(simple(port))
    assert "LDAP server no.such.host.invalid:" in fault(
        directory({"ldapserver": "no.such.host.invalid", "ldapprefix": "uid="}, Settings())
    )


def test_names_that_are_not_looked_up_in_time_hold_up_nobody(
    server: LdapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, asked = get_original("threading", "Event")(), []

    def look_up(host: str, port: int, **options: Any) -> Any:
        if host == "hangs":
            if options.get("flags"):
                raise socket.gaierror("it is a name")
            asked.append(host)
            hangs.wait()
            raise socket.gaierror("nobody knows")
        return socket.getaddrinfo(host, port, **options)

    monkeypatch.setattr(ldap_client, "_getaddrinfo", look_up)
    waiting = [
        gevent.spawn(fault, directory({"ldapserver": "hangs", "ldapprefix": "uid="}, Settings())) for _ in "123456"
    ]
    try:
        with gevent.Timeout(patience(10)):
            while len(asked) < 4:
                gevent.sleep(0.01)
            ask(simple(server.port))
            assert gevent.socket.getaddrinfo("localhost", 1), "by the threads that servers' names are looked up by"
        assert len(asked) == 4
        hangs.set()
        assert all("nobody knows" in one.get(timeout=patience(10)) for one in waiting)
    finally:
        hangs.set()
        gevent.killall(waiting)


def test_options_may_be_anything() -> None:
    parts = [
        "",
        "1",
        "ldap",
        "ldaps",
        "x y",
        "(uid=$username)",
        "::",
        "[",
        ":1",
        "a:b:c",
        "ldap://x/dc=x??sub",
        "é",
        "\0",
    ]

    @given(st.dictionaries(st.sampled_from(OPTIONS), st.sampled_from(parts) | st.text(max_size=12), max_size=6))
    def says_something_or_is_refused(options: dict[str, str]) -> None:
        try:
            assert directory(options, Settings()).servers
        except (ValueError, ConfigError):
            pass

    says_something_or_is_refused()


def test_who_is_ended_closes_its_connection(server: LdapServer) -> None:
    server.gate.clear()
    asking = gevent.spawn(ask, simple(server.port))
    with gevent.Timeout(patience(10)):
        while not server.asked:
            gevent.sleep(0.01)
        asking.kill()
        server.gate.set()
        while server.open_connections:
            gevent.sleep(0.01)


# -- TLS


@pytest.fixture
def tls(certs: Certificates) -> Iterator[Any]:
    made: list[LdapServer] = []

    def make(at_once: bool) -> LdapServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs.server.certificate, certs.server.private_key)
        made.append(LdapServer(context, at_once=at_once))
        people(made[-1])
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize("at_once", [False, True])
def test_tls(tls: Any, certs: Certificates, at_once: bool) -> None:
    server = tls(at_once)
    way = {"ldapscheme": "ldaps"} if at_once else {"ldaptls": "1"}
    settings = Settings(auth_ldap_ca_cert=str(certs.ca))
    options = {"ldapprefix": "uid=", "ldapsuffix": f",{BASE}", "ldapserver": f"localhost:{server.port}", **way}
    ask(directory(options, settings))
    assert refusal(directory(options, settings), password=b"wrong")
    # Nothing is told to one whose certificate is not good, or not its own.
    asked = len(server.asked)
    assert "CERTIFICATE_VERIFY_FAILED" in fault(directory(options, Settings(auth_ldap_ca_cert=str(certs.other_ca))))
    assert all(what == "extended" for what in server.asked[asked:])


def test_one_that_has_no_tls_is_told_nothing(server: LdapServer, certs: Certificates) -> None:
    settings = Settings(auth_ldap_ca_cert=str(certs.ca))
    options = {"ldapprefix": "uid=", "ldapserver": f"127.0.0.1:{server.port}", "ldaptls": "1"}
    assert "it refuses StartTLS" in fault(directory(options, settings))
    assert server.asked == ["extended"]
    # Words in clear behind the answer are no answer to what is asked by TLS.
    server.answer = lambda tag, number: (
        result(number, EXTENDED_RESPONSE, SUCCESS) + result(number + 1, BOUND, SUCCESS) if tag == EXTENDED else None
    )
    fault(directory(options, settings))


# -- the options


def rule(options: str, method: str = "ldap") -> Any:
    return parse(f"host all all all {method} {options}\n", "rules", judges=Settings()).rules[0].demand.judge


def test_the_rules_of_the_documentation() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "pam-ldap.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("hostssl") and " ldap " in line]
    judges = [rule.demand.judge for rule in parse("\n".join(lines), "docs", judges=Settings()).rules]
    assert [judge.tls for judge in judges] == ["starttls", "ldaps", "starttls", "", "ldaps"]
    assert [judge.template for judge in judges[:2]] == ["", ""]
    assert judges[0].servers == (("ldap1", 389), ("ldap2", 389))
    assert judges[4] == directory({"ldapurl": "ldaps://ldap1/dc=example,dc=net?uid?sub"}, Settings())


def test_options_of_a_rule() -> None:
    judge = rule('ldapserver="one two:3389 [::1]:99 ::1" ldapprefix="cn=" ldapsuffix=", dc=example" ldapport=1389')
    assert judge.servers == (("one", 1389), ("two", 3389), ("::1", 99), ("::1", 1389))
    assert (judge.prefix, judge.suffix, judge.tls) == ("cn=", ", dc=example", "")
    assert judge == rule(
        'ldapserver="one two:3389 [::1]:99 ::1" ldapprefix="cn=" ldapsuffix=", dc=example" ldapport=1389'
    )
    judge = rule("ldapserver=one ldapbasedn=dc=example ldapbinddn=cn=x ldapbindpasswd=hush ldapscheme=ldaps")
    assert (judge.servers, judge.tls, judge.template) == ((("one", 636),), "ldaps", "(uid=$username)")
    assert "hush" not in repr(judge)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("", 'requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix"'),
        ("ldapserver=x", 'requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix"'),
        ("ldapprefix=uid=", 'requires argument "ldapserver"'),
        ('ldapprefix=uid= ldapserver=" "', 'requires argument "ldapserver"'),
        ("ldapserver=x ldapprefix=uid= ldapbasedn=dc=x", "cannot mix options for simple bind and search+bind modes"),
        ("ldapprefix=uid= ldapurl=ldap://x/dc=x", "cannot mix options"),
        (
            "ldapserver=x ldapbasedn=dc=x ldapsearchattribute=uid ldapsearchfilter=(uid=$username)",
            "cannot use ldapsearch",
        ),
        ("ldapserver=x ldapbasedn=dc=x ldapsearchfilter=(uid=x)", "expected $username in ldapsearchfilter"),
        ("ldapserver=x ldapbasedn=dc=x ldapsearchfilter=(uid=$username", "invalid filter"),
        ("ldapserver=x ldapbasedn=dc=x ldapsearchfilter=$username", "invalid filter"),
        ("ldapserver=x ldapbasedn=dc=x ldapbinddn=cn=x", "need each other"),
        ("ldapserver=x ldapbasedn=dc=x ldapbindpasswd=x", "need each other"),
        ("ldapserver=x ldapprefix=uid= ldapport=0", 'invalid LDAP port number: "0"'),
        ("ldapserver=a..b ldapprefix=uid=", 'invalid LDAP server name: "a..b"'),
        (f"ldapserver={'x' * 64} ldapprefix=uid=", "invalid LDAP server name"),
        ("ldapserver=[]:99 ldapprefix=uid=", 'invalid LDAP server name: "[]"'),
        ("ldapserver=x:y ldapprefix=uid=", 'invalid LDAP port number: "y"'),
        ("ldapserver=x ldapprefix=uid= ldapport=65536", "invalid LDAP port number"),
        ("ldapserver=x ldapprefix=uid= ldapscheme=ldapi", 'invalid ldapscheme value: "ldapi"'),
        ("ldapserver=x ldapprefix=uid= ldapscheme=ldaps ldaptls=1", "which is TLS already"),
        ("ldapurl=http://x/dc=x", "unsupported LDAP URL scheme: http"),
        ("ldapurl=ldap://x:y/dc=x", "could not parse LDAP URL"),
        ("ldapurl=ldap://x/dc=x??tree", 'invalid scope "tree"'),
        ("ldapurl=ldap://x/dc=x??sub?(uid=$username)?!ext", "extensions are not supported"),
        ("ldapurl=ldap://x/", "requires argument"),
        ("ldapurl=ldap:///dc=x", 'requires argument "ldapserver"'),
        (
            "ldapserver=x ldapprefix=uid= pamservice=x",
            'option "pamservice" is only valid for authentication methods pam',
        ),
        ("scope=1", 'option "scope" is only valid for authentication methods oauth'),
    ],
)
def test_options_that_say_nothing_to_go_by(options: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rule(options)
    assert refused.value.message.startswith("rules, line 1: ")
    assert why in refused.value.message


def test_a_file_of_authorities_that_is_none(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match=r"auth_ldap_ca_cert .* can't be used"):
            directory(
                {"ldapserver": "x", "ldapprefix": "uid=", "ldaptls": "1"},
                Settings(auth_ldap_ca_cert=str(tmp_path / name)),
            )
