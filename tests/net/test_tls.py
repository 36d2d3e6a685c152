"""TLS contexts: what each mode demands, and what is said about files that can't be used."""

from __future__ import annotations

import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_certs import CertificateFiles, Certificates

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.tls import client_facing_context, server_facing_context
from pgdoorman_lib.net.tls_secrets import Keylog, keylog_of

#: Those of TLS 1.2 that go with our certificates, by one name for each kind there is.
ECDSA_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA",
)


@dataclass
class General:
    tls_mode: str = "allow"
    tls_certificate: str | None = None
    tls_private_key: str | None = None
    tls_ca_cert: str | None = None
    tls_crl: str | None = None
    tls_min_version: str = "tlsv1.2"
    tls_ciphers: str | None = None


@dataclass
class Pool:
    server_tls_mode: str = "require"
    server_tls_ca_cert: str | None = None
    server_tls_certificate: str | None = None
    server_tls_private_key: str | None = None
    server_tls_crl: str | None = None
    server_tls_min_version: str = "tlsv1.2"
    server_tls_ciphers: str | None = None


def shown(files: CertificateFiles) -> dict[str, str]:
    return {"tls_certificate": str(files.certificate), "tls_private_key": str(files.private_key)}


def for_clients(files: CertificateFiles, **changes: Any) -> ssl.SSLContext:
    context = client_facing_context(General(**shown(files), **changes))
    assert context is not None
    return context


def for_servers(**changes: Any) -> ssl.SSLContext:
    context = server_facing_context(Pool(**changes))
    assert context is not None
    return context


def until_1_2(ciphers: str = "DEFAULT") -> ssl.SSLContext:
    """An old client, which checks nothing; those of ``for_servers`` are shared."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> tuple[Any, Any]:
    """Shake hands in memory, and pass one byte each way; SSLError from whichever side refuses."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(down, up, server_side=False, server_hostname=name)
    right = server.wrap_bio(up, down, server_side=True)
    steps = [left.do_handshake, right.do_handshake, lambda: left.write(b"a"), lambda: right.write(b"b")]
    steps += [lambda: left.read(1), lambda: right.read(1)]
    for _ in range(10):
        waiting = []
        for step in steps:
            try:
                step()
            except ssl.SSLWantReadError:
                waiting.append(step)
        if not waiting:
            return left, right
        steps = waiting
    raise AssertionError("the handshake does not end")


