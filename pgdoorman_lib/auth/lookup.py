"""Users who are not configured, looked up in PostgreSQL: what is known of them, for how long, and who asks.

Rules:
1. One question at a time is asked about a name, in a greenlet of its own: all who log in under it wait for the same
   answer, and whoever goes away leaves it to the others.
2. A name that is not there is remembered for ``cache_failure_ttl``, and not asked about meanwhile.
3. After a wrong password the secret is asked for anew, ``min_interval`` apart, and nobody waits for that: how long the
   next login takes must not tell that there is such a user. What has come holds from then on.
4. Whichever worker process finds that a secret is another, or what comes with it, has all forget those they know.
5. Nothing is remembered of a question that was not answered: nobody gets in by it, nor is anybody shut out by it whose
   secret is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from pgdoorman_lib.abc import Changes, HowLong
from pgdoorman_lib.auth.answer import Look, Verdict, judge, usual_look
from pgdoorman_lib.auth.row_parameters import COLUMN, row_parameters
from pgdoorman_lib.auth.scram import ITERATIONS, SALT_SIZE
from pgdoorman_lib.config.validate import Parameters
from pgdoorman_lib.errors import AuthenticationUnavailable, DoormanError, ServerRefused
from pgdoorman_lib.log import Limited, label
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.wire.lookup import Answer

log = logging.getLogger(__name__)

#: Bytes of the longest name: PostgreSQL cuts longer ones, so that they would be another's.
LONGEST_NAME = 63
#: Names remembered that are not there, which anybody may invent, and that are; the oldest is forgotten for one more.
MOST_MISSING = 10_000
MOST_FOUND = 100_000
#: Classes of SQLSTATEs by which a query fails for what it is asked: those are answers, and no more than "not there".
_OF_THE_QUESTION = ("02", "20", "21", "22", "23", "P0")

UNAVAILABLE = "Authentication service unavailable. Please try again later."

#: Asks PostgreSQL about a user; may switch, DoormanError.
Ask = Callable[[str], Answer]


class LookupStats:
    """Counters of one database's lookups over all reloads; SHOW AUTH_QUERY has them by these names."""

    __slots__ = NAMES = (
        "cache_hits",
        "cache_misses",
        "cache_refetches",
        "cache_rate_limited",
        "auth_success",
        "auth_failure",
        "executor_queries",
        "executor_errors",
    )

    def __init__(self) -> None:
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_refetches = 0
        self.cache_rate_limited = 0
        self.auth_success = 0
        self.auth_failure = 0
        self.executor_queries = 0
        self.executor_errors = 0


class Finding:
    """What is known of a user: his ``secret``, or it is empty, and ``why`` nobody gets in under this name.

    It holds until ``until`` (monotonic seconds); a candidate for a login goes by it, and tells what came of that.
    """

    __slots__ = ("_lookup", "asked_at", "parameters", "secret", "until", "user", "why")

    def __init__(self, lookup: Lookup, user: str, secret: str, why: str, until: float, asked_at: float) -> None:
        self._lookup = lookup
        #: what his servers' sessions are to begin with beyond those of everybody
        self.parameters: Parameters = ()
        self.user = user
        self.secret = secret
        self.why = why
        self.until = until
        self.asked_at = asked_at

    @property
    def look(self) -> Look:
        """What who is not there looks like, as far as it is not known otherwise."""
        return self._lookup.look

    def is_current(self) -> bool:
        """Whether a login may go by it yet; then it counts as one that does."""
        self._lookup.hear()
        if self.until <= clock():
            return False
        self._lookup.stats.cache_hits += 1
        return True

    def succeeded(self) -> None:
        """The client has proven to be this user."""
        self._lookup.stats.auth_success += 1

    def failed(self) -> None:
        """It has not; no switch."""
        self._lookup.stats.auth_failure += 1
        self._lookup.doubt(self)


