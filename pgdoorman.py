"""The command line: arguments and environment in, exit code out."""

from __future__ import annotations

import gc

# What is imported stays, and the collector would go through it again and again while it comes.
gc.disable()

from gevent import events, monkey


def patch_all() -> None:
    """gevent's, without the plugins that it looks for among all installed packages, thirty times; a pooler has none."""
    asking = events.notify_and_call_entry_points  # type: ignore[attr-defined,unused-ignore]
    events.notify_and_call_entry_points = events.notify  # type: ignore[attr-defined,unused-ignore]
    try:
        monkey.patch_all()
    finally:
        events.notify_and_call_entry_points = asking  # type: ignore[attr-defined,unused-ignore]


patch_all()

import os
import platform
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import argh

from pgdoorman_lib import __version__, build

gc.enable()

GENERATE = "generate"
EXIT_ARGUMENTS = 2
#: What a variable says that switches an option on, or does not.
YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@contextmanager
def importing() -> Iterator[None]:
    """While it lasts the collector rests, and behind it what is there by then is left out of what it goes through."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


class OneOf:
    """A type for argparse, whose ``choices`` don't look at defaults, and ours come from the environment."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ArgumentTypeError(f"{text!r} is none of {', '.join(self.words)}")
        return text.lower()


def switched_on(name: str) -> bool:
    """Whether a variable of the environment says yes; exit code 2 when it says neither yes nor no."""
    word = os.environ.get(name, "").lower()
    if word not in YES + NO:
        print(f"pgdoorman: {name} in the environment is {word!r}, not true or false", file=sys.stderr)
        sys.exit(EXIT_ARGUMENTS)
    return word in YES


@argh.arg("config", help="the configuration file [env CONFIG_FILE]")
@argh.arg("-l", "--log-level", type=OneOf("error", "warn", "info", "debug", "trace"), help="[env LOG_LEVEL]")
@argh.arg("-F", "--log-format", type=OneOf("text", "structured"), help="structured is JSON lines [env LOG_FORMAT]")
@argh.arg("-n", "--no-color", help="no colours in the log [env NO_COLOR]")
@argh.arg("-d", "--daemon", help="run in the background; daemon_pid_file has its process id [env DAEMON]")
@argh.arg("-t", "--test-config", help="check the configuration file and exit")
@argh.arg("--lenient", help="only warn of names in the configuration that are no keys, as pg_doorman ignores them")
def serve(
    config: str = os.environ.get("CONFIG_FILE") or "pg_doorman.toml",
    *,
    log_level: str = os.environ.get("LOG_LEVEL") or "info",
    log_format: str = os.environ.get("LOG_FORMAT") or "text",
    no_color: bool = bool(os.environ.get("NO_COLOR")),
    daemon: bool = False,
    test_config: bool = False,
    lenient: bool = False,
) -> None:
    """PostgreSQL connection pooler.

    Exit codes: 0 ended as asked, 1 failed, 2 bad arguments, 71 the daemon could not start, 78 bad configuration.
    """
    daemon = daemon or switched_on("DAEMON")
    if test_config:
        with importing():
            from pgdoorman_lib import verdict

        sys.exit(verdict.test_config(config, lenient=lenient))
    with importing():
        from pgdoorman_lib import start

    sys.exit(
        start.run(
            config, log_level=log_level, log_format=log_format, color=not no_color, lenient=lenient, daemon=daemon
        )
    )


def number(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return int(text)

    return read


@argh.arg("--host", help="PostgreSQL to ask: a name, an address, or the directory of its unix socket [env PGHOST]")
@argh.arg("-p", "--port", type=number(1, 65535), help="its port [env PGPORT]")
@argh.arg("-u", "--user", help="a superuser, or who else may read pg_shadow [env PGUSER]")
@argh.arg("--password", help="its password; other users of the machine see options, not variables [env PGPASSWORD]")
@argh.arg("-d", "--database", help="the database to connect to; pools are made for all of them [env PGDATABASE]")
@argh.arg("--ssl", help='connect by TLS, and have the pooler do so (server_tls_mode = "require")')
@argh.arg("--pool-size", type=number(1, 2**32 - 1), help="server connections of each pool")
@argh.arg("-s", "--session-pool-mode", help="pools lend a server for a session, not for a transaction")
@argh.arg("--server-host", help="where the pooler finds PostgreSQL, if not at --host")
@argh.arg("-o", "--output", help="the file to write, else standard output")
@argh.arg("-f", "--format", type=OneOf("toml", "yaml"), help="else as the suffix of --output says, else toml")
@argh.arg("--no-comments", help="no comments, nor keys that are unset")
@argh.arg("--reference", help="every key with its default; asks no server")
@argh.arg("--russian-comments", "--ru", help="refused: comments are in English only")
def generate(
    *,
    host: str = os.environ.get("PGHOST") or "localhost",
    port: int = os.environ.get("PGPORT") or 5432,  # type: ignore[assignment]  # argparse reads texts by the type
    user: str = os.environ.get("PGUSER") or "postgres",
    password: str | None = None,
    database: str = os.environ.get("PGDATABASE") or "postgres",
    ssl: bool = False,
    pool_size: int = 40,
    session_pool_mode: bool = False,
    server_host: str | None = None,
    output: str | None = None,
    format: str | None = None,
    no_comments: bool = False,
    reference: bool = False,
    russian_comments: bool = False,
) -> None:
    """Write a configuration for the databases and roles of a running PostgreSQL, with their stored passwords."""
    with importing():
        from pgdoorman_lib.generate import Options, run

    if russian_comments:
        print("pgdoorman: generate: comments are in English only; --no-comments leaves them out", file=sys.stderr)
        sys.exit(EXIT_ARGUMENTS)
    options = Options(
        host=host,
        port=port,
        user=user,
        # Not as a default, which the help shows.
        password=os.environ.get("PGPASSWORD", "") if password is None else password,
        database=database,
        ssl=ssl,
        pool_size=pool_size,
        session_pool_mode=session_pool_mode,
        server_host=server_host,
        output=output,
        form=format,
        comments=not no_comments,
        reference=reference,
    )
    sys.exit(run(options))


def parser_of(command: Callable[..., None], name: str) -> argh.ArghParser:
    """A parser whose one command is ``command``."""
    parser = argh.ArghParser(prog=name)
    parser.set_default_command(command, name_mapping_policy=argh.assembling.NameMappingPolicy.BY_NAME_IF_KWONLY)
    return parser


def main() -> None:
    """Entry point of the command ``pgdoorman``; always ends by SystemExit."""
    parser = parser_of(serve, "pgdoorman")
    version = f"pgdoorman {__version__} ({build()}, Python {platform.python_version()})"
    parser.add_argument("-V", "--version", action="version", version=version, help="print version and build and exit")
    parser.epilog = "pgdoorman generate [OPTIONS] writes a configuration from a running PostgreSQL: generate --help."
    arguments = sys.argv[1:]
    if GENERATE in arguments:  # pgdoorman [OPTIONS] [CONFIG] generate [OPTIONS]
        at = arguments.index(GENERATE)
        parser.parse_args(arguments[:at])
        parser, arguments = parser_of(generate, "pgdoorman generate"), arguments[at + 1 :]
    parser.dispatch(arguments)


if __name__ == "__main__":
    main()
