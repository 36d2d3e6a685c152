"""What a client's transaction may have left on its server, as far as its texts tell: what must be asked at its end.

A transaction of which nothing is noted here leaves nothing. What is noted is asked, pins the client, or is taken back;
only where a single statement outside of a transaction tells all (``known``) is its success answer enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.lexer import STRING
from pgdoorman_lib.wire.reading import Reading
from pgdoorman_lib.wire.settings import BASE, DEFERRABLE, IDENTITY, Settings, restore_sql
from pgdoorman_lib.wire.text import RESETS_ALL, RESETS_SETTINGS, Text
from pgdoorman_lib.wire.tokens import tokens
from pgdoorman_lib.wire.traces import LISTED, POSSIBLE, Traces

#: Settings asked for by their names at once; who touches more keeps its server.
MAX_OPTIONS = 300


class Tracker:
    """The notes of one client about the transaction under way.

    ``options``: settings that may have changed, by name; ``listed``: others may have, too, of those pg_settings lists;
    ``unnamed``: even such as no catalogue lists, whose names nobody knows (``traces.UNLIKELY``, ``POSSIBLE``).
    """

    __slots__ = ("failed", "hides", "known", "listed", "options", "resets", "texts", "unnamed")

    def __init__(self) -> None:
        self.options: dict[str, None] = {}
        #: settings that a text sent resets, LISTED for all of them, and whether only until the transaction's end
        self.resets: dict[str, bool] = {}
        self.clear()

    def clear(self) -> None:
        """Begin anew: what was noted has been asked for, or the server is another's."""
        self.options.clear()
        self.resets.clear()
        self.listed = False
        #: code ran that may have reset something, too
        self.hides = False
        self.unnamed = 0
        self.texts = 0
        #: the text that tells all, as long as it is the only one and nothing has failed
        self.known: Text | None = None
        self.failed = False

    def ran(self, text: Text, alone: bool) -> int:
        """A statement with this text is about to run; ``alone``: outside of a transaction, with nothing under way.

        Returns the DIRTY_* bits of what it may leave.
        """
        self.texts += 1
        self.known = text if alone and self.texts == 1 and (text.assigns or text.only_resets) else None
        self.resets.update(text.resets)
        self.hides = self.hides or text.hides
        return self.may(text.traces)

    def may(self, traces: Traces) -> int:
        """Something with these traces may run; the DIRTY_* bits of them."""
        if traces.unnamed or LISTED in traces.options:
            self.listed = True
        if traces.unnamed > self.unnamed:
            self.unnamed = traces.unnamed
        self.named(traces.options)
        return traces.bits

    def named(self, names: Iterable[str]) -> None:
        """Settings of these names may change."""
        for name in names:
            if name == LISTED:
                self.listed = True
            elif name not in self.options:
                if len(self.options) >= MAX_OPTIONS:
                    self.listed = True
                    self.unnamed = POSSIBLE
                    return
                self.options[name] = None

    def reported(self, name: str) -> bool:
        """A parameter was reported that has changed; whether that was known already."""
        if self.known is not None:
            assigned = self.known.assigns
            return assigned is None or assigned[0] == name
        return name in self.options

    def untold(self) -> None:
        """A setting changed of which no text has told."""
        self.listed = True
        self.known = None

    def to_ask(self, settings: Settings) -> tuple[list[str], bool]:
        """The settings to ask for by name, and whether to ask for all that are listed."""
        names = dict.fromkeys(self.options)
        listed = self.listed or not names
        if listed:
            names.update(dict.fromkeys(IDENTITY))
            names.update(dict.fromkeys(name for name in settings.values if "." in name))
        return list(names), listed

    @property
    def as_another(self) -> bool:
        """Whether settings may have been changed in another role than the one that logged in."""
        return any(name in self.options for name in IDENTITY)

    @property
    def hindered(self) -> bool:
        """Whether a question may be hindered by what has been set: by who one is, or by waiting for a snapshot."""
        return self.unnamed > 0 or self.as_another or DEFERRABLE in self.options

    def is_reset(self, name: str) -> bool:
        """Whether a text that was sent resets this setting."""
        return name in self.resets or LISTED in self.resets

    def may_be_reset(self, name: str) -> bool:
        """Whether this setting may be back at the server's default."""
        return self.hides or self.is_reset(name)

    def restoring(self, startup: Settings, defaults: Mapping[str, str]) -> str:
        """The SQL that puts what was reset back to what the session began with; what was not is left as it is."""
        return "; ".join(
            restore_sql(name, value, defaults.get(name, ""), self.resets.get(name, False))
            for name, value in startup.values.items()
            if name not in IDENTITY and self.may_be_reset(name)
        )

    def own_settings(
        self,
        present: Settings,
        found: Mapping[str, str | None],
        startup: Settings,
        before: Settings,
        defaults: Mapping[str, str],
    ) -> Settings:
        """What the client has set, if ``present`` is in effect and a question has ``found`` these values.

        ``startup``: what it began with, ``before``: what it had set when the transaction began.

        Of what the session began with ``found`` tells what was set in the session. What others don't share is back at
        the beginning when it was reset.
        """
        began = startup.values
        if not began:
            return present
        own = dict(present.values)
        for name, value in began.items():
            if own.get(name) or not (self.listed or name in found):
                continue
            there = found.get(name)
            reset = there in ("", defaults.get(name)) and "." in name and self.may_be_reset(name)
            if reset and there == "" and before.values.get(name) == "" and not self.is_reset(name):
                reset = False  # code that hides what it does is not known to have touched it
            if there is None or reset:
                own[name] = value  # a customized option that was reset is there, but empty or as at the login
            else:
                own[name] = there
        return Settings.of(own)


