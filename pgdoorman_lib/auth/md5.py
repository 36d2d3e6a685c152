"""MD5 authentication of a client: a salted challenge, answered with a hash of the stored hash.

PostgreSQL docs, "Password Authentication" and AuthenticationMD5Password in "Message Formats".
"""

from __future__ import annotations

import hashlib
from functools import partial
from hmac import compare_digest

from pgdoorman_lib.auth.entropy import random_bytes
from pgdoorman_lib.wire.messages import authentication_md5

# Where policy forbids MD5 for secrets (FIPS), the operator configures none: this is the protocol's own hash.
try:
    # Python's own: a hash so short costs OpenSSL's three times as much. It knows no policy.
    from _md5 import md5 as _md5  # type: ignore[import-not-found]
except ImportError:  # Python was built without
    _md5 = partial(hashlib.md5, usedforsecurity=False)

SALT_SIZE = 4


def is_hash(secret: str) -> bool:
    """Whether a secret is PostgreSQL's stored form: ``md5`` and 32 lower-case hex digits. Others are passwords."""
    if len(secret) != 35 or not secret.startswith("md5"):
        return False
    for digit in secret[3:]:  # noqa: SIM110 - compiled, a generator costs more than the test
        if not ("0" <= digit <= "9" or "a" <= digit <= "f"):
            return False
    return True


def hash_password(password: str, user: str) -> str:
    """The stored form of a password: ``md5`` and the hex MD5 of password and user name."""
    return "md5" + _hex(password.encode() + user.encode())


class Md5Challenge:
    """One challenge; the salt is fresh, so an answer overheard is of no use later."""

    def __init__(self, salt: bytes | None = None) -> None:
        #: 4 bytes, for AuthenticationMD5Password
        self.salt = random_bytes(SALT_SIZE) if salt is None else salt

    def message(self) -> bytes:
        """AuthenticationMD5Password."""
        return authentication_md5(self.salt)

    def check(self, stored: str, answer: bytes) -> bool:
        """Whether the client's answer is right for the stored form; takes as long for every wrong one."""
        digits = stored[3:].encode()
        return compare_digest(b"md5" + _hex(digits + self.salt).encode(), answer)


def _hex(data: bytes) -> str:
    digits: str = _md5(data).hexdigest()
    return digits
