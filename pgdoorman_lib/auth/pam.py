"""PAM says whether a password is right, and whether its account may be used now (pam_authenticate, pam_acct_mgmt).

Rules:
1. It blocks, and so is asked in threads only; each conversation has a handle of its own.
2. The password answers what is asked without echo, once; nothing else is answered.
3. What PAM says is for the log.

PostgreSQL docs, "PAM Authentication"; its auth.c.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from ctypes import byref, pointer
from functools import lru_cache
from typing import Any

from gevent.monkey import get_original

from pgdoorman_lib.abc import JudgeSettings
from pgdoorman_lib.errors import ConfigError, NoVerdict, Refusal
from pgdoorman_lib.record import record

#: Blocks, as all does that is asked in a thread.
_getnameinfo = get_original("socket", "getnameinfo")

#: PostgreSQL's, and the longest password that PAM takes (PAM_MAX_RESP_SIZE, its end included).
DEFAULT_SERVICE = "postgresql"
_MAX_PASSWORD = 511

_LIBRARY = "libpam.dylib" if sys.platform == "darwin" else "libpam.so.0"

#: Where Linux-PAM has services, which are looked for only to say that one is missing.
_DIRECTORIES = ("/etc/pam.d", "/usr/etc/pam.d", "/usr/lib/pam.d", "/usr/local/etc/pam.d")

#: What PAM says when it can't be asked: a module or a service that is not there, or fails (_pam_types.h).
_FAULTS = frozenset((1, 2, 3, 4, 5, 9, 19, 26, 28))


@record(frozen=True)
class PamService:
    """A service's stack in /etc/pam.d, or in ``confdir``; ``names_host``: modules are told a name, not an address."""

    service: str
    confdir: str | None = None
    names_host: bool = False
    blocks = True
    passes_on = True
    method = None

    @property
    def line(self) -> str:
        return f'PAM service "{self.service}"'

    def judge(self, claim: Any, until: float) -> None:
        """As in abc.Judge; blocks for as long as the modules do."""
        if len(claim.password) > _MAX_PASSWORD:
            raise Refusal("a password longer than PAM takes")
        pam = load()
        conversation = pam.new_simple_password_conv((claim.password,), "utf-8")  # must live as long as the handle
        handle = self._start(pam, claim.user, conversation)
        result = 0
        try:
            if claim.address:
                handle.set_item(pam.PAM_RHOST, self._remote_host(claim.address))
            for function in (pam.PAM_AUTHENTICATE, pam.PAM_ACCT_MGMT):
                result = function(handle, 0)
                if result:
                    raise self._error(pam, handle, function.__name__, result)
        finally:
            pam.PAM_END(handle, result)

    def _start(self, pam: Any, user: str, conversation: Any) -> Any:
        handle = pam.PamHandle()
        service, name, conv = self.service.encode(), user.encode(errors="replace"), pam.PamConv(conversation, 0)
        if self.confdir is None:
            result = pam.PAM_START(service, name, pointer(conv), pointer(handle))
        else:
            result = _start_confdir(pam)(service, name, byref(conv), self.confdir.encode(), byref(handle))
        if result:
            raise self._error(pam, handle, "pam_start", result)
        return handle

    def _remote_host(self, address: str) -> str:
        return str(_getnameinfo((address, 0), 0)[0]) if self.names_host else address

    def _error(self, pam: Any, handle: Any, function: str, result: int) -> Refusal:
        kind = NoVerdict if result in _FAULTS else Refusal
        nowhere = self.nowhere()
        missing = f' (not in {nowhere}: the service "other" was asked)' if nowhere else ""
        return kind(f"{self.line}{missing}: {function}: {pam.pam_strerror(handle, result)} ({result})")

    def nowhere(self) -> str:
        """The directory it should be in, "" if there is such a service: PAM says nothing, and asks another."""
        directories = _DIRECTORIES if self.confdir is None else (self.confdir,)
        found = any(os.path.exists(os.path.join(directory, self.service)) for directory in directories)
        return "" if found else directories[0]


def pam_service(service: str, settings: JudgeSettings | None, names_host: bool = False) -> PamService:
    """The service of that name, if it can be asked; ConfigError."""
    pam = load()
    confdir = settings.auth_pam_confdir if settings is not None else None
    if confdir is not None:
        _start_confdir(pam)
    return PamService(service or DEFAULT_SERVICE, confdir, names_host)


@lru_cache(maxsize=1)
def load() -> Any:
    """The package pamela; ConfigError where it can't be used."""
    # It would look for libpam by starting ldconfig and a compiler, with gevent's subprocess: that takes to waiting for
    # every child of this process, and so takes those away that modules of PAM start and wait for.
    search = ctypes.util.find_library
    ctypes.util.find_library = {"pam": _LIBRARY}.get  # type: ignore[assignment]
    try:
        import pamela
    except ModuleNotFoundError as exc:
        raise ConfigError("PAM needs the package pamela: pip install 'pgdoorman[pam]'") from exc
    except (OSError, AttributeError) as exc:
        raise ConfigError(f"PAM is not to be had on this system: {exc}") from exc
    finally:
        ctypes.util.find_library = search
    return pamela


def _start_confdir(pam: Any) -> Any:
    """pam_start_confdir, which pamela has no name for."""
    try:
        function = pam.LIBPAM.pam_start_confdir
    except AttributeError as exc:
        raise ConfigError("auth_pam_confdir needs Linux-PAM 1.4") from exc
    return function
