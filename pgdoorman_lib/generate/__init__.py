"""``pgdoorman generate``: a configuration from what a running PostgreSQL has, ready to start before it."""

from __future__ import annotations

import dataclasses
import os
import sys

from pgdoorman_lib import __version__
from pgdoorman_lib.config import reference
from pgdoorman_lib.config.writing import TOML, YAML
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.generate.compose import compose
from pgdoorman_lib.generate.survey import ask
from pgdoorman_lib.record import record

EXIT_OK = 0
EXIT_FAILED = 1

#: The file holds secrets: its owner reads it, and nobody else.
_MODE = 0o600


@record(frozen=True, kw_only=True)
class Options:
    """What is asked for. ``host`` may be a directory with a unix socket.

    ``server_host`` is what the pools get as theirs, ``host`` if None; ``output`` a path, or None for standard output;
    ``form`` is ``toml`` or ``yaml``, None for what the suffix of ``output`` says, TOML if it says nothing.
    ``reference``: every key with its default, and no server is asked.
    """

    host: str
    port: int
    user: str
    password: str = dataclasses.field(repr=False)
    database: str
    ssl: bool
    pool_size: int
    session_pool_mode: bool
    server_host: str | None
    output: str | None
    form: str | None
    comments: bool
    reference: bool


def run(options: Options) -> int:
    """Write the configuration; returns the exit code, after telling on stderr what failed or was left out."""
    form = options.form or _form_of(options.output)
    try:
        text, notes = _made(options, form)
        _write(text, options.output)
    except DoormanError as exc:
        print(f"pgdoorman: generate: {exc.message}", file=sys.stderr)
        return EXIT_FAILED
    for note in notes:
        print(f"pgdoorman: generate: {note}", file=sys.stderr)
    return EXIT_OK


def _made(options: Options, form: str) -> tuple[str, list[str]]:
    by = f"by pgdoorman {__version__} generate"
    if options.reference:
        return reference.render(form, comments=options.comments, source=f"Written {by} --reference."), []
    found = ask(options.host, options.port, options.user, options.password, options.database, options.ssl)
    return compose(
        found,
        server_host=options.server_host or options.host,
        server_port=options.port,
        tls=options.ssl,
        trusted=not options.password and not options.host.startswith("/"),
        pool_size=options.pool_size,
        pool_mode="session" if options.session_pool_mode else "transaction",
        form=form,
        comments=options.comments,
        source=f"Written {by} from {options.host}:{options.port}.",
    )


def _form_of(output: str | None) -> str:
    return YAML if (output or "").lower().endswith((".yaml", ".yml")) else TOML


def _write(text: str, output: str | None) -> None:
    """To a file that only its owner can read, unless it is there already, or to standard output."""
    try:
        if output is None:
            if sys.stdout is None:  # Python has none for one that was closed
                raise DoormanError("could not write standard output: it is closed")
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        with open(output, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, _MODE)) as file:
            file.write(text)
    except OSError as exc:
        raise DoormanError(f"could not write {output or 'standard output'}: {exc.strerror or exc}") from exc