class Lookup:
    """The users of ``database`` who are not configured; ``ask`` asks about one.

    By ``changes`` worker processes tell each other that a secret is another; None in one process.
    """

    def __init__(
        self, database: str, how_long: HowLong, ask: Ask, stats: LookupStats, changes: Changes | None = None
    ) -> None:
        self.database = database
        self.stats = stats
        #: what PostgreSQL shows of a user that there is not
        self.look: Look = (ITERATIONS, SALT_SIZE)
        self._how_long = how_long
        self._ask = ask
        self._changes = changes
        self._heard = changes.announced() if changes is not None else 0
        self._found: dict[str, Finding] = {}
        self._missing: dict[str, Finding] = {}
        self._questions: dict[str, gevent.Greenlet[..., Finding | DoormanError]] = {}
        self._odd_parameters = Limited(log)
        self._unusable = Limited(log)
        self._failing = Limited(log)

    def __len__(self) -> int:
        return len(self._found) + len(self._missing)

    def look_up(self, user: str) -> Finding:
        """What is known of ``user``; may switch, if that has to be asked first. AuthenticationUnavailable."""
        known = self.known(user)
        if known is not None and known.is_current():
            return known
        self.stats.cache_misses += 1
        if not _may_be_a_name(user):
            return self._missing_one(user, "no name of PostgreSQL's is that long, or has such characters", clock())
        found = self._question(user).get()
        if isinstance(found, Finding):
            return found
        raise AuthenticationUnavailable(UNAVAILABLE) from found

    def hear(self) -> None:
        """Forget all secrets if another process has found that one is another."""
        if self._changes is None:
            return
        announced = self._changes.announced()
        if announced != self._heard:
            self._heard = announced
            for finding in self._found.values():
                finding.until = 0.0

    def _announce(self) -> None:
        if self._changes is not None:
            self.hear()
            self._changes.announce()
            self._heard += 1

    def known(self, user: str) -> Finding | None:
        """What was found out last, if anything was; it may not hold any more."""
        return self._found.get(user) or self._missing.get(user)

    def doubt(self, finding: Finding) -> None:
        """Somebody did not know the password of ``finding``: perhaps it is another by now; no switch."""
        if not finding.secret or self._found.get(finding.user) is not finding or finding.user in self._questions:
            return
        if clock() < finding.asked_at + self._how_long.min_interval:
            self.stats.cache_rate_limited += 1
            return
        self.stats.cache_refetches += 1
        self._question(finding.user)

    def close(self) -> None:
        """Ask nothing any more; may switch. Who waits is told that it can't be done."""
        gevent.killall(list(self._questions.values()))  # before their sockets' engine ends

    def _question(self, user: str) -> gevent.Greenlet[..., Finding | DoormanError]:
        """The one about ``user`` that is under way; it never raises."""
        question = self._questions.get(user)
        if question is None:
            question = gevent.spawn(self._fetch, user)
            self._questions[user] = question
        return question

    def _fetch(self, user: str) -> Finding | DoormanError:
        asked_at = clock()
        self.stats.executor_queries += 1
        try:
            answer = self._ask(user)  # switch
        except ServerRefused as exc:
            self.stats.executor_errors += 1
            if exc.sqlstate[:2] not in _OF_THE_QUESTION:
                return self._failed(exc)
            why = f"auth_query fails: {exc.message} (SQLSTATE {exc.sqlstate})"
            self._complain(why)
            return self._missing_one(user, why, asked_at)
        except DoormanError as exc:
            self.stats.executor_errors += 1
            return self._failed(exc)
        finally:
            del self._questions[user]
        self.look = usual_look(answer, (ITERATIONS, SALT_SIZE))
        known = self._found.get(user)
        before = known.parameters if known is not None else None
        found = self._learn(user, judge(answer), asked_at)
        if found.secret:
            found.parameters = self._parameters(user, answer)
            if before is not None and before != found.parameters:
                self._announce()
        return found

    def _parameters(self, user: str, answer: Answer) -> Parameters:
        found, problem = row_parameters(answer)
        shared = self._how_long.server_user is not None
        if problem or (found and shared):
            self._odd_parameters.warning(
                "%s auth_query returns %s that are passed over: %s",
                label(user, self.database),
                COLUMN,
                problem or "with server_user all users have the same servers",
            )
        return () if shared else found

    def _failed(self, exc: DoormanError) -> DoormanError:
        cause = f" ({exc.__cause__})" if exc.__cause__ is not None else ""
        who = label(database=self.database)
        self._failing.warning("%s users can't be looked up: %s%s (SQLSTATE %s)", who, exc.message, cause, exc.sqlstate)
        return exc

    def _complain(self, what: str) -> None:
        self._unusable.warning("%s %s: nobody gets in by that", label(database=self.database), what)

    def _learn(self, user: str, verdict: Verdict, asked_at: float) -> Finding:
        if not verdict.usable:
            self._complain(verdict.why)
        if not verdict.secret:
            return self._missing_one(user, verdict.why, asked_at)
        before = self._forget(user)
        until = clock() + min(self._how_long.cache_ttl, verdict.seconds)
        if before is not None and before.secret == verdict.secret:
            # Logins that go by it need not begin anew.
            before.until, before.asked_at = until, asked_at
            found = before
        else:
            found = Finding(self, user, verdict.secret, "", until, asked_at)
            if before is not None and before.secret:
                before.until = 0.0
                self._announce()
        return _keep(self._found, user, found, MOST_FOUND)

    def _missing_one(self, user: str, why: str, asked_at: float) -> Finding:
        before = self._forget(user)
        if before is not None and before.secret:
            before.until = 0.0
            self._announce()
        until = clock() + self._how_long.cache_failure_ttl
        return _keep(self._missing, user, Finding(self, user, "", why, until, asked_at), MOST_MISSING)

    def _forget(self, user: str) -> Finding | None:
        return self._found.pop(user, None) or self._missing.pop(user, None)


def _keep(among: dict[str, Finding], user: str, finding: Finding, most: int) -> Finding:
    if len(among) >= most:
        del among[next(iter(among))]
    among[user] = finding
    return finding


def _may_be_a_name(user: str) -> bool:
    """Whether PostgreSQL may have a user of that name; U+FFFD stands for what was no UTF-8."""
    return "�" not in user and "\0" not in user and 0 < len(user.encode(errors="replace")) <= LONGEST_NAME
