"""The key from which come the salts of users that have none of their own, so that they look like those that have.

A SCRAM secret in the configuration shows the same salt for ever. A user who is not there has to show one that is always
the same, too, or asking twice, before and after a restart or at two poolers behind one address, would tell who exists.
PostgreSQL keeps random bytes for that in its cluster (GetMockAuthenticationNonce); a pooler has no place of its own to
keep any, so they come from what is there at each start:

- ``general.mock_authentication_secret``: chosen by the operator, the same wherever clients may be sent. Salts are HMACs
  by a key made of it, and anybody may ask for as many as he likes: a word that can be guessed is found that way, off
  line, and tells then which users are made up. It tells nothing else.
- the machine's id (machine-id(5), 128 random bits), by HMAC, as its manual asks of who shows anything made of it: the
  salts tell nothing of the id. Whoever has an account on the machine can read it, and so tell which users are made up.
- neither, as in many containers: random bytes, which a restart changes.

Passwords and stored secrets are no part of it on purpose, although they are there and don't change. Salts are shown to
everybody who asks: made of passwords they would let everybody try out guesses off line, against what only a login may
test. That is worse than to know which users there are.
"""

from __future__ import annotations

import hmac
import logging
import os

log = logging.getLogger(__name__)

#: Where the system keeps the machine's id, 32 hexadecimal digits.
MACHINE_ID = "/etc/machine-id"

_PURPOSE = b"pgdoorman: salts of users without one"
_ID_SIZE = 32


def mock_key(secret: str | None, machine_id: str = MACHINE_ID) -> bytes | None:
    """32 bytes from the configured ``secret``, else from the file ``machine_id``; None where there is neither."""
    source = secret.encode() if secret else _read_id(machine_id)
    return hmac.digest(source, _PURPOSE, "sha256") if source else None


def random_key() -> bytes:
    """32 bytes for the life of this process."""
    return os.urandom(32)


def _read_id(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            found = file.read(_ID_SIZE + 1).strip()
    except OSError as exc:
        log.debug("no machine's id: %s", exc)
        return b""
    # Before a machine's first start the file may say "uninitialized", or nothing.
    return found if len(found) == _ID_SIZE else b""
