"""The manual page and bash's completion, written from the command line's options and the model of the configuration.

``python tools/manual.py`` renews both in packaging/; a test holds them equal to what this writes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Defaults of options come from it.
for _name in (
    "CONFIG_FILE",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "NO_COLOR",
    "DAEMON",
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
):
    os.environ.pop(_name, None)

import pgdoorman
from pgdoorman_lib.config.keys import Key, keys_of
from pgdoorman_lib.config.model import AuthQuery, General, Include, Pool, Statsd, User, Web, in_words

PACKAGING = Path(__file__).resolve().parent.parent / "packaging"

SECTIONS: tuple[tuple[str, Any], ...] = (
    ("include", Include),
    ("general", General),
    ("pools.NAME", Pool),
    ("pools.NAME.users", User),
    ("pools.NAME.auth_query", AuthQuery),
    ("web", Web),
    ("statsd", Statsd),
)

#: Options that argparse and ``main`` add.
ALWAYS = (
    ("\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "print what there is, and exit"),
    ("\\fB\\-V\\fR, \\fB\\-\\-version\\fR", "print version and build, and exit"),
)
SIGNALS = (
    (
        "SIGTERM, SIGINT",
        "Drain: transactions go on to their end, within shutdown_timeout. A second one ends all at once.",
    ),
    ("SIGHUP", "Read the configuration again, and open log_file again."),
    ("SIGUSR1", "Open log_file again."),
    (
        "SIGUSR2",
        "Upgrade: a new process of the program that is installed now takes the clients over. With --daemon, or"
        " upgrade_on_sigint, SIGINT does so, too.",
    ),
)
EXIT_CODES = (
    ("0", "It ended as asked; with --daemon, the daemon serves."),
    ("1", "It failed, as when it can't listen."),
    ("2", "The arguments are wrong."),
    ("71", "With --daemon: the daemon could not start."),
    ("78", "The configuration can't be used."),
)


def options(command: Callable[..., None]) -> list[argparse.Action]:
    """The arguments of a command, as argparse knows them."""
    parser = pgdoorman.parser_of(command, "pgdoorman")
    return [action for action in parser._actions if action.dest != "help"]


def names(action: argparse.Action) -> list[str]:
    """The short ones first."""
    return sorted(action.option_strings, key=len)


def values(action: argparse.Action) -> tuple[str, ...]:
    """The words an option takes, if it takes only these."""
    return action.type.words if isinstance(action.type, pgdoorman.OneOf) else ()


# The manual page.


def escaped(text: str) -> str:
    """``text`` as roff takes it: hyphens that are typed as they stand, no request at the beginning of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def items(pairs: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    """A list of terms, which are roff already, and texts."""
    for term, text in pairs:
        yield f".TP\n{term}\n{escaped(text)}"


def option_items(command: Callable[..., None]) -> Iterator[str]:
    for action in options(command):
        if not action.option_strings:
            continue
        term = ", ".join(f"\\fB{escaped(name)}\\fR" for name in names(action))
        if action.nargs != 0:
            term += f" \\fI{escaped(action.dest.upper())}\\fR"
        text = [action.help or ""]
        if values(action):
            text.append("one of " + ", ".join(values(action)))
        if action.nargs != 0 and action.default not in (None, argparse.SUPPRESS):
            text.append(f"default {action.default}")
        yield from items(((term, "; ".join(text)),))


def key_text(key: Key) -> str:
    notes = []
    if key.choices:
        notes.append("one of " + ", ".join(key.choices))
    if key.required:
        notes.append("required")
    else:
        notes.append(f"default {in_words(key, key.default_value())}")
    if key.support != "yes":
        notes.append("no effect" if key.support == "no effect" else "not supported yet")
    return f"{key.doc} ({'; '.join(notes)})"


def manual() -> str:
    """pgdoorman(1)."""
    parts = [
        ".\\\" Written by tools/manual.py: don't edit.",
        '.TH PGDOORMAN 1 "" pgdoorman "User Commands"',
        ".SH NAME",
        "pgdoorman \\- PostgreSQL connection pooler",
        ".SH SYNOPSIS",
        ".B pgdoorman\n[\\fIOPTIONS\\fR] [\\fICONFIG_FILE\\fR]\n.br\n.B pgdoorman generate\n[\\fIOPTIONS\\fR]",
        ".SH DESCRIPTION",
        "Clients take it for PostgreSQL. It has a pool of server connections for each database and user, and lends one "
        "for a transaction or for a session.\n.PP\nThe second form writes a configuration for the databases and roles "
        "of a running PostgreSQL, with their stored passwords.",
        ".SH OPTIONS",
        *items(
            (("\\fICONFIG_FILE\\fR", "The configuration, TOML or YAML [env CONFIG_FILE]; default pg_doorman.toml"),)
        ),
        *option_items(pgdoorman.serve),
        *items(ALWAYS),
        ".SH OPTIONS OF GENERATE",
        *option_items(pgdoorman.generate),
        ".SH CONFIGURATION",
        escaped(
            'Durations are milliseconds, or "500ms", "5s", "10m", "1h", "1d"; sizes are bytes, or "64KB", "1MB", "1G".'
        ),
    ]
    for section, model in SECTIONS:
        parts.append(f".SS [{section}]")
        parts += items(tuple((f"\\fB{name}\\fR", key_text(key)) for name, key in keys_of(model)))
    parts += [".SH SIGNALS", *items(SIGNALS), ".SH EXIT STATUS", *items(EXIT_CODES)]
    return "\n".join(parts) + "\n"


# Completion.


def value_cases(name: str, command: Callable[..., None]) -> Iterator[str]:
    """What follows an option that takes a value."""
    for action in options(command):
        if action.option_strings and action.nargs != 0:
            words = "|".join(f"{name}:{option}" for option in names(action))
            if values(action):
                reply = f'COMPREPLY=($(compgen -W "{" ".join(values(action))}" -- "$word"))'
            elif action.dest == "output":
                reply = 'COMPREPLY=($(compgen -f -- "$word"))'
            else:
                reply = "COMPREPLY=()"
            yield f"        {words}) {reply}; return ;;"


def completion() -> str:
    """For bash, without the functions of the package bash-completion."""
    serve = " ".join(name for action in options(pgdoorman.serve) for name in names(action))
    generate = " ".join(name for action in options(pgdoorman.generate) for name in names(action))
    cases = "\n".join([*value_cases("serve", pgdoorman.serve), *value_cases("generate", pgdoorman.generate)])
    return f"""\
# Completion of pgdoorman(1) for bash. Written by tools/manual.py: don't edit.

_pgdoorman()
{{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=serve at
    for ((at = 1; at < COMP_CWORD; at++)); do
        if [[ ${{COMP_WORDS[at]}} == generate ]]; then command=generate; fi
    done
    case $command:$before in
{cases}
    esac
    case $command:$word in
        generate:*) COMPREPLY=($(compgen -W "--help {generate}" -- "$word")) ;;
        serve:-*) COMPREPLY=($(compgen -W "-h --help -V --version {serve}" -- "$word")) ;;
        *) COMPREPLY=($(compgen -W generate -- "$word") $(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -F _pgdoorman pgdoorman
"""


FILES = {"pgdoorman.1": manual, "pgdoorman.bash": completion}


def main() -> None:
    """Write them into packaging/; with ``--check`` only say on stderr which are outdated, and exit with 1 for any."""
    outdated = [name for name, text in FILES.items() if not _is_current(name, text())]
    if sys.argv[1:] == ["--check"]:
        for name in outdated:
            print(f"packaging/{name} is outdated, run: python tools/manual.py", file=sys.stderr)
        sys.exit(1 if outdated else 0)
    for name in outdated:
        (PACKAGING / name).write_text(FILES[name](), "utf-8")


def _is_current(name: str, text: str) -> bool:
    path = PACKAGING / name
    return path.exists() and path.read_text("utf-8") == text


if __name__ == "__main__":
    main()
