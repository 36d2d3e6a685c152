"""A configuration file, with what it includes, to a checked ``Config``."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn

from pgdoorman_lib.config.decode import Decoder
from pgdoorman_lib.config.document import Document, Path, parse
from pgdoorman_lib.config.keys import HbaSource
from pgdoorman_lib.config.model import Config, General, Pool
from pgdoorman_lib.config.source import Source
from pgdoorman_lib.config.tokens import read_keys, validate_tokens
from pgdoorman_lib.config.validate import validate, validate_peers
from pgdoorman_lib.config.yaml_document import parse_yaml
from pgdoorman_lib.errors import ConfigError

_SERVER_TLS_FILES = ("server_tls_ca_cert", "server_tls_crl", "server_tls_certificate", "server_tls_private_key")
_CLIENT_TLS_FILES = ("tls_certificate", "tls_private_key", "tls_ca_cert", "tls_crl")

SET = "SET"
"""Where a value comes from that the console has set, in the place of a file's name."""


def load(path: str, *, lenient: bool = False) -> Config:
    """Read ``path`` and the files it includes, all relative to the working directory.

    Raises ``ConfigError`` with a line for each problem, naming the file, the line and the key's path; no secret is ever
    in its text. ``lenient``: names that are no keys are only warned of.
    """
    return _config(Source(_read_document(path), path, lenient=lenient))


def loads(text: str, path: str = "pg_doorman.toml", *, lenient: bool = False) -> Config:
    """The same from ``text``; ``path`` is for messages, and its suffix says how to read."""
    return _config(Source(_parse(text, path), path, lenient=lenient))


def with_values(config: Config, values: Mapping[tuple[str, str], Any]) -> Config:
    """``config`` as it would be if its file had these ``values``, by (section, key), as TOML has them.

    The file itself is not read again, but those it names are. ConfigError as of ``load``.
    """
    data = copy.deepcopy(config.tree)
    source = Source(Document(data, {}), config.path, lenient=config.lenient)
    source.files.append(SET)
    for (section, name), value in values.items():
        if section == "web" and "prometheus" in data:
            section = "prometheus"
        data.setdefault(section, {})[name] = value
        source.origins[section, name] = (SET, 0)
    return _config(source)


def _config(source: Source) -> Config:
    include = Decoder(source).include()
    for name in include.files if include is not None else ():
        document = _read_document(name)
        if "include" in document.data:
            line = document.lines[("include",)]
            raise ConfigError(
                f"{name}:{line}: include: an included file can't include others; name them in {source.file}"
            )
        source.merge(document, name)
    tree = {name: copy.deepcopy(value) for name, value in source.data.items() if name != "include"}
    decoder = Decoder(source)
    decoder.top_level()
    general, pools, peers = decoder.general(), decoder.pools(), decoder.peers()
    talos, web, statsd = decoder.talos(), decoder.web(), decoder.statsd()
    if general is None or talos is None or web is None or statsd is None or not source.usable:
        source.give_up()
    general = dataclasses.replace(
        general,
        pg_hba=_read_rules(general.pg_hba, "pg_hba", source),
        pg_ident=_read_rules(general.pg_ident, "pg_ident", source),
    )
    validate(general, pools, source)
    validate_peers(general, peers, source)
    validate_tokens(talos, general, pools, source)
    if decoder.without_effect:
        keys = ", ".join(decoder.without_effect)
        source.warnings.append(f"{source.file}: these keys are known but have no effect in pgdoorman: {keys}")
    key_files = read_keys([*decoder.key_files.items(), *((path, ("talos", "keys")) for path in talos.keys)], source)
    fingerprints = _fingerprints(general, pools, key_files, source)
    source.finish()
    return Config(
        general=general,
        pools=pools,
        peers=peers,
        talos=talos,
        web=web,
        statsd=statsd,
        path=source.file,
        secret_files=tuple(decoder.secret_files),
        lenient=source.lenient,
        warnings=tuple(source.warnings),
        fingerprints=fingerprints,
        keys=key_files,
        tree=tree,
    )


def _read_document(path: str) -> Document:
    return _parse(_read_text(path), path)


def _parse(text: str, path: str) -> Document:
    """By the file's name: YAML for ``*.yaml`` and ``*.yml``, else TOML."""
    return parse_yaml(text, path) if path.lower().endswith((".yaml", ".yml")) else parse(text, path)


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except (OSError, ValueError) as exc:
        _could_not_open(path, exc)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8 text") from None


def _could_not_open(path: str, exc: OSError | ValueError) -> NoReturn:
    reason = exc.strerror if isinstance(exc, OSError) else None
    raise ConfigError(f"Could not open '{path}': {reason or exc}") from None


def _read_rules(rules: HbaSource | None, key: str, source: Source) -> HbaSource | None:
    """What a key gives, with the text of {path = ...} filled in."""
    if rules is None or rules.path is None:
        return rules
    try:
        return dataclasses.replace(rules, text=_read_text(rules.path))
    except ConfigError as exc:
        source.refuse(("general", key), exc.message)
        return rules


def _read_tls(path: str, key: Path, source: Source) -> bytes:
    """The bytes of a TLS file: whether they are a certificate is for those who use them."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        source.refuse(key, f"tls is incorrectly configured: Could not open '{path}': {reason or exc}")
        return b""


def _fingerprints(
    general: General, pools: dict[str, Pool], keys: tuple[tuple[str, bytes], ...], source: Source
) -> tuple[tuple[str, str], ...]:
    """SHA-256 of every TLS file and key, by path."""
    digests = {path: hashlib.sha256(key).hexdigest() for path, key in keys}
    places: list[tuple[General | Pool, Path]] = [(general, ("general",))]
    places += [(pool, ("pools", name)) for name, pool in pools.items()]
    for section, at in places:
        for name in _SERVER_TLS_FILES + (_CLIENT_TLS_FILES if section is general else ()):
            path = getattr(section, name)
            if path is not None and path not in digests:
                digests[path] = hashlib.sha256(_read_tls(path, (*at, name), source)).hexdigest()
    return tuple(sorted(digests.items()))