def found_settings(found: Mapping[str, str | None], defaults: Mapping[str, str], applied: Settings | None) -> Settings:
    """The settings in effect on a server of which a question has found these; ``applied``: those it was not about."""
    present = {} if applied is None else {name: value for name, value in applied.values.items() if name not in found}
    present.update((name, value) for name, value in found.items() if value is not None and value != defaults.get(name))
    return Settings.of(present)


def known_settings(text: Text, settings: Settings, startup: Settings) -> tuple[Settings, Settings] | None:
    """What the client's settings are behind such a text, and what is in effect on the server; None: it must be asked.

    ``settings`` is what both were before.
    """
    if text.assigns is not None:
        after = settings.changed(*text.assigns)
        return after, after
    if text.only_resets & RESETS_ALL:
        return startup, BASE
    if text.only_resets & RESETS_SETTINGS:
        identity = settings.identity()
        return startup.joined(identity), identity
    names = tuple(name for name, _ in text.resets)
    if any(name in IDENTITY or name == LISTED for name in names):
        return None
    applied = settings.without(names)
    return applied.joined(startup.among(names)), applied


def option_names(values: Iterable[bytes | None], reading: Reading) -> list[str] | None:
    """The names of settings that these parameters are; None if one can't be read."""
    found = []
    for value in values:
        if value is None:
            continue
        if not value.isascii():
            if reading.codec is None:
                return None
            if reading.codec:
                try:
                    value = value.decode(reading.codec).encode()
                except UnicodeError:
                    return None
        found.append(value.lower().decode(errors="surrogateescape"))
    return found


def constants(text: bytes, backslashes: bool) -> list[bytes | None]:
    """The values of the strings in a text."""
    return [token.value for token in tokens(text, backslashes) if token.kind == STRING]


def bound_values(data: bytes, numbers: Iterable[int]) -> list[bytes | None] | None:
    """Values of the parameters with these numbers (from 1) in the part of a Bind behind its names; None if not there.

    PostgreSQL docs, "Message Formats": int16 number of formats, int16 each, int16 number of values, then for each int32
    size (-1 for NULL) and its bytes.
    """
    size = len(data)
    if size < 2:
        return None
    at = 2 + 2 * int.from_bytes(data[0:2], "big")
    if size < at + 2:
        return None
    count = int.from_bytes(data[at : at + 2], "big")
    at += 2
    wanted = set(numbers)
    last = max(wanted, default=0)
    if last > count:
        return []  # PostgreSQL refuses it
    values: list[bytes | None] = []
    for number in range(1, last + 1):
        if size < at + 4:
            return None
        length = int32(data, at)
        at += 4
        stop = at + max(0, length)
        if number in wanted:
            if stop > size:
                return None
            values.append(None if length < 0 else data[at:stop])
        at = stop
    return values