class TestForClients:
    def test_none(self, certs: Certificates) -> None:
        assert client_facing_context(General()) is None
        assert client_facing_context(General("disable", **shown(certs.server))) is None

    @pytest.mark.parametrize("mode", ["allow", "require"])
    def test_no_client_certificate_is_asked_for(self, certs: Certificates, mode: str) -> None:
        _, server = handshake(for_clients(certs.server, tls_mode=mode), for_servers())
        assert server.getpeercert(True) is None
        assert server.version() == "TLSv1.3"

    @pytest.mark.parametrize("mode", ["allow", "require"])
    def test_a_client_certificate_is_asked_for_where_rules_go_by_it(self, certs: Certificates, mode: str) -> None:
        general = General(mode, **shown(certs.server), tls_ca_cert=str(certs.ca))
        context = client_facing_context(general, asks=True)
        assert context is not None
        assert handshake(context, for_servers())[1].getpeercert() is None
        ours = for_servers(**{f"server_{k}": v for k, v in shown(certs.client).items()})
        assert handshake(context, ours)[1].getpeercert()["subject"] == ((("commonName", "app"),),)
        with pytest.raises(ssl.SSLError):
            handshake(context, for_servers(**{f"server_{k}": v for k, v in shown(certs.stranger).items()}))

    def test_revoked_certificates(self, certs: Certificates, tmp_path: Path) -> None:
        revoked = certs.authority.issue("revoked", "app")
        crl = certs.authority.revoke(tmp_path / "crl.pem", revoked)
        general = General("verify-full", **shown(certs.server), tls_ca_cert=str(certs.ca), tls_crl=str(crl))
        context = client_facing_context(general)
        assert context is not None
        handshake(context, for_servers(**{f"server_{k}": v for k, v in shown(certs.client).items()}))
        with pytest.raises(ssl.SSLError, match="revoked"):
            handshake(context, for_servers(**{f"server_{k}": v for k, v in shown(revoked).items()}))

    @pytest.mark.parametrize("kind", ["missing", "nothing", "certificates", "both"])
    def test_a_list_that_is_none(self, certs: Certificates, tmp_path: Path, kind: str) -> None:
        """A certificate among the lists would be trusted."""
        path = tmp_path / "crl.pem"
        if kind == "nothing":
            path.write_text("nothing")
        elif kind == "certificates":
            path.write_bytes(certs.other_ca.read_bytes())
        elif kind == "both":
            path.write_bytes(certs.authority.revoke(path).read_bytes() + certs.other_ca.read_bytes())
        general = General("verify-full", **shown(certs.server), tls_ca_cert=str(certs.ca), tls_crl=str(path))
        with pytest.raises(ConfigError, match="tls_crl: "):
            client_facing_context(general)
        with pytest.raises(ConfigError, match="server_tls_crl: "):
            for_servers(server_tls_mode="verify-ca", server_tls_ca_cert=str(certs.ca), server_tls_crl=str(path))

    def test_an_authority_that_is_a_list(self, certs: Certificates, tmp_path: Path) -> None:
        crl = str(certs.authority.revoke(tmp_path / "crl.pem"))
        with pytest.raises(ConfigError, match=r"tls_ca_cert: .*revocation lists"):
            client_facing_context(General("verify-full", **shown(certs.server), tls_ca_cert=crl))

    def test_rules_that_go_by_certificates_need_an_authority(self, certs: Certificates) -> None:
        with pytest.raises(ConfigError, match="root certificate store"):
            client_facing_context(General(**shown(certs.server)), asks=True)

    def test_verify_full_takes_ours(self, certs: Certificates) -> None:
        context = for_clients(certs.server, tls_mode="verify-full", tls_ca_cert=str(certs.ca))
        client = for_servers(**{f"server_{k}": v for k, v in shown(certs.client).items()})
        _, server = handshake(context, client)
        assert server.getpeercert()["subject"] == ((("commonName", "app"),),)

    @pytest.mark.parametrize("stranger", [True, False])
    def test_verify_full_refuses_others(self, certs: Certificates, stranger: bool) -> None:
        context = for_clients(certs.server, tls_mode="verify-full", tls_ca_cert=str(certs.ca))
        client = for_servers(**({f"server_{k}": v for k, v in shown(certs.stranger).items()} if stranger else {}))
        with pytest.raises(ssl.SSLError):
            handshake(context, client)

    @pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
    def test_the_oldest_version(self, certs: Certificates, version: str) -> None:
        old_client, old_server = until_1_2(), for_clients(certs.server)
        old_server.maximum_version = ssl.TLSVersion.TLSv1_2
        ours = for_clients(certs.server, tls_min_version=version), for_servers(server_tls_min_version=version)
        assert handshake(*ours)[1].version() == "TLSv1.3"
        for server, client in ((ours[0], old_client), (old_server, ours[1])):
            if version == "tlsv1.2":
                assert handshake(server, client)[1].version() == "TLSv1.2"
            else:
                with pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"):
                    handshake(server, client)

    @pytest.mark.parametrize("suite", ECDSA_SUITES)
    @pytest.mark.parametrize("chosen_by", ["tls_ciphers", "server_tls_ciphers"])
    def test_the_suite_that_is_chosen(self, certs: Certificates, suite: str, chosen_by: str) -> None:
        everything = ":".join(ECDSA_SUITES)
        if chosen_by == "tls_ciphers":
            server, client = for_clients(certs.server, tls_ciphers=suite), until_1_2(everything)
            assert handshake(server, for_servers())[0].version() == "TLSv1.3"
        else:
            server, client = for_clients(certs.server, tls_ciphers=everything), for_servers(server_tls_ciphers=suite)
            assert handshake(server, client)[0].version() == "TLSv1.3"
            server.maximum_version = ssl.TLSVersion.TLSv1_2
        assert handshake(server, client)[0].cipher()[0] == suite

    @pytest.mark.parametrize(
        "ciphers",
        [
            "secure",
            "",
            ":",
            "!ALL",
            "aNULL",
            "eNULL",
            "aNULL:eNULL:@SECLEVEL=0",
            "@SECLEVEL=9",
            "TLS_AES_128_GCM_SHA256",
            "HIGH:TLS_AES_128_GCM_SHA256",
            "HIGH\0",
            "ÄCDHE",
        ],
    )
    def test_suites_that_are_none(self, certs: Certificates, ciphers: str) -> None:
        with pytest.raises(ConfigError, match=r"^tls_ciphers: .*expected a list"):
            for_clients(certs.server, tls_ciphers=ciphers)
        with pytest.raises(ConfigError, match=r"^server_tls_ciphers: .*expected a list"):
            for_servers(server_tls_ciphers=ciphers)

    @pytest.mark.parametrize(
        "ciphers", ["ALL:@SECLEVEL=0", "ALL:COMPLEMENTOFALL:@SECLEVEL=0", "DEFAULT", "HIGH:MEDIUM"]
    )
    def test_no_list_brings_in_suites_without_certificates_or_in_clear(self, ciphers: str) -> None:
        for each in for_servers(server_tls_ciphers=ciphers).get_ciphers():
            assert each["strength_bits"] >= 56 and each["auth"] != "auth-null", each

    def test_minimum_version(self, certs: Certificates) -> None:
        context = for_clients(certs.server)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert handshake(context, until_1_2())[1].version() == "TLSv1.2"

    @pytest.mark.parametrize(("offered", "agreed"), [(["postgresql"], "postgresql"), (["h2"], None), ([], None)])
    def test_alpn(self, certs: Certificates, offered: list[str], agreed: str | None) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        if offered:
            client.set_alpn_protocols(offered)
        assert handshake(for_clients(certs.server), client)[0].selected_alpn_protocol() == agreed

    def test_only_a_key_log_is_told_secrets(self, certs: Certificates) -> None:
        assert for_clients(certs.server).keylog_filename is None
        keylog = Keylog()
        context = client_facing_context(General(**shown(certs.server)), keylog)
        assert context is not None and keylog_of(context) is keylog
        handshake(context, for_servers())
        assert b"CLIENT_" in keylog.take()
        assert keylog.take() == b""
        keylog.close()


