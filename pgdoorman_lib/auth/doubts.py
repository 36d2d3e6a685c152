"""What is odd about who may log in and how: nothing of it is wrong, and each is likely meant otherwise.

These are warnings, for ``-t`` and at each start.
"""

from __future__ import annotations

from pgdoorman_lib.auth import hba
from pgdoorman_lib.auth.demand import LDAP, PAM
from pgdoorman_lib.auth.ldap import Directory
from pgdoorman_lib.auth.oauth import OAUTH
from pgdoorman_lib.auth.pam import PamService
from pgdoorman_lib.auth.tokens import JWT
from pgdoorman_lib.config.model import Config, General
from pgdoorman_lib.config.tokens import CLIENTS_ENCRYPT

#: What clients tell in clear text by these methods.
_TOLD = {PAM: "passwords", LDAP: "passwords", JWT: "tokens", OAUTH: "tokens"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OWN_NETWORKS = tuple(hba.Network.of(network) for network in ("127.0.0.0/8", "127.0.0.1", "::1"))


def doubts(config: Config) -> list[str]:
    """Texts for the operator about a configuration that was checked, each naming the rule or key it is about."""
    general = config.general
    gate = hba.gate(general.hba, general.pg_hba, general.pg_ident, general)
    found = []
    services: dict[PamService, str] = {}
    if isinstance(gate, hba.Rules):
        name = "" if general.pg_hba is None else general.pg_hba.name
        for rule in gate.rules:
            place = f"{name}, line {rule.line}"
            found += [f"{place}: {text}" for text in _of_rule(rule, general)]
            if isinstance(rule.demand.judge, PamService):
                services.setdefault(rule.demand.judge, place)
    judged = [
        (f"pools.{name}: user '{user.username}'", user.auth_pam_service)
        for name, pool in config.pools.items()
        for user in pool.users
        if user.auth_pam_service
    ]
    for place, service in judged:
        services.setdefault(PamService(service, general.auth_pam_confdir), place)
    if judged and general.pg_hba is None and general.tls_mode not in CLIENTS_ENCRYPT and general.addresses():
        found.append(
            f"general.tls_mode: '{general.tls_mode}' lets users with auth_pam_service tell their passwords over the "
            "network in clear: expected require or verify-full, or rules of pg_hba that are for hostssl"
        )
    for asked, place in services.items():
        directory = asked.nowhere()
        if directory:
            found.append(f'{place}: {asked.line} is not in {directory}: PAM asks the service "other" instead')
    return found


def _of_rule(rule: hba.Rule, general: General) -> list[str]:
    found = []
    method = rule.demand.method
    if rule.connection == "hostssl" and (general.tls_certificate is None or general.tls_mode == "disable"):
        found.append("hostssl is for nobody: clients have TLS by tls_certificate, tls_private_key and tls_mode alone")
    by_wire = rule.connection not in ("local", "hostssl") and rule.where not in _OWN_NETWORKS
    if method in _TOLD and by_wire and general.tls_mode not in CLIENTS_ENCRYPT:
        found.append(
            f"{method} has clients tell {_TOLD[method]} over the network in clear, if they come without TLS: "
            "expected hostssl"
        )
    judge = rule.demand.judge
    if isinstance(judge, Directory) and not judge.tls and any(host not in _LOOPBACK for host, _ in judge.servers):
        found.append(f"{judge.line} is told passwords in clear: expected ldaptls=1 or ldapscheme=ldaps")
    return found
