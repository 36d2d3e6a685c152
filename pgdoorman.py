"""The command line: arguments and environment in, exit code out."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import os
import platform
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable

import argh

from pgdoorman_lib import __version__, build


def one_of(*words: str) -> Callable[[str], str]:
    """A type for argparse, whose ``choices`` don't look at defaults, and ours come from the environment."""

    def word(text: str) -> str:
        if text.lower() not in words:
            raise ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return text.lower()

    return word


@argh.arg("config", help="the configuration file [env CONFIG_FILE]")
@argh.arg("-l", "--log-level", type=one_of("error", "warn", "info", "debug", "trace"), help="[env LOG_LEVEL]")
@argh.arg("-F", "--log-format", type=one_of("text", "structured"), help="structured is JSON lines [env LOG_FORMAT]")
@argh.arg("-n", "--no-color", help="no colours in the log [env NO_COLOR]")
@argh.arg("-t", "--test-config", help="check the configuration file and exit")
@argh.arg("--lenient", help="only warn of names in the configuration that are no keys, as pg_doorman ignores them")
def serve(
    config: str = os.environ.get("CONFIG_FILE") or "pg_doorman.toml",
    *,
    log_level: str = os.environ.get("LOG_LEVEL") or "info",
    log_format: str = os.environ.get("LOG_FORMAT") or "text",
    no_color: bool = bool(os.environ.get("NO_COLOR")),
    test_config: bool = False,
    lenient: bool = False,
) -> None:
    """PostgreSQL connection pooler. Exit codes: 0 ended as asked, 1 failed, 2 bad arguments, 78 bad configuration."""
    from pgdoorman_lib import app

    if test_config:
        sys.exit(app.test_config(config, lenient=lenient))
    sys.exit(app.run(config, log_level=log_level, log_format=log_format, color=not no_color, lenient=lenient))


def main() -> None:
    """Entry point of the command ``pgdoorman``; always ends by SystemExit."""
    if "generate" in sys.argv[1:]:  # pgdoorman [OPTIONS] [CONFIG] generate ...
        sys.exit("pgdoorman: generate is not supported yet")
    parser = argh.ArghParser(prog="pgdoorman")
    version = f"pgdoorman {__version__} ({build()}, Python {platform.python_version()})"
    parser.add_argument("-V", "--version", action="version", version=version, help="print version and build and exit")
    parser.set_default_command(serve, name_mapping_policy=argh.assembling.NameMappingPolicy.BY_NAME_IF_KWONLY)
    parser.dispatch()


if __name__ == "__main__":
    main()
