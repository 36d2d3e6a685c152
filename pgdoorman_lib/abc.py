"""The seams between the layers, each once: what one part needs of another that it must not know.

Whoever is handed in (by ``app``, or by a test) has these attributes; nothing derives from them, and nothing here runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import ssl

    from pgdoorman_lib.auth.clear_text import Claim
    from pgdoorman_lib.auth.demand import Demand
    from pgdoorman_lib.auth.judges import Judges
    from pgdoorman_lib.auth.keyring import Keyring
    from pgdoorman_lib.auth.lookup import Finding
    from pgdoorman_lib.client.login_cache import LoginCache
    from pgdoorman_lib.listener import Inherited
    from pgdoorman_lib.net.rate_limit import RateLimit

# Sockets and TLS (net).


class SocketSettings(Protocol):
    """What ``SocketOptions.of`` reads; ``[general]`` and a pool's settings both have it. Seconds and bytes."""

    @property
    def tcp_keepalives_idle(self) -> float: ...
    @property
    def tcp_keepalives_interval(self) -> float: ...
    @property
    def tcp_keepalives_count(self) -> int: ...
    @property
    def tcp_so_linger(self) -> float: ...
    @property
    def tcp_no_delay(self) -> bool: ...
    @property
    def tcp_user_timeout(self) -> float: ...
    @property
    def tcp_socket_buffer_size(self) -> int: ...
    @property
    def unix_socket_buffer_size(self) -> int: ...


class ClientTlsSettings(Protocol):
    """The part of ``[general]`` that says how clients are met."""

    @property
    def tls_mode(self) -> str: ...
    @property
    def tls_certificate(self) -> str | None: ...
    @property
    def tls_private_key(self) -> str | None: ...
    @property
    def tls_ca_cert(self) -> str | None: ...
    @property
    def tls_crl(self) -> str | None: ...
    @property
    def tls_min_version(self) -> str: ...
    @property
    def tls_ciphers(self) -> str | None: ...


class ServerTlsSettings(Protocol):
    """The part of a pool's settings that says how its servers are met."""

    @property
    def server_tls_mode(self) -> str: ...
    @property
    def server_tls_ca_cert(self) -> str | None: ...
    @property
    def server_tls_certificate(self) -> str | None: ...
    @property
    def server_tls_private_key(self) -> str | None: ...
    @property
    def server_tls_crl(self) -> str | None: ...
    @property
    def server_tls_min_version(self) -> str: ...
    @property
    def server_tls_ciphers(self) -> str | None: ...
    @property
    def server_tls_negotiation(self) -> str: ...


# Whom a line of the log is about (log).


class OfPool(Protocol):
    """A pool's settings, or a session: both say whose they are."""

    @property
    def user(self) -> str: ...
    @property
    def database(self) -> str: ...


# Servers (server).


class ServerAddress(SocketSettings, ServerTlsSettings, Protocol):
    """The part of a pool's settings that says where its servers are and how they are reached."""

    @property
    def server_host(self) -> str: ...
    @property
    def server_port(self) -> int: ...


