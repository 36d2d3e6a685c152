"""What both sides of SCRAM-SHA-256 share: its name, how its messages write bytes, how a password is prepared."""

from __future__ import annotations

#: The SASL mechanism's name (RFC 7677), also the prefix of a stored secret.
MECHANISM = "SCRAM-SHA-256"
#: The mechanism with channel binding, and the one type of that (RFC 5929) which is PostgreSQL's.
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
BINDING = "tls-server-end-point"

#: PostgreSQL makes secrets of 4096 (scram_iterations). More than this would keep a core busy for a second, at the whim
#: of who names it.
MAX_ITERATIONS = 1_000_000

#: A value in base64 within messages and secrets, as a regular expression (RFC 5802 section 7), with the padding it
#: needs: Python 3.10 would decode more of it.
BASE64 = r"(?:[A-Za-z0-9+/]{4})*[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]{2}|[A-Za-z0-9+/]=|==)"


def prepared(password: str) -> str:
    """SASLprep (RFC 4013) as PostgreSQL does it: ASCII as it stands, and what can't be prepared too."""
    if password.isascii():
        return password
    # A tenth of the time that a start takes, and few passwords need it.
    from scramp import ScramException
    from scramp.core import saslprep  # the last release for Python 3.10 has it only there

    try:
        return str(saslprep(password)) or password
    except ScramException:
        return password
