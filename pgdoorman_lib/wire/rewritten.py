"""What an ErrorResponse says of a text that servers got in another form, in terms of what the client has sent.

PostgreSQL docs, "Error and Notice Message Fields": P counts characters from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pgdoorman_lib.record import record
from pgdoorman_lib.wire.messages import reframed
from pgdoorman_lib.wire.statements import OUR_NAME

#: Fields that quote names of prepared statements.
_TEXTS = b"MDHW"
_NAME = re.compile(b'"(' + OUR_NAME + b')"')
_POSITION = re.compile(rb"P[0-9]{1,9}")


@record(frozen=True)
class Rewriting:
    """A text whose names were exchanged.

    ``front`` is what was put in front of it; each of ``edits``, from left to right, says that ``original[start:end]``
    has become ``size`` characters.
    """

    front: bytes
    original: bytes
    edits: Sequence[tuple[int, int, int]]

    def position(self, found: int) -> int:
        """Where in the original the character ``found`` (from 1) stands; 0 when it stands in what is ours."""
        at = found - 1 - _characters(self.front)
        if at < 0:
            return 0
        moved = 0
        for start, end, size in self.edits:
            begin = _characters(self.original[:start]) + moved
            if at < begin:
                break
            if at < begin + size:
                return begin - moved + 1
            moved += size - _characters(self.original[start:end])
        return at - moved + 1


def as_written(message: bytes, rewriting: Rewriting | None, client_name: Callable[[bytes], bytes | None]) -> bytes:
    """The whole ErrorResponse ``message`` with positions and names as the client knows them.

    ``client_name`` gives the client's name of a statement by ours, or None. A message that does not read as one is
    returned as it is.
    """

    def name(match: re.Match[bytes]) -> bytes:
        found = client_name(match[1])
        return match[0] if found is None else b'"' + found + b'"'

    fields = message[5:-2].split(b"\0")
    if message[-2:] != b"\0\0" or not all(fields):
        return message
    kept = []
    for field in fields:
        if field[0] in _TEXTS:
            kept.append(_NAME.sub(name, field))
        elif rewriting is not None and _POSITION.fullmatch(field):
            position = rewriting.position(int(field[1:]))
            if position:
                kept.append(b"P%d" % position)
        else:
            kept.append(field)
    return reframed(message, b"\0".join(kept) + b"\0\0")


def _characters(text: bytes) -> int:
    return len(text.decode(errors="replace"))
