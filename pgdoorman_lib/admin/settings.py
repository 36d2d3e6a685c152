"""SET and RESET of the pooler's own keys: read and checked as in the file, in force until RESET, RELOAD or a restart.

In PgBouncer's dialect a duration without a unit counts seconds, as there; in ours what the file's keys count.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from pgdoorman_lib.admin.plans import BadValue, Plan, Session, UnknownSetting
from pgdoorman_lib.admin.targets import PGBOUNCER_SQLSTATE, Refused, refused
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.keys import HIDDEN, Key, keys_of
from pgdoorman_lib.config.names import hint
from pgdoorman_lib.errors import ConfigError, DoormanError

log = logging.getLogger(__name__)

_BOOLEANS = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


def names() -> tuple[str, ...]:
    """What SET takes without the name of a section, by name."""
    live = {name for name, key in keys_of(General) if key.reload != "restart"}
    return tuple(sorted(live | {"log_level"}))


def plan_set(session: Session, name: str, value: str) -> Plan:
    """SET of a key, ``name`` or ``section.name``; UnknownSetting (42704), Refused (55P02) for one a restart needs."""
    section, key_name, key = _find(session, name)
    raw = raw_of(key, value, in_seconds=session.dialect.pgbouncer)

    def run() -> tuple[()]:
        try:
            told = session.pooler.set_key(section, key_name, raw)
        except ConfigError as exc:
            raise _bad(session, exc.message) from exc
        shown = HIDDEN if key.kind == "secret" else value
        log.warning("[%s] has set %s.%s to %r by the console", session.user, section, key_name, shown)
        session.notice(f"{told} until RELOAD or a restart")
        return ()

    return Plan(f"SET {name}={value}" if session.dialect.pgbouncer else "SET", run)


def plan_reset(session: Session, name: str) -> Plan:
    """RESET of a key to what the file has; raises as ``plan_set``."""
    section, key_name, _ = _find(session, name)

    def run() -> tuple[()]:
        session.notice(session.pooler.reset_key(section, key_name))
        log.warning("[%s] has reset %s.%s by the console", session.user, section, key_name)
        return ()

    return Plan("RESET", run)


def raw_of(key: Key, text: str, *, in_seconds: bool = False) -> Any:
    """What TOML would have given for ``text``; what does not fit is left for the key to refuse.

    ``in_seconds``: durations without a unit are in seconds.
    """
    if key.kind == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    if in_seconds and key.kind == "duration" and _SECONDS.fullmatch(text):
        return f"{round(float(text) * 1000)}ms"
    if key.kind in ("integer", "duration", "seconds", "size"):
        return int(text) if _NUMBER.fullmatch(text) else text
    if key.kind in ("strings", "hosts", "addresses", "networks"):
        return [item.strip() for item in text.split(",") if item.strip()]
    if key.kind == "parameters":
        return dict(item.strip().partition("=")[::2] for item in text.split(",") if item.strip())
    return text


def _find(session: Session, name: str) -> tuple[str, str, Key]:
    section, _, key_name = name.rpartition(".")
    section = section or "general"
    sections = dict(session.pooler.config.sections())
    known = dict(keys_of(sections[section])) if section in sections else {}
    key = known.get(key_name)
    if key is None:
        near = hint(key_name, known, {}) if section == "general" else None
        raise UnknownSetting(
            f'unrecognized configuration parameter "{name}"', hint=near or "SHOW CONFIG lists the parameters."
        )
    if key.reload == "restart":
        text = f'parameter "{name}" cannot be changed without restarting the pooler'
        raise refused(session, text, "55P02", text)
    return section, key_name, key


def _bad(session: Session, text: str) -> DoormanError:
    if session.dialect.pgbouncer:
        return Refused("SET failed", hint=text, sqlstate=PGBOUNCER_SQLSTATE)
    return BadValue(text)
