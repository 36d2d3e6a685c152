"""OpenLDAP's own server judges passwords, where it is installed: what ours in the tests might get wrong."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_leaks import looked_after
from pace import patience
from ports import free_port

from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.ldap import directory, escape_in_filter, escape_in_name
from pgdoorman_lib.errors import NoVerdict, Refusal
from pgdoorman_lib.net.syscalls import clock

BASE = "dc=example,dc=net"
READER = {"ldapbinddn": f"cn=reader,{BASE}", "ldapbindpasswd": "reads"}

#: Names that mean something in a filter or a distinguished name, each of a user of his own.
NAMES = ["alice", "a*", "b(c)", "d\\e", "f,g", "h+i", 'j"k', "#l", "m=n", "o;p", "<q>", "r/s", "ü", " t", "u v"]

_CONFIGURATION = """
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
modulepath {modules}
moduleload back_ldif
pidfile {directory}/pid
TLSCACertificateFile {certs.ca}
TLSCertificateFile {certs.server.certificate}
TLSCertificateKeyFile {certs.server.private_key}
disallow bind_anon
database ldif
suffix "{base}"
rootdn "cn=root,{base}"
rootpw root
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=reader,{base}" read by * none
"""


@dataclass
class Settings:
    auth_ldap_ca_cert: str | None
    auth_pam_confdir: str | None = None
    max_concurrent_auths: int = 2
    auth_timeout: float = 15.0


@dataclass
class Slapd:
    """Where it listens, in clear (and StartTLS), and by TLS."""

    port: int
    tls_port: int
    settings: Settings

    def ask(self, user: str, password: str = "secret", **options: str) -> None:
        judge = directory({"ldapserver": "localhost", "ldapport": str(self.port), **options}, self.settings)
        judge.judge(Claim(user, "shop", password.encode(), ""), clock() + patience(10))


def _ldif() -> str:
    people = [
        f"dn: uid={escape_in_name(name)},{BASE}\nobjectClass: inetOrgPerson\nuid:: {_base64(name)}\ncn: {number}\n"
        f"sn: {number}\nuserPassword: secret\n"
        for number, name in enumerate(NAMES)
    ]
    reader = f"dn: cn=reader,{BASE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n"
    root = f"dn: {BASE}\nobjectClass: organization\nobjectClass: dcObject\no: example\ndc: example\n"
    return "\n".join([root, f"{reader}userPassword: reads\n", *people])


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, certs: Certificates) -> Iterator[Slapd]:
    program = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/libexec")
    root = Path(program).resolve().parents[2] if program else Path("/nowhere")
    schema, modules = root / "etc/ldap/schema", root / "usr/lib/ldap"
    if program is None or not schema.is_dir() or not modules.is_dir():
        pytest.skip("no slapd as Debian has it")
    directory = tmp_path_factory.mktemp("slapd")
    (directory / "data").mkdir()
    configuration = directory / "slapd.conf"
    configuration.write_text(
        _CONFIGURATION.format(schema=schema, modules=modules, directory=directory, certs=certs, base=BASE)
    )
    (directory / "people.ldif").write_text(_ldif())
    adds = [program, "-Ta", "-f", str(configuration), "-l", str(directory / "people.ldif")]
    added = subprocess.run(adds, capture_output=True, text=True, timeout=patience(60))
    assert added.returncode == 0, added.stderr
    made = Slapd(free_port(), free_port(), Settings(str(certs.ca)))
    urls = f"ldap://127.0.0.1:{made.port} ldaps://127.0.0.1:{made.tls_port}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "-d", "0", "-f", str(configuration), "-h", urls], stdout=log, stderr=log)
    looked_after.add(process.pid)
    try:
        eventually(lambda: _answers(made.port), message="slapd listens")
        yield made
    finally:
        process.terminate()
        process.wait(patience(20))
        looked_after.discard(process.pid)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_every_name_by_a_bind(slapd: Slapd, name: str) -> None:
    slapd.ask(name, ldapprefix="uid=", ldapsuffix=f",{BASE}")
    with pytest.raises(Refusal, match="wrong password"):
        slapd.ask(name, "wrong", ldapprefix="uid=", ldapsuffix=f",{BASE}")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_by_a_search(slapd: Slapd, name: str) -> None:
    slapd.ask(name, ldapbasedn=BASE, **READER)
    slapd.ask(
        name, ldapbasedn=BASE, ldapsearchfilter="(&(objectClass=person)(|(uid=$username)(cn=$username)))", **READER
    )
    with pytest.raises(Refusal, match="wrong password"):
        slapd.ask(name, "wrong", ldapbasedn=BASE, **READER)


@pytest.mark.parametrize("name", ["*", "nobody", "alice)(uid=*", "ali*", "alice,dc=example"])
def test_nobody_else(slapd: Slapd, name: str) -> None:
    with pytest.raises(Refusal, match="no entries"):
        slapd.ask(name, ldapbasedn=BASE, **READER)
    with pytest.raises(Refusal, match="wrong password"):
        slapd.ask(name, ldapprefix="uid=", ldapsuffix=f",{BASE}")


def test_tls(slapd: Slapd, certs: Certificates) -> None:
    simple = {"ldapprefix": "uid=", "ldapsuffix": f",{BASE}"}
    slapd.ask("alice", ldaptls="1", **simple)
    slapd.ask("alice", ldapscheme="ldaps", **{**simple, "ldapport": str(slapd.tls_port)})
    doubtful = Slapd(slapd.port, slapd.tls_port, Settings(str(certs.other_ca)))
    with pytest.raises(NoVerdict, match="CERTIFICATE_VERIFY_FAILED"):
        doubtful.ask("alice", ldaptls="1", **simple)


def test_who_may_not_search_is_an_operators_affair(slapd: Slapd) -> None:
    for reader in ({}, {**READER, "ldapbindpasswd": "wrong"}):
        with pytest.raises(NoVerdict, match="the bind for the search fails"):
            slapd.ask("alice", ldapbasedn=BASE, **reader)


def test_filters_mean_what_they_say(slapd: Slapd) -> None:
    assert escape_in_filter("a*") == "a\\2a"
    with pytest.raises(Refusal, match="2 entries"):
        slapd.ask("alice", ldapbasedn=BASE, ldapsearchfilter="(|(uid=$username)(uid=u v)(uid=d\\\\5ce))", **READER)
