"""Testing a configuration file alone (``-t``) without importing what serves, which would take as long again."""

from __future__ import annotations

import sys

from pgdoorman_lib.check import check, notices
from pgdoorman_lib.config.loader import load
from pgdoorman_lib.errors import ConfigError

EXIT_OK = 0
EXIT_CONFIG = 78


def say_unusable(exc: ConfigError) -> int:
    """Tell on stderr what is wrong with the configuration, a line for each problem; returns the exit code."""
    for problem in exc.message.splitlines():
        print(f"Config parse error: Configuration error: {problem}", file=sys.stderr)
    return EXIT_CONFIG


def test_config(path: str, *, lenient: bool = False) -> int:
    """Check a configuration for ``-t``; prints the verdict and returns the exit code."""
    try:
        config = load(path, lenient=lenient)
        check(config)
    except ConfigError as exc:
        return say_unusable(exc)
    for warning in (*config.warnings, *notices(config)):
        print(f"pgdoorman: warning: {warning}", file=sys.stderr)
    print(f"pgdoorman: the configuration file {path} syntax is ok")
    print(f"pgdoorman: configuration file {path} test is successful")
    return EXIT_OK
