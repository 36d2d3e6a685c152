"""The users of a configuration, and what those who are not in it look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from pgdoorman_lib.abc import Account, Accounts, Judge
from pgdoorman_lib.auth.answer import Look
from pgdoorman_lib.auth.md5 import is_hash
from pgdoorman_lib.auth.scram import ITERATIONS, SALT_SIZE, ScramSecret, mock_secret
from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.errors import ConfigError

AccountT = TypeVar("AccountT", bound=Account)


def no_judge(account: Account) -> Judge | None:
    """Everybody's own secret counts."""
    return None


class Users(Generic[AccountT]):
    """The users of a configuration by database and name, and what those who are not in it look like.

    ``key`` is that of ``auth.mock``; ``judge_of`` says who judges what a user tells in clear text, None: nobody, his
    secret counts. ConfigError for a malformed secret.
    """

    def __init__(
        self,
        pools: Mapping[str, Accounts[AccountT]],
        key: bytes,
        judge_of: Callable[[Account], Judge | None] = no_judge,
    ) -> None:
        self._users: dict[tuple[str, str], AccountT] = {}
        self._judges: dict[tuple[str, str], Judge | None] = {}
        self._secrets: dict[str, str] = {}
        #: how the users that any pool has are asked, by their names
        self._shown: dict[str, Judge | None] = {}
        self._key = key
        self._databases = frozenset(pools)
        for database, pool in pools.items():
            for user in pool.users:
                try:
                    check_secret(user.password)
                    judge = judge_of(user)
                except ConfigError as exc:
                    raise ConfigError(f'pool "{database}", user "{user.username}": {exc.message}') from exc
                self._users[database, user.username] = user
                self._judges[database, user.username] = judge
                if user.password:
                    self._secrets.setdefault(user.username, user.password)
                if user.password or judge is not None:
                    self._shown.setdefault(user.username, judge)
        # The look that most have, so that as few as possible stand out.
        looks = Counter(_look(secret) for user, secret in self._secrets.items() if self._shown[user] is None)
        self._usual, often = looks.most_common(1)[0] if looks else (_look(""), 0)
        judges = Counter(judge for judge in self._shown.values() if judge is not None)
        usual, oftener = judges.most_common(1)[0] if judges else (None, 0)
        self._usual_judge = usual if oftener > often else None

    def find(self, database: str, user: str) -> AccountT | None:
        """The user of that name in the pool of that name, or where there is no such pool in the one for every other."""
        return self._users.get((self._pool(database), user))

    def judge(self, database: str, user: str) -> Judge | None:
        """Who judges what ``user`` tells in clear text, None: nobody, it is a secret that he proves to know.

        One who is not in that pool is asked as he is elsewhere, or else as most are.
        """
        key = self._pool(database), user
        return self._judges[key] if key in self._judges else self._shown.get(user, self._usual_judge)

    def judge_elsewhere(self, user: str) -> Judge | None:
        """The same of one who is in no pool that it is known of, but was looked for in PostgreSQL."""
        return self._shown.get(user)

    def _pool(self, database: str) -> str:
        return database if database in self._databases else EVERY_DATABASE

    def database_of(self, user: str) -> str | None:
        """The first pool that has a user of that name."""
        return next((database for database, name in self._users if name == user and database != EVERY_DATABASE), None)

    def stand_in(self, user: str) -> str:
        """The secret to go by for a user who is not in the pool asked for, or has no secret.

        One who is in another pool looks as there, or it would show which databases have him; others as most do.
        """
        return self._secrets.get(user) or self.made_up(user, self._usual)

    def made_up(self, user: str, look: Look) -> str:
        """A secret of that look that nobody knows, always the same for a user."""
        if look is None:
            return "md5" + "0" * 32
        iterations, salt_size = look
        return str(mock_secret(user, self._key, iterations, salt_size))

    def is_known(self, user: str) -> bool:
        """Whether any pool has a user of that name with a secret."""
        return user in self._secrets


def check_secret(secret: str) -> None:
    """ConfigError, which does not show it, if a configured secret is meant to be a SCRAM secret and is none."""
    if ScramSecret.looks_like(secret):
        ScramSecret.parse(secret)


def _look(secret: str) -> Look:
    """What a client is shown of a secret."""
    if is_hash(secret):
        return None
    if ScramSecret.looks_like(secret):
        parsed = ScramSecret.parse(secret)
        return parsed.iterations, len(parsed.salt)
    return ITERATIONS, SALT_SIZE
