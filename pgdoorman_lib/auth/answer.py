"""What the answer to an auth_query means: whose secret it is, and until when.

Rules:
1. One row with one secret in PostgreSQL's own stored form lets a user in who knows the password; nothing else does. A
   password in plain text does not: a query that selects the wrong column gives names, or the ******** of pg_user.
2. A password is valid no longer than PostgreSQL says, VALID UNTIL, of the role of that name; a query that returns a
   column ``valuntil`` or ``rolvaliduntil`` says it itself.
"""

from __future__ import annotations

import math
import re
from calendar import timegm
from dataclasses import field

from pgdoorman_lib.auth.md5 import is_hash
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.record import record
from pgdoorman_lib.wire.lookup import Answer
from pgdoorman_lib.wire.scram import MAX_ITERATIONS

#: Where the secret stands, the first that there is.
SECRET_COLUMNS = (b"passwd", b"password")
VALIDITY_COLUMNS = (b"valuntil", b"rolvaliduntil")

# timestamptz under DateStyle ISO and TimeZone UTC
_MOMENT = re.compile(rb"(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(\.\d{1,6})?\+00( BC)?", re.ASCII)
_LAST_YEAR = 9999
_ITERATIONS = re.compile(rb"[1-9][0-9]{0,9}")

#: What a client is shown of a secret: SCRAM's iterations and bytes of salt, or None for MD5 (``auth.verify``).
Look = tuple[int, int] | None


@record(frozen=True)
class Verdict:
    """``secret`` opens the door for ``seconds`` (inf: for ever); or it is empty, and ``why`` says why, for the log.

    ``usable``: the query has done what it should; if not, its author has to act.
    """

    secret: str = field(default="", repr=False)
    seconds: float = math.inf
    why: str = ""
    usable: bool = True


def judge(answer: Answer) -> Verdict:
    """What ``answer`` means for the user who was asked for."""
    if answer.is_too_long:
        return _unusable("a row that is longer than any secret")
    if not answer.rows:
        return Verdict(why="auth_query finds no such user")
    if len(answer.rows) > 1:
        return _unusable("more than one row")
    (row,) = answer.rows
    if len(row) != len(answer.columns):
        return _unusable("a row of other columns than were described")
    try:
        secret = _secret(row[_place(answer.columns)])
        seconds = _seconds_left(answer, dict(zip(answer.columns, row, strict=True)))
    except ValueError as exc:
        return _unusable(str(exc))
    if not secret:
        return Verdict(why="auth_query finds no password of this user")
    if seconds <= 0:
        return Verdict(why="the user's password is not valid any more (VALID UNTIL)")
    return Verdict(secret, seconds)


def _unusable(what: str) -> Verdict:
    return Verdict(why=f"auth_query returns {what}", usable=False)


def _place(columns: list[bytes]) -> int:
    for name in SECRET_COLUMNS:
        if columns.count(name) > 1:
            raise ValueError(f"two columns {name.decode()}")
        if name in columns:
            return columns.index(name)
    if len(columns) != 1:
        raise ValueError(f"{len(columns)} columns and none of them is passwd or password")
    return 0


def _secret(value: bytes | None) -> str:
    """Empty for NULL and for nothing."""
    if not value:
        return ""
    try:
        secret = value.decode("ascii")
        if ScramSecret.looks_like(secret):
            ScramSecret.parse(secret)
            return secret
    except UnicodeDecodeError:
        raise ValueError("what is not ASCII, and so no secret") from None
    except ConfigError as exc:
        raise ValueError(f"what is no SCRAM-SHA-256 secret, though it begins like one: {exc.message}") from None
    if not is_hash(secret):
        raise ValueError("what is neither a SCRAM-SHA-256 secret nor an MD5 hash, as PostgreSQL stores them")
    return secret


def _seconds_left(answer: Answer, row: dict[bytes, bytes | None]) -> float:
    role, now, _, _ = _about_role(answer)
    for name in VALIDITY_COLUMNS:
        if name in row:
            return _moment(row[name]) - now
    return role - now


def _about_role(answer: Answer) -> tuple[float, float, bytes, bytes]:
    """Until when the role's password is valid, now, password_encryption, scram_iterations."""
    try:
        until, now, encryption, iterations = answer.role
        assert now is not None
        return _number(until), float(now), encryption or b"", iterations or b""
    except (ValueError, AssertionError):
        raise ValueError("nothing that tells the time: is that PostgreSQL?") from None


def _number(value: bytes | None) -> float:
    number = math.inf if value is None else float(value)
    if math.isnan(number):
        raise ValueError
    return number


def _moment(value: bytes | None) -> float:
    """Seconds since 1970 of a timestamptz, of NULL and infinity inf."""
    if value is None or value == b"infinity":
        return math.inf
    if value == b"-infinity":
        return -math.inf
    match = _MOMENT.fullmatch(value)
    if match is None:
        raise ValueError("a time of validity that is no timestamp with time zone")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    if match[8]:
        return -math.inf
    if year > _LAST_YEAR:
        return math.inf
    return timegm((year, month, day, hour, minute, second)) + float(match[7] or 0)


def usual_look(answer: Answer, scram: tuple[int, int]) -> Look:
    """What PostgreSQL would show of a user that there is not, as it stores passwords now; ``scram`` unless it tells."""
    try:
        _, _, encryption, iterations = _about_role(answer)
    except ValueError:
        return scram
    if encryption != b"scram-sha-256":
        return None
    if not _ITERATIONS.fullmatch(iterations):
        return scram
    return min(int(iterations), MAX_ITERATIONS), scram[1]
