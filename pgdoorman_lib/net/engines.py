"""Which engine runs: the one asked for, or the fastest that this system and this build have."""

from __future__ import annotations

import errno
import logging
import sys

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.epoll import EpollEngine
from pgdoorman_lib.net.uring import UringEngine
from pgdoorman_lib.net.watchers import GeventEngine

log = logging.getLogger("pgdoorman.engine")

_REASONS = {
    errno.ENOSYS: "not in this kernel or build, or hidden by a seccomp filter",
    errno.EPERM: "forbidden here, by a seccomp filter or kernel.io_uring_disabled",
    errno.EACCES: "forbidden here",
    errno.EINVAL: "the kernel is too old",
    errno.ENOMEM: "no memory for it; perhaps the limit of locked memory",
    errno.EMFILE: "out of descriptors",
}


def choose(name: str) -> Engine:
    """The engine called ``name``, or for ``auto`` the fastest there is; ConfigError when it can't be had."""
    if name == "auto":
        if sys.platform != "linux":
            return GeventEngine()
        try:
            return UringEngine()
        except OSError as exc:
            log.info("no io_uring (%s), using epoll", why(exc))
            return EpollEngine()
    if name == "uring":
        try:
            return UringEngine()
        except OSError as exc:
            raise ConfigError(f'io_engine = "uring": io_uring can\'t be used: {why(exc)}') from exc
    if name == "epoll":
        return EpollEngine()
    if name == "gevent":
        return GeventEngine()
    raise ValueError(f"unknown io_engine {name!r}")


def why(exc: OSError) -> str:
    """In words, what keeps io_uring from being used."""
    return _REASONS.get(exc.errno or 0, str(exc))