class ServerLoginSettings(ServerAddress, Protocol):
    """The part of a pool's settings that a login needs."""

    @property
    def server_database(self) -> str: ...
    @property
    def application_name(self) -> str: ...
    @property
    def startup_parameters(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def server_channel_binding(self) -> str: ...
    @property
    def connect_timeout(self) -> float: ...


# Who may come in (auth, client).


class Account(Protocol):
    """A configured user."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def auth_pam_service(self) -> str | None: ...


AccountT_co = TypeVar("AccountT_co", bound=Account, covariant=True)


class Accounts(Protocol[AccountT_co]):
    """A pool with its users."""

    @property
    def users(self) -> Sequence[AccountT_co]: ...


class Changes(Protocol):
    """How often something has changed that all worker processes go by."""

    def announce(self) -> None:
        """It has changed once more."""

    def announced(self) -> int:
        """How often it has."""


class HowLong(Protocol):
    """How long what was looked up is kept, in seconds; and as whom all who are found log in to servers, if as one."""

    @property
    def server_user(self) -> str | None: ...
    @property
    def cache_ttl(self) -> float: ...
    @property
    def cache_failure_ttl(self) -> float: ...
    @property
    def min_interval(self) -> float: ...


class HbaText(Protocol):
    """A text of rules, and its ``name`` for messages."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...


class AccessRules(Protocol):
    """What decides about a connection before it authenticates."""

    @property
    def wants_certificates(self) -> bool:
        """Whether clients have to be asked for certificates."""

    def admit(
        self, *, is_unix: bool, tls: bool, address: str, database: str, user: str, physical: bool = False
    ) -> Demand:
        """What it has to show.

        ``address`` is numeric, empty on a unix socket; ``physical``: it is for physical replication, which has no
        database. NotPermitted when the connection is refused.
        """


class JudgeSettings(Protocol):
    """The part of ``[general]`` that those go by who judge passwords; seconds."""

    @property
    def auth_pam_confdir(self) -> str | None: ...
    @property
    def auth_ldap_ca_cert(self) -> str | None: ...
    @property
    def oauth_validator_command(self) -> tuple[str, ...]: ...
    @property
    def max_concurrent_auths(self) -> int: ...
    @property
    def auth_timeout(self) -> float: ...


class Judge(Protocol):
    """Somebody who says whether a password is right that a client has told in clear text."""

    @property
    def line(self) -> str:
        """Who it is, for the log: one line of clients waits for all of that name. Empty: it answers at once."""

    @property
    def blocks(self) -> bool:
        """It must be asked in a thread: it waits as C does."""

    @property
    def passes_on(self) -> bool:
        """What it finds right is what the client's servers may be told, too: a password, and no token."""

    @property
    def method(self) -> str | None:
        """The method in whose words clients are refused, None: that of the rule."""

    def judge(self, claim: Claim, until: float) -> None:
        """Return if the client is who it says; may switch, or block. ``until``: monotonic seconds it has.

        Refusal, whose text is for the log, if it is not; NoVerdict if that can't be told.
        """


class ClientLoginSettings(Protocol):
    """The part of ``[general]`` that a login needs, as it is at the moment."""

    @property
    def tls_mode(self) -> str: ...
    @property
    def admin_username(self) -> str: ...
    @property
    def admin_password(self) -> str: ...


class LoginPolicy(Protocol):
    """What a login is told about this pooler."""

    @property
    def general(self) -> ClientLoginSettings: ...
    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """None: TLS is not offered."""

    @property
    def handshakes(self) -> RateLimit | None:
        """What handshakes of TLS wait for; None: nothing."""

    @property
    def hba(self) -> AccessRules: ...
    @property
    def cache(self) -> LoginCache:
        """The logins known under this configuration."""

    @property
    def mock_secret(self) -> bytes:
        """Bytes that nobody outside knows: from them come salts, see ``auth.mock``."""

    def find_user(self, database: str, user: str) -> Account | None: ...
    def database_of(self, user: str) -> str | None:
        """A pool that has this user, None when there is none."""

    def looks_up(self, database: str) -> bool:
        """Whether users of ``database`` who are not configured are looked up in PostgreSQL."""

    def look_up(self, database: str, user: str) -> Finding:
        """What is found of one; may switch. AuthenticationUnavailable."""

    def stand_in(self, user: str, found: Finding | None = None) -> str:
        """The secret that a login goes by when there is no such user, as ``found`` if he was looked for.

        See ``auth.verify.Users``.
        """

    def judge(self, database: str, user: str, found: Finding | None = None) -> Judge | None:
        """Who judges what that user tells in clear text, be there one or not; None: he proves to know a secret.

        ``found`` as above; no switch.
        """

    @property
    def keyring(self) -> Keyring:
        """What tokens are proven by."""

    @property
    def judges(self) -> Judges:
        """What asks them."""

    def is_admin_database(self, name: str) -> bool: ...
    def console_secret(self, user: str) -> str | None:
        """The secret of a user of the console, None for who is none."""


class HasDeadline(Protocol):
    """Who can be late, or one too many."""

    @property
    def address(self) -> str:
        """Where it comes from: a numeric address, empty for a unix socket."""

    def too_late(self) -> None:
        """The time is over; called in the hub, may switch to a greenlet."""


# Processes (supervisor).


class Kin(Protocol):
    """The other processes that one of the pooler's has to do with.

    Either one before it and one behind (``supervisor.succession.Alone``), or other workers (``supervisor.membership``).
    """

    @property
    def worker(self) -> int:
        """The number of this worker, from 1; 0: there is just this process."""

    @property
    def neighbours(self) -> Any:
        """See ``supervisor.neighbours``; None: this is the only process that serves."""

    def come(self) -> list[Inherited]:
        """Have the listeners of another process, if any; may switch. ConfigError when that has gone.

        Returns sockets that stand in for all addresses of the configuration, as whoever started the service had it.
        """

    def inherit(self, name: str) -> Any:
        """The socket that another process listens with at ``name``, None: there is none."""

    def begin(self) -> None:
        """Wait until this process may serve; may switch. ConfigError: it may not."""

    def wait_until_main(self) -> None:
        """Wait until who watches the service knows of this process; may switch."""

    def upgrade(self) -> None:
        """Have a new process of this program serve everybody; may switch. Returns once it serves those who come.

        DoormanError when it can't, and nothing has changed.
        """

    def upgrade_logged(self) -> None:
        """As ``upgrade``, where there is nobody to tell but the log."""

    def end(self) -> None:
        """This process ends; may switch."""

    def pass_cancel_on(self, process: int, secret: bytes) -> None:
        """Somebody wants a client's statement cancelled that is not here; may switch."""