class TestForServers:
    def test_disable(self) -> None:
        assert server_facing_context(Pool("disable")) is None

    @pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
    def test_nothing_is_checked(self, certs: Certificates, mode: str) -> None:
        handshake(for_clients(certs.stranger), for_servers(server_tls_mode=mode), "elsewhere.example")

    def test_verify_ca(self, certs: Certificates) -> None:
        context = for_servers(server_tls_mode="verify-ca", server_tls_ca_cert=str(certs.ca))
        handshake(for_clients(certs.server), context, "elsewhere.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(for_clients(certs.stranger), context)

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
    def test_verify_full(self, certs: Certificates, name: str) -> None:
        context = for_servers(server_tls_mode="verify-full", server_tls_ca_cert=str(certs.ca))
        handshake(for_clients(certs.server), context, name)
        for files in (certs.stranger, certs.elsewhere):
            with pytest.raises(ssl.SSLCertVerificationError):
                handshake(for_clients(files), context, name)

    def test_kept_until_a_file_changes(self, certs: Certificates, tmp_path: Path) -> None:
        path = tmp_path / "ca.crt"
        shutil.copy(certs.ca, path)
        first = for_servers(server_tls_mode="verify-ca", server_tls_ca_cert=str(path))
        assert for_servers(server_tls_mode="verify-ca", server_tls_ca_cert=str(path)) is first
        renewed = tmp_path / "new.crt"
        shutil.copy(certs.other_ca, renewed)
        os.replace(renewed, path)
        context = for_servers(server_tls_mode="verify-ca", server_tls_ca_cert=str(path))
        handshake(for_clients(certs.stranger), context)

    def test_revoked_certificates(self, certs: Certificates, tmp_path: Path) -> None:
        revoked = certs.authority.issue("revoked-server", "localhost", ("127.0.0.1",))
        crl = certs.authority.revoke(tmp_path / "crl.pem", revoked)
        for mode in ("verify-ca", "verify-full"):
            context = for_servers(server_tls_mode=mode, server_tls_ca_cert=str(certs.ca), server_tls_crl=str(crl))
            handshake(for_clients(certs.server), context)
            with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
                handshake(for_clients(revoked), context)
        renewed = certs.authority.revoke(tmp_path / "renewed.pem", revoked, certs.elsewhere)
        os.replace(renewed, crl)
        context = for_servers(server_tls_mode="verify-ca", server_tls_ca_cert=str(certs.ca), server_tls_crl=str(crl))
        with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
            handshake(for_clients(certs.elsewhere), context)


class TestFiles:
    """Each complaint names the key and the file."""

    def refused(self, key: str, path: Path, general: General) -> str:
        with pytest.raises(ConfigError) as caught:
            client_facing_context(general)
        message = caught.value.message
        assert message.startswith(f"{key}:")
        assert str(path) in message
        return message

    @pytest.mark.parametrize("key", ["tls_certificate", "tls_private_key", "tls_ca_cert"])
    @pytest.mark.parametrize("kind", ["missing", "directory", "empty", "garbage"])
    def test_unusable(self, certs: Certificates, tmp_path: Path, key: str, kind: str) -> None:
        path = tmp_path / "file.pem"
        if kind == "directory":
            path.mkdir()
        elif kind != "missing":
            path.write_text("-----BEGIN RUBBISH-----\n" if kind == "garbage" else "")
        values = {**shown(certs.server), "tls_ca_cert": str(certs.ca), key: str(path)}
        self.refused(key, path, General("verify-full", **values))

    def test_key_of_another_certificate(self, certs: Certificates) -> None:
        general = General(tls_certificate=str(certs.server.certificate), tls_private_key=str(certs.client.private_key))
        assert "not the one" in self.refused("tls_private_key", certs.client.private_key, general)

    def test_pass_phrase_is_not_asked_for(self, certs: Certificates) -> None:
        message = self.refused("tls_private_key", certs.protected.private_key, General(**shown(certs.protected)))
        assert "pass phrase" in message

    @pytest.mark.parametrize("key", ["server_tls_ca_cert", "server_tls_certificate", "server_tls_private_key"])
    def test_servers_too(self, certs: Certificates, tmp_path: Path, key: str) -> None:
        values = {f"server_{k}": v for k, v in shown(certs.client).items()}
        values |= {"server_tls_ca_cert": str(certs.ca), key: str(tmp_path / "missing.pem")}
        with pytest.raises(ConfigError, match=rf"^{key}: .*missing\.pem"):
            server_facing_context(Pool("verify-full", **values))

    @pytest.mark.parametrize(
        "pool",
        [
            Pool("verify-ca"),
            Pool("verify-full"),
            Pool("sometimes"),
            Pool("require", server_tls_certificate="{c}"),
            Pool("require", server_tls_private_key="{k}"),
        ],
    )
    def test_incomplete(self, certs: Certificates, pool: Pool) -> None:
        if pool.server_tls_certificate:
            pool.server_tls_certificate = str(certs.client.certificate)
        if pool.server_tls_private_key:
            pool.server_tls_private_key = str(certs.client.private_key)
        with pytest.raises(ConfigError):
            server_facing_context(pool)

    def test_incomplete_for_clients(self, certs: Certificates) -> None:
        with pytest.raises(ConfigError):
            client_facing_context(General(tls_certificate=str(certs.server.certificate)))
        with pytest.raises(ConfigError):
            client_facing_context(General("verify-full", **shown(certs.server)))
