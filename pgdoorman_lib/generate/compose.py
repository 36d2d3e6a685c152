"""The configuration that ``generate`` writes: defaults with a line of comment, a pool for each database and role."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.keys import Key, keys_of
from pgdoorman_lib.config.pools import Pool, User
from pgdoorman_lib.config.reference import entry_of, summary
from pgdoorman_lib.config.validate import ADMIN_DATABASES
from pgdoorman_lib.config.writing import Entry, Section, Value, lines, render, string
from pgdoorman_lib.generate.survey import Role, Survey

PORT = 6432
_EVERY_DATABASE = "*"
_PASSWORD_BYTES = 18

_HEAD = """\
# {}
# It holds the secrets that clients log in with: nobody but the pooler's account may read it.
# Every key, also those left out here: pgdoorman generate --reference.
"""
_TRUSTING = "Roles without a stored password are trusted from this machine, as the server does; others prove theirs."


def compose(
    found: Survey,
    *,
    server_host: str,
    server_port: int,
    tls: bool,
    trusted: bool,
    pool_size: int,
    pool_mode: str,
    form: str,
    comments: bool,
    source: str,
) -> tuple[str, list[str]]:
    """The file's text in ``form``, and a line for each thing that was left out.

    ``trusted``: the server lets this machine in without a password, so that roles without one can be served to clients
    of this machine, who could go to the server themselves.
    """
    notes: list[str] = []
    databases = [name for name in found.databases if _can_be_named(name, notes)]
    roles = [role for role in found.roles if _can_log_in(role, trusted, notes)]
    special = {"port": Value(str(PORT)), "admin_password": string(secrets.token_urlsafe(_PASSWORD_BYTES))}
    if tls:
        special["server_tls_mode"] = string("require")
    without = [role.name for role in roles if role.secret is None]
    if without:
        special["pg_hba"] = lines(_rules(without))
    sections = [Section(("general",), tuple(_general(special, bool(without))), spaced=comments)]
    for name in databases:
        pool = {
            "pool_mode": string(pool_mode),
            "server_host": string(server_host),
            "server_port": Value(str(server_port)),
            "server_database": string(name),
        }
        sections.append(Section(("pools", name), tuple(_entries(Pool, pool))))
        for role in roles:
            user = {
                "username": string(role.name),
                "password": string(role.secret or ""),
                "pool_size": Value(str(pool_size)),
            }
            sections.append(Section(("pools", name, "users"), tuple(_entries(User, user)), item=True))
    return render(_HEAD.format(source) if comments else "", _told_once(sections, comments), form), notes


def _general(special: dict[str, Value], trusting: bool) -> Iterator[Entry]:
    """All that works here: what is unset as an example in a comment, the rest with its default or what is special."""
    for name, key in keys_of(General):
        comment = (summary(key),)
        if name in special:
            more = (_TRUSTING,) if name == "pg_hba" and trusting else ()
            yield Entry(name, special[name], comment + more)
        elif key.support == "yes":
            yield entry_of(name, key, list(comment))


def _entries(model: type[Pool] | type[User], values: dict[str, Value]) -> Iterator[Entry]:
    keys: dict[str, Key] = dict(keys_of(model))
    for name, value in values.items():
        yield Entry(name, value, (summary(keys[name]),))


def _told_once(sections: list[Section], comments: bool) -> Iterator[Section]:
    """Each key has its comment where it stands first; without ``comments`` nowhere, nor keys that stand in one."""
    told: set[tuple[int, str]] = set()
    for section in sections:
        entries = []
        for entry in section.entries:
            if entry.hidden and not comments:
                continue
            place = len(section.path), entry.name
            comment = () if place in told or not comments else entry.comment
            told.add(place)
            entries.append(Entry(entry.name, entry.value, comment, entry.hidden))
        yield Section(section.path, tuple(entries), item=section.item, spaced=section.spaced)


def _can_be_named(database: str, notes: list[str]) -> bool:
    """Whether clients could ask for the database by its name."""
    if database in ADMIN_DATABASES:
        notes.append(f'database "{database}" left out: that name leads to the console')
    elif database == _EVERY_DATABASE:
        notes.append(f'database "{database}" left out: that name stands for every database')
    else:
        return True
    return False


def _can_log_in(role: Role, trusted: bool, notes: list[str]) -> bool:
    """Whether a client could log in as the role, and the pooler for it."""
    if role.expired:
        notes.append(f'role "{role.name}" left out: its password is no longer valid')
    elif role.secret is None and not trusted:
        notes.append(f'role "{role.name}" left out: it has no password stored')
    elif role.secret is None and not _can_be_ruled(role.name):
        notes.append(f'role "{role.name}" left out: it has no password, and pg_hba can\'t have its name')
    else:
        return True
    return False


def _can_be_ruled(name: str) -> bool:
    """Whether a line of pg_hba can name a role: not a regular expression, nor what ends the text it stands in."""
    return name.isprintable() and not name.startswith("/") and "'''" not in name and not name.endswith("\\")


def _rules(without: list[str]) -> Iterator[str]:
    """Lines of pg_hba: these roles are trusted from this machine alone, and everybody else proves to know a secret.

    So does everybody at the console, whose user may be called like one of them.
    """
    console = ",".join(ADMIN_DATABASES)
    yield f"local {console} all md5"
    yield f"host {console} all all md5"
    for name in without:
        role = '"' + name.replace('"', '""') + '"'
        yield f"local all {role} trust"
        yield f"host all {role} 127.0.0.1/32 trust"
        yield f"host all {role} ::1/128 trust"
    yield "local all all md5"
    yield "host all all all md5"
